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
TEXT: Schema = {"type": "string", "minLength": 1}
SHORT: Schema = {"type": "string", "maxLength": 255}
SECONDS: Schema = {"type": "integer", "minimum": -10_000_000_000, "maximum": 10_000_000_000}  # three centuries


class Key(NamedTuple):
    """Columns whose values are unique in a table."""

    field: str  # the key of the file that a refusal names
    columns: tuple[str, ...]
    meaning: str
    held_in: tuple[str, ...] = ()  # the columns to compare with, where they are others


class Section(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One list of the file."""

    name: str
    table: AuditedTable
    fields: Fields
    keys: tuple[Key, ...]  # a row is known by the first or, where the file has no id for it, by the second
    reference: str = ""  # the key that has the name or the id of a client type or role
    also: Schema = {}  # beside the fields of the API, or instead of them; what is a UUID is required
    without: tuple[str, ...] = ()  # fields of the API that a row does not have, or need not have
    columns: Callable[[Row], Columns] = dict  # from a row to its columns, before the reference is looked up
    shown: dict[str, str] = {}  # SQL of what an export has under a key that is not simply a column
    called: tuple[str, ...] = ("name",)  # the keys by which a reader knows a row

    @cached_property
    def schema(self) -> Schema:
        """Return the JSON Schema of a row."""
        also = self.also | ({self.reference: TEXT} if self.reference else {})
        apart = {*self.without, f"{self.reference}_id"}
        known = {name: each for name, each in self.fields.schema["properties"].items() if name not in apart}
        needed = {name for name in self.fields.schema["required"] if name in known and "default" not in known[name]}
        needed |= {name for name, each in also.items() if each is UUID or name == self.reference}
        properties = {"id": UUID} | known | also
        return {"type": "object", "properties": properties, "required": sorted(needed), "additionalProperties": False}

    def problems(self, row: Row) -> Iterator[tuple[str, Rule]]:
        """List the rules that a row breaks beside the schema, by entry."""
        yield from ((f"$.{name}", REQUIRED) for name in self.schema["required"] if is_blank(row[name]))
        # A file brings the passwords that users have; the rules for choosing one may be newer.
        yield from (problem for problem in self.fields.rules(row) if problem[0] != "$.password")
        if self is TOKENS and ("expires_at" in row) == ("expires_in" in row):
            yield "$", Rule(None, "exactly one of expires_at and expires_in", [])
        if self is TOKENS and "connection_id" in row and "connection_id" in row["details"]:
            yield "$.connection_id", Rule(None, "stands in details too", [])


def _connection(row: Row) -> Columns:
    secret = connections.secret_columns(row["secret"]) if "secret" in row else {}
    return {name: value for name, value in row.items() if name not in ("secret", "transition")} | secret


def _token(row: Row) -> Columns:
    details = dict(row["details"])
    inside = {"connection_id": details.pop("connection_id")} if "connection_id" in details else {}
    return token_fields.columns(row | inside | {"details": details})


ID = Key("id", ("id",), "id")
NAME = Key("name", ("name",), "name")
EMAIL = Key("email", ("email",), "e-mail address")
PAIR = Key("consumer_id", ("client_id", "consumer_id"), "client_id and consumer_id")
SECRET = Key("secret", ("secret_digest",), "secret")
PREVIOUS_SECRET = SECRET._replace(held_in=("previous_secret_digest",))
ROLE_IN_CLIENT = Key("role", ("user_id", "role_id", "client_id"), "user_id, client_id and role")
ROLE_EVERYWHERE = Key("role", ("user_id", "role_id"), "user_id and role")
APPROVAL_OF_USER = Key("client_id", ("user_id", "client_id"), "user_id and client_id")
FACTOR_OF_USER = Key("type", ("user_id", "type"), "user_id and type")
VALUE = Key("value", ("digest",), "value")
OF_USER: Schema = {"user_id": UUID}
TOKEN_SCHEMA: Schema = token_fields.TOKEN.schema["properties"]
DETAILS: Schema = TOKEN_SCHEMA["details"]["properties"] | {"connection_id": UUID_OR_NULL}

TRANSITION: Schema = {
    "type": ["object", "null"],
    "required": ["redirect_uri", "ends_at"],
    "properties": {"redirect_uri": {"type": "string"}, "ends_at": {"type": "string", "format": "date-time"}},
    "additionalProperties": False,
}

TOKENS = Section(
    "tokens",
    tokens.ROWS._replace(is_audited=False),
    token_fields.TOKEN,
    (ID, VALUE),
    without=("expires_at",),
    also=OF_USER
    | {"expires_at": TOKEN_SCHEMA["expires_at"], "expires_in": SECONDS, "connection_id": UUID_OR_NULL}
    | {"details": TOKEN_SCHEMA["details"] | {"properties": DETAILS}},
    columns=_token,
    called=("name", "user_id"),
)
CONNECTIONS = Section(
    "connections",
    connections.ROWS,
    CONNECTION_PUT,
    (ID, PAIR, SECRET, PREVIOUS_SECRET),
    also={"client_id": UUID, "consumer_id": UUID, "secret": TEXT, "transition": TRANSITION},
    columns=_connection,
    shown=connections.EXPORTED,
    called=("client_id", "consumer_id"),
)
SECTIONS = (
    Section("client_types", scope_sets.CLIENT_TYPES, NAMED_SCOPE, (ID, NAME)),
    Section("roles", scope_sets.ROLES, NAMED_SCOPE, (ID, NAME)),
    Section(
        "users",
        users.ROWS,
        user_fields.USER,
        (ID, EMAIL),
        without=("2fa_enable", "factor", "password"),
        also={"password": TEXT, "tax_id": SHORT, "person_id": SHORT, "priv_settings": {"type": "object"}},
        columns=user_fields.columns,  # whether the password differs shows only beside the stored hash
        called=("email",),
    ),
    Section("clients", clients.ROWS, CLIENT, (ID,), "client_type", {"id": UUID}),
    CONNECTIONS,
    Section(
        *("user_roles", user_roles.ROWS, USER_ROLE, (ID, ROLE_IN_CLIENT), "role"),
        also=OF_USER,
        called=("user_id", "role", "client_id"),
    ),
    Section(
        *("global_user_roles", user_roles.GLOBAL_ROWS, GLOBAL_USER_ROLE, (ID, ROLE_EVERYWHERE), "role"),
        also=OF_USER,
        called=("user_id", "role"),
    ),
    Section("approvals", oauth.APPROVAL_ROWS, APPROVAL, (ID, APPROVAL_OF_USER), called=("user_id", "client_id")),
    Section(
        *("authentication_factors", users.FACTOR_ROWS, FACTOR, (ID, FACTOR_OF_USER)),
        also=OF_USER,
        called=("user_id", "type"),
    ),
    TOKENS,
)
