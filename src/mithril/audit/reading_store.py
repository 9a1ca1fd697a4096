"""The SQL of reading the trail on, for exports and notifications: every event once, in the order of their numbers.

A row gets its number before its transaction commits, so that one with a smaller number may become visible later. But a
transaction that writes to the trail has locked the table from before its row gets the number until its end. So the
newest event is taken, then all who hold that lock are waited for, whatever they write: of the numbers up to that
event none turns up later.
"""

import asyncio
from collections.abc import Sequence

from mithril.audit.events import Entry
from mithril.database.database import Database

PAUSE_SECONDS = 0.1
WRITERS = """
SELECT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND relation = 'audit_events'::regclass
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# The statement sees what was committed when it began, and reads the locks later.
NEWEST = f"SELECT (SELECT max(id) FROM audit_events) AS id, ARRAY({WRITERS}) AS writers"
ARE_WRITING = f"SELECT ARRAY({WRITERS} AND virtualtransaction = ANY ($1)) AS writers"
BETWEEN = f"""
SELECT {", ".join(Entry.__struct_fields__)} FROM audit_events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3
"""


async def find_newest(database: Database) -> tuple[int, list[str]]:
    """Return the number of the newest event, and the transactions that may still add an event before it."""
    row = await database.fetchrow(NEWEST)
    assert row is not None, "one row"
    return row["id"] or 0, row["writers"]


async def still_writing(database: Database, writers: list[str]) -> list[str]:
    """Return those of these transactions that have not ended."""
    row = await database.fetchrow(ARE_WRITING, writers)
    assert row is not None, "one row"
    found: list[str] = row["writers"]
    return found


async def settled(database: Database) -> int:
    """Return the number up to which all events are there, after the transactions that may still add some have ended."""
    newest, writers = await find_newest(database)
    while writers:
        await asyncio.sleep(PAUSE_SECONDS)
        writers = await still_writing(database, writers)
    return newest


async def list_between(database: Database, after: int, last: int, *, most: int) -> Sequence[Entry]:
    """Return the first events after one number, up to another one."""
    return [Entry(**row) for row in await database.fetch(BETWEEN, after, last, most)]
