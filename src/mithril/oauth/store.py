"""The SQL that the grants need: clients with what bounds their scope, approvals, role scopes."""

from typing import Any
from uuid import UUID

import msgspec

from mithril import metrics, security
from mithril.audit import rows
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lookups import Lookup
from mithril.tokens.store import Seen
from mithril.tokens.verification_store import FIND_ACTIVE, ActiveToken


class RegisteredClient(msgspec.Struct, frozen=True, kw_only=True):
    """A client as far as grants ask about it. `settings` is JSON as text."""

    id: UUID
    name: str
    is_blocked: bool
    settings: str
    access_type: str | None
    type_name: str
    type_scope: str
    last_revocation: int
    type_revocation: int
    role_revocation: int

    @property
    def allowed_grant_types(self) -> list[str]:
        """The login grants that it may use (`settings.allowed_grant_types`)."""
        return list(msgspec.json.decode(self.settings).get("allowed_grant_types") or ())

    def seen(self, user: int | None = None) -> Seen:
        """Return what was seen when this was read. `user`: the last revocation of a user whose roles are read later."""
        return Seen(user, self.last_revocation, self.type_revocation, self.role_revocation)

    @property
    def is_public(self) -> bool:
        """Whether it has no secret and must prove itself by PKCE (`settings.public`)."""
        return msgspec.json.decode(self.settings).get("public") is True


class RegisteredConnection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as far as grants ask about it."""

    id: UUID
    client_id: UUID
    consumer_id: UUID
    redirect_uri: str
    """The one that was asked about."""
    since: str | None
    """The version since which that one has been good without a break; None where it is not good now."""
    consumer_is_blocked: bool
    broker_scope: str | None
    """What the consumer may use, as a broker, of the tokens of a BROKER client."""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a user has approved for a client."""

    id: UUID
    scope: str


APPROVAL_ROWS = rows.AuditedTable("apps", "approval", client="w.client_id")
CLIENT = """
SELECT c.id, c.name, c.is_blocked, c.settings, c.priv_settings ->> 'access_type' AS access_type,
       ct.name AS type_name, ct.scope AS type_scope, c.last_revocation, ct.last_revocation AS type_revocation,
       ct.last_role_revocation AS role_revocation
  FROM clients c JOIN client_types ct ON ct.id = c.client_type_id WHERE c.id = $1
"""
FIND_CLIENT = Lookup(CLIENT, "uuid")
# The columns of a connection, beside those of something else, and what each is in RegisteredConnection.
OF_CONNECTION = {f"connection.{name}": name for name in RegisteredConnection.__struct_fields__}
CONNECTION_COLUMNS = ", ".join(f'k.{name} AS "{column}"' for column, name in OF_CONNECTION.items())
# Since which version of connection `k` a redirect URI has been good; NULL where it is not. During a transition two are
# good; from the moment at which it ends, stored or not, the new one alone.
GOOD_SINCE = """
CASE WHEN k.transition_ends_at <= {clock} THEN CASE WHEN k.transition_redirect_uri = {uri} THEN k.transition_since END
     WHEN k.redirect_uri = {uri} THEN k.redirect_uri_since
     WHEN k.transition_redirect_uri = {uri} THEN k.transition_since END
"""
CONNECTION = """
SELECT k.id, k.client_id, k.consumer_id, {} AS redirect_uri, {} AS since,
       consumer.is_blocked AS consumer_is_blocked, consumer.priv_settings ->> 'broker_scope' AS broker_scope
  FROM connections k JOIN clients consumer ON consumer.id = k.consumer_id WHERE"""


def connections_of(redirect_uri: str) -> str:
    """Return the query for connections `k`, up to its condition, that asks about the redirect URI in a parameter."""
    since = GOOD_SINCE.format(clock="statement_timestamp()", uri=redirect_uri)
    return CONNECTION.format(f"{redirect_uri}::text", f"({since})::text")


HOLD_CONNECTION = f"{connections_of('$2')} k.id = $1 FOR KEY SHARE OF k"
FIND_CONNECTION_BY_REDIRECT_URI = f"""
{connections_of("$2")} k.client_id = $1 AND ({GOOD_SINCE.format(clock="statement_timestamp()", uri="$2")}) IS NOT NULL
 ORDER BY k.inserted_at, k.id LIMIT 1
"""
# The connection is held, so only the clock can take the redirect URI away: the lock on the approval may have been
# waited for.
CONSUME_CODE = f"""
UPDATE tokens SET used_at = clock_timestamp(), updated_at = now()
 WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp() AND EXISTS (
       SELECT FROM connections k
        WHERE k.id = $2 AND ({GOOD_SINCE.format(clock="clock_timestamp()", uri="$3")}) IS NOT NULL)
RETURNING id
"""
# A client and its connection with a secret, present or previous: the client's columns, then those of the connection.
FIND_BY_SECRET = Lookup(
    f"""
SELECT c.*, {CONNECTION_COLUMNS}
  FROM ({CONNECTION.format("''::text", "NULL::text")} k.client_id = $1
           AND (k.secret_digest = $2 OR (k.previous_secret_digest = $2 AND k.previous_secret_expires_at > now()))) k
  JOIN ({CLIENT}) c ON c.id = k.client_id
""",
    "uuid",
    "bytea",
)
# The same with the token that the client presents, if that is active.
OF_TOKEN = {f"token.{name}": name for name in ActiveToken.__struct_fields__}
FIND_WITH_TOKEN = Lookup(
    f"""
SELECT caller.*, {", ".join(f'token.{name} AS "{column}"' for column, name in OF_TOKEN.items())}
  FROM ({FIND_BY_SECRET.alone}) caller LEFT JOIN LATERAL ({FIND_ACTIVE.alone.replace("$1", "$3")}) token ON true
""",
    "uuid",
    "bytea",
    "bytea",
)


