"""The SQL of housekeeping: what is over, and the statement that sweeps one batch of it.

A sweep walks an index from the oldest row on, and goes on where the batch before it ended. So a row that must be
kept, or that somebody else holds, is looked at once a sweep and not once a batch.
"""

import functools
from datetime import UTC, datetime
from typing import NamedTuple

from mithril.database.database import Database
from mithril.tokens.kinds import OUTLIVE_A_PASSWORD

ONE_SWEEP_AT_A_TIME = 6_480_317_552  # the name of an advisory lock; any number that nothing else uses


class Place(NamedTuple):
    """Where a sweep is: the last row that it has looked at."""

    moment: datetime
    key: str


class Batch(NamedTuple):
    """What one batch has looked at, how much of it was swept, and where it ended."""

    seen: int
    swept: int
    end: Place


class Kind(NamedTuple):
    """One kind of rows, and what becomes of those whose moment is an age (`$4`, seconds) ago."""

    name: str
    """What was done to so many, for people and programs."""
    table: str
    moment: str
    doomed: str
    """Those of the rows in `scanned` that are swept; they are locked, and looked at again once they are."""
    sweep: str
    """What happens to the rows in `doomed`."""
    condition: str = "true"
    key: str = "id"
    key_type: str = "uuid"


BEGINNING = Place(datetime.min.replace(tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
THEN = "now() - make_interval(secs => $4)"
DOOMED = "SELECT t.id FROM scanned JOIN {} t ON t.id = scanned.key WHERE t.{} <= " + THEN

# Whoever must think of a new password gets in only with a token of the first two kinds (contract.md 5.5).
OLD_PASSWORDS = Kind(
    "tokens_ended",
    table="users",
    moment="password_set_at",
    doomed=f"""
    SELECT t.id FROM scanned JOIN tokens t ON t.user_id = scanned.key
     WHERE t.expires_at > now() AND t.name NOT IN ({", ".join(f"'{kind}'" for kind in OUTLIVE_A_PASSWORD)})
    """,
    sweep="UPDATE tokens SET expires_at = now(), updated_at = now() WHERE id IN (SELECT id FROM doomed)",
)
# A used code, or a used refresh token, is what a second use is recognised by: it stays as long as its family.
TOKENS = Kind(
    "tokens_deleted",
    table="tokens",
    moment="expires_at",
    doomed=f"""
    {DOOMED.format("tokens", "expires_at")}
       AND (t.used_at IS NULL OR NOT EXISTS (
             SELECT FROM tokens kin WHERE kin.family_id = coalesce(t.family_id, t.id) AND kin.expires_at > {THEN}))
    """,
    sweep="DELETE FROM tokens WHERE id IN (SELECT id FROM doomed)",
)
OPEN_CODES = Kind(
    "codes_expired",
    table="otp",
    moment="code_expired_at",
    condition="active",
    doomed=DOOMED.format("otp", "code_expired_at") + " AND t.active",
    sweep="UPDATE otp SET status = 'EXPIRED', active = false WHERE id IN (SELECT id FROM doomed)",
)
CODES = Kind(
    "codes_deleted",
    table="otp",
    moment="inserted_at",
    doomed=DOOMED.format("otp", "code_expired_at") + " AND NOT t.active",
    sweep="DELETE FROM otp WHERE id IN (SELECT id FROM doomed)",
)
NONCES = Kind(
    "nonces_deleted",
    table="nonces",
    moment="expires_at",
    doomed=DOOMED.format("nonces", "expires_at"),
    sweep="DELETE FROM nonces WHERE id IN (SELECT id FROM doomed)",
)
COUNTERS = Kind(
    "counters_deleted",
    table="attempts",
    moment="started_at",
    key="key",
    key_type="text",
    doomed=f"SELECT t.key FROM scanned JOIN attempts t USING (key) WHERE t.started_at <= {THEN}",
    sweep="DELETE FROM attempts WHERE key IN (SELECT key FROM doomed)",
)


async def sweep_batch(
    database: Database, kind: Kind, after: Place, *, age_seconds: float, most_rows: int
) -> Batch | None:
    """Sweeps what is due among the next rows; None, and nothing done, while another process is at a batch.

    The lock ends with the transaction: one of a session would outlive it, in the pool, or when a machine is lost.
    """
    async with database.transaction() as transaction:
        if not await transaction.fetchval("SELECT pg_try_advisory_xact_lock($1)", ONE_SWEEP_AT_A_TIME):
            return None
        row = await transaction.fetchrow(_statement(kind), *after, most_rows, age_seconds)
    assert row is not None, "an aggregate has a row"
    return Batch(row["seen"], row["swept"], Place(row["moment"] or after.moment, row["key"] or after.key))


@functools.cache
def _statement(kind: Kind) -> str:
    # SKIP LOCKED: who waits for a row holds the others meanwhile; what is skipped is swept the next time.
    return f"""
WITH scanned AS MATERIALIZED (
    SELECT {kind.key} AS key, {kind.moment} AS moment FROM {kind.table}
     WHERE {kind.condition} AND {kind.moment} <= {THEN}
       AND ({kind.moment}, {kind.key}) > ($1::timestamptz, $2::text::{kind.key_type})
     ORDER BY {kind.moment}, {kind.key} LIMIT $3
), doomed AS MATERIALIZED (
    {kind.doomed} FOR UPDATE OF t SKIP LOCKED
), swept AS (
    {kind.sweep} RETURNING 1
)
SELECT (SELECT count(*) FROM scanned) AS seen, (SELECT count(*) FROM swept) AS swept,
       last.moment, last.key::text AS key
  FROM (VALUES (1)) AS one
  LEFT JOIN (SELECT moment, key FROM scanned ORDER BY moment DESC, key DESC LIMIT 1) AS last ON true
"""
