"""The SQL of import and export, made from what `sections` says. How a row is written and recorded is in `audit.rows`.

In all statements `t` is a row as it is, and `w` the row that is wanted.
"""

import functools
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from mithril.audit import rows
from mithril.audit.rows import Columns
from mithril.database import operation_store as operations
from mithril.database.database import Connection
from mithril.snapshots.sections import Section

ONE_IMPORT_AT_A_TIME = 6_480_317_551  # the name of an advisory lock; any number that nothing else uses
HIDDEN = {"password", "secret"}


async def begin(connection: Connection, operation_id: UUID | None = None) -> datetime:
    """Wait for other imports to end; return the database's time, which is that of the transaction.

    `operation_id`: the audit rows of the transaction get it.
    """
    now: datetime = await connection.fetchval("SELECT now() FROM pg_advisory_xact_lock($1)", ONE_IMPORT_AT_A_TIME)
    if operation_id:
        await connection.execute(operations.name(operation_id))
    return now


async def show_life(connection: Connection) -> None:
    """Ask something: PostgreSQL ends a transaction that is idle for a minute, and hashes take longer together."""
    await connection.execute("SELECT")


async def list_ids(connection: Connection, noun: str) -> dict[object, UUID]:
    """Return the ids of all client types or roles (there are few), by name and by id."""
    found = await connection.fetch(f"SELECT id, name FROM {noun}s")
    return {row[key]: row["id"] for row in found for key in ("name", "id")}


async def find(connection: Connection, section: Section, wanted: Sequence[Columns]) -> list[asyncpg.Record]:
    """Find what has a key of a wanted row: existing rows, and another wanted row that comes first.

    Each result has the position of the wanted row and of the first one with that key, the number of the key in
    `section.keys`, and the columns of the existing row, which are NULL where there is none.
    """
    return await connection.fetch(_find(section), rows.encoded(wanted))


async def get(connection: Connection, section: Section, row_id: UUID) -> asyncpg.Record:
    """Return a row as it is now."""
    row = await connection.fetchrow(f"SELECT * FROM {section.table.name} WHERE id = $1", row_id)
    assert row is not None, "this transaction has found or written it"
    return row


async def remember_password(connection: Connection, user_id: UUID, password_hash: str) -> None:
    """Add a hash to the stored passwords of a user."""
    insert = "INSERT INTO password_hstr (user_id, password_hash) VALUES ($1, $2)"
    await connection.execute(insert, user_id, password_hash)


async def renew(connection: Connection, user_ids: Sequence[UUID], *, forgotten: Sequence[bytes]) -> None:
    """Let the passwords of these users be of today, and delete the tokens with these digests."""
    await connection.execute("UPDATE users SET password_set_at = now() WHERE id = ANY ($1)", user_ids)
    await connection.execute("DELETE FROM tokens WHERE digest = ANY ($1)", forgotten)


async def has_users(connection: Connection, user_ids: Sequence[UUID]) -> bool:
    """Return whether any of these users is there."""
    found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = ANY ($1))", user_ids)
    return found


async def count_others(connection: Connection, table: str, ids: Sequence[UUID]) -> int:
    """Count the rows of the table that have none of these ids."""
    found: int = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE id <> ALL ($1)", ids)
    return found


async def find_redirect_uri(connection: Connection, connection_id: UUID) -> str | None:
    """Return the redirect URI of a connection, or None where it is not there."""
    found: str | None = await connection.fetchval("SELECT redirect_uri FROM connections WHERE id = $1", connection_id)
    return found


async def forget_the_rest(connection: Connection) -> None:
    """Delete what no section of a file has: refused attempts, one-time passwords, and revocations of deleted tokens."""
    for table in ("attempts", "otp", "revocations", "secret_uses", "sign_in_counts"):
        await connection.execute(f"DELETE FROM {table}")


async def export(connection: Connection, section: Section) -> list[str]:
    """Return each row as one line of JSON, oldest first."""
    noun = section.reference
    name = f"(SELECT name FROM {noun}s WHERE id = t.{noun}_id) AS {noun}"
    shown = {key: f"{sql} AS {key}" for key, sql in section.shown.items()} | {noun: name}
    columns = [shown.get(key, key) for key in section.schema["properties"] if key not in HIDDEN]
    found = await connection.fetch(
        f"SELECT (SELECT row_to_json(line) FROM (SELECT {', '.join(columns)}) line)::text"
        f" FROM {section.table.name} t ORDER BY t.inserted_at, t.id"
    )
    return [row[0] for row in found]


@functools.cache
def _find(section: Section) -> str:
    lookups = (
        f"""
SELECT w.position, w.first, {number} AS key, t.*
  FROM (SELECT *, min(position) OVER (PARTITION BY {rows.listed(key.columns)}) AS first
          FROM wanted WHERE ({rows.listed(key.columns)}) IS NOT NULL) w
  LEFT JOIN {section.table.name} t
         ON ({rows.listed(key.held_in or key.columns, "t.")}) = ({rows.listed(key.columns, "w.")})
 WHERE t.id IS NOT NULL OR w.first < w.position
"""
        for number, key in enumerate(section.keys)
    )
    return f"""
WITH wanted AS MATERIALIZED (
    SELECT item.position::integer - 1 AS position, w.*
      FROM jsonb_array_elements($1) WITH ORDINALITY item (document, position),
           jsonb_populate_record(NULL::{section.table.name}, item.document) w
)
{"UNION ALL".join(lookups)} ORDER BY position, key
"""
