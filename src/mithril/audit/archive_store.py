"""The SQL of archiving: months of the audit trail, their rows, and how a month leaves the trail."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec

from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database.database import Database

BATCH_ROWS = 5_000
NO_SUBJECT = UUID(int=0)
# The name of a partition ends with its last month. One that an interrupted run has detached is found too.
PARTS = """
SELECT relname AS name, right(relname, 7) AS last_month, relispartition AS is_attached FROM pg_class
 WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'audit_events'::regclass) AND relkind = 'r'
   AND relname ~ '^audit_events_(to_)?[0-9]{4}_[0-9]{2}$'
 ORDER BY right(relname, 7)
"""
MONTH = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM') AS month"
ROWS = 'SELECT id, to_jsonb(e)::text AS row FROM "{}" e WHERE id > $1 ORDER BY id LIMIT {}'
# How long others may wait for the trail behind a detachment that waits itself.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '200ms'"
DETACH = 'ALTER TABLE audit_events DETACH PARTITION "{}"'
COUNT = 'SELECT count(*) FROM "{}"'
DROP = 'DROP TABLE "{}"'
RECORD = f"""
INSERT INTO audit_events (action, subject_id, new, {ACTOR_COLUMNS})
VALUES ('audit.archive', $1, jsonb_build_object('months', $2::text, 'rows', $3::bigint, 'sha256', $4::text),
        $5, $6, $7, $8, $9)
"""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A partition of the trail; `last_month` as in `2026_11`."""

    name: str
    last_month: str
    is_attached: bool


async def current_month(database: Database) -> str:
    """Return the month by the clock of the database, UTC, as in `2026_11`."""
    row = await database.fetchrow(MONTH)
    assert row is not None, "it has one row"
    return str(row["month"])


async def list_parts(database: Database) -> list[Part]:
    """Return the partitions of months, the oldest first."""
    return [Part(**row) for row in await database.fetch(PARTS)]


async def read_rows(database: Database, part: Part) -> AsyncIterator[list[str]]:
    """Yield the rows of a partition in batches, by number, as JSON."""
    after = 0
    while rows := await database.fetch(ROWS.format(part.name, BATCH_ROWS), after):
        yield [row["row"] for row in rows]
        after = rows[-1]["id"]


async def detach(database: Database, part: Part) -> None:
    """Take a partition out of the trail, so that nothing is added to it any more."""
    async with database.transaction() as transaction:
        await transaction.execute(LOCK_TIMEOUT)
        await transaction.execute(DETACH.format(part.name))


async def drop(database: Database, part: Part, *, rows: int, digest: str, actor: Actor) -> bool:
    """Drop a detached partition that has so many rows, with an audit row; return whether it has, and is dropped."""
    async with database.transaction() as transaction:
        if await transaction.fetchval(COUNT.format(part.name)) != rows:
            return False
        await transaction.execute(DROP.format(part.name))
        await transaction.execute(RECORD, NO_SUBJECT, part.last_month, rows, digest, *actor.arguments)
        return True
