"""The SQL about client types and roles, which are the same but for their table."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from mithril.audit import rows
from mithril.database.database import Condition, Database, Listed, Page, Source


class Kind(NamedTuple):
    """Client types, or roles."""

    audited: rows.AuditedTable
    name_index: str
    """The constraint that no two may share a name."""


class NamedScope(msgspec.Struct, frozen=True, kw_only=True):
    """A client type or a role; `scope` is a list by space."""

    id: UUID
    name: str
    scope: str
    inserted_at: datetime
    updated_at: datetime


CLIENT_TYPES = Kind(rows.AuditedTable("client_types", "client_type"), "client_types_name_index")
ROLES = Kind(rows.AuditedTable("roles", "role"), "roles_name_index")
COLUMNS = ", ".join(NamedScope.__struct_fields__)
FILTERS = {"name": "name = {}", "scope": "string_to_array(scope, ' ') && {}::text[]"}


async def list_named(database: Database, kind: Kind, filters: dict[str, Any], *, page: Page) -> Listed[NamedScope]:
    """In the order of their making; filters: a name, and scopes of which a row must have any."""
    return await database.fetch_page(
        NamedScope,
        columns=COLUMNS,
        tables=kind.audited.name,
        conditions=[Condition(FILTERS[name], value) for name, value in filters.items()],
        order="inserted_at, id",
        page=page,
    )


async def find_named(source: Source, kind: Kind, row_id: UUID) -> NamedScope | None:
    """The client type or role, or None."""
    row = await source.fetchrow(f"SELECT {COLUMNS} FROM {kind.audited.name} WHERE id = $1", row_id)
    return None if row is None else NamedScope(**row)
