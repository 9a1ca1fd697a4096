"""The SQL about clients."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril import metrics
from mithril.audit import rows
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database import indexes, lists
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lists import Filters, Listed, Listing, Page


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
TYPE = "JOIN client_types ct ON ct.id = c.client_type_id"
FILTERS: Filters = {
    "id": "c.id = {}",
    "only_id": "c.id = {}",
    "user_id": "c.user_id = {}",
    "name": lists.containing("c.name", index_name=indexes.CLIENT_NAMES, is_served=lists.has_trigrams),
    "is_blocked": "c.is_blocked AND {}",
    "not is_blocked": "NOT c.is_blocked AND NOT {}",
}
OWN_LIST = Listing(Client, "clients c", COLUMNS, FILTERS, joins=TYPE)
FULL_LIST = Listing(FullClient, "clients c", FULL_COLUMNS, FILTERS, joins=TYPE)
RECORD_DEACTIVATION = f"""
INSERT INTO audit_events (action, subject_id, client_id, new, {ACTOR_COLUMNS})
VALUES ('client.deactivate_tokens', $1, $1, jsonb_build_object('tokens', $2::bigint), $3, $4, $5, $6, $7)
"""


async def list_clients(
    database: Database, filters: dict[str, Any], *, only_id: UUID | None, page: Page
) -> Listed[Client]:
    """List clients, the oldest first: among all of them, or only the one that `only_id` names."""
    own = {} if only_id is None else {"only_id": only_id}
    return await lists.fetch(database, OWN_LIST, filters | own, page=page)


async def find_client(database: Database, client_id: UUID) -> Client | None:
    """Return the client, or None."""
    return await find_one(database, Client, f"SELECT {COLUMNS} FROM clients c {TYPE} WHERE c.id = $1", client_id)


async def list_full_clients(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[FullClient]:
    """List all clients that match, the oldest first."""
    return await lists.fetch(database, FULL_LIST, filters, page=page)


async def find_full_client(source: Source, client_id: UUID) -> FullClient | None:
    """Return the client with all its settings, or None."""
    return await find_one(source, FullClient, f"SELECT {FULL_COLUMNS} FROM clients c {TYPE} WHERE c.id = $1", client_id)


async def lock_client(transaction: PooledConnection, client_id: UUID) -> bool:
    """Lock the client until the transaction ends; return False when there is none.

    Waits for transactions that are adding something that belongs to it (a token, a connection, a role), and later
    ones wait for this one.
    """
    return await transaction.fetchrow("SELECT FROM clients WHERE id = $1 FOR UPDATE", client_id) is not None


async def find_last_revocation(source: Source, client_id: UUID) -> int | None:
    """Return the number of the last revocation of all tokens of the client; None where there is no client."""
    row = await source.fetchrow("SELECT last_revocation FROM clients WHERE id = $1", client_id)
    return None if row is None else row["last_revocation"]


async def record_deactivation(transaction: PooledConnection, client_id: UUID, *, tokens: int, actor: Actor) -> None:
    """Add the audit row for tokens that were revoked."""
    await transaction.execute(RECORD_DEACTIVATION, client_id, tokens, *actor.arguments)
    metrics.AUDIT_ROWS.add()
