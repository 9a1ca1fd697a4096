"""The SQL of sign-ins and refusals by the hour, which the pictures of the console show.

A count is of one outcome: a sign-in, when a code is issued, or a refusal, by its name. It is kept for all, for the
client, and for a sign-in also for the connection. No caller makes it grow: a client that is not there has no count of
its own, and of very many refused clients in one hour only the first have.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from mithril.database.database import Database

ALL = UUID(int=0)
SIGN_IN = ""
MOST_REFUSED = 5_000  # counts of refused clients in one hour, but for those that are written at the same moment
KEPT_SECONDS = 8 * 86_400.0
ADD = f"""
WITH given AS (
    SELECT date_trunc('hour', now(), 'UTC') AS hour, g.*
      FROM unnest($1::uuid[], $2::text[], $3::bigint[]) g (subject_id, outcome, times) WHERE in_time($4)
)
INSERT INTO sign_in_counts AS c (hour, subject_id, outcome, times)
SELECT g.* FROM given g
 WHERE g.outcome = '{SIGN_IN}' OR g.subject_id = '{ALL}'
    OR (SELECT count(*) FROM (SELECT FROM sign_in_counts
         WHERE hour = date_trunc('hour', now(), 'UTC') AND outcome <> '' LIMIT {MOST_REFUSED}) refused) < {MOST_REFUSED}
    OR EXISTS (SELECT FROM sign_in_counts k
                WHERE k.subject_id = g.subject_id AND k.hour = g.hour AND k.outcome = g.outcome)
 ORDER BY g.subject_id, g.outcome
    ON CONFLICT (subject_id, hour, outcome) DO UPDATE SET times = c.times + excluded.times
"""
OF_LAST_DAY = "hour > date_trunc('hour', now(), 'UTC') - interval '24 hours'"
LIST = f"SELECT subject_id, hour, outcome, times FROM sign_in_counts WHERE subject_id = ANY ($1) AND {OF_LAST_DAY}"
LIST_REFUSED = f"""
SELECT c.id, c.name, refused.times
  FROM (SELECT subject_id, sum(times)::bigint AS times FROM sign_in_counts
         WHERE outcome <> '' AND subject_id <> '{ALL}' AND {OF_LAST_DAY}
         GROUP BY subject_id ORDER BY 2 DESC LIMIT 10) refused
  JOIN clients c ON c.id = refused.subject_id
 ORDER BY refused.times DESC, c.id
"""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How often there was an outcome in the hour from `hour`."""

    subject_id: UUID
    hour: datetime
    outcome: str
    times: int


class RefusedClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client with its refusals of the last day."""

    id: UUID
    name: str
    times: int


async def write(database: Database, outcomes: dict[tuple[UUID, str], int]) -> None:
    """Add what was noted to the counts of this hour."""
    subjects, names = [subject for subject, _ in outcomes], [name for _, name in outcomes]
    await database.write_all(ADD, subjects, names, list(outcomes.values()))


async def list_counts(database: Database, subject_ids: Sequence[UUID]) -> list[Count]:
    """Return the counts of the last 24 hours of these clients and connections, or of ALL."""
    return [Count(**row) for row in await database.fetch(LIST, list(subject_ids))]


async def list_refused(database: Database) -> list[RefusedClient]:
    """Return the ten clients with the most refusals of the last 24 hours."""
    return [RefusedClient(**row) for row in await database.fetch(LIST_REFUSED)]
