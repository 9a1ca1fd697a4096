"""`mithril audit`: the trail of who changed what, as lines of text or as JSON, and its old months."""

import asyncio
import re
import shutil
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril.audit import archive, events
from mithril.audit.events import Actor, Entry
from mithril.cli import output, session, users
from mithril.cli.options import moment, only_given
from mithril.cli.output import Done
from mithril.database.database import Database
from mithril.identifiers import parse_uuid, time_of
from mithril.users import store

# The columns with their widths, so that all lines of all batches have them at the same place.
COLUMNS = {"time": 20, "action": 30, "subject": 36, "by": 40, "request": 24, "change": 0}
GAP, INDENT, NOTHING = "  ", "    ", "-"
POLL_SECONDS = 1.0
# Rows of transactions that end later may have smaller numbers: so far back a row may still turn up.
LOOK_BACK = 1_000
MOST_AT_ONCE = 10_000
# The clock of the process that made an operation may be so far from that of the database.
SKEW = timedelta(days=1)
# So far back rows are read one after the other, where no index leads to them.
UNINDEXED_AGE = timedelta(days=31)
MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
OUTCOMES = {
    True: "it is done, and changed nothing that the trail has",
    False: "it was given up: nothing was done",
    None: "nothing is known of it",
}

app = typer.Typer(name="audit")


def _place(text: str) -> datetime | int:
    return int(text) if text.isascii() and text.isdigit() else moment(text)