def role_scopes(user_id: str, client_id: str) -> str:
    """Return the query for the scopes of a user's roles in a client, and of the global ones."""
    return f"""
SELECT r.scope FROM user_roles ur JOIN roles r ON r.id = ur.role_id
 WHERE ur.user_id = {user_id} AND ur.client_id = {client_id}
 UNION ALL
SELECT r.scope FROM global_user_roles gr JOIN roles r ON r.id = gr.role_id WHERE gr.user_id = {user_id}
"""


ROLE_SCOPES = role_scopes("$1", "$2")
# Of several connections with one redirect URI the oldest counts, as above.
BROKER_SCOPES = """
SELECT k.broker_scope FROM (
    SELECT DISTINCT ON (good.uri) k.consumer_id, consumer.is_blocked,
           consumer.priv_settings ->> 'broker_scope' AS broker_scope
      FROM connections k JOIN clients consumer ON consumer.id = k.consumer_id, LATERAL (
               SELECT k.redirect_uri WHERE (k.transition_ends_at <= now()) IS NOT TRUE
                UNION ALL SELECT k.transition_redirect_uri WHERE k.transition_redirect_uri IS NOT NULL) good (uri)
     WHERE k.client_id = $1 ORDER BY good.uri, k.inserted_at, k.id
) k WHERE NOT k.is_blocked AND ($2::uuid IS NULL OR k.consumer_id = $2)
"""
UNKNOWN_SCOPES = """
SELECT unnest($1::text[]) AS name
EXCEPT SELECT unnest(scope_names(scope)) FROM client_types
EXCEPT SELECT unnest(scope_names(scope)) FROM roles
"""
# What was approved before stays approved; the new scopes come first (rule AUT-13).
APPROVE = f"""
WITH old AS (
    SELECT id, scope FROM apps WHERE user_id = $1 AND client_id = $2
), approved AS (
    INSERT INTO apps AS a (user_id, client_id, scope) VALUES ($1, $2, $3)
        ON CONFLICT (user_id, client_id) DO UPDATE SET scope = $3, updated_at = now()
    RETURNING a.id, a.scope
)
INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS})
SELECT CASE WHEN old.id IS NULL THEN 'approval.create' ELSE 'approval.update' END, approved.id, $2,
       CASE WHEN old.id IS NOT NULL THEN jsonb_build_object('scope', old.scope) END,
       jsonb_build_object('scope', approved.scope), $4, $5, $6, $7, $8
  FROM approved LEFT JOIN old USING (id)
RETURNING subject_id
"""
# Client and user first, in the order of a block or a deletion: else the two would wait for each other.
FIND_APPROVAL = """
SELECT a.id, a.scope FROM apps a JOIN clients c ON c.id = a.client_id JOIN users u ON u.id = a.user_id
 WHERE a.user_id = $1 AND a.client_id = $2
   FOR KEY SHARE OF c, u FOR UPDATE OF a
"""
ADD_NONCE = """
INSERT INTO nonces (client_id, expires_at) SELECT $1, now() + make_interval(secs => $2) WHERE in_time($3) RETURNING id
"""
FIND_NONCE = "SELECT id FROM nonces WHERE id = $1 AND client_id = $2 AND used_at IS NULL AND expires_at > now()"
# The client first, which a deletion locks before its nonces. `clock_timestamp`, not `now`: the transaction may have
# waited for another one of the same user.
CONSUME_NONCE = """
WITH client AS (SELECT id FROM clients WHERE id = $2 FOR KEY SHARE)
UPDATE nonces n SET used_at = clock_timestamp()
  FROM client WHERE n.id = $1 AND n.client_id = client.id AND n.used_at IS NULL AND n.expires_at > clock_timestamp()
RETURNING n.id
"""


async def find_client(source: Source, client_id: UUID | None) -> RegisteredClient | None:
    """Return the client with its type, or None."""
    return await find_one(source, RegisteredClient, FIND_CLIENT, client_id)


async def find_connection_by_redirect_uri(
    database: Database, client_id: UUID, redirect_uri: str
) -> RegisteredConnection | None:
    """Return the client's connection with exactly that redirect URI (RFC 9700 section 2.1), the oldest, or None."""
    if "\0" in redirect_uri:  # PostgreSQL has no text with it
        return None
    return await find_one(database, RegisteredConnection, FIND_CONNECTION_BY_REDIRECT_URI, client_id, redirect_uri)


