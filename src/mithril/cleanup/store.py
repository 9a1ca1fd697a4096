"""The SQL of the cleanup: which rows are due, and the statement that processes one batch of them.

A cleanup reads an index from the oldest row on, and each batch begins where the one before it ended. So a row that
must be kept, or that another transaction has locked, is read once in a cleanup and not once in a batch.
"""

import functools
from datetime import UTC, datetime
from typing import NamedTuple

from mithril.database.database import Database
from mithril.tokens.kinds import OUTLIVE_A_PASSWORD

CLEANUP_LOCK = 6_480_317_552  # the key of an advisory lock: an arbitrary number that nothing else uses


class Position(NamedTuple):
    """The last row that a cleanup has read."""

    moment: datetime
    key: str


class Batch(NamedTuple):
    """The result of one batch: rows that were read, rows that were changed, and the last row."""

    seen: int
    changed: int
    end: Position


class Target(NamedTuple):
    """Rows to clean up when the time in column `moment` is at least `$4` seconds ago."""

    name: str
    """The name of its count in the log and in the output of the command."""
    table: str
    moment: str
    doomed: str
    """SELECT of the rows in `scanned` that are due. It locks them, and PostgreSQL checks them again after locking."""
    statement: str
    """UPDATE or DELETE of the rows in `doomed`."""
    condition: str = "true"
    key: str = "id"
    key_type: str = "uuid"


BEGINNING = Position(datetime.min.replace(tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
THEN = "now() - make_interval(secs => $4)"
DOOMED = "SELECT t.id FROM scanned JOIN {} t ON t.id = scanned.key WHERE t.{} <= " + THEN

# Tokens of these two names stay active: with them the user sets a new password (rule TOK-22).
OLD_PASSWORDS = Target(
    "tokens_ended",
    table="users",
    moment="password_set_at",
    doomed=f"""
    SELECT t.id FROM scanned JOIN tokens t ON t.user_id = scanned.key
     WHERE t.expires_at > now() AND t.name NOT IN ({", ".join(f"'{kind}'" for kind in OUTLIVE_A_PASSWORD)})
    """,
    statement="UPDATE tokens SET expires_at = now(), updated_at = now() WHERE id IN (SELECT id FROM doomed)",
)
# A used code or refresh token stays as long as its family, so that a second use is recognised.
TOKENS = Target(
    "tokens_deleted",
    table="tokens",
    moment="expires_at",
    doomed=f"""
    {DOOMED.format("tokens", "expires_at")}
       AND (t.used_at IS NULL OR NOT EXISTS (
             SELECT FROM tokens kin WHERE kin.family_id = coalesce(t.family_id, t.id) AND kin.expires_at > {THEN}))
    """,
    statement="DELETE FROM tokens WHERE id IN (SELECT id FROM doomed)",
)
OPEN_CODES = Target(
    "codes_expired",
    table="otp",
    moment="code_expired_at",
    condition="active",
    doomed=DOOMED.format("otp", "code_expired_at") + " AND t.active",
    statement="UPDATE otp SET status = 'EXPIRED', active = false WHERE id IN (SELECT id FROM doomed)",
)
CODES = Target(
    "codes_deleted",
    table="otp",
    moment="inserted_at",
    doomed=DOOMED.format("otp", "code_expired_at") + " AND NOT t.active",
    statement="DELETE FROM otp WHERE id IN (SELECT id FROM doomed)",
)
NONCES = Target(
    "nonces_deleted",
    table="nonces",
    moment="expires_at",
    doomed=DOOMED.format("nonces", "expires_at"),
    statement="DELETE FROM nonces WHERE id IN (SELECT id FROM doomed)",
)
COUNTERS = Target(
    "counters_deleted",
    table="attempts",
    moment="started_at",
    key="key",
    key_type="text",
    doomed=f"SELECT t.key FROM scanned JOIN attempts t USING (key) WHERE t.started_at <= {THEN}",
    statement="DELETE FROM attempts WHERE key IN (SELECT key FROM doomed)",
)


async def run_batch(
    database: Database, target: Target, after: Position, *, age_seconds: float, most_rows: int
) -> Batch | None:
    """Process the next rows that are due. Return None, without a change, while another process runs a batch.

    The lock ends with the transaction: a session lock would stay in the pool, or when a machine is lost.
    """
    async with database.transaction() as transaction:
        if not await transaction.fetchval("SELECT pg_try_advisory_xact_lock($1)", CLEANUP_LOCK):
            return None
        row = await transaction.fetchrow(_statement(target), *after, most_rows, age_seconds)
    assert row is not None, "an aggregate has a row"
    return Batch(row["seen"], row["swept"], Position(row["moment"] or after.moment, row["key"] or after.key))


@functools.cache
def _statement(target: Target) -> str:
    # SKIP LOCKED: a batch that waited for one row would hold its other rows locked. The next cleanup takes that row.
    return f"""
WITH scanned AS MATERIALIZED (
    SELECT {target.key} AS key, {target.moment} AS moment FROM {target.table}
     WHERE {target.condition} AND {target.moment} <= {THEN}
       AND ({target.moment}, {target.key}) > ($1::timestamptz, $2::text::{target.key_type})
     ORDER BY {target.moment}, {target.key} LIMIT $3
), doomed AS MATERIALIZED (
    {target.doomed} FOR UPDATE OF t SKIP LOCKED
), swept AS (
    {target.statement} RETURNING 1
)
SELECT (SELECT count(*) FROM scanned) AS seen, (SELECT count(*) FROM swept) AS swept,
       last.moment, last.key::text AS key
  FROM (VALUES (1)) AS one
  LEFT JOIN (SELECT moment, key FROM scanned ORDER BY moment DESC, key DESC LIMIT 1) AS last ON true
"""
