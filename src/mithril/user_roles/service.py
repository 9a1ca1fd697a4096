"""Who gets which role, and who loses it. A role takes effect with the next grant or refresh: tokens go on."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mithril import errors
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.database.database import Database, Listed, Page, Source
from mithril.user_roles import store
from mithril.user_roles.store import GlobalRole, UserRole


async def list_user_roles(database: Database, filters: Mapping[str, Any], *, page: Page) -> Listed[UserRole]:
    """Those that match; filters as in the store."""
    return await store.list_user_roles(database, filters, page=page)


async def get_user_role(source: Source, row_id: UUID, *, user_id: UUID) -> UserRole:
    """That person's role in a client. Raises NotFound."""
    found = await store.find_user_role(source, row_id, user_id=user_id)
    if found is None:
        raise errors.NotFound
    return found


async def give_role(database: Database, user_id: UUID, columns: Document, *, actor: Actor) -> UserRole:
    """Gives a person a role in a client. Raises Violation for one that they have, and for what is not there."""
    async with database.transaction() as transaction:
        row_id = await rows.insert(transaction, store.ROWS, columns | {"user_id": user_id}, actor=actor)
        return await get_user_role(transaction, row_id, user_id=user_id)


async def take_roles(database: Database, filters: Mapping[str, Any], *, actor: Actor) -> int:
    """Takes the roles that match every filter from whoever has them; their number. Filters as in the store."""
    async with database.transaction() as transaction:
        return await rows.delete(transaction, store.ROWS, store.conditions(filters), actor=actor)


async def take_role(database: Database, row_id: UUID, *, actor: Actor) -> None:
    """Takes one role in a client from whoever has it. Raises NotFound."""
    if not await take_roles(database, {"id": row_id}, actor=actor):
        raise errors.NotFound


async def list_global_roles(database: Database, user_id: UUID, *, page: Page) -> Listed[GlobalRole]:
    """The roles that a person has everywhere."""
    return await store.list_global_roles(database, user_id, page=page)


async def get_global_role(database: Database, row_id: UUID, *, user_id: UUID) -> GlobalRole:
    """That person's role. Raises NotFound."""
    found = await store.find_global_role(database, row_id, user_id=user_id)
    if found is None:
        raise errors.NotFound
    return found


async def give_global_role(database: Database, user_id: UUID, *, role_id: UUID, actor: Actor) -> GlobalRole:
    """The role that the person has everywhere from now on, or had before. Raises Violation for what is not there."""
    columns = {"user_id": user_id, "role_id": role_id}
    given = None
    async with database.transaction() as transaction:
        while given is None:
            await rows.insert_first(transaction, store.GLOBAL_ROWS, columns, key=store.GLOBAL_KEY, actor=actor)
            given = await store.find_given_role(transaction, user_id, role_id=role_id)
    return given


async def take_global_role(database: Database, row_id: UUID, *, user_id: UUID, actor: Actor) -> None:
    """Takes a role that counts everywhere from that person. Raises NotFound."""
    conditions = store.conditions({"id": row_id, "user_id": user_id})
    async with database.transaction() as transaction:
        taken = await rows.delete(transaction, store.GLOBAL_ROWS, conditions, actor=actor)
    if not taken:
        raise errors.NotFound
