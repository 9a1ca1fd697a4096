"""The SQL about clients."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril.audit import rows
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database.database import Condition, Database, Listed, Page, PooledConnection, Source


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A client as its people may see it: `priv_settings` is not here. `settings` is JSON as text."""

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
    """A client as its administrators see it. `priv_settings` is JSON as text."""

    priv_settings: str


ROWS = rows.AuditedTable("clients", "client", client="w.id")
COLUMNS = """c.id, c.name, c.settings, c.user_id, c.client_type_id, ct.name AS client_type_name,
             c.is_blocked, c.block_reason, c.inserted_at, c.updated_at"""
FULL_COLUMNS = f"{COLUMNS}, c.priv_settings"
TABLES = "clients c JOIN client_types ct ON ct.id = c.client_type_id"
# Each filter with its condition; `strpos` because `%` and `_` are letters like any others.
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
    """Clients in the order of their making; of all of them, or of the one that is named."""
    conditions = [Condition(FILTERS[name], value) for name, value in filters.items()]
    if only_id is not None:
        conditions.append(Condition(FILTERS["id"], only_id))
    return await database.fetch_page(
        Client, columns=COLUMNS, tables=TABLES, conditions=conditions, order="c.inserted_at, c.id", page=page
    )


async def find_client(database: Database, client_id: UUID) -> Client | None:
    """The client, or None."""
    row = await database.fetchrow(f"SELECT {COLUMNS} FROM {TABLES} WHERE c.id = $1", client_id)
    return None if row is None else Client(**row)


async def list_full_clients(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[FullClient]:
    """All clients that match, in the order of their making."""
    conditions = [Condition(FILTERS[name], value) for name, value in filters.items()]
    return await database.fetch_page(
        FullClient, columns=FULL_COLUMNS, tables=TABLES, conditions=conditions, order="c.inserted_at, c.id", page=page
    )


async def find_full_client(source: Source, client_id: UUID) -> FullClient | None:
    """The client with all its settings, or None."""
    row = await source.fetchrow(f"SELECT {FULL_COLUMNS} FROM {TABLES} WHERE c.id = $1", client_id)
    return None if row is None else FullClient(**row)


async def lock_client(transaction: PooledConnection, client_id: UUID) -> bool:
    """Holds the client until the transaction ends; False when there is none.

    Whoever is about to add something of it (a token, a connection, a role) is waited for, and waits.
    """
    return await transaction.fetchrow("SELECT FROM clients WHERE id = $1 FOR UPDATE", client_id) is not None


async def record_deactivation(transaction: PooledConnection, client_id: UUID, *, tokens: int, actor: Actor) -> None:
    """The audit row of tokens that were ended."""
    await transaction.execute(RECORD_DEACTIVATION, client_id, tokens, *actor.arguments)
