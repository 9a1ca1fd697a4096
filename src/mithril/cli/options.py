"""Options and arguments that several commands share, so that they are called the same everywhere."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril.database.database import Page
from mithril.web.query_parameters import DEFAULT_SIZE, LARGEST_SIZE

SECONDS_BY_UNIT = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LONGEST_AGE_DAYS = 36_500

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="MITHRIL_DATABASE_URL",
        help="PostgreSQL to use instead of the embedded one.",
        rich_help_panel="Database",
        show_envvar=True,
    ),
]
Home = Annotated[
    str | None,
    typer.Option(envvar="MITHRIL_HOME", help="Folder of the embedded PostgreSQL.", rich_help_panel="Database"),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Demo = Annotated[
    bool | None,
    typer.Option("--demo", envvar="MITHRIL_DEMO", help="Take addresses that a server with demo data takes."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PageNumber = Annotated[int, typer.Option("--page", min=1, help="Which page of the list.")]
PageSize = Annotated[int, typer.Option("--page-size", min=1, max=LARGEST_SIZE, help="Rows of a page.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept with the block.")]
PasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="A file with the password, or - for standard input; else it is asked for.",
    ),
]
ClientId = Annotated[UUID, typer.Argument(metavar="CLIENT", help="The client's id.")]
UserName = Annotated[str, typer.Argument(metavar="USER", help="The person's id or e-mail address.")]

FIRST, SIZE = 1, DEFAULT_SIZE


def page(number: int, size: int) -> Page:
    """The page of a list."""
    return Page(number, size)


def only_given(**options: object) -> dict[str, Any]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def changes(**given: object) -> dict[str, Any]:
    """What is to change: the options that were given. Where none was, raises BadParameter, a usage error to Typer."""
    found = only_given(**given)
    if not found:
        raise typer.BadParameter("name what is to change")
    return found


def document(text: str) -> dict[str, Any]:
    """A JSON object. Raises BadParameter, which Typer tells as a usage error."""
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError) as error:
        raise typer.BadParameter(f"not a JSON object: {error}") from None
    return found


def moment(text: str) -> datetime:
    """A date or time in ISO 8601, UTC where it names no zone, or an age such as 90s, 30m, 12h, 7d.

    Raises BadParameter, which Typer tells as a usage error.
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
