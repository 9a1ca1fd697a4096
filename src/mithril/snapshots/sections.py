"""The sections of a data file, in the order of import: what a row may say, its table, and its columns there.

The rules of a row are those of the API, in the `fields` of its noun. Only what a file has beyond them is here: ids,
secrets, passwords and token values as plain text, and names in place of the ids of client types and roles.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from mithril.approvals.fields import APPROVAL
from mithril.audit.rows import AuditedTable, Columns
from mithril.clients import store as clients
from mithril.clients.fields import CLIENT
from mithril.connections import store as connections
from mithril.connections.fields import CONNECTION_PUT
from mithril.errors import Rule
from mithril.oauth import store as oauth
from mithril.otp.fields import FACTOR
from mithril.scope_sets import store as scope_sets
from mithril.scope_sets.fields import NAMED_SCOPE
from mithril.tokens import fields as token_fields
from mithril.tokens import store as tokens
from mithril.user_roles import store as user_roles
from mithril.user_roles.fields import GLOBAL_USER_ROLE, USER_ROLE
from mithril.users import fields as user_fields
from mithril.users import store as users
from mithril.validation.fields import REQUIRED, Fields, is_blank

Row = dict[str, Any]  # of the file
Schema = dict[str, Any]
UUID: Schema = {"type": "string", "format": "uuid"}
UUID_OR_NULL: Schema = {"type": ["string", "null"], "format": "uuid"}
SECRET: Schema = {"type": "string", "minLength": 1}
SHORT: Schema = {"type": "string", "maxLength": 255}
SECONDS: Schema = {"type": "integer", "minimum": -10_000_000_000, "maximum": 10_000_000_000}  # three centuries


class Key(NamedTuple):
    """Columns whose values are unique in a table, beside the id."""

    field: str
    """The key of the file that a refusal names."""
    columns: tuple[str, ...]
    meaning: str
    held_in: tuple[str, ...] = ()
    """The columns to compare with, where they are others."""


class Section(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One list of the file."""

    name: str
    table: AuditedTable
    fields: Fields
    keys: tuple[Key, ...] = ()
    """The first is what a row is known by when the file has no id for it."""
    reference: str = ""
    """The key that holds the name or the id of a client type or role."""
    also: Schema = {}
    """What a row has beside the fields of the API, or instead of them; what is a UUID it must have."""
    without: tuple[str, ...] = ()
    """Fields of the API that a row does not have, or need not have."""
    columns: Callable[[Row], Columns] = dict
    """From a row to its columns, before the reference is looked up."""
    state: str = "NULL"
    """What else the rules need to know of an existing row, as text."""

    @property
    def noun(self) -> str:
        """Return the noun of a row, in words."""
        return self.table.noun.replace("_", " ")

    @cached_property
    def schema(self) -> Schema:
        """Return the JSON Schema of a row."""
        also = self.also | ({self.reference: SECRET} if self.reference else {})
        apart = {*self.without, f"{self.reference}_id"}
        known = {name: each for name, each in self.fields.schema["properties"].items() if name not in apart}
        needed = {name for name in self.fields.schema["required"] if name in known and "default" not in known[name]}
        return {
            "type": "object",
            "properties": {"id": UUID} | known | also,
            "required": [*needed.union(name for name, each in also.items() if each is UUID or name == self.reference)],
            "additionalProperties": False,
        }

    def problems(self, row: Row) -> Iterator[tuple[str, Rule]]:
        """List the rules that a row breaks beside the schema, by entry."""
        blank = {name for name, value in row.items() if is_blank(value)}
        yield from ((f"$.{name}", REQUIRED) for name in self.schema["required"] if name in blank)
        given = {name: value for name, value in row.items() if name not in blank}
        # A file brings the passwords that users have; the rules for choosing one may be newer.
        yield from (problem for problem in self.fields.rules(given) if problem[0] != "$.password")
        if self is TOKENS and ("expires_at" in row) == ("expires_in" in row):
            yield "$", Rule(None, "exactly one of expires_at and expires_in", [])
        if self is TOKENS and "connection_id" in row and "connection_id" in row["details"]:
            yield "$.connection_id", Rule(None, "stands in details too", [])


