"""The SQL of import and export: one description per table, and the statements that are made from it.

A row comes as a JSON document of its columns; how it is written, and recorded, is in `rows.store`. In all
statements `t` is a row as it is, and `w` the row that is wanted.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.clients import store as clients
from mithril.connections import store as connections
from mithril.database.database import Connection, Violation
from mithril.oauth import store as oauth
from mithril.scope_sets import store as scope_sets
from mithril.tokens import store as tokens
from mithril.user_roles import store as user_roles
from mithril.users import store as users

__all__ = ["Document"]

ONE_IMPORT_AT_A_TIME = 6_480_317_551  # the name of an advisory lock; any number that nothing else uses
KEPT_PASSWORDS = 3  # the present one and two before it (contract.md 1.2)


class Refused(Exception):
    """A row violates a constraint. `place`: its key, with a dot, or nothing."""

    def __init__(self, place: str, reason: str) -> None:
        """`reason` repeats no value but an identifier."""
        super().__init__(reason)
        self.place, self.reason = place, reason


class Key(NamedTuple):
    """What no two found_rows may share, beside the id."""

    field: str
    """The key of the file that is to blame."""
    columns: tuple[str, ...]
    meaning: str
    held_in: tuple[str, ...] = ()
    """The columns to compare with, where they are others."""


class Table(NamedTuple):
    """What import and export need to know of a table, beyond what changing its rows takes."""

    audited: rows.AuditedTable
    columns: str
    """Those that are exported, in order."""
    keys: tuple[Key, ...] = ()
    """The first is what a row is known by when the file has no id for it."""
    state: str = "NULL"
    """What else the rules need to know of an existing row, as text."""

    @property
    def name(self) -> str:
        """As in the schema."""
        return self.audited.name

    @property
    def noun(self) -> str:
        """As in the audit trail."""
        return self.audited.noun


class Match(NamedTuple):
    """An existing row that a document names: by which field, its id and its state."""

    field: str
    id: str
    state: str | None


ID = Key("id", ("id",), "id")
ROLE_NAME = "(SELECT name FROM roles WHERE id = t.role_id) AS role"

CLIENT_TYPES = Table(scope_sets.CLIENT_TYPES, "id, name, scope", (Key("name", ("name",), "name"),))
ROLES = Table(scope_sets.ROLES, "id, name, scope", (Key("name", ("name",), "name"),))
USERS = Table(
    users.ROWS,
    "id, email, tax_id, person_id, settings, priv_settings, is_blocked, block_reason",
    (Key("email", ("email",), "e-mail address"),),
    state="t.password_hash",
)
CLIENTS = Table(
    clients.ROWS,
    "id, name, (SELECT name FROM client_types WHERE id = t.client_type_id) AS client_type, user_id, settings,"
    " priv_settings, is_blocked, block_reason",
)
CONNECTIONS = Table(
    connections.ROWS,
    "id, client_id, consumer_id, redirect_uri",
    (
        Key("consumer_id", ("client_id", "consumer_id"), "client_id and consumer_id"),
        Key("secret", ("secret_digest",), "secret"),
        Key("secret", ("secret_digest",), "secret", held_in=("previous_secret_digest",)),
    ),
    state="t.redirect_uri",
)
USER_ROLES = Table(
    user_roles.ROWS,
    f"id, user_id, client_id, {ROLE_NAME}",
    (Key("role", ("user_id", "role_id", "client_id"), "user_id, client_id and role"),),
)
GLOBAL_USER_ROLES = Table(
    user_roles.GLOBAL_ROWS,
    f"id, user_id, {ROLE_NAME}",
    (Key("role", ("user_id", "role_id"), "user_id and role"),),
)
APPROVALS = Table(
    oauth.APPROVAL_ROWS,
    "id, user_id, client_id, scope",
    (Key("client_id", ("user_id", "client_id"), "user_id and client_id"),),
)
FACTORS = Table(
    users.FACTOR_ROWS,
    "id, user_id, type, factor, is_active",
    (Key("type", ("user_id", "type"), "user_id and type"),),
)
TOKENS = Table(
    tokens.ROWS._replace(is_audited=False),
    "",
    (Key("value", ("digest",), "value"),),
    state="(t.expires_at > now())::text",
)


async def begin(connection: Connection) -> datetime:
    """Waits for other imports to end; returns the database's time, which is that of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_IMPORT_AT_A_TIME)
    now: datetime = await connection.fetchval("SELECT now()")
    return now


