"""The SQL of the counters: one row for each key, one statement for each attempt."""

from collections.abc import Mapping
from typing import NamedTuple

from mithril.database.database import Database


class Counted(NamedTuple):
    """The number of attempts in the window, with this one, and the seconds until the window ends."""

    times: int
    seconds_left: int


# Counts before anything is decided, so that simultaneous attempts are all counted. A past window starts again at 1.
COUNT = """
INSERT INTO attempts AS a (key) SELECT unnest($1::text[]) WHERE in_time($3) ORDER BY 1
    ON CONFLICT (key) DO UPDATE
   SET count = CASE WHEN a.started_at <= now() - make_interval(secs => $2) THEN 1 ELSE a.count + 1 END,
       started_at = CASE WHEN a.started_at <= now() - make_interval(secs => $2) THEN now() ELSE a.started_at END
RETURNING key, count AS times,
          ceil(extract(epoch FROM started_at + make_interval(secs => $2) - now()))::integer AS seconds_left
"""
EXHAUSTED = """
SELECT FROM attempts a JOIN unnest($1::text[], $2::int[]) AS l (key, most) USING (key)
 WHERE a.count >= l.most AND a.started_at > now() - make_interval(secs => $3)
"""
IS_EXHAUSTED = f"SELECT EXISTS ({EXHAUSTED})"
FORGET = f"""
WITH exhausted AS ({EXHAUSTED}), forgotten AS (
    DELETE FROM attempts WHERE key = $4 AND NOT EXISTS (SELECT FROM exhausted) AND in_time($5)
)
SELECT NOT EXISTS (SELECT FROM exhausted)
"""
FORGIVE = "UPDATE attempts SET count = count - 1 WHERE key = $1 AND count > 0 AND in_time($2)"


async def count(database: Database, keys: list[str], *, within_seconds: float) -> dict[str, Counted]:
    """Count one attempt for each key, and return the counts by key."""
    async with database.turn(*keys):
        rows = await database.write_all(COUNT, keys, float(within_seconds))
    return {row["key"]: Counted(row["times"], row["seconds_left"]) for row in rows}


async def is_exhausted(database: Database, limits: Mapping[str, int], *, within_seconds: float) -> bool:
    """Return whether any key has reached its limit in its window."""
    row = await database.fetchrow(IS_EXHAUSTED, list(limits), list(limits.values()), float(within_seconds))
    return bool(row and row[0])


async def forget(database: Database, limits: Mapping[str, int], *, within_seconds: float, key: str) -> bool:
    """Delete the counter of `key` and return True; return False, without a change, when a limit is reached."""
    row = await database.write(FORGET, list(limits), list(limits.values()), float(within_seconds), key)
    return bool(row and row[0])


async def forgive(database: Database, key: str) -> None:
    """Subtract one attempt that should not have been counted."""
    await database.write(FORGIVE, key)
