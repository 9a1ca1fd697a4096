"""The SQL about tokens."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from mithril import security
from mithril.audit import rows
from mithril.database.database import (
    Condition,
    Database,
    Listed,
    Lookup,
    Page,
    PooledConnection,
    Source,
    find_one,
    one_or_none,
)
from mithril.tokens.kinds import NO_DETAILS, STARTS_A_FAMILY, Details, TokenKind

ROWS = rows.AuditedTable("tokens", "token", hidden=(*rows.HIDDEN, "digest"), client="w.client_id")


class Presented(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about a presented token and API-key; `verification` decides what follows from it."""

    id: UUID
    name: str
    expires_at: datetime
    details: str
    """JSON as text: what the token says beyond client and scope."""
    user_id: UUID
    client_id: UUID
    scope: str | None
    is_expired: bool
    client_is_blocked: bool
    client_type: str
    access_type: str | None
    user_is_blocked: bool
    issued_to_consumer_id: UUID | None
    broker_id: UUID | None
    broker_is_blocked: bool | None
    broker_scope: str | None


FIND_PRESENTED = Lookup(
    """
SELECT t.id, t.name, t.expires_at, t.details, t.user_id, t.client_id, t.scope, t.expires_at <= now() AS is_expired,
       c.is_blocked AS client_is_blocked, ct.name AS client_type,
       c.priv_settings ->> 'access_type' AS access_type,
       u.is_blocked AS user_is_blocked,
       issued.consumer_id AS issued_to_consumer_id,
       broker.id AS broker_id, broker.is_blocked AS broker_is_blocked,
       broker.priv_settings ->> 'broker_scope' AS broker_scope
  FROM tokens t
  JOIN clients c ON c.id = t.client_id
  JOIN client_types ct ON ct.id = c.client_type_id
  JOIN users u ON u.id = t.user_id
  LEFT JOIN connections issued ON issued.id = t.connection_id
  LEFT JOIN connections k
         ON k.secret_digest = $2 OR (k.previous_secret_digest = $2 AND k.previous_secret_expires_at > now())
  LEFT JOIN clients broker ON broker.id = k.client_id
 WHERE t.digest = $1
""",
    "bytea",
    "bytea",
)


async def find_presented(database: Database, *, digest: bytes, api_key_digest: bytes | None) -> Presented | None:
    """Return token, client, client type, user and the API-key's client, in one statement; None for an unknown token."""
    return one_or_none(Presented, await database.look_up(FIND_PRESENTED, digest, api_key_digest))


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The user of a token; `settings` and the lists of roles are JSON as text."""

    token_name: str
    expires_at: datetime
    is_expired: bool
    client_is_blocked: bool
    id: UUID
    email: str
    tax_id: str
    person_id: str
    settings: str
    is_blocked: bool
    block_reason: str | None
    inserted_at: datetime
    updated_at: datetime
    roles: str
    global_roles: str


class KeyHolder(msgspec.Struct, frozen=True, kw_only=True):
    """The client whose connection has a secret; scopes are lists by space."""

    client_id: UUID
    is_blocked: bool
    scope: str
    broker_scope: str | None


# The roles in the token's client, and those that count everywhere.
FIND_OWNER = """
SELECT t.name AS token_name, t.expires_at, t.expires_at <= now() AS is_expired, c.is_blocked AS client_is_blocked,
       u.id, u.email, u.tax_id, u.person_id, u.settings, u.is_blocked, u.block_reason, u.inserted_at, u.updated_at,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'name', r.name, 'scope', r.scope)
                                  ORDER BY ur.inserted_at, ur.id), '[]')
          FROM user_roles ur JOIN roles r ON r.id = ur.role_id
         WHERE ur.user_id = u.id AND ur.client_id = t.client_id) AS roles,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('id', r.id, 'name', r.name, 'scope', r.scope)
                                  ORDER BY gr.inserted_at, gr.id), '[]')
          FROM global_user_roles gr JOIN roles r ON r.id = gr.role_id
         WHERE gr.user_id = u.id) AS global_roles
  FROM tokens t JOIN clients c ON c.id = t.client_id JOIN users u ON u.id = t.user_id
 WHERE t.digest = $1
"""
FIND_KEY_HOLDER = """
SELECT c.id AS client_id, c.is_blocked, ct.scope, c.priv_settings ->> 'broker_scope' AS broker_scope
  FROM connections k JOIN clients c ON c.id = k.client_id JOIN client_types ct ON ct.id = c.client_type_id
 WHERE k.secret_digest = $1 OR (k.previous_secret_digest = $1 AND k.previous_secret_expires_at > now())
