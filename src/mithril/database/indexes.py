"""Indexes of lists, which are built while the service works, and may be missing: then lists refuse more.

They are no part of a revision of the schema: on a large table each takes minutes, and `CREATE INDEX CONCURRENTLY` can
be in no transaction. `mithril migrate` builds what is not there, also what an interrupted run has left half built.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import asyncpg

from mithril.database.connecting import Connection

CLIENT_NAMES = "clients_name_trigrams_index"
OTHER_TOKEN_NAMES = "tokens_other_names_index"
# The definitions by name. What each costs a write: those of clients and users are seldom written; no access or refresh
# token is in the one of other names; the third takes the place of a shorter one.
DEFINITIONS = {
    "clients_is_blocked_inserted_at_id_index": "clients (is_blocked, inserted_at, id)",
    "users_is_blocked_inserted_at_id_index": "users (is_blocked, inserted_at, id)",
    "tokens_client_id_inserted_at_id_index": "tokens (client_id, inserted_at, id)",
    "connections_previous_secret_expires_at_index": "connections (previous_secret_expires_at)"
    " WHERE previous_secret_expires_at IS NOT NULL",
    OTHER_TOKEN_NAMES: "tokens (name) WHERE name NOT IN ('access_token', 'refresh_token')",
}
# Without a list of pending entries, which each search would have to read.
TRIGRAMS = {CLIENT_NAMES: "clients USING gin (name gin_trgm_ops) WITH (fastupdate = off)"}
REPLACED = ("tokens_client_id_index",)
STATE = """
SELECT name, (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(name)) AS is_valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid = to_regclass(name)) AS is_being_built
  FROM unnest($1::text[]) AS name
"""
EXTENSION = """
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') AS is_there,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AS is_available
"""
PAUSE_SECONDS = 0.2


async def build(connection: Connection) -> None:
    """Build the indexes that are missing, while reads and writes go on. Several processes may call this at once."""
    await build_missing(connection, DEFINITIONS | (TRIGRAMS if await _has_trigrams(connection) else {}))
    for name in REPLACED:
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


async def build_missing(connection: Connection, wanted: Mapping[str, str], *, kind: str = "INDEX") -> None:
    """Build those of the wanted indexes, definitions by name, that are missing or half built."""
    while missing := [row for row in await connection.fetch(STATE, list(wanted)) if not row["is_valid"]]:
        name, is_valid, is_being_built = missing[0]
        if is_being_built:  # by another process
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if is_valid is False:
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        with suppress(asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):  # another process was faster
            await connection.execute(f"CREATE {kind} CONCURRENTLY {name} ON {wanted[name]}")


async def _has_trigrams(connection: Connection) -> bool:
    """Return whether the database has the extension pg_trgm, after trying to create it where the server has it."""
    state = await connection.fetchrow(EXTENSION)
    assert state is not None, "it has one row"
    if not state["is_there"] and state["is_available"]:
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except asyncpg.InsufficientPrivilegeError:  # the owner of a database may, a role with fewer rights may not
            return False
        except asyncpg.UniqueViolationError:  # another process was faster
            pass
    return bool(state["is_there"] or state["is_available"])
