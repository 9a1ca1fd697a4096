"""`mithril audit`: the trail of who changed what, as a table or as JSON."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril.audit import events
from mithril.audit.events import Entry
from mithril.cli import output
from mithril.cli.options import moment, only_given
from mithril.database.database import Database
from mithril.identifiers import time_of

COLUMNS = ("time", "action", "subject", "by", "change", "request")
POLL_SECONDS = 1.0
# Rows of transactions that end later may have smaller numbers: so far back a row may still turn up.
LOOK_BACK = 1_000
MOST_AT_ONCE = 10_000
# The clock of the process that made an operation may be so far from that of the database.
SKEW = timedelta(days=1)
OUTCOMES = {
    True: "it is done, and changed nothing that the trail has",
    False: "it was given up: nothing was done",
    None: "nothing is known of it",
}


async def audit(
    opened: Database,
    *,
    subject: Annotated[UUID | None, typer.Option(help="Only what happened to the thing of this id.")] = None,
    client: Annotated[UUID | None, typer.Option(help="Only what happened to this client and what is its own.")] = None,
    actor: Annotated[UUID | None, typer.Option(help="Only what this user did.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only one action, such as connection.update, or all of a kind: connection.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="From then on: 2026-11-26, or 12h, 7d ago.")
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

    Rows of the trail are never deleted. Times are UTC.
    """
    kind = {"action": action} if action is None or "." in action else {"noun": action}
    made = operation and time_of(operation)
    if made:  # the trail has an index of times, and needs none of operations
        since, until = since or made - SKEW, until or made + SKEW
    filters = only_given(
        subject_id=subject,
        client_id=client,
        actor_user_id=actor,
        **kind,
        request_id=request_id,
        operation_id=operation,
        since=since,
        until=until,
    )
    before = await events.list_last(opened, {}, most=LOOK_BACK) if follow else []
    found = await events.list_last(opened, filters, most=limit)
    _print(found, as_json=as_json, is_first=True)
    if operation and not found:
        output.note(OUTCOMES[await events.find_outcome(opened, operation)])
    if follow:
        async for more in following(opened, filters, seen={entry.id for entry in (*before, *found)}):
            _print(more, as_json=as_json, is_first=False)


async def following(opened: Database, filters: Mapping[str, Any], *, seen: set[int]) -> AsyncIterator[Sequence[Entry]]:
    """Yield new events beside `seen`, as they come."""
    while True:
        await asyncio.sleep(POLL_SECONDS)
        after = max(seen, default=0) - LOOK_BACK
        recent = await events.list_last(opened, {**filters, "after_id": after}, most=MOST_AT_ONCE)
        new = [entry for entry in recent if entry.id not in seen]
        if new:
            seen = {number for number in seen if number > after} | {entry.id for entry in new}
            yield new


def _print(found: Sequence[Entry], *, as_json: bool, is_first: bool) -> None:
    if as_json:
        for entry in found:
            output.print_line(_view(entry))
    elif found:
        output.print_table([_row(entry) for entry in found], columns=COLUMNS, has_header=is_first)
    elif is_first:
        output.note("none")


def _view(entry: Entry) -> dict[str, object]:
    """Return all fields; `old` and `new` are objects, or null."""
    return msgspec.structs.asdict(entry) | {"old": _raw(entry.old), "new": _raw(entry.new)}


def _row(entry: Entry) -> dict[str, object]:
    through = f" through {entry.api_key_client_id}" if entry.api_key_client_id else ""
    return {
        "time": entry.occurred_at,
        "action": entry.action,
        "subject": entry.subject_id,
        "by": f"{entry.actor_user_id or entry.actor_client_id or ''}{through}",
        "change": _change(entry),
        "request": entry.request_id,
    }


def _change(entry: Entry) -> str:
    """Return each changed field as `field: old → new`, separated by commas."""
    old, new = (msgspec.json.decode(text) if text else {} for text in (entry.old, entry.new))
    return ", ".join(
        f"{name}: {output.shown(old[name])} → {output.shown(new.get(name))}"
        if name in old and entry.new
        else f"{name}: {output.shown((new or old).get(name))}"
        for name in dict.fromkeys([*old, *new])
    )


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
