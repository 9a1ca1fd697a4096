"""The kinds of objects in the file, in the order of import: which table each goes to, and as what columns.

Nothing here asks the database; `names` are the ids of client types and roles as they are by then.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from mithril import security
from mithril.identifiers import CANONICAL_UUID
from mithril.snapshots import document, store
from mithril.snapshots.reading import SnapshotError, converted
from mithril.snapshots.store import Document, Table

# Of a shorter secret the last characters would tell too much.
SHORTEST_SECRET_WITH_TAIL = 4 * security.TAIL_LENGTH

Names = Mapping[str, Mapping[str, str]]


class Kind(NamedTuple):
    """One list of the file."""

    key: str
    table: Table
    columns: Callable[[Any, Names], Document]
    """Raises SnapshotError whose message goes on after the object's own key."""


def _given(row: msgspec.Struct) -> Document:
    given = {name: value for name, value in msgspec.structs.asdict(row).items() if value is not UNSET}
    # Encoders want no Id or Email but the string itself.
    return {name: str(value) if isinstance(value, str) else value for name, value in given.items()}


def _as_given(row: document.Row, _: Names) -> Document:
    return _given(row)


def _user(row: document.User, _: Names) -> Document:
    columns = _given(row)
    columns.pop("password", None)  # whether it differs shows only beside the stored hash
    return columns


def _client(row: document.Client, names: Names) -> Document:
    columns = _given(row)
    columns["client_type_id"] = _reference(columns.pop("client_type"), names, "client_type")
    return columns


def _connection(row: document.Connection, _: Names) -> Document:
    columns = _given(row)
    secret = columns.pop("secret", None)
    return columns if secret is None else columns | secret_columns(secret)


def secret_columns(secret: str) -> Document:
    """What is kept of a connection's secret."""
    is_long = len(secret) >= SHORTEST_SECRET_WITH_TAIL
    return {"secret_digest": _digest(secret), "secret_tail": security.tail(secret) if is_long else ""}


def _with_role(row: document.GlobalUserRole, names: Names) -> Document:
    columns = _given(row)
    columns["role_id"] = _reference(columns.pop("role"), names, "role")
    return columns


def _token(row: document.Token, _: Names) -> Document:
    columns = _given(row)
    columns.pop("expires_in", None)  # what it means depends on the stored token
    if "expires_at" in columns:
        columns["expires_at"] = datetime.fromtimestamp(columns["expires_at"], UTC).isoformat()
    columns["digest"] = _digest(columns.pop("value"))
    own_columns = _given(converted(row.details, document.Details))
    # The original kept the refresh token in plain text beside the access token; no value is kept here.
    hidden = {*document.Details.__struct_fields__, "refresh_token"}
    columns["details"] = {name: value for name, value in row.details.items() if name not in hidden}
    return columns | own_columns


def _reference(text: str, names: Names, field: str) -> str:
    known = names[f"{field}s"]
    found = known.get(text.lower() if CANONICAL_UUID.fullmatch(text) else text)
    if found is None:
        raise SnapshotError(f".{field}: no {field.replace('_', ' ')} {text!r}")
    return found


def _digest(value: str) -> str:
    """As PostgreSQL reads a bytea from text."""
    return f"\\x{security.digest(value).hex()}"


KINDS = (
    Kind("client_types", store.CLIENT_TYPES, _as_given),
    Kind("roles", store.ROLES, _as_given),
    Kind("users", store.USERS, _user),
    Kind("clients", store.CLIENTS, _client),
    Kind("connections", store.CONNECTIONS, _connection),
    Kind("user_roles", store.USER_ROLES, _with_role),
    Kind("global_user_roles", store.GLOBAL_USER_ROLES, _with_role),
    Kind("approvals", store.APPROVALS, _as_given),
    Kind("authentication_factors", store.FACTORS, _as_given),
    Kind("tokens", store.TOKENS, _token),
)
