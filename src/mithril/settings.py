"""Every setting of the service, in one list: its name, its type, its default, and what it does.

The command line makes its options from this list, and `mithril settings` prints it. A setting comes from the command
line, else from its environment variable `MITHRIL_<NAME>`, else from its default. A secret may also come from a file,
whose path is in `MITHRIL_<NAME>_FILE`. A setting that the original system has keeps its name behind the prefix. Nothing
else in the project reads the environment.
"""

import difflib
import enum
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import platformdirs
from msgspec import Meta

from mithril.meanings import LONGEST_NAME, MEANINGS

PREFIX = "MITHRIL_"
LIMITS = ("ge", "gt", "le", "min_length", "max_length")
TRUE, FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


class SettingsError(Exception):
    """Settings have values that cannot be used: one message for each, which names it and never repeats a secret."""

    def __str__(self) -> str:
        """Return all messages."""
        return "; ".join(self.args)


class _Secret:
    """Marks a setting that is never printed and may come from a file."""


class Option(enum.Enum):
    """Marks a setting that is also an option of the command line; says of which commands."""

    SERVE = "serve"
    DATABASE = "every command that works on a database"
    DEMO = "serve, and every command that judges a redirect URI"


Text = Annotated[str, Meta(max_length=4096)]
Host = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Lifetime = Annotated[int, Meta(ge=1, le=315_360_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Days = Annotated[int, Meta(ge=0, le=36_500)]


def described(text: str) -> Meta:
    """Describe a setting, for `mithril settings` and for the help of its option."""
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one process. Durations are seconds, unless the description names another unit."""

    host: Annotated[Host, Option.SERVE, described("IP address or host name of the public listener")] = "127.0.0.1"
    port: Annotated[Port, Option.SERVE, described("port of the public listener")] = 4000
    internal_host: Annotated[Host, Option.SERVE, described("IP address or host name of the internal listener")] = (
        "127.0.0.1"
    )
    internal_port: Annotated[Port, Option.SERVE, described("port of the internal listener")] = 4001
    internal_key: Annotated[
        Text, _Secret, described("key that callers of the internal listener send as X-Mithril-Key")
    ] = ""
    internal_open: Annotated[
        bool, described("let the internal listener bind to a non-loopback address without a key")
    ] = False
    workers: Annotated[int, Meta(ge=1, le=256), Option.SERVE, described("processes that share both listeners")] = 1
    database_url: Annotated[
        Text, _Secret, Option.DATABASE, described("URL of PostgreSQL, of several hosts too; empty: the embedded one")
    ] = ""
    home: Annotated[
        Text, Option.DATABASE, described("folder of the embedded PostgreSQL; empty: the user's data directory")
    ] = ""
    console: Annotated[
        Literal["off", "owners", "all"],
        described("who may use the console on the public listener: off, owners, or all, administrators too"),
    ] = "owners"
    demo: Annotated[
        bool,
        Option.DEMO,
        described("accept redirect URIs on localhost; `serve` also imports demo data and prints a request to paste"),
    ] = False
    demo_exposed: Annotated[
        bool,
        Option.SERVE,
        described("let a listener with demo data, whose secrets are public, bind to a non-loopback address"),
    ] = False
    public_url: Annotated[
        Text, described("scheme, host and port that callers see, for `meta.url`; empty: those of the request")
    ] = ""
    trusted_proxies: Annotated[
        Text,
        described("IP addresses or networks of the proxies whose X-Forwarded-* headers count, separated by commas"),
    ] = ""
    admin_client_types: Annotated[tuple[str, ...], described("client types whose tokens may name any client")] = (
        "NHS",
        "NHS ADMIN",
        "MITHRIL ADMIN",
        "Mithril ADMIN",
    )
    allow_punycode: Annotated[bool, described("accept xn-- labels in redirect URIs")] = False
    auth_code_grant_lifetime: Annotated[Lifetime, described("seconds until an authorization code expires")] = 300
    auth_access_token_lifetime: Annotated[Lifetime, described("seconds until an access token expires")] = 3_600
    auth_refresh_token_lifetime: Annotated[Lifetime, described("seconds until a refresh token expires")] = 1_209_600
    auth_refresh_family_lifetime: Annotated[
        Lifetime, described("seconds after its grant until a public client can refresh no more")
    ] = 7_776_000
    refresh_reuse_interval: Annotated[
        int,
        Meta(ge=0, le=3600),
        described("seconds in which a public client may send the same refresh token again; 0: never"),
    ] = 10
    trusted_client_ids: Annotated[
        tuple[str, ...], described("clients that may leave out the scope and get all that the user's roles allow")
    ] = ()
    password_expiration_days: Annotated[Count, described("days after which a password must be changed")] = 90
    token_ttl_after_expiration_days: Annotated[
        Days, described("days that expired tokens and one-time passwords are kept")
    ] = 30
    sweep_interval: Annotated[
        float,
        Meta(ge=0, le=86_400),
        described("seconds between two cleanups by a server; 0: only `mithril sweep` cleans up"),
    ] = 300.0
    max_failed_logins: Annotated[
        Count, described("failed logins of one user from one IP address before a pause there")
    ] = 10
    max_failed_logins_per_user: Annotated[
        Count, described("failed logins of one user from all IP addresses before a pause")
    ] = 50
    max_failed_logins_per_address: Annotated[Count, described("failed logins from one IP address before a pause")] = 100
    max_failed_logins_period: Annotated[Count, described("minutes in which failed logins are counted")] = 10
    max_failures: Annotated[
        Count, described("refused sign-ins and token requests of one client at one IP address before 429")
    ] = 30
    max_failures_per_address: Annotated[
        Count, described("refused sign-ins and token requests, and nonces, of one IP address before 429")
    ] = 300
    max_failures_period: Annotated[
        int, Meta(ge=1, le=86_400), described("seconds in which those refusals are counted")
    ] = 60
    user_2fa_enabled: Annotated[
        bool, described("give a new user a second factor when the request does not say whether to")
    ] = True
    otp_length: Annotated[int, Meta(ge=4, le=10), described("digits of a one-time password")] = 6
    otp_lifetime: Annotated[Lifetime, described("seconds until a one-time password expires")] = 300
    otp_max_attempts: Annotated[Count, described("attempts that one one-time password allows")] = 3
    user_otp_error_max: Annotated[Count, described("refused one-time passwords after which a user is blocked")] = 3
    otp_send_counter_max: Annotated[Count, described("one-time passwords that one user is sent before a pause")] = 3
    otp_send_timeout: Annotated[Count, described("minutes in which sent one-time passwords are counted")] = 1
    otp_sms_template: Annotated[Text, described("text of the message; <otp.code> is the one-time password")] = (
        "Код підтвердження: <otp.code>"
    )
    otp_endpoint: Annotated[Text, described("URL of the SMS service; empty: none, and --demo prints messages")] = ""
    otp_request_timeout: Annotated[
        int, Meta(ge=1, le=600_000), described("milliseconds that the SMS service may take before 503")
    ] = 10_000
    sms_enabled: Annotated[bool, described("send messages; false: none is sent, and no error is reported")] = True
    traces_endpoint: Annotated[
        Text, described("URL to which spans are sent, by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces")
    ] = ""
    traces_share: Annotated[
        float, Meta(ge=0, le=1), described("share of the requests that are traced, where the caller has not decided")
    ] = 1.0
    digital_signature_endpoint: Annotated[
        Text, described("URL of the service that judges signatures; empty: none, and --demo accepts its own users'")
    ] = ""
    digital_signature_request_timeout: Annotated[
        int, Meta(ge=1, le=600_000), described("milliseconds that the signature service may take before 503")
    ] = 10_000
    mpi_endpoint: Annotated[
        Text, described("URL of the register of patients that a signer is looked up in; empty: none is asked")
    ] = ""
    mpi_request_timeout: Annotated[
        int, Meta(ge=1, le=600_000), described("milliseconds that the register of patients may take before 503")
    ] = 10_000
    smtp_url: Annotated[
        Text,
        _Secret,
        described(
            "URL of the mail server, smtp or smtps, with user and password; empty: none, and --demo prints e-mails"
        ),
    ] = ""
    smtp_sender: Annotated[Text, described("e-mail address from which e-mails are sent")] = ""
    notify_owners: Annotated[
        bool, described("tell the owner of a client by e-mail what changes with it; needs the mail server")
    ] = False
    webhook_key: Annotated[
        Text,
        _Secret,
        described("key that the secrets of webhooks are derived from, at least 32 characters; empty: webhooks are off"),
    ] = ""
    webhook_targets: Annotated[
        Literal["public", "private", "any"],
        described("where webhooks may lead: https to public IP addresses, to private ones too, or any, also by http"),
    ] = "public"
    jwt_secret: Annotated[
        Text, _Secret, described("key that signs nonces, at least 64 bytes; empty: nonces are issued with --demo only")
    ] = ""
    jwt_login_ttl: Annotated[Count, described("minutes until a nonce expires")] = 15
    db_pool_size: Annotated[
        int, Meta(ge=2, le=1000), described("database connections of one worker, a quarter of them for look-ups")
    ] = 10
    db_prepared_statements: Annotated[
        bool, described("prepare statements; false: for a pooler that does not keep them")
    ] = True
    verify_from_standbys: Annotated[
        bool, described("let every host of the URL answer look-ups: each standby is synchronous, with remote_apply")
    ] = False
    pool_timeout: Annotated[
        Seconds, described("seconds that a request waits for a database connection in use before 503")
    ] = 1.0
    connect_timeout: Annotated[
        Seconds, described("seconds that a request waits for a database connection that is being made before 503")
    ] = 5.0
    header_timeout: Annotated[Seconds, described("seconds in which the head of a request must have arrived")] = 10.0
    statement_timeout: Annotated[Seconds, described("seconds that one database statement may take before 503")] = 3.0
    lock_timeout: Annotated[Seconds, described("seconds that a statement waits for a locked row before 503")] = 0.25
    body_timeout: Annotated[Seconds, described("seconds in which a request body must have arrived")] = 10.0
    send_timeout: Annotated[
        Seconds, described("seconds that a caller may take to read an answer before the connection is cut")
    ] = 30.0
    keep_alive_timeout: Annotated[
        int, Meta(ge=1, le=3600), described("seconds that a connection may wait for its next request")
    ] = 75
    max_connections: Annotated[
        Count, described("connections that one worker holds on each listener; above that 503")
    ] = 2_000
    max_requests: Annotated[
        Count, described("requests that one worker serves on each listener at a time; above that 503")
    ] = 1_000
    shutdown_timeout: Annotated[
        Seconds, described("seconds that running requests get to finish when the server stops")
    ] = 30.0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], described("debug, info, warning or error")] = (
        "info"
    )
    log_format: Annotated[Literal["auto", "json", "text"], described("json, text, or auto: text in a terminal")] = (
        "auto"
    )

    # No setting: the names of those that came from a file.
    from_files: tuple[str, ...] = ()

    @property
    def data_home(self) -> Path:
        """Return the folder of the embedded PostgreSQL and its log. Raises SettingsError where there is none."""
        try:
            return Path(self.home or platformdirs.user_data_path("mithril", appauthor=False)).expanduser()
        except RuntimeError:  # a user without HOME and without an account
            raise SettingsError("MITHRIL_HOME: name the folder for the data: this user has no home folder") from None

    @property
    def sends_links(self) -> bool:
        """Return whether a user who has forgotten the password can be sent a link, which needs a URL to lead to."""
        has_service = bool(self.smtp_url or (self.sms_enabled and self.otp_endpoint))
        return self.demo or (has_service and bool(self.public_url))

    def is_administrative(self, client_type: str) -> bool:
        """Return whether tokens of clients of that type may name any client."""
        return client_type in self.admin_client_types


class Setting(NamedTuple):
    """One setting, as the list has it."""

    name: str
    variable: str
    type: Any
    default: Any
    description: str
    is_secret: bool
    option: Option | None


def all_settings() -> Iterator[Setting]:
    """List every setting, in the order of the class."""
    hints = _hints()
    for field in msgspec.structs.fields(Settings):
        if field.name == "from_files":
            continue
        marks = get_args(hints[field.name])[1:]
        description = next(m.description for m in marks if isinstance(m, Meta) and m.description)
        variable = PREFIX + field.name.upper()
        kind, option = _bare(hints[field.name]), next((m for m in marks if isinstance(m, Option)), None)
        yield Setting(field.name, variable, kind, field.default, description, _Secret in marks, option)


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)


def _bare(hint: Any) -> Any:  # noqa: ANN401 -- a type hint may be anything
    return _bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


class Current(NamedTuple):
    """One setting in this process: its value, where that comes from, and what is wrong if it cannot be used."""

    setting: Setting
    value: object
    source: Literal["option", "environment", "file", "default"]
    problem: str = ""


def current(environment: Mapping[str, str] | None = None, **given: object) -> list[Current]:
    """Return every setting of this process. A value that is `given`, and not None, goes before the environment."""
    environment = os.environ if environment is None else environment
    found = [_find(setting, environment, given.get(setting.name)) for setting in all_settings()]
    values = {each.setting.name: each.value for each in found}
    problems = {}
    if values["smtp_url"] and not values["smtp_sender"]:
        problems["smtp_sender"] = f"expected an e-mail address, because {PREFIX}SMTP_URL is set"
    if values["notify_owners"] is True and not values["smtp_url"] and not values["demo"]:
        problems["smtp_url"] = f"expected a URL, because {PREFIX}NOTIFY_OWNERS is set"
    return [
        each._replace(problem=f"{each.setting.variable}: {problems[each.setting.name]}")
        if each.setting.name in problems and not each.problem
        else each
        for each in found
    ]


def load(environment: Mapping[str, str] | None = None, **given: object) -> Settings:
    """Load the settings of this process, as `current` finds them. Raises SettingsError for values that do not fit."""
    return loaded(current(environment, **given))


def loaded(found: Sequence[Current]) -> Settings:
    """Return the settings that `current` has found. Raises SettingsError for values that do not fit."""
    if problems := [each.problem for each in found if each.problem]:
        raise SettingsError(*problems)
    values: dict[str, Any] = {each.setting.name: each.value for each in found}
    return Settings(**values, from_files=tuple(each.setting.name for each in found if each.source == "file"))


def reread(settings: Settings, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings with what their files say now. Raises SettingsError for a value that cannot be used."""
    environment = os.environ if environment is None else environment
    files = {name: value for name, value in environment.items() if name.endswith("_FILE")}
    values = msgspec.structs.asdict(settings)
    return loaded(current(files, **{name: value for name, value in values.items() if name not in settings.from_files}))


def _find(setting: Setting, environment: Mapping[str, str], given: object) -> Current:
    """Find the value of a setting, and judge it."""
    sources: tuple[tuple[Any, Callable[[], object]], ...] = (
        ("option", lambda: given),
        ("environment", lambda: _from_environment(setting, environment)),
        ("file", lambda: _from_file(setting, environment)),
    )
    for source, find in sources:
        value = None
        try:
            if (value := find()) is not None:
                return Current(setting, _judged(setting, value), source)
        except SettingsError as error:
            return Current(setting, value, source, str(error))
    return Current(setting, setting.default, "default")


def _judged(setting: Setting, value: object) -> object:
    """Return the value as the setting has it. Raises SettingsError when it cannot be meant."""
    hint = _hints()[setting.name]
    value = _parsed(setting, value) if isinstance(value, str) else value
    try:
        value = msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:
        raise SettingsError(f"{setting.variable}: expected {_in_words(hint)}") from None
    is_meant, expected = MEANINGS.get(setting.name, (lambda _: True, ""))
    if value and not all(map(is_meant, value if isinstance(value, tuple) else [value])):
        raise SettingsError(f"{setting.variable}: expected {expected}")
    return value


def unknown_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that begin as settings do and are none, each with the name that is nearest to it."""
    environment = os.environ if environment is None else environment
    known = [name for each in all_settings() for name in [each.variable, each.variable + "_FILE"][: 1 + each.is_secret]]
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return {name: difflib.get_close_matches(name, known, n=1, cutoff=0)[0] for name in unknown}


def _from_environment(setting: Setting, environment: Mapping[str, str]) -> str | None:
    """Return the value as text, or None. An empty variable counts as missing, except that it empties a list."""
    value = environment.get(setting.variable, "").strip()
    is_empty_list = setting.variable in environment and get_origin(setting.type) is tuple
    return value if value or is_empty_list else None


def _from_file(setting: Setting, environment: Mapping[str, str]) -> str | None:
    """Return what is in the file that the environment names, for a secret, or None.

    An empty file is refused: a key that its writer has not filled in yet must not open the internal listener.
    """
    path = environment.get(setting.variable + "_FILE") if setting.is_secret else None
    if not path:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting.variable}_FILE: cannot read {path} ({type(error).__name__})") from None
    if not text:
        raise SettingsError(f"{setting.variable}_FILE: {path} is empty")
    return text


def _parsed(setting: Setting, raw: str) -> object:
    if setting.type is bool:
        if raw.lower() in TRUE | FALSE:
            return raw.lower() in TRUE
        raise SettingsError(f"{setting.variable}: expected true or false")
    if get_origin(setting.type) is tuple:
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    return raw


def _in_words(hint: Any) -> str:  # noqa: ANN401 -- a type hint may be anything
    """Say what a value of that type must be."""
    kind = _bare(hint)
    limits: dict[str, Any] = {}
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}"
    for mark in get_args(hint)[1:]:
        if isinstance(mark, Meta):
            limits |= {key: value for key in LIMITS if (value := getattr(mark, key)) is not None}
    if kind is str:
        return f"a text of {limits.get('min_length', 0)} to {limits['max_length']} characters"
    noun = "a whole number" if kind is int else "a number"
    if "gt" in limits:
        return f"{noun} above {limits['gt']}, up to {limits['le']}"
    return f"{noun} from {limits['ge']} to {limits['le']}"
