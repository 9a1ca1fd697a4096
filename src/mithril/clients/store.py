"""The SQL about clients."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril.audit import rows
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database.database import Condition, Database, Listed, Page, PooledConnection, Source, find_one


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A client as its own users may see it, without `priv_settings`. `settings` is JSON as text."""

    id: UUID
    name: str
    settings: str
    user_id: UUID
    client_type_id: UUID
    client_type_name: str
    is_blocked: bool
    block_reason: str | None
    inserted_at: datetime
    updated_at: datetime


class FullClient(Client, frozen=True, kw_only=True):
    """A client as administrators see it. `priv_settings` is JSON as text."""

    priv_settings: str


ROWS = rows.AuditedTable("clients", "client", client="w.id")
COLUMNS = """c.id, c.name, c.settings, c.user_id, c.client_type_id, ct.name AS client_type_name,
             c.is_blocked, c.block_reason, c.inserted_at, c.updated_at"""
FULL_COLUMNS = f"{COLUMNS}, c.priv_settings"
TABLES = "clients c JOIN client_types ct ON ct.id = c.client_type_id"
# Each filter with its condition. Not LIKE: `%` and `_` in a name mean themselves.
FILTERS = {
    "id": "c.id = {}",
    "user_id": "c.user_id = {}",
    "name": "strpos(lower(c.name), lower({})) > 0",
    "is_blocked": "c.is_blocked = {}",
}
RECORD_DEACTIVATION = f"""
INSERT INTO audit_events (action, subject_id, client_id, new, {ACTOR_COLUMNS})
VALUES ('client.deactivate_tokens', $1, $1, jsonb_build_object('tokens', $2::bigint), $3, $4, $5, $6, $7)
"""


async def list_clients(
    database: Database, filters: dict[str, Any], *, only_id: UUID | None, page: Page
) -> Listed[Client]:
    """List clients, the oldest first: among all of them, or only the one that `only_id` names."""
    conditions = [Condition(FILTERS[name], value) for name, value in filters.items()]
    if only_id is not None:
        conditions.append(Condition(FILTERS["id"], only_id))
    return await database.fetch_page(
        Client, columns=COLUMNS, tables=TABLES, conditions=conditions, order="c.inserted_at, c.id", page=page
    )


async def find_client(database: Database, client_id: UUID) -> Client | None:
    """Return the client, or None."""
    return await find_one(database, Client, f"SELECT {COLUMNS} FROM {TABLES} WHERE c.id = $1", client_id)


async def list_full_clients(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[FullClient]:
    """List all clients that match, the oldest first."""
    conditions = [Condition(FILTERS[name], value) for name, value in filters.items()]
    return await database.fetch_page(
        FullClient, columns=FULL_COLUMNS, tables=TABLES, conditions=conditions, order="c.inserted_at, c.id", page=page
    )


async def find_full_client(source: Source, client_id: UUID) -> FullClient | None:
    """Return the client with all its settings, or None."""
    return await find_one(source, FullClient, f"SELECT {FULL_COLUMNS} FROM {TABLES} WHERE c.id = $1", client_id)


async def lock_client(transaction: PooledConnection, client_id: UUID) -> bool:
    """Lock the client until the transaction ends; return False when there is none.

    Waits for transactions that are adding something that belongs to it (a token, a connection, a role), and later
    ones wait for this one.
    """
    return await transaction.fetchrow("SELECT FROM clients WHERE id = $1 FOR UPDATE", client_id) is not None


async def record_deactivation(transaction: PooledConnection, client_id: UUID, *, tokens: int, actor: Actor) -> None:
    """Add the audit row for tokens that were revoked."""
    await transaction.execute(RECORD_DEACTIVATION, client_id, tokens, *actor.arguments)