"""


async def find_owner(database: Database, digest: bytes) -> Owner | None:
    """Return the user of a token of any kind, with their roles, in one statement; or None."""
    return await find_one(database, Owner, FIND_OWNER, digest)


async def find_key_holder(database: Database, digest: bytes) -> KeyHolder | None:
    """Return the client whose connection has that secret, the present or a still accepted previous one; or None."""
    return await find_one(database, KeyHolder, FIND_KEY_HOLDER, digest)


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is to be issued."""

    kind: TokenKind
    user_id: UUID
    client_id: UUID
    scope: str | None = None
    details: Details = NO_DETAILS
    connection_id: UUID | None = None
    family_id: UUID | None = None


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A token as the answer that issues it shows it."""

    id: UUID
    name: str
    value: str
    user_id: UUID
    client_id: UUID
    connection_id: UUID | None
    family_id: UUID | None
    scope: str | None
    details: Details
    expires_at: datetime


# A block of client or user holds its row: this statement waits for it, and then sees that it is blocked.
ADD_TOKEN = """
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, family_id, scope, details, expires_at)
SELECT $1, $2, u.id, c.id, $5, $6, $7, $8, now() + make_interval(secs => $9)
  FROM users u, clients c WHERE u.id = $3 AND NOT u.is_blocked AND c.id = $4 AND NOT c.is_blocked
   FOR KEY SHARE
RETURNING id, name, user_id, client_id, connection_id, family_id, scope, expires_at
"""
REVOKE_OTHERS = """
UPDATE tokens SET expires_at = now(), updated_at = now()
 WHERE user_id = $1 AND client_id = $2 AND name = ANY ($3) AND id <> $4 AND expires_at > now()
"""
REVOKE_FAMILY = """
UPDATE tokens SET expires_at = now(), updated_at = now() WHERE family_id = $1 AND expires_at > now()
"""
REVOKE = """
UPDATE tokens SET expires_at = now(), updated_at = now() WHERE id = $1 AND expires_at > now()
"""
# `clock_timestamp`, not `now`: a transaction that waited here while another one revoked the token began before that.
IS_ACTIVE = """
SELECT EXISTS (SELECT FROM tokens WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp())
"""
CONSUME = """
UPDATE tokens SET used_at = now(), updated_at = now()
 WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING id
"""
REPLACE = """
UPDATE tokens SET expires_at = now(), used_at = now(), updated_at = now()
 WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING id
"""
REVOKE_ALL = """
UPDATE tokens SET expires_at = now(), updated_at = now()
 WHERE user_id = $1 AND ($2::uuid IS NULL OR client_id = $2) AND expires_at > now()
"""
REVOKE_ALL_OF_CLIENT = """
WITH ended AS (
    UPDATE tokens SET expires_at = now(), updated_at = now() WHERE client_id = $1 AND expires_at > now() RETURNING id
)
SELECT count(*) FROM ended
"""
# In the order of ids, so that two who hold several do not wait for each other.
HOLD_GRANTS = "SELECT FROM apps WHERE user_id = ANY ($1) ORDER BY id FOR UPDATE"
# That a redirect URI was changed, and perhaps changed back, is in the audit trail only.
FIND_TOKEN = f"""
SELECT t.id, t.name, t.user_id, t.client_id, t.connection_id, t.family_id, t.scope, t.details, t.expires_at,
       t.expires_at <= now() AS is_expired, t.used_at IS NOT NULL AS is_used,
       t.name = '{TokenKind.CODE}' AND coalesce(t.inserted_at <= (
           SELECT e.occurred_at FROM audit_events e
            WHERE e.subject_id = t.connection_id AND e.action = 'connection.update' AND e.old ? 'redirect_uri'
            ORDER BY e.id DESC LIMIT 1
       ), false) AS is_for_moved_redirect_uri
  FROM tokens t WHERE t.digest = $1
"""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token; its value is not known."""

    id: UUID
    name: str
    user_id: UUID
    client_id: UUID
    connection_id: UUID | None
    family_id: UUID | None
    scope: str | None
    details: Details
    expires_at: datetime
    is_expired: bool
    is_used: bool
    is_for_moved_redirect_uri: bool
    """Whether it is a code, and the redirect URI of its connection was changed after it was issued."""

    @property
    def family(self) -> UUID | None:
        """The family of what is issued after this token; None where it starts none and is in none."""
        return self.family_id or (self.id if self.name in STARTS_A_FAMILY else None)

    def followed_by(
        self, kind: TokenKind, *, scope: str | None, details: Details, connection_id: UUID | None = None
    ) -> NewToken:
        """A token of the same user and client, in the same family; by default through the same connection."""
        return NewToken(
            kind=kind,
            user_id=self.user_id,
            client_id=self.client_id,
            scope=scope,
            details=details,
            connection_id=connection_id or self.connection_id,
            family_id=self.family,
        )


async def add_token(transaction: PooledConnection, new: NewToken, value: str, *, lives_seconds: float) -> Issued | None:
    """Store the token with the digest of `value`; None where client or user are blocked or deleted by now."""
    return await find_one(
        transaction,
        partial(Issued, value=value, details=new.details),
        ADD_TOKEN,
        new.kind,
        security.digest(value),
        new.user_id,
        new.client_id,
        new.connection_id,
        new.family_id,
        new.scope,
        new.details.encoded,
        float(lives_seconds),
    )


async def find_token(source: Source, value: str) -> Token | None:
    """Return the token of that value, of any kind, active or not; or None."""
    row = await source.fetchrow(FIND_TOKEN, security.digest(value))
    if row is None:
        return None
    return Token(**{**row, "details": Details.decoded(row["details"])})


