"""The SQL about client types and roles, which differ only in their table."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril.audit.rows import AuditedTable
from mithril.database import lists
from mithril.database.database import Database, Source, find_one
from mithril.database.lists import Filters, Listed, Listing, Page, Search


class NamedScope(msgspec.Struct, frozen=True, kw_only=True):
    """A client type or a role; `scope` is separated by spaces."""

    id: UUID
    name: str
    scope: str
    inserted_at: datetime
    updated_at: datetime


CLIENT_TYPES = AuditedTable("client_types", "client_type")
ROLES = AuditedTable("roles", "role")
COLUMNS = ", ".join(NamedScope.__struct_fields__)
FILTERS: Filters = {
    "name": "name = {}",
    "part_of_name": lists.containing("name"),
    "scope": Search("string_to_array(scope, ' ') && {}::text[]"),
}
LISTS = {table: Listing(NamedScope, table.name, COLUMNS, FILTERS) for table in (CLIENT_TYPES, ROLES)}


async def list_named(
    database: Database, table: AuditedTable, filters: dict[str, Any], *, page: Page
) -> Listed[NamedScope]:
    """List those that match, the oldest first; filters: FILTERS, of `scope` one is enough."""
    return await lists.fetch(database, LISTS[table], filters, page=page)


async def find_named(source: Source, table: AuditedTable, row_id: UUID) -> NamedScope | None:
    """Return the client type or role, or None."""
    return await find_one(source, NamedScope, f"SELECT {COLUMNS} FROM {table.name} WHERE id = $1", row_id)