@session.command(app, "")
async def audit(
    opened: Database,
    *,
    context: typer.Context,  # noqa: ARG001 -- says whether one of the commands below it is meant
    subject: Annotated[UUID | None, typer.Option(help="Only what happened to the thing of this id.")] = None,
    client: Annotated[UUID | None, typer.Option(help="Only what happened to this client and what is its own.")] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="USER", help="Only what this user did: an e-mail address, or an id.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(help="Only one action, such as connection.update, or all of a kind: connection.")
    ] = None,
    since: Annotated[
        object,
        typer.Option(
            parser=_place,
            metavar="TIME|ID",
            help="From then on: 2026-11-26, or 12h, 7d ago; or after the event of an id.",
        ),
    ] = None,
    until: Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Before that time.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Only what one request did.")] = None,
    operation: Annotated[
        UUID | None, typer.Option(help="Only what was done under the identifier that an unknown outcome named.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST_AT_ONCE, help="The last so many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one event a line.")] = False,
) -> None:
    """Print who changed what: the last events, the newest of them last, as a log is read.

    Rows of the trail are never deleted; old months may be in files (`mithril audit archive`). Times are UTC.
    --action alone, --request-id and --operation look at the last 31 days, unless --since says more.
    """
    kind = {"action": action} if action is None or "." in action else {"noun": action}
    made = operation and time_of(operation)
    if made:  # the trail has an index of times, and needs none of operations
        since, until = since or made - SKEW, until or made + SKEW
    if is_bounded := since is None and not (subject or client or actor) and bool(action or request_id or operation):
        since = (until or datetime.now(UTC)) - UNINDEXED_AGE
    filters = only_given(
        subject_id=subject,
        client_id=client,
        actor_user_id=actor and (parse_uuid(actor) or (await users.find(opened, actor)).id),
        **kind,
        request_id=request_id,
        operation_id=operation,
        **{"after_id" if isinstance(since, int) else "since": since},
        until=until,
    )
    before = await events.list_last(opened, {}, most=LOOK_BACK) if follow else []
    found = await events.list_last(opened, filters, most=limit)
    await _print(opened, found, as_json=as_json, is_first=True)
    if operation and not found:
        output.note(OUTCOMES[await events.find_outcome(opened, operation)])
    elif is_bounded and len(found) < limit:
        output.note(f"of {UNINDEXED_AGE.days} days; --since looks further back")
    if follow:
        async for more in following(opened, filters, seen={entry.id for entry in (*before, *found)}):
            await _print(opened, more, as_json=as_json, is_first=False)


async def following(opened: Database, filters: Mapping[str, Any], *, seen: set[int]) -> AsyncIterator[Sequence[Entry]]:
    """Yield new events beside `seen`, as they come."""
    first = filters.get("after_id", 0)
    while True:
        await asyncio.sleep(POLL_SECONDS)
        after = max(max(seen, default=0) - LOOK_BACK, first)
        recent = await events.list_last(opened, {**filters, "after_id": after}, most=MOST_AT_ONCE)
        new = [entry for entry in recent if entry.id not in seen]
        if new:
            seen = {number for number in seen if number > after} | {entry.id for entry in new}
            yield new


def month(text: str) -> str:
    """Return a month as partitions are named: `2025_01` of 2025-01. Raises BadParameter, a usage error."""
    if found := MONTH.fullmatch(text):
        return "_".join(found.groups())
    raise typer.BadParameter(f"{text!r} is not a month such as 2025-01")


@session.command(app, "archive")
async def archive_months(
    opened: Database,
    actor: Actor,
    *,
    before: Annotated[
        str, typer.Option(parser=month, metavar="MONTH", help="The first month that stays, such as 2025-01.")
    ],
    to: Annotated[Path, typer.Option(metavar="DIR", exists=True, file_okay=False, help="A folder for the files.")],
) -> Done:
    """Write old months of the audit trail to files, and remove them from the database.

    Each month becomes a file of JSON lines, compressed by gzip. Only when the disk has all of it, the month leaves the
    database. The command may be interrupted and run again. It needs the role that owns the tables.
    """
    done = {}
    try:
        async for file, rows in archive.archive(opened, to, before=before, actor=actor):
            output.note(f"{file}: {rows}")
            done[file.name] = rows
    except archive.NotPast:
        output.fail("this month and later ones stay in the database")
    except OSError as error:
        output.fail(f"{to} cannot be written: {error.strerror}")
    return Done(f"Archived: {len(done)} files, {sum(done.values())} rows.", done)


async def _print(opened: Database, found: Sequence[Entry], *, as_json: bool, is_first: bool) -> None:
    if as_json:
        for entry in found:
            output.print_line(view(entry))
    elif found:
        actors = {entry.actor_user_id for entry in found if entry.actor_user_id}
        emails = await store.list_emails(opened, [*actors], client_id=None) if actors else {}
        rows = [_row(entry, emails) for entry in found]
        _print_rows([{name: name for name in COLUMNS}, *rows] if is_first else rows)
    elif is_first:
        output.note("none")


def _print_rows(rows: Sequence[Mapping[str, str]]) -> None:
    """Print a line for each row or, in a terminal where that is too long, more, of which the later ones are indented.

    What is no terminal gets columns of fixed widths, with at least two spaces between them and nowhere else, and none
    of them empty.
    """
    width = shutil.get_terminal_size().columns if is_terminal() else None
    for row in rows:
        cells = {name: row[name].replace("\n", "\\n").replace(GAP, " \\x20") or NOTHING for name in COLUMNS}
        if width is None:
            typer.echo(GAP.join(cells[name].ljust(size) for name, size in COLUMNS.items()))
        else:
            typer.echo("\n".join(_flowing([cell for cell in cells.values() if cell != NOTHING], width)))


def is_terminal() -> bool:
    """Return whether a reader sees the lines at once, in a window."""
    return sys.stdout.isatty()


def _flowing(cells: Sequence[str], width: int) -> Sequence[str]:
    """Return the cells in lines of that width: each whole where it fits, and its words whole where it does not."""
    lines = [""]
    for cell in cells:
        joined = f"{lines[-1]}{GAP}{cell}" if lines[-1] else cell
        if len(joined) <= width:
            lines[-1] = joined
        else:
            wrapper = textwrap.TextWrapper(width, INDENT, INDENT, break_long_words=False, break_on_hyphens=False)
            lines += wrapper.wrap(cell)
    return lines


def view(entry: Entry) -> dict[str, object]:
    """Return all fields; `old` and `new` are objects, or null."""
    return msgspec.structs.asdict(entry) | {"old": _raw(entry.old), "new": _raw(entry.new)}


def _row(entry: Entry, emails: Mapping[UUID, str]) -> dict[str, str]:
    is_command = _is_command(entry)
    return {
        "time": output.shown(entry.occurred_at),
        "action": entry.action,
        "subject": str(entry.subject_id),
        "by": output.printable((entry.request_id or "") if is_command else _actor(entry, emails)),
        "request": "" if is_command else output.shown(entry.request_id),
        "change": _change(entry),
    }


def _is_command(entry: Entry) -> bool:
    """Return whether a command made it: it names itself as the request, and comes from no IP address."""
    return not (entry.actor_user_id or entry.actor_client_id or entry.network_address)


def _actor(entry: Entry, emails: Mapping[UUID, str]) -> str:
    """Return the user by e-mail address, or by id when deleted; or else the client, or else the IP address."""
    user = entry.actor_user_id and emails.get(entry.actor_user_id, entry.actor_user_id)
    through = f" through {entry.api_key_client_id}" if entry.api_key_client_id else ""
    return f"{user or entry.actor_client_id or entry.network_address}{through}"


def _change(entry: Entry) -> str:
    """Return each changed field as `field: old → new`, separated by commas."""
    old, new = (msgspec.json.decode(text) if text else {} for text in (entry.old, entry.new))
    return ", ".join(
        f"{name}: {output.shown(old[name]) or NOTHING} → {output.shown(new.get(name)) or NOTHING}"
        if name in old and entry.new
        else f"{name}: {output.shown((new or old).get(name)) or NOTHING}"
        for name in dict.fromkeys([*old, *new])
    )


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