def _connection(row: Row) -> Columns:
    secret = connections.secret_columns(row["secret"]) if "secret" in row else {}
    return {name: value for name, value in row.items() if name != "secret"} | secret


def _token(row: Row) -> Columns:
    details = dict(row["details"])
    connection = {"connection_id": details.pop("connection_id")} if "connection_id" in details else {}
    kept = {name: row[name] for name in ("id", "connection_id") if name in row}
    return kept | connection | token_fields.columns(row | {"details": details})


NAME = Key("name", ("name",), "name")
ROLE_IN_CLIENT = Key("role", ("user_id", "role_id", "client_id"), "user_id, client_id and role")
ROLE_EVERYWHERE = Key("role", ("user_id", "role_id"), "user_id and role")
APPROVAL_OF_USER = Key("client_id", ("user_id", "client_id"), "user_id and client_id")
FACTOR_OF_USER = Key("type", ("user_id", "type"), "user_id and type")
OF_USER: Schema = {"user_id": UUID}
TOKEN_SCHEMA: Schema = token_fields.TOKEN.schema["properties"]
DETAILS: Schema = TOKEN_SCHEMA["details"]["properties"] | {"connection_id": UUID_OR_NULL}

CLIENT_TYPES = Section("client_types", scope_sets.CLIENT_TYPES, NAMED_SCOPE, keys=(NAME,))
ROLES = Section("roles", scope_sets.ROLES, NAMED_SCOPE, keys=(NAME,))
USERS = Section(
    "users",
    users.ROWS,
    user_fields.USER,
    keys=(Key("email", ("email",), "e-mail address"),),
    without=("2fa_enable", "factor", "password"),
    also={"password": SECRET, "tax_id": SHORT, "person_id": SHORT, "priv_settings": {"type": "object"}},
    columns=user_fields.columns,  # whether the password differs shows only beside the stored hash
    state="t.password_hash",
)
CONNECTIONS = Section(
    "connections",
    connections.ROWS,
    CONNECTION_PUT,
    keys=(
        Key("consumer_id", ("client_id", "consumer_id"), "client_id and consumer_id"),
        Key("secret", ("secret_digest",), "secret"),
        Key("secret", ("secret_digest",), "secret", held_in=("previous_secret_digest",)),
    ),
    also={"client_id": UUID, "consumer_id": UUID, "secret": SECRET},
    columns=_connection,
    state="t.redirect_uri",
)
TOKENS = Section(
    "tokens",
    tokens.ROWS._replace(is_audited=False),
    token_fields.TOKEN,
    keys=(Key("value", ("digest",), "value"),),
    without=("expires_at",),
    also=OF_USER
    | {"expires_at": TOKEN_SCHEMA["expires_at"], "expires_in": SECONDS, "connection_id": UUID_OR_NULL}
    | {"details": TOKEN_SCHEMA["details"] | {"properties": DETAILS}},
    columns=_token,
    state="(t.expires_at > now())::text",
)
SECTIONS = (
    CLIENT_TYPES,
    ROLES,
    USERS,
    Section("clients", clients.ROWS, CLIENT, reference="client_type", also={"id": UUID}),
    CONNECTIONS,
    Section("user_roles", user_roles.ROWS, USER_ROLE, (ROLE_IN_CLIENT,), "role", OF_USER),
    Section("global_user_roles", user_roles.GLOBAL_ROWS, GLOBAL_USER_ROLE, (ROLE_EVERYWHERE,), "role", OF_USER),
    Section("approvals", oauth.APPROVAL_ROWS, APPROVAL, (APPROVAL_OF_USER,)),
    Section("authentication_factors", users.FACTOR_ROWS, FACTOR, (FACTOR_OF_USER,), also=OF_USER),
    TOKENS,
)
