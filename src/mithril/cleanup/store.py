"""The SQL of the cleanup: which rows are due, and the statement that processes one batch of them.

A cleanup reads an index from the oldest row on, and each batch begins where the one before it ended. So a row that
must be kept, or that another transaction has locked, is read once in a cleanup and not once in a batch.
"""

import functools
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from mithril.connections.transition_store import COMPLETION
from mithril.database import partitions
from mithril.database.database import Database, PooledConnection
from mithril.tokens.kinds import OUTLIVE_A_PASSWORD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
    """UPDATE or DELETE of the rows in `doomed`, or INSERT of what follows from `also`."""
    also: str = ""
    """Further parts of the statement, which come before its last one."""
    condition: str = "true"
    key: str = "id"
    key_type: str = "uuid"


BEGINNING = Position(datetime.min.replace(tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
THEN = "now() - make_interval(secs => $4)"
DOOMED = "SELECT t.id FROM scanned JOIN {} t ON t.id = scanned.key WHERE t.{} <= " + THEN


def _aged(name: str, *, table: str, moment: str) -> Target:
    """Return the target of rows that are deleted for their age alone."""
    statement = f"DELETE FROM {table} WHERE id IN (SELECT id FROM doomed)"
    return Target(name, table=table, moment=moment, doomed=DOOMED.format(table, moment), statement=statement)


# Tokens of these names stay active: with them the user sets a new password (rule TOK-22). A user without one, who signs
# in by signature, has none that is old.
OLD_PASSWORDS = Target(
    "tokens_ended",
    table="users",
    moment="password_set_at",
    doomed=f"""
    SELECT t.id FROM scanned JOIN tokens t ON t.user_id = scanned.key
     WHERE t.expires_at > now() AND t.name NOT IN ({", ".join(f"'{kind}'" for kind in OUTLIVE_A_PASSWORD)})
       AND EXISTS (SELECT FROM users u WHERE u.id = t.user_id AND u.password_hash IS NOT NULL)
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
NONCES = _aged("nonces_deleted", table="nonces", moment="expires_at")
# What such a transition has changed is computed since it ended, and here it is stored. A row whose transition was ended
# otherwise, or prolonged, is dropped, or has a later time.
TRANSITIONS = Target(
    "transitions_completed",
    table="transitions_due",
    moment="ends_at",
    key="connection_id",
    doomed=f"""
    SELECT t.* FROM scanned JOIN connections t ON t.id = scanned.key WHERE t.transition_ends_at <= {THEN}
    """,
    also=f""", {COMPLETION[0]}, dropped AS (
    DELETE FROM transitions_due d USING scanned LEFT JOIN connections c ON c.id = scanned.key
     WHERE d.connection_id = scanned.key AND d.ends_at <= {THEN}
       AND (c.transition_ends_at IS DISTINCT FROM d.ends_at OR d.connection_id IN (SELECT id FROM changed))
)""",
    statement=COMPLETION[1],
)
# Of secrets that no connection has any more.
SECRET_USES = Target(
    "secret_uses_deleted",
    table="secret_uses",
    moment="last_used_at",
    key="digest",
    key_type="bytea",
    doomed=f"""
    SELECT t.digest FROM scanned JOIN secret_uses t ON t.digest = scanned.key WHERE t.last_used_at <= {THEN}
       AND NOT EXISTS (SELECT FROM connections k WHERE k.secret_digest = t.digest)
       AND NOT EXISTS (SELECT FROM connections k WHERE k.previous_secret_digest = t.digest)
    """,
    statement="DELETE FROM secret_uses WHERE digest IN (SELECT digest FROM doomed)",
)
SIGN_IN_COUNTS = _aged("sign_in_counts_deleted", table="sign_in_counts", moment="hour")
OPERATIONS = _aged("operations_deleted", table="operations", moment="settled_at")
COUNTERS = Target(
    "counters_deleted",
    table="attempts",
    moment="started_at",
    key="key",
    key_type="text",
    doomed=f"SELECT t.key FROM scanned JOIN attempts t USING (key) WHERE t.started_at <= {THEN}",
    statement="DELETE FROM attempts WHERE key IN (SELECT key FROM doomed)",
)


@asynccontextmanager
async def _turn(database: Database) -> "AsyncIterator[PooledConnection | None]":
    """Lend a connection inside a transaction, beside which no other process runs a batch; None while one does.

    The lock ends with the transaction: a session lock would stay in the pool, or when a machine is lost.
    """
    async with database.transaction() as transaction:
        has_lock = await transaction.fetchval("SELECT pg_try_advisory_xact_lock($1)", CLEANUP_LOCK)
        yield transaction if has_lock else None


async def run_batch(
    database: Database, target: Target, after: Position, *, age_seconds: float, most_rows: int
) -> Batch | None:
    """Process the next rows that are due. Return None, without a change, while another process runs a batch."""
    async with _turn(database) as transaction:
        if transaction is None:
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
){target.also}, swept AS (
    {target.statement} RETURNING 1
)
SELECT (SELECT count(*) FROM scanned) AS seen, (SELECT count(*) FROM swept) AS swept,
       last.moment, last.key::text AS key
  FROM (VALUES (1)) AS one
  LEFT JOIN (SELECT moment, key FROM scanned ORDER BY moment DESC, key DESC LIMIT 1) AS last ON true
"""


# What was revoked longer ago than any request runs, so that none issues a token without having seen it.
REVOCATIONS_DUE = """
SELECT id FROM revocations WHERE inserted_at < now() - make_interval(secs => $1) ORDER BY id LIMIT 10000
"""
# Tokens of a user, client or connection that is gone.
DELETE_ORPHANS = f"""
DELETE FROM tokens WHERE $2::uuid IS NOT NULL AND id IN ({
    " UNION ALL ".join(
        f"SELECT t.id FROM revocations r JOIN tokens t ON t.{noun}_id = r.{noun}_id"
        f" WHERE r.id = ANY ($1) AND NOT EXISTS (SELECT FROM {noun}s o WHERE o.id = r.{noun}_id)"
        for noun in ("user", "client", "connection")
    )
} LIMIT $3)
RETURNING id
"""
NARROW = """
WITH due AS MATERIALIZED (
    SELECT t.id, token_scope(t) AS scope, u.last_revocation AS of_user, c.last_revocation AS of_client,
           ct.last_revocation AS of_type, ct.last_role_revocation AS of_role
      FROM tokens t JOIN users u ON u.id = t.user_id JOIN clients c ON c.id = t.client_id
      JOIN client_types ct ON ct.id = c.client_type_id
     WHERE t.expires_at > now() AND {} LIMIT $3 FOR NO KEY UPDATE OF t
)
UPDATE tokens t SET
       scope = CASE WHEN t.scope IS NULL OR due.scope IS NULL THEN t.scope ELSE due.scope END,
       details = CASE WHEN t.name IN ('authorization_code', '2fa_access_token') AND due.scope IS NOT NULL
                           AND t.details ? 'scope_request'
                      THEN t.details || jsonb_build_object('scope_request', due.scope) ELSE t.details END,
       expires_at = CASE WHEN due.scope IS NULL THEN now() ELSE t.expires_at END,
       seen_user = due.of_user, seen_client = due.of_client, seen_type = due.of_type, seen_role = due.of_role,
       updated_at = now()
  FROM due WHERE t.id = due.id RETURNING t.id
"""
# Which tokens revocations concern, and what one that has not seen them looks like. Changes of types and roles are rare
# and concern many: they are followed through all tokens, by id.
OF_USERS = """
t.user_id IN (SELECT user_id FROM revocations WHERE user_id IS NOT NULL AND id = ANY ($1))
AND t.seen_user < u.last_revocation AND $2::uuid IS NOT NULL
"""
OF_CLIENTS = """
t.client_id IN (
    SELECT client_id FROM revocations WHERE user_id IS NULL AND client_id IS NOT NULL AND id = ANY ($1))
AND t.seen_client < c.last_revocation AND $2::uuid IS NOT NULL
"""
OF_OTHERS = """
t.id > $2 AND (t.seen_type < ct.last_revocation OR t.seen_role < ct.last_role_revocation)
AND EXISTS (SELECT FROM revocations WHERE client_type_id IS NOT NULL OR role_id IS NOT NULL)
AND cardinality($1::bigint[]) > 0
ORDER BY t.id
"""
# In this order: what is left of a user or client that was deleted, and added again under the same id, is narrowed.
FOLLOW = (DELETE_ORPHANS, *(NARROW.format(concerned) for concerned in (OF_USERS, OF_CLIENTS, OF_OTHERS)))
FIRST_ID = UUID(int=0)


async def list_due_revocations(database: Database, *, age_seconds: float) -> list[int]:
    """Return the ids of revocations that the stored tokens can follow now, the oldest first."""
    return [row["id"] for row in await database.fetch(REVOCATIONS_DUE, age_seconds)]


async def follow(
    database: Database, statement: str, revocations: list[int], *, after: UUID, most_rows: int
) -> list[UUID] | None:
    """Store what is left of the next tokens that these revocations concern, or delete them; return their ids.

    `statement`: one of FOLLOW. Return None, without a change, while another process runs a batch.
    """
    async with _turn(database) as transaction:
        if transaction is None:
            return None
        return [row["id"] for row in await transaction.fetch(statement, revocations, after, most_rows)]


async def delete_revocations(database: Database, revocations: list[int]) -> None:
    """Delete revocations that every stored token has followed."""
    async with database.transaction() as transaction:
        await transaction.execute("DELETE FROM revocations WHERE id = ANY ($1)", revocations)


async def make_partitions(database: Database) -> int | None:
    """Make the partitions of the audit trail that the next months lack, and return their number.

    Return None, without a change, while another process runs a batch.
    """
    async with _turn(database) as transaction:
        if transaction is None:
            return None
        return await partitions.make(transaction)
