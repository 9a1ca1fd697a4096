"""The SQL of counters: one row a key, one statement an attempt."""

from collections.abc import Mapping
from typing import NamedTuple

from mithril.database.database import Database


class Counted(NamedTuple):
    """How many attempts there were in the window, this one included, and how many seconds are left of it."""

    times: int
    seconds_left: int


# Counts first and judges later: attempts at the same moment are all counted. A window that is over begins anew.
COUNT = """
INSERT INTO attempts AS a (key) SELECT unnest($1::text[]) ORDER BY 1
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
    DELETE FROM attempts WHERE key = $4 AND NOT EXISTS (SELECT FROM exhausted)
)
SELECT NOT EXISTS (SELECT FROM exhausted)
"""
FORGIVE = "UPDATE attempts SET count = count - 1 WHERE key = $1 AND count > 0"


async def count(database: Database, keys: list[str], *, within_seconds: float) -> dict[str, Counted]:
    """Counts one attempt for each key."""
    rows = await database.fetch(COUNT, keys, float(within_seconds))
    return {row["key"]: Counted(row["times"], row["seconds_left"]) for row in rows}


async def is_exhausted(database: Database, limits: Mapping[str, int], *, within_seconds: float) -> bool:
    """Whether any key has had as many attempts in its window as it may have."""
    row = await database.fetchrow(IS_EXHAUSTED, list(limits), list(limits.values()), float(within_seconds))
    return bool(row and row[0])


async def forget(database: Database, limits: Mapping[str, int], *, within_seconds: float, key: str) -> bool:
    """Starts the counter of `key` anew; False, and nothing happens, where any of `limits` is exhausted."""
    row = await database.fetchrow(FORGET, list(limits), list(limits.values()), float(within_seconds), key)
    return bool(row and row[0])


async def forgive(database: Database, key: str) -> None:
    """Takes one attempt back: it turned out to be none."""
    await database.fetch(FORGIVE, key)
