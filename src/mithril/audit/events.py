"""The audit trail: the actor, events, and lists of events. `rows` and the stores write the rows."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril.database import lists
from mithril.database.database import Database, Source, find_one
from mithril.database.lists import Listed, Listing, Page

ACTOR_COLUMNS = "actor_user_id, actor_client_id, api_key_client_id, request_id, network_address"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a change: a user, their client, the client of the API-key, the request, and the IP address."""

    request_id: str | None
    user_id: UUID | None = None
    client_id: UUID | None = None
    api_key_client_id: UUID | None = None
    network_address: str | None = None

    @property
    def arguments(self) -> tuple[object, ...]:
        """Return the values in the order of `ACTOR_COLUMNS`."""
        return (self.user_id, self.client_id, self.api_key_client_id, self.request_id, self.network_address)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the trail. `old` and `new` are the changed fields, as JSON text."""

    id: int
    occurred_at: datetime
    action: str
    actor_user_id: UUID | None
    actor_client_id: UUID | None
    api_key_client_id: UUID | None
    request_id: str | None
    operation_id: UUID | None
    old: str | None
    new: str | None


class Entry(Event, frozen=True, kw_only=True):
    """One row of the trail with all its columns, for operators."""

    subject_id: UUID
    client_id: UUID | None
    network_address: str | None


# A partition has the events of one month, but the first one those of all months up to this end, if it is there.
FIRST_ENDS = """
SELECT max(to_date(right(relname, 7), 'YYYY_MM') + interval '1 month') AS ends
  FROM pg_catalog.pg_class JOIN pg_catalog.pg_inherits ON inhrelid = pg_class.oid
 WHERE inhparent = 'audit_events'::regclass AND relname LIKE 'audit_events_to_%'
"""
# In the partition of a moment: a number behind all events before it, or that of the first event at it or later. Numbers
# grow with time, so that halving finds them in 63 steps, and the trail needs no index of times, which each change would
# have to write. `{0}`: the moment, `{1}`: the end of the first partition, both in UTC without a zone: what is computed
# from those PostgreSQL knows before it plans. Rows of the partition are not left out by time: they would be read.
HALVED = """(
WITH RECURSIVE halved (low, high, first) AS (
    SELECT 0::bigint, 9223372036854775807, 9223372036854775807
 UNION ALL
    SELECT CASE WHEN is_before THEN found.id + 1 ELSE low END, CASE WHEN is_before THEN high ELSE middle END,
           CASE WHEN is_before THEN first ELSE coalesce(found.id, first) END
      FROM halved CROSS JOIN LATERAL (SELECT low + (high - low) / 2 AS middle) AS half
      LEFT JOIN LATERAL (
        SELECT e.id, e.occurred_at < {0} AT TIME ZONE 'UTC' AS is_before FROM audit_events e
         WHERE e.id >= middle AND e.occurred_at >=
               CASE WHEN {0} < {1} THEN '-infinity' ELSE date_trunc('month', {0}) END AT TIME ZONE 'UTC'
           AND e.occurred_at < greatest({1}, date_trunc('month', {0}) + interval '1 month') AT TIME ZONE 'UTC'
         ORDER BY e.id LIMIT 1
      ) AS found ON true
     WHERE low < high
)
SELECT {2} FROM halved WHERE low >= high
)"""
UTC = "({0}::timestamptz AT TIME ZONE 'UTC')"
# The clocks of two hosts of the database may differ by as much; within it the time of each event decides. In `coalesce`
# that tells the planner nothing: it would read the trail with several processes, or by an index of pages.
CLOCKS = "interval '1 minute'"
# The condition of each filter of the trail. `noun` matches all actions of one kind of resource. The last part of those
# of times leaves out the partitions of other months.
FILTERS = {
    "subject_id": "subject_id = {}",
    "client_id": "client_id = {}",
    "actor_user_id": "actor_user_id = {}",
    "action": "action = {}",
    "noun": "starts_with(action, {} || '.')",
    "request_id": "request_id = {}",
    "operation_id": "operation_id = {}",
    "since": f"coalesce(occurred_at >= {{0}}, false) AND id >= {HALVED.format(f'({UTC} - {CLOCKS})', '{1}', 'low')}"
    f" AND occurred_at >= date_trunc('month', {UTC}) AT TIME ZONE 'UTC'",
    "until": f"coalesce(occurred_at < {{0}}, false) AND id < {HALVED.format(f'({UTC} + {CLOCKS})', '{1}', 'first')}"
    f" AND occurred_at < (date_trunc('month', {UTC}) + interval '1 month') AT TIME ZONE 'UTC'",
    "after_id": "id > {}",
}
# Of one subject all events are of one client, so that the index of the other would find nothing more.
OF_SUBJECT = {name: FILTERS[name] for name in ("subject_id", "noun")} | {"client": "coalesce(client_id = {}, false)"}
LIST = Listing(Event, "audit_events", ", ".join(Event.__struct_fields__), OF_SUBJECT, is_newest_first=True)


async def list_events(database: Database, noun: str, subject_id: UUID, *, client_id: UUID, page: Page) -> Listed[Event]:
    """Return the events of one resource of one client, newest first. `noun`: the resource's name in the actions."""
    filters = {"subject_id": subject_id, "client": client_id, "noun": noun}
    return await lists.fetch(database, LIST, filters, page=page)


async def find_event(source: Source, event_id: int | None, *, subject_id: UUID) -> Event | None:
    """Return this event of that subject, or None."""
    columns = ", ".join(Event.__struct_fields__)
    statement = f"SELECT {columns} FROM audit_events WHERE id = $1 AND subject_id = $2"
    return await find_one(source, Event, statement, event_id, subject_id)


def decoded(values: str | None) -> dict[str, Any]:
    """Return the changed fields of an event."""
    return msgspec.json.decode(values or "{}", type=dict[str, Any])


async def find_outcome(database: Database, operation_id: UUID) -> bool | None:
    """Return whether an operation of the last hour is done or was given up; None where that is not known."""
    row = await database.fetchrow("SELECT is_done FROM operations WHERE id = $1", operation_id)
    return None if row is None else row["is_done"]


async def list_last(database: Database, filters: Mapping[str, Any], *, most: int) -> list[Entry]:
    """Return the last `most` rows that match the filters, oldest first."""
    row = await database.fetchrow(FIRST_ENDS) if {"since", "until"} & filters.keys() else None
    rows = await database.fetch(last(filters, most=most, first_ends=row["ends"] if row else None), *filters.values())
    return [Entry(**row) for row in reversed(rows)]


def last(filters: Iterable[str], *, most: int, first_ends: datetime | None) -> str:
    """Return the statement that finds the last `most` rows, newest first, by filters of these names.

    `first_ends`: what `FIRST_ENDS` finds; only `since` and `until` need it.
    """
    ends = f"'{first_ends or '-infinity'}'::timestamp"
    conditions = [FILTERS[name].format(f"${place}", ends) for place, name in enumerate(filters, start=1)]
    found = f"SELECT {', '.join(Entry.__struct_fields__)} FROM audit_events WHERE {' AND '.join(conditions) or 'true'}"
    return f"{found} ORDER BY id DESC LIMIT {most}"
