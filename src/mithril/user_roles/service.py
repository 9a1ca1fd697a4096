"""The rules of users' roles.

A new role counts with the next grant or refresh, one that is taken away at once, for tokens too (rules USR-16, VER-20).
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mithril import errors
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.database.database import Database, Source
from mithril.user_roles import fields, store
from mithril.user_roles.store import GlobalRole, UserRole
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints


async def get_user_role(source: Source, row_id: UUID, *, user_id: UUID) -> UserRole:
    """Return this role of the user in a client. Raises NotFound."""
    return errors.found(await store.find_user_role(source, row_id, user_id=user_id))


async def give_role(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> UserRole:
    """Give a user a role in a client.

    Raises ValidationFailed, also for a role that the user has, and for a role, client or user that does not exist.
    """
    columns = fields.columns(fields.USER_ROLE, given, user_id=user_id)
    async with database.transaction(user_id) as transaction:
        with constraints(fields.CONSTRAINTS):
            row_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
        return await get_user_role(transaction, row_id, user_id=user_id)


async def take_roles(database: Database, filters: Mapping[str, Any], *, actor: Actor) -> int:
    """Take the roles that match every filter from their users; return their number. Filters as in the store."""
    async with database.transaction() as transaction:
        return await rows.delete(transaction, store.ROWS, store.conditions(filters), actor=actor)


async def take_role(database: Database, row_id: UUID, *, actor: Actor) -> None:
    """Take one role in a client from the user who has it. Raises NotFound."""
    if not await take_roles(database, {"id": row_id}, actor=actor):
        raise errors.NotFound


async def get_global_role(database: Database, row_id: UUID, *, user_id: UUID) -> GlobalRole:
    """Return this role of the user in every client. Raises NotFound."""
    return errors.found(await store.find_global_role(database, row_id, user_id=user_id))


async def give_global_role(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> GlobalRole:
    """Give a user a role in every client, unless the user has it; return it.

    Raises ValidationFailed, also for a role or user that does not exist.
    """
    columns = fields.columns(fields.GLOBAL_USER_ROLE, given, user_id=user_id)
    found = None
    async with database.transaction(user_id) as transaction:
        while found is None:
            with constraints(fields.CONSTRAINTS):
                await rows.insert_first(transaction, store.GLOBAL_ROWS, columns, key=store.GLOBAL_KEY, actor=actor)
            found = await store.find_given_role(transaction, user_id, role_id=UUID(columns["role_id"]))
    return found


async def take_global_role(database: Database, row_id: UUID, *, user_id: UUID, actor: Actor) -> None:
    """Take a role in every client from the user. Raises NotFound."""
    conditions = store.conditions({"id": row_id, "user_id": user_id})
    async with database.transaction(user_id) as transaction:
        taken = await rows.delete(transaction, store.GLOBAL_ROWS, conditions, actor=actor)
    if not taken:
        raise errors.NotFound
