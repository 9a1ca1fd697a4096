"""The rules of clients: who sees which, and how they are added, changed and deleted."""

from uuid import UUID

from mithril import errors, refusals
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.clients import fields, store
from mithril.clients.store import Client, FullClient
from mithril.connections import store as connections
from mithril.database.database import Condition, Database, PooledConnection, Source, Violation
from mithril.oauth import store as approvals
from mithril.tokens import store as tokens
from mithril.user_roles import store as user_roles
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints

# What is deleted with a client and has audit rows of its own. Triggers and the cleanup delete its tokens.
BELONGINGS = (
    (connections.ROWS, "t.client_id = {}"),
    (connections.ROWS, "t.consumer_id = {}"),
    (user_roles.ROWS, "t.client_id = {}"),
    (approvals.APPROVAL_ROWS, "t.client_id = {}"),
)


async def get_client(database: Database, client_id: UUID) -> Client:
    """Return the client. Raises NotFound."""
    return errors.found(await store.find_client(database, client_id))


async def get_full_client(source: Source, client_id: UUID) -> FullClient:
    """Return the client as administrators see it. Raises NotFound."""
    return errors.found(await store.find_full_client(source, client_id))


async def add_client(database: Database, given: Document, *, client_id: UUID | None = None, actor: Actor) -> FullClient:
    """Add a client with these fields, under the given id or a new one; return its state.

    Raises ValidationFailed, and ClientExists for an id that is taken.
    """
    columns = fields.CLIENT.new(given) | ({} if client_id is None else {"id": client_id})
    try:
        async with database.transaction() as transaction:
            with constraints(fields.CONSTRAINTS):
                added = await rows.insert(transaction, store.ROWS, columns, actor=actor)
            return await get_full_client(transaction, added)
    except Violation:
        raise refusals.ClientExists from None


async def change_client(database: Database, client_id: UUID, given: Document, *, actor: Actor) -> FullClient:
    """Change the given fields of a client; return its state. Raises NotFound, ValidationFailed."""
    async with database.transaction(client_id) as transaction:
        await _lock(transaction, client_id)
        return await _change(transaction, client_id, given, actor=actor)


async def put_client(database: Database, client_id: UUID, given: Document, *, actor: Actor) -> FullClient:
    """Change the client or, where there is none, add it under that id (rule CLI-11); return its state.

    Of several requests for a client that does not exist yet, one adds it and the others change it. Raises
    ValidationFailed: a new client needs every required field, a change only what it changes.
    """
    async with database.transaction(client_id) as transaction:
        while not await store.lock_client(transaction, client_id):
            columns = fields.CLIENT.new(given) | {"id": client_id}
            with constraints(fields.CONSTRAINTS):
                added = await rows.insert_first(transaction, store.ROWS, columns, key="clients_pkey", actor=actor)
            if added is not None:
                return await get_full_client(transaction, client_id)
        return await _change(transaction, client_id, given, actor=actor)


async def remove_client(database: Database, client_id: UUID, *, actor: Actor) -> None:
    """Delete the client and all that it owns. Raises NotFound.

    That is its connections, also those in which it is the consumer, the roles that users have in it, approvals and
    tokens.
    """
    async with database.transaction(client_id) as transaction:
        await _lock(transaction, client_id)
        for table, condition in (*BELONGINGS, (store.ROWS, "t.id = {}")):
            await rows.delete(transaction, table, [Condition(condition, client_id)], actor=actor)


async def deactivate_tokens(
    database: Database, client_id: UUID, *, expected_versions: list[int] | None = None, actor: Actor
) -> FullClient:
    """Revoke every active token of the client, of any kind; return the client. Raises NotFound.

    `expected_versions`: numbers of the last revocation; where it is another one, nothing is left to do (rule CSL-17).
    """
    async with database.transaction(client_id) as transaction:
        await _lock(transaction, client_id)
        if expected_versions is not None:
            last = await store.find_last_revocation(transaction, client_id)
            if last not in expected_versions:
                return await get_full_client(transaction, client_id)
        ended = await tokens.revoke_all_of_client(transaction, client_id)
        await store.record_deactivation(transaction, client_id, tokens=ended, actor=actor)
        return await get_full_client(transaction, client_id)


async def _lock(transaction: PooledConnection, client_id: UUID) -> None:
    if not await store.lock_client(transaction, client_id):
        raise errors.NotFound


async def _change(transaction: PooledConnection, client_id: UUID, given: Document, *, actor: Actor) -> FullClient:
    """Change a locked client; a trigger revokes the tokens of a blocked one. Raises ValidationFailed."""
    columns = fields.CLIENT.changes(given)
    with constraints(fields.CONSTRAINTS):
        await rows.update(transaction, store.ROWS, columns, row_id=client_id, actor=actor)
    if columns.get("is_blocked"):
        await tokens.expire_some_of_client(transaction, client_id)
    return await get_full_client(transaction, client_id)