FIND_ACTIVE = """
SELECT t.id, t.name, t.user_id, t.client_id, t.connection_id, k.consumer_id, t.scope, t.expires_at, t.inserted_at
  FROM tokens t
  JOIN clients c ON c.id = t.client_id
  JOIN users u ON u.id = t.user_id
  LEFT JOIN connections k ON k.id = t.connection_id
  LEFT JOIN clients broker ON broker.id = k.consumer_id AND c.priv_settings ->> 'access_type' = 'BROKER'
 WHERE t.digest = $1 AND t.name = ANY ($2) AND t.expires_at > now() AND t.used_at IS NULL
   AND NOT c.is_blocked AND NOT u.is_blocked AND broker.is_blocked IS NOT TRUE
"""


class ActiveToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is active at this moment, with the consumer through whose connection it was issued."""

    id: UUID
    name: str
    user_id: UUID
    client_id: UUID
    connection_id: UUID | None
    consumer_id: UUID | None
    scope: str | None
    expires_at: datetime
    inserted_at: datetime


async def find_active(database: Database, value: str, *, kinds: Sequence[TokenKind]) -> ActiveToken | None:
    """Return the token of that value and one of these kinds.

    None when it is inactive, or when its user, its client or its broker is blocked.
    """
    return await find_one(database, ActiveToken, FIND_ACTIVE, security.digest(value), kinds)


async def consume_token(transaction: PooledConnection, token_id: UUID) -> bool:
    """Mark a single-use token as used; False when it was used or expired. Exactly one of several gets True."""
    return await transaction.fetchval(CONSUME, token_id) is not None


async def replace_token(transaction: PooledConnection, token_id: UUID) -> bool:
    """Revoke a token that another one replaces; False when it was used or expired. Exactly one of several gets True."""
    return await transaction.fetchval(REPLACE, token_id) is not None


async def hold_grants(transaction: PooledConnection, user_ids: list[UUID]) -> None:
    """Wait for the running grants of these users, and keep others from beginning.

    A grant holds the approval while it issues tokens. A later statement of the transaction sees these tokens.
    """
    await transaction.execute(HOLD_GRANTS, user_ids)


async def revoke_all(transaction: PooledConnection, user_id: UUID, *, client_id: UUID | None = None) -> None:
    """Revoke every active token of a user, of any kind, with that client or, where it is None, with any."""
    await hold_grants(transaction, [user_id])
    await transaction.execute(REVOKE_ALL, user_id, client_id)


async def revoke_all_of_client(transaction: PooledConnection, client_id: UUID) -> int:
    """Revoke every active token of a client, of any kind and user; return their number."""
    revoked: int = await transaction.fetchval(REVOKE_ALL_OF_CLIENT, client_id)
    return revoked


async def revoke_others(transaction: PooledConnection, kept: Issued, *, kinds: Sequence[TokenKind]) -> None:
    """Revoke the active tokens of these kinds of the same user and client, all but `kept`."""
    await transaction.execute(REVOKE_OTHERS, kept.user_id, kept.client_id, kinds, kept.id)


async def is_active(transaction: PooledConnection, token_id: UUID) -> bool:
    """Return whether it is neither used nor expired now, as opposed to when the transaction began."""
    return bool(await transaction.fetchval(IS_ACTIVE, token_id))


async def revoke_token(transaction: PooledConnection, token_id: UUID) -> None:
    """Revoke one token."""
    await transaction.execute(REVOKE, token_id)


async def revoke_family(transaction: PooledConnection, family_id: UUID | None) -> None:
    """Revoke all that one grant has issued."""
    await transaction.execute(REVOKE_FAMILY, family_id)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A token as administrators see it: neither its value nor its digest. `details` is JSON as text."""

    id: UUID
    name: str
    user_id: UUID
    client_id: UUID
    scope: str | None
    details: str
    expires_at: datetime
    is_used: bool


RECORD = "t.id, t.name, t.user_id, t.client_id, t.scope, t.details, t.expires_at, t.used_at IS NOT NULL AS is_used"
FILTERS = {
    "id": "t.id = {}",
    "name": "strpos(lower(t.name), lower({})) > 0",
    "digest": "t.digest = {}",
    "user_id": "t.user_id = {}",
    "user_ids": "t.user_id = ANY ({}::uuid[])",
    "client_id": "t.client_id = {}",
}


def conditions_of(filters: dict[str, Any]) -> list[Condition]:
    """Return each filter as a condition on a token `t`."""
    return [Condition(FILTERS[name], value) for name, value in filters.items()]


async def list_records(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[Record]:
    """List tokens, the oldest first; filters: FILTERS, of which a name is found by any part of it."""
    return await database.fetch_page(
        Record,
        columns=RECORD,
        tables="tokens t",
        conditions=conditions_of(filters),
        order="t.inserted_at, t.id",
        page=page,
    )


async def find_record(source: Source, token_id: UUID) -> Record | None:
    """Return the token of that id, active or not; or None."""
    return await find_one(source, Record, f"SELECT {RECORD} FROM tokens t WHERE t.id = $1", token_id)
