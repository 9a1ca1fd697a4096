"""The SQL about the roles of users: in one client, or in every client."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril.audit import rows
from mithril.database import lists
from mithril.database.database import Condition, Database, Source, find_one
from mithril.database.lists import Listed, Listing, Page


class UserRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role that a user has in one client."""

    id: UUID
    user_id: UUID
    role_id: UUID
    role_name: str
    client_id: UUID
    client_name: str
    scope: str
    inserted_at: datetime
    updated_at: datetime


class GlobalRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role that a user has in every client."""

    id: UUID
    user_id: UUID
    role_id: UUID
    role_name: str
    scope: str
    inserted_at: datetime
    updated_at: datetime


ROWS = rows.AuditedTable("user_roles", "user_role", client="w.client_id")
GLOBAL_ROWS = rows.AuditedTable("global_user_roles", "global_user_role")
# The constraint that a user has a global role once.
GLOBAL_KEY = "global_user_roles_user_id_role_id_index"
COLUMNS = """t.id, t.user_id, t.role_id, r.name AS role_name, t.client_id, c.name AS client_name, r.scope,
             t.inserted_at, t.updated_at"""
JOINS = "JOIN roles r ON r.id = t.role_id JOIN clients c ON c.id = t.client_id"
TABLES = f"user_roles t {JOINS}"
GLOBAL_COLUMNS = "t.id, t.user_id, t.role_id, r.name AS role_name, r.scope, t.inserted_at, t.updated_at"
GLOBAL_JOINS = "JOIN roles r ON r.id = t.role_id"
GLOBAL_TABLES = f"global_user_roles t {GLOBAL_JOINS}"
FILTERS = {
    "id": "t.id = {}",
    "user_id": "t.user_id = {}",
    "user_ids": "t.user_id = ANY ({}::uuid[])",
    "client_id": "t.client_id = {}",
    "role_id": "t.role_id = {}",
    "role_name": "t.role_id = (SELECT id FROM roles WHERE name = {})",
}
LIST = Listing(UserRole, "user_roles t", COLUMNS, FILTERS, joins=JOINS)
OF_USER = {"user_id": FILTERS["user_id"]}
GLOBAL_LIST = Listing(GlobalRole, "global_user_roles t", GLOBAL_COLUMNS, OF_USER, joins=GLOBAL_JOINS)


def conditions(filters: Mapping[str, Any]) -> list[Condition]:
    """Return the conditions of these filters, whose names are those of FILTERS."""
    return [Condition(FILTERS[name], value) for name, value in filters.items()]


async def list_own_roles(database: Database, user_id: UUID, *, client_id: UUID) -> list[UserRole]:
    """List the roles of one user in one client; there are never many."""
    statement = f"SELECT {COLUMNS} FROM {TABLES} WHERE t.user_id = $1 AND t.client_id = $2 ORDER BY {LIST.order('t.')}"
    return [UserRole(**row) for row in await database.fetch(statement, user_id, client_id)]


async def list_user_roles(database: Database, filters: Mapping[str, Any], *, page: Page) -> Listed[UserRole]:
    """List the roles in clients that match, the oldest first."""
    return await lists.fetch(database, LIST, filters, page=page)


async def find_user_role(source: Source, row_id: UUID, *, user_id: UUID) -> UserRole | None:
    """Return this row of the user, or None."""
    statement = f"SELECT {COLUMNS} FROM {TABLES} WHERE t.id = $1 AND t.user_id = $2"
    return await find_one(source, UserRole, statement, row_id, user_id)


async def list_global_roles(database: Database, user_id: UUID, *, page: Page) -> Listed[GlobalRole]:
    """List the roles that a user has in every client, the oldest first."""
    return await lists.fetch(database, GLOBAL_LIST, {"user_id": user_id}, page=page)


async def find_global_role(source: Source, row_id: UUID, *, user_id: UUID) -> GlobalRole | None:
    """Return this row of the user, or None."""
    statement = f"SELECT {GLOBAL_COLUMNS} FROM {GLOBAL_TABLES} WHERE t.id = $1 AND t.user_id = $2"
    return await find_one(source, GlobalRole, statement, row_id, user_id)


async def find_given_role(source: Source, user_id: UUID, *, role_id: UUID) -> GlobalRole | None:
    """Return this role, where the user has it in every client, or None."""
    statement = f"SELECT {GLOBAL_COLUMNS} FROM {GLOBAL_TABLES} WHERE t.user_id = $1 AND t.role_id = $2"
    return await find_one(source, GlobalRole, statement, user_id, role_id)
