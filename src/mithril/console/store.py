"""The SQL about sessions of the console, and about the clients for which a user may have one."""

from datetime import datetime
from uuid import UUID

import msgspec

from mithril.database.database import Database
from mithril.tokens.kinds import CONSOLE_IDLE_SECONDS, CONSOLE_SECONDS, TokenKind

MOST_PLACES = 100
# Clients in which the user has a role; administrative ones for those with a global role; and those that the user has
# approved, because a session of whom has no role must be of some client too. The few clients of a rare type are read
# from the index, in its order: for an equal one the planner would rather read the whole table.
LIST_PLACES = f"""
SELECT c.id, c.name, ct.name AS type_name, ct.scope AS type_scope, c.is_blocked, c.block_reason
  FROM clients c JOIN client_types ct ON ct.id = c.client_type_id
 WHERE c.id = ANY (ARRAY(
           SELECT client_id FROM user_roles WHERE user_id = $1
            UNION
           SELECT a.id FROM client_types t, LATERAL (
                      SELECT id, client_type_id FROM clients WHERE client_type_id >= t.id
                       ORDER BY client_type_id LIMIT {MOST_PLACES}
                  ) a
            WHERE a.client_type_id = t.id AND t.name = ANY ($2)
              AND EXISTS (SELECT FROM global_user_roles WHERE user_id = $1)
            UNION
           SELECT client_id FROM apps WHERE user_id = $1
       ))
 ORDER BY lower(c.name), c.id LIMIT {MOST_PLACES}
"""
# A token is of some client. One of a user who has none is of the oldest client, and gives nothing there.
FIND_ANY = """
SELECT id FROM (SELECT id, is_blocked FROM clients ORDER BY inserted_at, id LIMIT 1000) oldest
 WHERE NOT is_blocked LIMIT 1
"""
EXTEND = f"""
UPDATE tokens SET updated_at = now(), expires_at = least(
           now() + make_interval(secs => {CONSOLE_IDLE_SECONDS}),
           (details ->> 'began_at')::timestamptz + make_interval(secs => {CONSOLE_SECONDS}))
 WHERE id = $1 AND used_at IS NULL AND expires_at > now() AND in_time($2)
RETURNING expires_at
"""
ACTIVE = f"""
t.user_id = $1 AND t.name = '{TokenKind.CONSOLE}' AND t.used_at IS NULL AND t.expires_at > now()
"""
LIST_SESSIONS = f"""
SELECT t.id, CASE WHEN NOT t.details ? 'acts_for' THEN c.name END AS client,
       (t.details ->> 'began_at')::timestamptz AS began_at, t.expires_at
  FROM tokens t JOIN clients c ON c.id = t.client_id
 WHERE {ACTIVE} AND token_scope(t) IS NOT NULL ORDER BY t.inserted_at DESC LIMIT {MOST_PLACES}
"""
END_SESSIONS = f"""
UPDATE tokens t SET expires_at = now(), updated_at = now()
 WHERE {ACTIVE} AND ($2::uuid IS NULL OR t.id = $2) AND in_time($3)
RETURNING t.id
"""


# Of a user with very many tokens, most of which may have expired before, only the first are looked at.
COUNT_SESSIONS = f"""
SELECT given.user_id, (
           SELECT count(*) FROM (SELECT name, used_at, expires_at FROM tokens t
                                  WHERE t.user_id = given.user_id AND t.client_id = $2 LIMIT 10000) looked_at
            WHERE used_at IS NULL AND expires_at > now()
              AND name IN ('{TokenKind.ACCESS}', '{TokenKind.REFRESH}', '{TokenKind.CONSOLE}')) AS sessions
  FROM unnest($1::uuid[]) given (user_id)
"""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A client for which a user may have a session."""

    id: UUID
    name: str
    type_name: str
    type_scope: str
    is_blocked: bool
    block_reason: str | None


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """An active session of a user, as they may see it."""

    id: UUID
    client: str | None
    """None for a session that shows its user only their own account."""
    began_at: datetime
    expires_at: datetime


async def list_places(database: Database, user_id: UUID, *, administrative: tuple[str, ...]) -> list[Place]:
    """Return the clients for which the user may have a session, by name; `administrative`: names of client types."""
    return [Place(**row) for row in await database.fetch(LIST_PLACES, user_id, list(administrative))]


async def find_any_client(database: Database) -> UUID | None:
    """Return the oldest client that is not blocked; None where there is none."""
    row = await database.fetchrow(FIND_ANY)
    return None if row is None else row["id"]


async def extend(database: Database, token_id: UUID) -> datetime | None:
    """Let a session last half an hour from now, or to its latest end; return when that is, or None if it is over."""
    row = await database.write(EXTEND, token_id)
    return None if row is None else row["expires_at"]


async def list_sessions(database: Database, user_id: UUID) -> list[OpenSession]:
    """Return the active sessions of the user, the newest first."""
    return [OpenSession(**row) for row in await database.fetch(LIST_SESSIONS, user_id)]


async def end_sessions(database: Database, user_id: UUID, *, only_id: UUID | None) -> int:
    """Revoke the sessions of the user, or only one of them; return how many."""
    return len(await database.write_all(END_SESSIONS, user_id, only_id))


async def count_sessions(database: Database, user_ids: list[UUID], *, client_id: UUID) -> dict[UUID, int]:
    """Return how many active tokens and sessions each of these users has with the client."""
    rows = await database.fetch(COUNT_SESSIONS, user_ids, client_id)
    return {row["user_id"]: row["sessions"] for row in rows}
