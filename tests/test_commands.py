"""The commands of operators, run in this process: output, changes, and exit statuses.

Tests that need a separate process, signals or the embedded database are in `test_cli`.
"""

import asyncio
import functools
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import pytest
import typer.main

from mithril import cli, errors, identifiers
from mithril.audit.events import list_last
from mithril.cli import audit, output
from mithril.database import lists
from mithril.database.database import Database
from mithril.scope_sets import service as scope_sets
from mithril.tokens import verification
from mithril.users import store as users
from support import repository
from support.servers import fresh_database

PASSWORD = "Operators-Password-1"
NOBODY = "8c0d4bd2-6a44-4b38-9a0f-3b3f3d6f8f10"
# Building the tree of commands takes longer than most of them; a process does it once.
built = functools.cache(typer.main.get_command)


class Ended(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal(io.StringIO):
    """Standard input with a user who types."""

    def isatty(self) -> bool:
        return True


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as made:
        yield made


@pytest.fixture
def mithril(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line. `typed`: standard input, from a terminal when `is_asked`."""
    monkeypatch.setenv("MITHRIL_DATABASE_URL", url)
    monkeypatch.setattr(typer.main, "get_command", built)

    def run(*arguments: object, typed: str = "", is_asked: bool = False) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mithril", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", (Terminal if is_asked else io.StringIO)(typed))
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        return Ended(status, printed.out, printed.err)

    return run


class World(NamedTuple):
    """The names and ids of the rows that the tests use."""

    client_type: str
    role: str
    email: str
    user_id: str
    client_id: str


@pytest.fixture
def world(mithril: Run) -> World:
    client_type, role, email = f"Type {uuid4()}", f"Role {uuid4()}", f"{uuid4()}@clinic.example"
    assert mithril("client-type", "create", client_type, "--scope", "employee:read connection:write").status == 0
    assert mithril("role", "create", role, "--scope", "employee:read").status == 0
    user = mithril("user", "create", email, "--password-file", "-", "--no-2fa", "--json", typed=PASSWORD + "\n").json
    made = mithril(
        *("client", "create", "Клініка №1", "--type", client_type, "--owner", email.upper(), "--access-type", "DIRECT"),
        *("--settings", '{"allowed_grant_types": ["password"]}', "--json"),
    )
    return World(client_type, role, email, user["id"], made.json["id"])


def is_good(url: str, token: str) -> bool:
    async def ask() -> bool:
        async with Database(url, size=2, wait_seconds=60, statement_seconds=60) as database:
            try:
                await verification.verify(database, token=token, api_key=None, api_key_was_sent=False)
            except errors.MithrilError:
                return False
            return True

    return asyncio.run(ask())


def events(url: str) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch("SELECT action, request_id, old::text, new::text FROM audit_events ORDER BY id")
        await connection.close()
        return [dict(row) for row in rows]

    return asyncio.run(read())


def new_token(mithril: Run, world: World) -> dict[str, Any]:
    made: dict[str, Any] = mithril(
        "token", "create", world.email, world.client_id, "--scope", "employee:read", "--json"
    ).json
    return made


# All commands


def commands() -> Iterator[tuple[str, Any]]:
    root: Any = built(cli.app)
    for name, command in root.commands.items():
        for below, each in getattr(command, "commands", {}).items():
            yield f"{name} {below}", each
        yield name, command


def test_every_command_has_help_and_every_group_command_has_json() -> None:
    for name, command in commands():
        assert command.help, name
        if " " in name:
            options = {option for parameter in command.params for option in parameter.opts}
            assert {"--json", "--database-url", "--home"} <= options, name
            is_destructive = name.split()[1] in {
                "delete",
                "delete-all",
                "revoke",
                "deactivate-tokens",
                "refresh-secret",
                "move",
                "reset",
            }
            assert is_destructive == ("--yes" in options), name


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("client show " + NOBODY, 3, f"mithril: there is no client {NOBODY}\n"),
        ("user show nobody@clinic.example", 3, "mithril: there is no user nobody@clinic.example\n"),
        ("role delete Nobody --yes", 3, "mithril: there is no role Nobody\n"),
        ("token show " + NOBODY, 3, f"mithril: there is no token {NOBODY}\n"),
        ("client block " + NOBODY, 3, f"mithril: there is no client {NOBODY}\n"),
        ("client show clinic", 2, "valid UUID"),
        ("client change " + NOBODY, 2, "name what is to change"),
        ("client create X --type T --owner O --settings []", 2, "not a JSON object"),
        ("client list --page 0", 2, "--page"),
        ("role create A", 2, "--scope"),
        ("roles list", 2, "No such command"),
    ],
)
def test_errors_are_one_line_and_an_exit_status(mithril: Run, arguments: str, status: int, said: str) -> None:
    ended = mithril(*arguments.split())
    assert (ended.status, ended.out) == (status, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", ["migrate", "user list"])
@pytest.mark.parametrize(
    "change",
    [
        *("&sslmode=foo", "&sslmode", "&sslmode=require&sslmode=foo", "&sslnegotiation=foo", "&gsslib=foo"),
        *("&sslmode=verify-full&sslrootcert=/no/such/file", "&role=nobody", "&default_transaction_read_only=on"),
        *("&target_session_attrs=foo", "&foo=bar", "&lock_timeout=x", "&options=-c%20foo", "&client_encoding=foo"),
    ],
)
def test_a_database_url_that_cannot_be_meant_is_told_in_one_line(
    mithril: Run, url: str, monkeypatch: pytest.MonkeyPatch, command: str, change: str
) -> None:
    monkeypatch.setenv("MITHRIL_DATABASE_URL", url + change)
    ended = mithril(*command.split())
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.err.startswith("mithril: the database cannot be reached: ")
    assert "sslrootcert=" not in change or "sslrootcert=/no/such/file cannot be used: No such file" in ended.err


@pytest.mark.parametrize("command", ["migrate", "user list"])
@pytest.mark.parametrize(
    "place",
    ["127.0.0.1:99999/", "a..b/", "a" * 80 + ".example/", "é..é/", "%00/", "127.0.0.1:1/?ssl_min_protocol_version=foo"],
)
def test_so_is_a_host_that_cannot_be_meant(
    mithril: Run, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    monkeypatch.setenv("MITHRIL_DATABASE_URL", f"postgresql://somebody:hunter2@{place}")
    ended = mithril(*command.split())
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "hunter2" not in ended.err


def test_what_stops_a_migration_is_told_in_one_line(mithril: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MITHRIL_DATABASE_URL", url + "&search_path=no_such_schema")
    ended = mithril("migrate")
    assert (ended.status, ended.err) == (1, "mithril: the migration failed: no schema has been selected to create in\n")


def test_a_refusal_names_every_field(mithril: Run, world: World) -> None:
    again = mithril("role", "create", world.role, "--scope", "a")
    assert (again.status, again.err) == (1, "mithril: refused:\n  name: has already been taken\n")
    weak = mithril("user", "create", "not-an-address", "--password-file", "-", typed="short")
    assert weak.status == 1
    assert "email: is not a valid email" in weak.err
    assert "password: should be at least 12 character(s)" in weak.err
    in_use = mithril("client-type", "delete", world.client_type, "--yes")
    assert (in_use.status, in_use.err) == (1, "mithril: It is in use.\n")


def test_nothing_is_deleted_without_confirmation(mithril: Run, world: World) -> None:
    for is_asked, typed in ((False, ""), (False, "y\n"), (True, "n\n"), (True, "\n")):
        ended = mithril("role", "delete", world.role, is_asked=is_asked, typed=typed)
        assert ended.status == 1
        assert ("--yes" in ended.err) != is_asked
    assert mithril("role", "show", world.role).status == 0
    assert mithril("role", "delete", world.role, is_asked=True, typed="y\n").status == 0
    assert mithril("role", "show", world.role).status == 3


def test_a_list_reports_further_rows_on_standard_error(mithril: Run, world: World) -> None:
    mithril("client-type", "create", f"Other {uuid4()}", "--scope", "x")
    ended = mithril("client-type", "list", "--page-size", "1", "--json")
    assert len(ended.json) == 1
    assert ended.err.startswith("1 to 1 of ")
    assert ended.err.endswith("; --page 2 shows more\n")


def test_beyond_the_pages_by_number_a_list_goes_on_by_a_cursor(
    mithril: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    mithril("role", "create", f"Other {uuid4()}", "--scope", "x")
    mithril("role", "create", f"Another {uuid4()}", "--scope", "x")
    every = mithril("role", "list", "--json").json
    monkeypatch.setattr(lists, "LAST_BY_NUMBER", 1)
    monkeypatch.setattr(output, "LAST_BY_NUMBER", 1)
    found: list[Any] = []
    after: list[str] = []
    while len(found) < len(every):
        ended = mithril("role", "list", "--page-size", "1", "--json", *after)
        found += ended.json
        after = ["--after", ended.err.partition("--after ")[2].split()[0]] if "shows more" in ended.err else []
    assert (found, after) == (every, [])
    refused = mithril("role", "list", "--page-size", "1", "--page", "2")
    assert (refused.status, "after" in refused.err) == (1, True)
    first = mithril("role", "list", "--page-size", "1").err.partition("--after ")[2].split()[0]
    assert mithril("client-type", "list", "--after", first).status == 1
    assert mithril("role", "list", "--after", "x").status == 2


def test_names_with_control_characters_are_escaped(mithril: Run, world: World) -> None:
    mithril("client", "change", world.client_id, "--name", "a\x1b[2Jb [red]c\x9b")
    shown = mithril("client", "show", world.client_id).out
    assert "\x1b" not in shown
    assert "a\\x1b[2Jb [red]c\\x9b" in shown


@pytest.mark.parametrize(
    ("width", "first"), [(80, ["id", NOBODY]), (120, ["id", NOBODY]), (160, ["id", "name", "tax_id"])]
)
def test_in_a_terminal_a_list_loses_nothing_and_is_a_table_where_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, first: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    name, url = "Комунальне підприємство " * 5, f"https://{'x' * 35}.example"
    row = {"id": NOBODY, "name": name, "tax_id": None, "url": url}
    output.print_table([row, row | {"is_blocked": False}], columns=[*row, "is_blocked"])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).strip().splitlines()
    words = " ".join(lines).split()
    assert [words.count(each) for each in (NOBODY, "підприємство", url, "no")] == [2, 10, 2, 1]
    assert {"id", "name", "tax_id", "url", "is_blocked"} < {*words}
    assert max(map(len, lines)) <= width
    assert lines[0].split()[: len(first)] == first
    assert width > 120 or not lines[len(lines) // 2].strip(), "an empty line between the rows"


def test_an_argument_that_is_not_text_is_refused_in_one_line(mithril: Run) -> None:
    ended = mithril("user", "show", "\udcff@clinic.example")
    assert (ended.status, ended.err) == (3, "mithril: there is no user \ufffd@clinic.example\n")


# Resources


def test_a_role_and_a_client_type_are_found_by_name_and_by_id(mithril: Run) -> None:
    for group in ("role", "client-type"):
        name = f"Name {uuid4()}"
        made = mithril(group, "create", name, "--scope", "a b", "--json").json
        assert made == {"id": made["id"], "name": name, "scope": "a b"}
        assert mithril(group, "show", name, "--json").json == made
        changed = mithril(group, "change", made["id"], "--scope", "c", "--json").json
        assert changed == made | {"scope": "c"}
        assert made["id"] in mithril(group, "list", "--scope", "c").out
        assert mithril(group, "delete", name, "--yes", "--json").json == {"id": made["id"], "deleted": True}
        assert mithril(group, "show", made["id"]).status == 3


@pytest.mark.parametrize(
    ("options", "is_told"),
    [((), True), (("--2fa",), True), (("--no-2fa",), False), (("--phone", "+380501234567"), False)],
)
def test_who_has_a_second_factor_and_no_phone_is_named(
    mithril: Run, options: tuple[str, ...], *, is_told: bool
) -> None:
    email = f"{uuid4()}@clinic.example"
    made = mithril("user", "create", email, "--password-file", "-", *options, typed=PASSWORD)
    assert (made.status, "no phone yet" in made.err) == (0, is_told)
    if is_told:
        (command,) = re.findall("`mithril (.*?)`", made.err)
        assert mithril(*command.replace("+380XXXXXXXXX", "+380501234567").split()).status == 0


def test_a_user_is_created_changed_blocked_and_deleted(mithril: Run, world: World) -> None:
    made = mithril("user", "show", world.email.upper(), "--json").json
    assert (made["id"], made["email"], made["is_blocked"]) == (world.user_id, world.email, False)
    changed = mithril("user", "change", world.email, "--tax-id", "0000000000", "--json").json
    assert changed["tax_id"] == "0000000000"
    assert [row["id"] for row in mithril("user", "list", "--tax-id", "0000000000", "--json").json] == [world.user_id]
    blocked = mithril("user", "block", world.email, "--reason", "lost phone", "--json").json
    assert (blocked["is_blocked"], blocked["block_reason"]) == (True, "lost phone")
    again = mithril("user", "block", world.email)
    assert (again.status, again.err) == (1, "mithril: user already blocked\n")
    assert not mithril("user", "unblock", world.user_id, "--json").json["is_blocked"]
    assert mithril("user", "delete", world.email, "--yes").out == f"{world.email} is deleted.\n"
    assert mithril("client", "show", world.client_id).status == 3, "their clients went too"


def test_a_password_is_prompted_or_read_from_a_file_and_never_shown(
    mithril: Run, world: World, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = new_token(mithril, world)["value"]
    file = tmp_path / "password"
    file.write_text("Another-Password-2\r\n")
    set_by_file = mithril("user", "set-password", world.email, "--password-file", file)
    assert set_by_file.status == 0
    assert not is_good(url, token), "a new password ends the tokens"
    again = mithril("user", "set-password", world.email, "--password-file", "-", typed="Another-Password-2")
    assert (again.status, "has been used recently" in again.err) == (1, True)
    nobody = mithril("user", "set-password", world.email)
    assert (nobody.status, "--password-file" in nobody.err) == (1, True)
    missing = mithril("user", "set-password", world.email, "--password-file", tmp_path / "none")
    assert (missing.status, missing.err.count("\n")) == (1, 1)
    answers = iter(["A-third-Password-3", "A-third-Password-3"])
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: next(answers))
    asked = mithril("user", "set-password", world.email, is_asked=True)
    assert asked.status == 0
    for ended in (set_by_file, again, asked):
        assert "Password-" not in ended.out + ended.err
    assert "Password-" not in json.dumps(events(url))


def test_roles_are_granted_and_revoked_in_a_client_and_in_every_client(mithril: Run, world: World) -> None:
    in_client = ("--client", world.client_id)
    assert mithril("user", "grant", world.email, world.role).status == 2, "everywhere is not meant by silence"
    assert mithril("user", "grant", world.email, world.role, *in_client, "--everywhere").status == 2
    assert mithril("user", "grant", world.email, world.role, "--everywhere", "--json").json["client_id"] is None
    assert mithril("user", "grant", world.email, world.role, *in_client).status == 0
    assert mithril("user", "grant", world.email, world.role, *in_client).status == 1, "they have it"
    has = mithril("user", "roles", world.user_id, "--json").json
    assert [(row["role_name"], row["client_id"]) for row in has] == [
        (world.role, None),
        (world.role, world.client_id),
    ]
    assert mithril("user", "revoke", world.email, world.role, *in_client, "--yes").status == 0
    assert mithril("user", "revoke", world.email, world.role, *in_client, "--yes").status == 3
    assert mithril("user", "revoke", world.email, world.role, "--everywhere", "--yes").status == 0
    assert mithril("user", "revoke", world.email, world.role, "--everywhere", "--yes").status == 3
    assert mithril("user", "roles", world.email, "--json").json == []


def test_only_the_named_fields_of_a_client_are_changed(mithril: Run, world: World) -> None:
    before = mithril("client", "show", world.client_id, "--json").json
    assert (before["name"], before["client_type_name"]) == ("Клініка №1", world.client_type)
    assert before["priv_settings"] == {"access_type": "DIRECT"}
    changed = mithril("client", "change", world.client_id, "--broker-scope", "a b", "--json").json
    assert changed["priv_settings"] == {"access_type": "DIRECT", "broker_scope": "a b"}
    restored = mithril("client", "change", world.client_id, "--broker-scope", "", "--json").json
    assert restored | {"updated_at": ""} == before | {"updated_at": ""}
    given = str(uuid4())
    create = ("client", "create", "B", "--type", world.client_type, "--owner", world.user_id, "--id", given)
    assert mithril(*create, "--json").json["priv_settings"] == {"access_type": "BROKER"}
    again = mithril(*create)
    assert (again.status, "there is a client with that id" in again.err) == (1, True)
    wrong = mithril("client", "change", given, "--access-type", "SIDEWAYS")
    assert (wrong.status, "access_type is invalid" in wrong.err) == (1, True)
    assert mithril("client", "change", given, "--type", "None such").status == 3
    assert [row["id"] for row in mithril("client", "list", "--owner", world.email, "--json").json] == [
        world.client_id,
        given,
    ]


def test_blocking_a_client_or_revoking_its_tokens_takes_effect_on_verify_at_once(
    mithril: Run, world: World, url: str
) -> None:
    token = new_token(mithril, world)["value"]
    assert is_good(url, token)
    assert mithril("client", "deactivate-tokens", world.client_id, "--yes").status == 0
    assert not is_good(url, token)
    token = new_token(mithril, world)["value"]
    assert mithril("client", "block", world.client_id, "--reason", "audit", "--json").json["is_blocked"]
    assert not is_good(url, token)
    assert mithril("client", "unblock", world.client_id, "--json").json["block_reason"] is None
    assert not is_good(url, token), "tokens that have ended stay ended"
    assert mithril("client", "delete", world.client_id, "--yes").status == 0
    assert mithril("client", "show", world.client_id).status == 3


def test_the_secret_of_a_connection_is_printed_once(mithril: Run, world: World, url: str) -> None:
    address = ("--redirect-uri", "https://mis.example.com/callback")
    made = mithril("connection", "create", world.client_id, *address, "--json")
    connection, secret = made.json, made.json["secret"]
    one = (world.client_id, connection["id"])
    assert connection["consumer_id"] == world.client_id
    assert mithril("connection", "create", world.client_id, *address).status == 1, "they are connected"
    for shown in (mithril("connection", "show", *one), mithril("connection", "list", world.client_id)):
        assert (shown.status, secret in shown.out, secret[-4:] in shown.out) == (0, False, True)
    refused = mithril("connection", "change", *one, "--redirect-uri", "https://MIS.example.com")
    assert refused.status == 1
    assert "not_canonical" in refused.err
    assert "https://mis.example.com" in refused.err
    moved = mithril("connection", "change", *one, "--redirect-uri", "https://mis.example.com/new", "--json").json
    assert moved["redirect_uri"] == "https://mis.example.com/new"
    assert mithril("connection", "refresh-secret", *one).status == 1, "the present one would die"
    fresh = mithril("connection", "refresh-secret", *one, "--keep", "60", "--json").json
    assert fresh["secret"] not in ("", secret)
    assert mithril("connection", "show", NOBODY, connection["id"]).status == 3, "it is another client's"
    assert mithril("connection", "delete", *one, "--yes").status == 0
    assert mithril("connection", "show", *one).status == 3
    assert not any(value in json.dumps(events(url)) for value in (secret, fresh["secret"]))


def test_a_connection_of_two_clients_is_rotated_without_the_api_key_of_the_consumer(mithril: Run, world: World) -> None:
    consumer = mithril("client", "create", "MIS", "--type", world.client_type, "--owner", world.email, "--json").json[
        "id"
    ]
    made = mithril(
        *("connection", "create", world.client_id, "--consumer", consumer),
        *("--redirect-uri", "https://mis.example.com/callback", "--json"),
    ).json
    rotated = mithril("connection", "refresh-secret", world.client_id, made["id"], "--yes", "--json").json
    assert rotated["secret"] != made["secret"]


def connected(mithril: Run, world: World, redirect_uri: str) -> tuple[str, str]:
    """Return the ids of a client and of its connection, in which it is its own consumer."""
    owner = ("--type", world.client_type, "--owner", world.email)
    client_id = mithril("client", "create", "Clinic", *owner, "--json").json["id"]
    made = mithril("connection", "create", client_id, "--redirect-uri", redirect_uri, "--json").json
    return client_id, made["id"]


def test_a_connection_is_moved_and_moved_back(mithril: Run, world: World, url: str) -> None:
    one, new = connected(mithril, world, "https://old.example.com/"), "https://new.example.com/"
    moved = mithril("connection", "move", *one, "--redirect-uri", new, "--lasts", "24h", "--json").json
    assert (moved["redirect_uri"], moved["transition"]["redirect_uri"]) == ("https://old.example.com/", new)
    table = mithril("connection", "list", one[0]).out
    assert "https://old.example.com/" in table
    assert new in table
    signed_in = mithril("connection", "show", *one, "--json").json["sign_ins"]
    assert signed_in == [{"redirect_uri": uri, "sign_ins": 0} for uri in ("https://old.example.com/", new)]
    assert new in mithril("connection", "show", *one).out
    assert mithril("connection", "cancel-move", *one, "--json").json["transition"] is None
    assert mithril("connection", "cancel-move", *one).status == 3, "there is none any more"
    assert mithril("connection", "change", *one, "--redirect-uri", new).status == 0
    (event,) = (each for each in events(url) if each["action"] == "connection.update" and new in (each["new"] or ""))
    last = json.loads(mithril("audit", "--action", "connection.update", "--json").out.splitlines()[-1])
    assert mithril("connection", "revert", *one, NOBODY).status == 2
    assert mithril("connection", "revert", *one, 99_999_999).status == 3
    back = mithril("connection", "revert", *one, last["id"], "--json").json
    assert (back["redirect_uri"], event["request_id"].startswith("mithril connection change, by ")) == (
        "https://old.example.com/",
        True,
    )


def test_a_move_that_is_named_wrongly_is_refused(mithril: Run, world: World) -> None:
    one = connected(mithril, world, "https://old.example.com/")
    for uri, lasts, status in (
        ("https://old.example.com/", "24h", 1),
        ("https://New.example.com/", "24h", 1),
        ("https://new.example.com/", "59s", 1),
        ("https://new.example.com/", "31d", 1),
        ("https://new.example.com/", "a day", 2),
        ("https://new.example.com/", "24", 2),
    ):
        assert mithril("connection", "move", *one, "--redirect-uri", uri, "--lasts", lasts).status == status, uri
    assert mithril("connection", "move", one[0], NOBODY, "--redirect-uri", "https://new.example.com/").status == 3
    assert mithril("connection", "move", *one).status == 2
    prefixes = ("--from", "https://old.example.com/", "--to", "https://new.example.com/")
    assert mithril("connection", "move", *one, "--consumer", one[0], *prefixes).status == 2
    assert mithril("connection", "move", "--consumer", NOBODY, *prefixes).status == 3
    for bad in ("https://old.example.com", "old", "https:///", prefixes[3]):
        assert mithril("connection", "move", "--consumer", one[0], "--from", bad, *prefixes[2:]).status == 2, bad
    assert mithril("connection", "end-previous-secret", *one).status == 3
    mithril("connection", "refresh-secret", *one, "--keep", "60")
    assert mithril("connection", "end-previous-secret", *one).status == 0


@pytest.fixture
def mis(url: str, mithril: Run, world: World) -> str:
    """A MIS with 400 connections whose redirect URIs begin alike, and two others."""
    consumer: str = mithril(
        *("client", "create", "MIS", "--type", world.client_type, "--owner", world.email, "--json"),
    ).json["id"]

    async def add() -> None:
        db = await asyncpg.connect(url)
        await db.execute(
            "WITH added AS (INSERT INTO clients (name, client_type_id, user_id)"
            " SELECT 'Clinic ' || n, client_type_id, user_id FROM clients, generate_series(1, 402) n WHERE id = $1"
            " RETURNING id, substring(name FROM 8)::integer AS n)"
            " INSERT INTO connections (client_id, consumer_id, redirect_uri, secret_digest, secret_tail)"
            " SELECT id, $1, CASE WHEN n <= 400 THEN 'https://old.mis.example.com/' || n"
            " ELSE 'https://old.mis.example.com.' || n || '.example.com/' END, sha256(id::text::bytea), '' FROM added",
            consumer,
        )
        await db.close()

    asyncio.run(add())
    return consumer


def state_of(mithril: Run, url: str, mis: str) -> list[tuple[str, str | None]]:
    async def read() -> list[tuple[str, str | None]]:
        db = await asyncpg.connect(url)
        found = await db.fetch(
            "SELECT redirect_uri, transition_redirect_uri FROM connections WHERE consumer_id::text = $1 ORDER BY 1", mis
        )
        await db.close()
        return [(row[0], row[1]) for row in found]

    return asyncio.run(read())


@pytest.mark.slow
def test_the_connections_of_a_mis_are_moved_by_the_script_of_the_documentation(
    mithril: Run, url: str, mis: str
) -> None:
    page = (repository() / "docs/redirect-uris.md").read_text()
    (script,) = (block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "connection move" in block)
    folder = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    environment = {"PATH": folder, "MIS": mis, "MITHRIL_DATABASE_URL": url, "COLUMNS": "200", "LC_ALL": "C.UTF-8"}
    ran = subprocess.run(["sh", "-c", script], env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert [ran.stdout.count(state) for state in ("would begin", " begun", "is under way")] == [400, 400, 400]
    moved = {(f"https://old.mis.example.com/{n}", f"https://new.mis.example.com/{n}") for n in range(1, 401)}
    kept = {(f"https://old.mis.example.com.{n}.example.com/", None) for n in (401, 402)}
    assert set(state_of(mithril, url, mis)) == moved | kept
    begun = [
        each for each in events(url) if each["action"] == "connection.begin_transition" and "mis.exam" in each["new"]
    ]
    assert len(begun) == 400
    assert {each["request_id"].partition(",")[0] for each in begun} == {"mithril connection move"}


def test_a_move_of_a_mis_begins_nothing_where_anything_is_refused(mithril: Run, url: str, mis: str) -> None:
    before = state_of(mithril, url, mis)
    move = ("connection", "move", "--consumer", mis, "--from", "https://old.mis.example.com/", "--json")
    for more in ((), ("--dry-run",), ("--yes",)):
        refused = mithril(*move, "--to", "https://new.mis.example.com/a//", *more)
        assert refused.status == 1
        assert {row["state"] for row in refused.json} == {"refused: double_slash"}
        assert len(refused.json) == 400
        assert state_of(mithril, url, mis) == before
    asked = mithril(*move, "--to", "https://old.mis.example.com/v2/")
    assert (asked.status, "400 transitions" in asked.err) == (1, True), "there is no terminal to ask"
    assert state_of(mithril, url, mis) == before


def test_a_move_of_a_mis_goes_on_where_it_stopped_and_moves_nothing_twice(mithril: Run, url: str, mis: str) -> None:
    """Also where the new prefix begins with the old one, and after the time is over."""

    async def execute(statement: str) -> None:
        db = await asyncpg.connect(url)
        await db.execute(statement, mis)
        await db.close()

    here = ("connection", "move", "--consumer", mis, "--from", "https://old.mis.example.com/", "--yes", "--json")
    move = (*here, "--to", "https://old.mis.example.com/v2/")
    assert len([row for row in mithril(*move).json if row["state"] == "begun"]) == 400
    some = "consumer_id = $1::text::uuid AND redirect_uri LIKE '%/1__'"
    await_ended = "UPDATE connections SET transition_ends_at = now() WHERE transition_ends_at > now() AND "
    asyncio.run(execute(await_ended + some))
    nothing = "transition_redirect_uri, transition_since, transition_began_at, transition_ends_at"
    asyncio.run(
        execute(f"UPDATE connections SET ({nothing}) = ROW(NULL, NULL, NULL, NULL) WHERE {some.replace('1__', '2__')}")
    )
    states = [row["state"] for row in mithril(*move).json]
    assert (states.count("begun"), states.count("is under way")) == (100, 200), "a hundred have ended"
    other = mithril(*here, "--to", "https://third.example.com/")
    assert other.status == 1
    assert [row["state"] for row in other.json].count("refused: another transition") == 300


def test_the_value_of_a_token_is_printed_once(mithril: Run, world: World, url: str) -> None:
    made = new_token(mithril, world)
    assert is_good(url, made["value"])
    for shown in (mithril("token", "show", made["id"]), mithril("token", "list", "--user", world.email)):
        assert (shown.status, made["id"] in shown.out, made["value"] in shown.out) == (0, True, False)
    assert mithril("token", "list", "--client", NOBODY, "--json").json == []
    assert mithril("token", "change", made["id"], "--expires-in", "0").status == 0
    assert not is_good(url, made["value"])
    assert mithril("token", "change", made["id"], "--expires-in", "600").status == 0
    assert is_good(url, made["value"])
    assert mithril("token", "delete", made["id"], "--yes").status == 0
    assert mithril("token", "delete", made["id"], "--yes").status == 3
    other = new_token(mithril, world)
    assert mithril("token", "delete-all", world.email, "--yes").status == 0
    assert not is_good(url, other["value"])
    wide = mithril("token", "create", world.email, world.client_id, "--scope", "everything")
    assert (wide.status, wide.err) == (
        1,
        "mithril: refused:\n  scope: everything: unknown: no client type and no role has the scope\n",
    )


def test_a_client_that_may_not_log_users_in_is_told_how_it_may(mithril: Run, world: World) -> None:
    token = ("token", "create", world.email, world.client_id, "--scope", "employee:read")
    kept = {"allowed_grant_types": ["digital_signature"], "note": "it's kept"}
    mithril("client", "change", world.client_id, "--settings", json.dumps(kept))
    refused = mithril(*token)
    told = "mithril: Client is not allowed to issue login token. To allow it: mithril "
    assert (refused.status, refused.err.startswith(told)) == (1, True)
    assert mithril(*shlex.split(refused.err.removeprefix(told))).status == 0
    assert mithril(*token).status == 0
    changed = mithril("client", "show", world.client_id, "--json").json["settings"]
    assert changed == kept | {"allowed_grant_types": ["digital_signature", "password"]}


# Cleanup and the audit trail


def test_mithril_sweep_prints_its_counts(mithril: Run, world: World, url: str) -> None:
    new_token(mithril, world)

    async def age() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("UPDATE tokens SET expires_at = now() - interval '31 days'")
        await connection.close()

    asyncio.run(age())
    swept = mithril("sweep", "--json").json
    assert swept["tokens_deleted"] >= 1
    assert set(swept.values()) == {0, swept["tokens_deleted"]}
    assert "tokens deleted: 0" in mithril("sweep").out


def test_the_audit_trail_is_printed_oldest_first_and_can_be_filtered(mithril: Run, world: World) -> None:
    first = mithril("role", "show", world.role, "--json").json
    mithril("role", "change", world.role, "--scope", "changed")
    mithril("role", "delete", world.role, "--yes")
    trail = mithril("audit", "--subject", first["id"], "--json")
    lines = [json.loads(line) for line in trail.out.splitlines()]
    assert [line["action"] for line in lines] == ["role.create", "role.update", "role.delete"]
    assert (lines[1]["old"], lines[1]["new"]) == ({"scope": "employee:read"}, {"scope": "changed"})
    assert lines[1]["request_id"].startswith("mithril role change, by ")
    assert {line["subject_id"] for line in lines} == {first["id"]}

    def actions(*arguments: object) -> list[str]:
        return [json.loads(line)["action"] for line in mithril("audit", "--json", *arguments).out.splitlines()]

    of_role = ("--subject", first["id"])
    assert actions(*of_role, "-n", "1") == ["role.delete"]
    assert actions(*of_role, "--action", "role.update") == ["role.update"]
    assert actions(*of_role, "--action", "role") == ["role.create", "role.update", "role.delete"]
    assert actions(*of_role, "--action", "rol") == []
    assert actions(*of_role, "--since", "1h") == ["role.create", "role.update", "role.delete"]
    assert actions(*of_role, "--until", "1h") == []
    assert actions(*of_role, "--since", lines[2]["occurred_at"]) == ["role.delete"]
    assert actions(*of_role, "--request-id", lines[1]["request_id"]) == ["role.update"]
    assert actions(*of_role, "--actor", NOBODY) == []
    assert set(actions("--client", world.client_id)) == {"client.create"}
    assert actions("--operation", lines[1]["operation_id"]) == ["role.update"]
    assert actions(*of_role, "--since", lines[0]["id"]) == ["role.update", "role.delete"]
    for unindexed in (("--request-id", "nothing"), ("--action", "no.thing")):
        assert "of 31 days" in mithril("audit", *unindexed).err
        assert "31 days" not in mithril("audit", *unindexed, "--since", "40d").err
    assert mithril("audit", "--since", "yesterday").status == 2


def test_the_audit_trail_has_columns_that_stay_at_their_places_in_a_pipe(mithril: Run, world: World) -> None:
    role = mithril("role", "show", world.role, "--json").json["id"]
    mithril("role", "change", world.role, "--scope", "changed")
    header, *lines = mithril("audit", "--subject", role).out.splitlines()
    assert header.split() == ["time", "action", "subject", "by", "request", "change"]
    assert {line.index(role) for line in lines} == {header.index("subject")}
    _, action, subject, by, request, change = re.split("  +", lines[1].strip())
    assert (action, subject, request, change) == ("role.update", role, "-", "scope: employee:read → changed")
    assert by.startswith("mithril role change, by ")


def add_events(url: str, *rows: dict[str, Any]) -> None:
    async def add() -> None:
        connection = await asyncpg.connect(url)
        for row in rows:
            given = {"action": "test.thing", "subject_id": uuid4(), **row}
            places = ", ".join(f"${number}" for number, _ in enumerate(given, start=1))
            statement = f"INSERT INTO audit_events ({', '.join(given)}) VALUES ({places})"
            await connection.execute(statement, *given.values())
        await connection.close()

    asyncio.run(add())


def test_the_audit_trail_names_users_by_e_mail_address_with_one_look_up(
    mithril: Run, world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[UUID]] = []
    look_up = users.list_emails

    async def counted(source: Any, user_ids: list[UUID], **other: Any) -> dict[UUID, str]:
        asked.append(user_ids)
        return await look_up(source, user_ids, **other)

    monkeypatch.setattr(users, "list_emails", counted)
    subject, deleted, broker = uuid4(), uuid4(), uuid4()
    by_user = {"subject_id": subject, "actor_user_id": UUID(world.user_id), "request_id": "a request"}
    add_events(
        url,
        by_user,
        by_user | {"api_key_client_id": broker},
        by_user | {"actor_user_id": deleted},
        {"subject_id": subject, "actor_client_id": broker, "network_address": "10.0.0.1"},
        # Any caller of the internal listener may choose the request id, and is no command.
        {"subject_id": subject, "request_id": "mithril user block, by root", "network_address": "10.0.0.1"},
        {"subject_id": subject, "request_id": "mithril user block, by root"},
    )
    lines = mithril("audit", "--subject", subject).out.splitlines()[1:]
    cells = [re.split("  +", line.strip())[3:5] for line in lines]
    assert cells == [
        [world.email, "a request"],
        [f"{world.email} through {broker}", "a request"],
        [str(deleted), "a request"],
        [str(broker), "-"],
        ["10.0.0.1", "mithril user block, by root"],
        ["mithril user block, by root", "-"],
    ]
    assert [len(each) for each in asked] == [2]
    count = len(mithril("audit", "--actor", world.email.upper(), "--json").out.splitlines())
    assert count == len(mithril("audit", "--actor", world.user_id, "--json").out.splitlines()) == 2
    assert len(mithril("audit", "--actor", deleted, "--json").out.splitlines()) == 1
    assert mithril("audit", "--actor", "nobody@clinic.example").status == output.MISSING


@pytest.mark.parametrize("width", [80, 100, 160])
def test_in_a_terminal_an_event_is_one_line_where_it_fits_and_nothing_is_cut(
    mithril: Run, world: World, url: str, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("mithril.cli.audit.is_terminal", lambda: True)
    subject, long = uuid4(), "https://mis.example.com/" + "x" * 200
    changes = [{"is_blocked": True}, {"redirect_uri": long, "name": "two  spaces\nand a line"}]
    add_events(url, *({"subject_id": subject, "new": json.dumps(each)} for each in changes))
    _, first, *others = mithril("audit", "--subject", subject).out.splitlines()
    if width > 80:
        assert re.fullmatch(rf"\S+ \S+Z  test.thing  {subject}  is_blocked: yes", first)
    assert long in "\n".join(others), "a value that is longer than a line is whole"
    assert not [line for line in (first, *others) if len(line) > width and long not in line]
    assert not [line for line in (first, *others) if line[:1] not in "2 " or "\x1b" in line]
    assert r"two \x20spaces\nand" in " ".join(line.strip() for line in others)


def test_an_import_is_in_the_audit_trail_with_the_account_that_ran_it(mithril: Run, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"roles": [{"name": f"Role {uuid4()}", "scope": "a"}]}))
    mithril("import", file)
    (line,) = mithril("audit", "-n", "1", "--json").out.splitlines()
    assert re.fullmatch(r"mithril import, by \S+", json.loads(line)["request_id"])


def test_an_operation_without_an_audit_row_is_told_by_its_outcome(mithril: Run, url: str) -> None:
    done, given_up = identifiers.time_ordered_uuid(), identifiers.time_ordered_uuid()

    async def note() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("INSERT INTO operations (id, is_done) VALUES ($1, true), ($2, false)", done, given_up)
        await connection.close()

    asyncio.run(note())
    assert "it is done" in mithril("audit", "--operation", done).err
    assert "nothing was done" in mithril("audit", "--operation", given_up).err
    for unknown in (identifiers.time_ordered_uuid(), NOBODY, "ffffffff-ffff-7fff-8fff-ffffffffffff"):
        assert "nothing is known" in mithril("audit", "--operation", unknown).err


def test_a_command_of_unknown_outcome_names_its_operation(mithril: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    operation_id = identifiers.time_ordered_uuid()

    async def fail(*_: object, **__: object) -> None:
        raise errors.OutcomeUnknown(operation_id, detail="the connection broke")

    monkeypatch.setattr(scope_sets, "add_named", fail)
    ended = mithril("role", "create", "a role", "--scope", "employee:read")
    assert ended.status == 1
    assert f"(operation {operation_id})" in ended.err


def test_a_webhook_is_registered_changed_and_deleted(mithril: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = mithril("webhook", "create", "http://127.0.0.1:1/hook")
    assert (refused.status, refused.err) == (1, "mithril: Webhooks are off: set MITHRIL_WEBHOOK_KEY.\n")
    monkeypatch.setenv("MITHRIL_WEBHOOK_KEY", "k" * 32)
    refused = mithril("webhook", "create", "http://127.0.0.1:1/hook")
    assert (refused.status, "url: it must begin with https://" in refused.err) == (1, True)
    monkeypatch.setenv("MITHRIL_WEBHOOK_TARGETS", "any")
    added = mithril("webhook", "create", "http://127.0.0.1:1/hook", "--event", "client.blocked", "--json")
    made = added.json
    secret = made.pop("secret")
    assert "not shown again" in added.err
    assert mithril("webhook", "show", made["id"], "--json").json == made
    assert made["url"] in mithril("webhook", "list").out
    changed = mithril("webhook", "change", made["id"], "--all-events", "--inactive", "--json").json
    assert (changed["events"], changed["is_active"]) == ([], False)
    refreshed = mithril("webhook", "refresh-secret", made["id"], "--json").json
    assert refreshed["secret"] != secret
    assert refreshed["previous_secret_expires_at"]
    assert "There is no terminal to ask" in mithril("webhook", "refresh-secret", made["id"]).err
    assert (
        mithril("webhook", "delete", made["id"], "--yes").out == "The webhook to http://127.0.0.1:1/hook is deleted.\n"
    )
    for command in ("show", "refresh-secret"):
        assert mithril("webhook", command, made["id"]).status == 3
    told = [event for event in events(url) if event["action"].startswith("webhook.")]
    assert [event["action"].partition(".")[2] for event in told] == ["create", "update", "refresh_secret", "delete"]
    assert all(event["request_id"].startswith("mithril webhook ") for event in told)
    assert not [event for event in told if secret in str(event)]


def test_following_the_audit_trail_shows_late_commits_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "POLL_SECONDS", 0.01)
    add = "INSERT INTO audit_events (action, subject_id) VALUES ($1, gen_random_uuid())"

    async def scenario() -> list[str]:
        late, early = [await asyncpg.connect(url) for _ in range(2)]
        async with Database(url, size=2, wait_seconds=60, statement_seconds=60) as database, asyncio.timeout(60):
            await early.execute(add, "test.before")
            seen = {entry.id for entry in await list_last(database, {}, most=audit.LOOK_BACK)}
            following = audit.following(database, {"noun": "test"}, seen=seen)
            transaction = late.transaction()
            await transaction.start()
            await late.execute(add, "test.late")
            await early.execute(add, "other.thing")
            await early.execute(add, "test.early")
            first = await anext(following)
            await transaction.commit()
            second = await anext(following)
        await late.close()
        await early.close()
        return [entry.action for entry in (*first, *second)]

    assert asyncio.run(scenario()) == ["test.early", "test.late"]


def test_an_import_prints_its_counts_and_no_progress_bar_without_a_terminal(mithril: Run, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"roles": [{"name": f"Role {uuid4()}", "scope": "a"}]}))
    first, second = mithril("import", file), mithril("import", file, "--json")
    assert (first.status, first.out, first.err) == (0, "roles: 1 added, 0 changed, 0 unchanged\n", "")
    assert second.json["kinds"] == {"roles": {"added": 0, "changed": 0, "unchanged": 1}}


def test_a_dry_run_of_an_import_shows_the_rows_and_imports_nothing(mithril: Run, tmp_path: Path) -> None:
    file, name = tmp_path / "data.json", f"Role {uuid4()}"
    file.write_text(json.dumps({"roles": [{"name": name, "scope": "a"}]}))
    for _ in range(2):
        shown = mithril("import", "--dry-run", file)
        assert (shown.status, shown.out) == (0, f"roles: 1 added, 0 changed, 0 unchanged\n  added {name}\n")
        assert shown.err == "a dry run: nothing has been changed\n"
    as_json = mithril("import", "--dry-run", "--json", file).json
    assert [(row["name"], row["outcome"]) for row in as_json["rows"]] == [(name, "added")]
    imported = mithril("import", "--json", file)
    assert "rows" not in imported.json
    assert mithril("import", "--dry-run", file).out == "roles: 0 added, 0 changed, 1 unchanged\n"
    file.write_text('{"roles": [{"name": "A", "scope": 1}]}')
    assert mithril("import", "--dry-run", file).status == 1


def test_the_trail_says_who_imported_and_by_which_operation(mithril: Run, tmp_path: Path) -> None:
    (file := tmp_path / "data.json").write_text(json.dumps({"roles": [{"name": f"Role {uuid4()}", "scope": "a"}]}))
    mithril("import", file)
    last = json.loads(mithril("audit", "-n", 1, "--json").out)
    assert re.fullmatch(r"mithril import, by \w+", last["request_id"])
    assert json.loads(mithril("audit", "--json", "--operation", last["operation_id"]).out) == last


def test_redirect_uris_are_checked_on_the_command_line(mithril: Run) -> None:
    accepted = mithril("check-redirect-uri", "https://mis.example.com/callback")
    refused = mithril("check-redirect-uri", "https://mis.example.com/", "https://MIS.example.com", "http://localhost/")
    assert (accepted.status, refused.status) == (0, 1)
    assert accepted.out == "accepted  https://mis.example.com/callback\n"
    assert "not_canonical" in refused.out
    assert "suggestion: https://mis.example.com\n" in refused.out
    as_json = mithril("check-redirect-uri", "--json", "http://localhost/").json
    assert as_json == [
        {
            "redirect_uri": "http://localhost/",
            "accepted": False,
            "reasons": ["scheme", "non_public_host"],
            "suggestion": None,
        }
    ]
    assert mithril("check-redirect-uri", "--demo", "http://localhost/").status == 0


def test_settings_shows_each_value_with_its_origin_and_no_secret(
    mithril: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (key := tmp_path / "key").write_text("a-secret-key")
    monkeypatch.setenv("MITHRIL_INTERNAL_KEY_FILE", str(key))
    monkeypatch.setenv("MITHRIL_OTP_ENDPOINT", "https://user:a-secret@sms.example.org/send?key=a-secret")
    monkeypatch.setenv("MITHRIL_JWT_SECRET", "a-secret")
    shown, as_json = (
        mithril("settings", "--current", "--port", 1),
        mithril("settings", "--current", "--port", 1, "--json"),
    )
    assert shown.status == as_json.status == 0
    assert "a-secret" not in shown.out + shown.err + as_json.out + as_json.err
    rows = {row["variable"]: row for row in as_json.json}
    assert (rows["MITHRIL_PORT"]["value"], rows["MITHRIL_PORT"]["from"]) == (1, "option")
    assert rows["MITHRIL_OTP_ENDPOINT"]["value"] == "https://…@sms.example.org/send?…"
    assert rows["MITHRIL_JWT_SECRET"]["problem"] in shown.err
    for name, value, origin in (
        ("INTERNAL_KEY", r"\(secret\)", "file MITHRIL_INTERNAL_KEY_FILE"),
        ("WORKERS", "1", "default"),
        ("DATABASE_URL", r"\(secret\)", "environment"),
        ("TRUSTED_CLIENT_IDS", r"\(empty\)", "default"),
    ):
        assert re.search(rf"^MITHRIL_{name} +{value} +{origin}$", shown.out, re.MULTILINE)


def test_a_check_of_the_settings_tells_everything_that_is_wrong(mithril: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    good = mithril("settings", "--check")
    assert (good.status, good.out, good.err) == (0, "The settings can be used.\n", "")
    monkeypatch.setenv("MITHRIL_WORKRES", "2")
    monkeypatch.setenv("MITHRIL_OTP_LENGTH", "99")
    wrong = mithril("settings", "--check", "--host", "nowhere.invalid", "--internal-host", "0.0.0.0", "--demo")
    assert (wrong.status, wrong.err) == (1, "")
    misspelt, length, unresolved, demo, internal = wrong.out.splitlines()
    assert misspelt == "no setting is called MITHRIL_WORKRES; the nearest is MITHRIL_WORKERS"
    assert length == "MITHRIL_OTP_LENGTH: expected a whole number from 4 to 10"
    assert unresolved.startswith("MITHRIL_HOST: nowhere.invalid cannot be resolved")
    assert "demo data on 0.0.0.0" in demo
    assert "MITHRIL_INTERNAL_KEY" in internal
    assert mithril("settings", "--check", "--port", -1, "--internal-host", "0.0.0.0").out.count("\n") == 3
    assert mithril("settings", "--check", "--json").json == [misspelt, length]
    assert mithril("settings", "--check", "--current").status == 2


def test_a_command_tells_everything_that_is_wrong_in_its_settings(
    mithril: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MITHRIL_OTP_LENGTH", "99")
    monkeypatch.setenv("MITHRIL_PORT", "http")
    ended = mithril("client", "list")
    assert ended.status == 1
    assert [line.split(" ")[1] for line in ended.err.splitlines()] == ["MITHRIL_PORT:", "MITHRIL_OTP_LENGTH:"]


def test_settings_lists_every_variable(mithril: Run) -> None:
    listed = mithril("settings").out
    as_json = mithril("settings", "--json").json
    assert all(row["variable"] in listed for row in as_json)
    assert "MITHRIL_DATABASE_URL_FILE" in listed