async def names(connection: Connection, table: Table) -> dict[str, str]:
    """The ids of all client types or roles (there are few), by name and by id."""
    found_rows = await connection.fetch(f"SELECT id::text, name FROM {table.name}")
    return {row["id"]: row["id"] for row in found_rows} | {row["name"]: row["id"] for row in found_rows}


async def find(connection: Connection, table: Table, documents: Sequence[Document]) -> list[tuple[int, Match]]:
    """The existing found_rows that share an id or another key with a document, each with the document's position."""
    found_rows = await connection.fetch(_find(table), rows.encoded(documents))
    return [(row["position"], Match(row["field"], row["id"], row["state"])) for row in found_rows]


async def add(connection: Connection, table: Table, document: Document, *, actor: Actor) -> None:
    """A new row with its audit row. Raises Refused."""
    with _refusals(table, document):
        await rows.insert(connection, table.audited, document, actor=actor)


async def change(connection: Connection, table: Table, document: Document, *, row_id: str, actor: Actor) -> bool:
    """Brings a row to what the document says, if it differs; says whether it did. Raises Refused."""
    with _refusals(table, document):
        return await rows.update(connection, table.audited, document, row_id=row_id, actor=actor)


REMEMBER_PASSWORD = f"""
WITH added AS (INSERT INTO password_hstr (user_id, password_hash) VALUES ($1, $2))
DELETE FROM password_hstr
 WHERE user_id = $1 AND id NOT IN (
    SELECT id FROM password_hstr WHERE user_id = $1 ORDER BY id DESC LIMIT {KEPT_PASSWORDS - 1}
)
"""


async def remember_password(connection: Connection, user_id: str, password_hash: str) -> None:
    """Adds to the passwords that a person has used, and forgets those too long ago."""
    await connection.execute(REMEMBER_PASSWORD, user_id, password_hash)


async def export(connection: Connection, table: Table) -> list[str]:
    """Each row as one line of JSON, oldest first."""
    found_rows = await connection.fetch(
        f"SELECT (SELECT row_to_json(line) FROM (SELECT {table.columns}) line)::text"
        f" FROM {table.name} t ORDER BY t.inserted_at, t.id"
    )
    return [row[0] for row in found_rows]


@functools.cache
def _find(table: Table) -> str:
    lookups = (
        f"SELECT w.position, '{key.field}' AS field, t.id::text, {table.state} AS state"
        f" FROM wanted w JOIN {table.name} t"
        f" ON ({rows.listed(key.held_in or key.columns, 't.')}) = ({rows.listed(key.columns, 'w.')})"
        for key in (ID, *table.keys)
    )
    return f"""
WITH wanted AS MATERIALIZED (
    SELECT item.position - 1 AS position, w.*
      FROM jsonb_array_elements($1) WITH ORDINALITY item (document, position),
           jsonb_populate_record(NULL::{table.name}, item.document) w
)
{" UNION ALL ".join(lookups)}
"""


@contextmanager
def _refusals(table: Table, document: Document) -> Iterator[None]:
    """Names the place in the file that is to blame."""
    try:
        yield
    except Violation as violation:
        constraint = violation.constraint or ""
        if violation.kind != "reference":
            raise Refused("", f"the database refuses it ({constraint})") from None
        column = constraint.removeprefix(f"{table.name}_").removesuffix("_fkey")
        place = "details.client_id" if table is TOKENS and column == "client_id" else column
        noun = column.removesuffix("_id").replace("consumer", "client")
        raise Refused(f".{place}", f"no {noun} {document.get(column)}") from None
