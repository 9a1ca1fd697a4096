"""Options and arguments that several commands share, so that they have the same name everywhere.

The options that are settings are made from the list in `mithril.settings`.
"""

import functools
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril import settings
from mithril.database.lists import Cursor
from mithril.settings import Current, Option, Setting, Settings
from mithril.web.query_parameters import DEFAULT_SIZE, LARGEST_SIZE

Command = Callable[..., None]

FOUND = (Settings, list[Current])  # what `from_settings` gives to a command
SECONDS_BY_UNIT = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_AGE_DAYS = 36_500

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Blocked = Annotated[bool | None, typer.Option("--blocked/--not-blocked", help="Only those.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it is stored with the block.")]
PasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="A file with the password, or - for standard input. Without it, the password is asked for.",
    ),
]
ClientId = Annotated[UUID, typer.Argument(metavar="CLIENT", help="The client's id.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's id or e-mail address.")]


def _option(name: str, annotation: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _cursor(text: str) -> Cursor:
    try:
        return Cursor.decode(text)
    except ValueError:
        raise typer.BadParameter("it is what a page of the list has named") from None


PAGE = (
    _option("page_number", Annotated[int, typer.Option("--page", min=1, help="Which page of the list.")], 1),
    _option(
        "page_size",
        Annotated[int, typer.Option("--page-size", min=1, max=LARGEST_SIZE, help="Rows of a page.")],
        DEFAULT_SIZE,
    ),
    _option(
        "page_after",
        Annotated[
            Cursor | None,
            typer.Option("--after", parser=_cursor, metavar="CURSOR", help="What follows the page that named this."),
        ],
        None,
    ),
)
AS_JSON = _option("as_json", AsJson, default=False)


def from_settings(*options: Option, read: Callable[..., Any] = settings.load) -> Callable[[Command], Command]:
    """Give a command an option for each setting that is marked with one of `options`, after the command's own.

    The command is called with what `read` returns first, the loaded Settings; a parameter of such a type is no option.
    """
    taken = [setting for setting in settings.all_settings() if setting.option in options]

    def register(command: Command) -> Command:
        @functools.wraps(command)
        def run(**given: Any) -> None:  # noqa: ANN401 -- whatever the options are
            chosen = read(**{setting.name: given.pop(setting.name) for setting in taken})
            command(chosen, **given)

        parameters = inspect.signature(command, eval_str=True).parameters.values()
        own = [each for each in parameters if each.annotation not in FOUND]
        signature = inspect.Signature(
            [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *map(_parameter, taken))]
        )
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        return run

    return register


def _parameter(setting: Setting) -> inspect.Parameter:
    # The variable is for `settings.load` to read, which refuses its value in one line; so Typer does not learn of it.
    option = typer.Option(
        None,
        f"--{setting.name.replace('_', '-')}",
        help=f"{setting.description[0].upper()}{setting.description[1:]} ({setting.variable}).",
        rich_help_panel="Database" if setting.option is Option.DATABASE else None,
    )
    return _option(setting.name, setting.type | None, option)


def only_given(**options: object) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def changes(**given: object) -> dict[str, Any]:
    """Return the options that were given. Raises BadParameter, a usage error, where there are none."""
    found = only_given(**given)
    if not found:
        raise typer.BadParameter("name what is to change")
    return found


def document(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises BadParameter, a usage error, for any other text."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError) as error:
        raise typer.BadParameter(f"not a JSON object: {error}") from None
    return found


def duration(text: str) -> int:
    """Return the seconds of a time such as 90s, 30m, 12h, 7d. Raises BadParameter, a usage error, for other text."""
    number, unit = text[:-1], text[-1:]
    if unit not in SECONDS_BY_UNIT or not (number.isascii() and number.isdigit()):
        raise typer.BadParameter(f"{text!r} is not a time such as 90s, 30m, 12h or 7d")
    return int(number[:12]) * SECONDS_BY_UNIT[unit]


def moment(text: str) -> datetime:
    """Parse a date or time in ISO 8601, UTC where it names no zone, or an age such as 90s, 30m, 12h, 7d.

    Raises BadParameter, a usage error, for any other text.
    """
    number, unit = text[:-1], text[-1:]
    if unit in SECONDS_BY_UNIT and number.isascii() and number.isdigit():
        age = timedelta(days=LONGEST_AGE_DAYS)
        if int(number[:12]) * SECONDS_BY_UNIT[unit] < age.total_seconds():
            age = timedelta(seconds=int(number) * SECONDS_BY_UNIT[unit])
        return datetime.now(UTC) - age
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = (
            f"{text!r} is neither a time such as 2026-11-26 or 2026-11-26T08:30, nor an age such as 30m, 12h or 7d"
        )
        raise typer.BadParameter(message) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
