"""The rules of client types and roles: the same functions for both, told apart by their table."""

from uuid import UUID

from mithril import errors, refusals
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import AuditedTable
from mithril.database.database import Condition, Database, Violation
from mithril.scope_sets import fields, store
from mithril.scope_sets.store import NamedScope
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints


async def get_named(database: Database, table: AuditedTable, row_id: UUID) -> NamedScope:
    """Return the client type or role. Raises NotFound."""
    return errors.found(await store.find_named(database, table, row_id))


async def add_named(database: Database, table: AuditedTable, given: Document, *, actor: Actor) -> NamedScope:
    """Add one with name and scope; return it. Raises ValidationFailed, also for a name that is taken."""
    columns = fields.NAMED_SCOPE.new(given)
    async with database.transaction() as transaction:
        with constraints(fields.CONSTRAINTS):
            row_id = await rows.insert(transaction, table, columns, actor=actor)
        return errors.found(await store.find_named(transaction, table, row_id))


async def change_named(
    database: Database, table: AuditedTable, row_id: UUID, given: Document, *, actor: Actor
) -> NamedScope:
    """Change the given fields, with effect at once; return the state.

    Raises ValidationFailed, also for a name that is taken, and NotFound.
    """
    columns = fields.NAMED_SCOPE.changes(given)
    async with database.transaction(row_id) as transaction:
        with constraints(fields.CONSTRAINTS):
            await rows.update(transaction, table, columns, row_id=row_id, actor=actor)
        return errors.found(await store.find_named(transaction, table, row_id))


async def remove_named(database: Database, table: AuditedTable, row_id: UUID, *, actor: Actor) -> None:
    """Delete it; users lose a deleted role. Raises NotFound, and Conflict for a client type in use."""
    try:
        async with database.transaction(row_id) as transaction:
            removed = await rows.delete(transaction, table, [Condition("t.id = {}", row_id)], actor=actor)
    except Violation:
        raise refusals.ScopeSetInUse from None
    if not removed:
        raise errors.NotFound
