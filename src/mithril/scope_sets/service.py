"""The rules of client types and roles."""

from typing import Any
from uuid import UUID

from mithril import errors, refusals
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.database.database import Condition, Database, Listed, Page, Violation
from mithril.scope_sets import store
from mithril.scope_sets.store import Kind, NamedScope


async def list_named(database: Database, kind: Kind, filters: dict[str, Any], *, page: Page) -> Listed[NamedScope]:
    """Those that match; filters as in the store."""
    return await store.list_named(database, kind, filters, page=page)


async def get_named(database: Database, kind: Kind, row_id: UUID) -> NamedScope:
    """The client type or role. Raises NotFound."""
    found = await store.find_named(database, kind, row_id)
    if found is None:
        raise errors.NotFound
    return found


async def add_named(database: Database, kind: Kind, columns: Document, *, actor: Actor) -> NamedScope:
    """A new one. `columns`: name and scope. Raises Violation for a name that is taken."""
    async with database.transaction() as transaction:
        row_id = await rows.insert(transaction, kind.audited, columns, actor=actor)
        added = await store.find_named(transaction, kind, row_id)
    assert added is not None, "it was just added"
    return added


async def change_named(database: Database, kind: Kind, row_id: UUID, columns: Document, *, actor: Actor) -> NamedScope:
    """The state after the change, which takes effect at once. Raises NotFound, Violation."""
    async with database.transaction() as transaction:
        await rows.update(transaction, kind.audited, columns, row_id=row_id, actor=actor)
        changed = await store.find_named(transaction, kind, row_id)
    if changed is None:
        raise errors.NotFound
    return changed


async def remove_named(database: Database, kind: Kind, row_id: UUID, *, actor: Actor) -> None:
    """Deletes it; a role is taken from whoever has it. Raises NotFound, and Conflict for a client type in use."""
    try:
        async with database.transaction() as transaction:
            removed = await rows.delete(transaction, kind.audited, [Condition("t.id = {}", row_id)], actor=actor)
    except Violation:
        raise refusals.ScopeSetInUse from None
    if not removed:
        raise errors.NotFound
