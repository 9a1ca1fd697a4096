"""The rules of clients: who sees which, and how they come, change and go."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from mithril import errors
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.clients import store
from mithril.clients.store import Client, FullClient
from mithril.connections import store as connections
from mithril.database.database import Condition, Database, Listed, Page, PooledConnection, Source
from mithril.oauth import store as approvals
from mithril.tokens import store as tokens
from mithril.user_roles import store as user_roles

# What goes with a client and has audit rows of its own. Tokens go too, by their foreign key.
BELONGINGS = (
    (connections.ROWS, "t.client_id = {}"),
    (connections.ROWS, "t.consumer_id = {}"),
    (user_roles.ROWS, "t.client_id = {}"),
    (approvals.APPROVAL_ROWS, "t.client_id = {}"),
)


async def list_clients(
    database: Database, filters: dict[str, Any], *, only_id: UUID | None, page: Page
) -> Listed[Client]:
    """The clients that match, among all or, where `only_id` is given, that one."""
    return await store.list_clients(database, filters, only_id=only_id, page=page)


async def get_client(database: Database, client_id: UUID | None) -> Client:
    """The client. Raises NotFound, also for an identifier that names nothing (None)."""
    client = None if client_id is None else await store.find_client(database, client_id)
    if client is None:
        raise errors.NotFound
    return client


async def list_full_clients(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[FullClient]:
    """All clients that match, for administrators."""
    return await store.list_full_clients(database, filters, page=page)


async def get_full_client(source: Source, client_id: UUID) -> FullClient:
    """The client, for administrators. Raises NotFound."""
    client = await store.find_full_client(source, client_id)
    if client is None:
        raise errors.NotFound
    return client


async def add_client(database: Database, columns: Document, *, actor: Actor) -> FullClient:
    """A new client. Raises Violation for an owner or a client type that is not there."""
    async with database.transaction() as transaction:
        client_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
        return await get_full_client(transaction, client_id)


async def put_client(
    database: Database,
    client_id: UUID,
    *,
    new: Callable[[], Document],
    changes: Callable[[], Document],
    actor: Actor,
) -> FullClient:
    """Changes the client or, where there is none, adds it under that id (contract.md 3.3); the state after it.

    `new` and `changes` give the columns for either case, and may refuse. Of several requests for a client that is
    not there yet one adds it, and the others change it. Raises what these two raise, and Violation.
    """
    async with database.transaction() as transaction:
        while True:
            if await store.lock_client(transaction, client_id):
                await _change(transaction, client_id, changes(), actor=actor)
                break
            columns = new() | {"id": client_id}
            if await rows.insert_first(transaction, store.ROWS, columns, key="clients_pkey", actor=actor):
                break
        return await get_full_client(transaction, client_id)


async def remove_client(database: Database, client_id: UUID, *, actor: Actor) -> None:
    """Deletes the client and all that is its own: connections, also those in which it is the consumer, roles that
    people have in it, approvals and tokens. Raises NotFound.
    """
    async with database.transaction() as transaction:
        if not await store.lock_client(transaction, client_id):
            raise errors.NotFound
        for table, condition in (*BELONGINGS, (store.ROWS, "t.id = {}")):
            await rows.delete(transaction, table, [Condition(condition, client_id)], actor=actor)


async def deactivate_tokens(database: Database, client_id: UUID, *, actor: Actor) -> FullClient:
    """Ends every living token of the client, of whatever kind. Raises NotFound."""
    async with database.transaction() as transaction:
        if not await store.lock_client(transaction, client_id):
            raise errors.NotFound
        ended = await tokens.end_all_of_client(transaction, client_id)
        await store.record_deactivation(transaction, client_id, tokens=ended, actor=actor)
        return await get_full_client(transaction, client_id)


async def _change(transaction: PooledConnection, client_id: UUID, columns: Document, *, actor: Actor) -> None:
    """Changes a locked client; one that is blocked loses its tokens."""
    await rows.update(transaction, store.ROWS, columns, row_id=client_id, actor=actor)
    # A statement of its own, after the lock: it must see the tokens of whoever was issuing some until now.
    if columns.get("is_blocked"):
        await tokens.end_all_of_client(transaction, client_id)