async def list_redirect_uris(database: Database, client_id: UUID) -> list[str]:
    """Return the redirect URIs of all connections of a client."""
    found = await database.fetch("SELECT redirect_uri FROM connections WHERE client_id = $1 LIMIT 50", client_id)
    return [row["redirect_uri"] for row in found]


async def hold_connection(
    transaction: PooledConnection, connection_id: UUID | None, redirect_uri: str | None
) -> RegisteredConnection | None:
    """Return the connection of that id as it is now, held against change until the transaction ends; or None.

    `redirect_uri`: the one that is asked about, if any. Hold it before any token: a deletion locks connection and
    tokens in the same order.
    """
    return await find_one(transaction, RegisteredConnection, HOLD_CONNECTION, connection_id, askable(redirect_uri))


def askable(redirect_uri: str | None) -> str:
    """Return the redirect URI as a statement may ask about it: an empty one, which none is, where it is no text."""
    return "" if redirect_uri is None or "\0" in redirect_uri else redirect_uri


async def consume_code(transaction: PooledConnection, code_id: UUID, *, connection: RegisteredConnection) -> bool:
    """Mark a code as used; False when it was used or expired, or its redirect URI is not good any more.

    Exactly one of several gets True.
    """
    asked = (code_id, connection.id, connection.redirect_uri)
    return await transaction.fetchval(CONSUME_CODE, *asked) is not None


async def find_by_secret(
    source: Source, client_id: UUID, secret: str, *, presented: str | None = None
) -> tuple[RegisteredClient, RegisteredConnection, ActiveToken | None] | None:
    """Return the client and its connection with that secret, the present or a still accepted previous one; or None.

    `presented`: a token that is looked up with them; it is returned if it is active, of any kind.
    """
    asked, lookup = [security.digest(secret)], FIND_BY_SECRET
    if presented is not None:
        asked, lookup = [*asked, security.digest(presented)], FIND_WITH_TOKEN
    row: dict[str, Any] | None = await find_one(source, dict, lookup, client_id, *asked)
    if row is None:
        return None
    token = None
    if presented is not None:
        of_token = {name: row.pop(column) for column, name in OF_TOKEN.items()}
        token = ActiveToken(**of_token) if of_token["id"] else None
    connection = connection_in(row)
    assert connection is not None, "the join gives one"
    return RegisteredClient(**row), connection, token


def connection_in(row: dict[str, Any]) -> RegisteredConnection | None:
    """Take the columns of a connection out of a row; None where there is no connection."""
    own = {name: row.pop(column) for column, name in OF_CONNECTION.items()}
    return None if own["id"] is None else RegisteredConnection(**own)


async def list_role_scopes(source: Source, user_id: UUID, *, client_id: UUID) -> list[str]:
    """Return the scopes of a user's roles in a client, then of their global roles; one text for each role."""
    return [row["scope"] for row in await source.fetch(ROLE_SCOPES, user_id, client_id)]


async def list_broker_scopes(source: Source, client_id: UUID, *, consumer_id: UUID | None) -> list[str | None]:
    """Return the broker scopes of the consumers through whose connections the client can get a code, or of one."""
    return [row["broker_scope"] for row in await source.fetch(BROKER_SCOPES, client_id, consumer_id)]


async def list_unknown_scopes(source: Source, names: list[str]) -> list[str]:
    """Return those of the names that no client type and no role has."""
    return [row["name"] for row in await source.fetch(UNKNOWN_SCOPES, names)]


async def find_approval(transaction: PooledConnection, user_id: UUID, *, client_id: UUID) -> Approval | None:
    """Return what the user has approved for the client, held against change until the transaction ends; or None."""
    return await find_one(transaction, Approval, FIND_APPROVAL, user_id, client_id)


async def approve(transaction: PooledConnection, user_id: UUID, *, client_id: UUID, scope: str, actor: Actor) -> UUID:
    """Set the scope of the approval, with an audit row, and return its id."""
    approval_id: UUID = await transaction.fetchval(APPROVE, user_id, client_id, scope, *actor.arguments)
    metrics.AUDIT_ROWS.add()
    return approval_id


async def add_nonce(database: Database, *, client_id: UUID, lives_seconds: float) -> UUID:
    """Add a nonce of that client, 122 random bits, and return it."""
    row = await database.write(ADD_NONCE, client_id, float(lives_seconds))
    assert row is not None, "INSERT returns its row"
    nonce: UUID = row["id"]
    return nonce


async def has_nonce(source: Source, nonce: UUID, *, client_id: UUID) -> bool:
    """Return whether the nonce is one of that client, unused and not expired."""
    return await source.fetchrow(FIND_NONCE, nonce, client_id) is not None


async def consume_nonce(transaction: PooledConnection, nonce: UUID, *, client_id: UUID) -> bool:
    """Mark the nonce as used; False when it is another client's, expired or used. Exactly one of several gets True."""
    return await transaction.fetchval(CONSUME_NONCE, nonce, client_id) is not None
