"""The SQL that judges what a caller presents: a token, a token and an API-key, or an API-key alone."""

from datetime import datetime
from uuid import UUID

import msgspec

from mithril.database.database import Database, find_one, one_or_none
from mithril.database.lookups import Lookup
from mithril.tokens.store import LEFT


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
    is_revoked: bool
    """Whether it was revoked, or nothing of its scope is left."""
    client_is_blocked: bool
    client_type: str
    access_type: str | None
    user_is_blocked: bool
    person_id: str
    issued_to_consumer_id: UUID | None
    consumer_is_blocked: bool | None
    broker_id: UUID | None
    broker_is_blocked: bool | None
    broker_scope: str | None


FIND_PRESENTED = Lookup(
    f"""
SELECT t.id, t.name, t.expires_at, t.details, t.user_id, t.client_id, remaining.scope,
       t.expires_at <= now() AS is_expired, remaining.scope IS NULL AS is_revoked,
       c.is_blocked AS client_is_blocked, ct.name AS client_type,
       c.priv_settings ->> 'access_type' AS access_type,
       u.is_blocked AS user_is_blocked, u.person_id,
       issued.consumer_id AS issued_to_consumer_id, consumer.is_blocked AS consumer_is_blocked,
       broker.id AS broker_id, broker.is_blocked AS broker_is_blocked,
       broker.priv_settings ->> 'broker_scope' AS broker_scope
  FROM tokens t
  JOIN clients c ON c.id = t.client_id
  JOIN client_types ct ON ct.id = c.client_type_id
  JOIN users u ON u.id = t.user_id
  LEFT JOIN connections issued ON issued.id = t.connection_id
  LEFT JOIN clients consumer ON consumer.id = issued.consumer_id
  LEFT JOIN connections k
         ON k.client_id = k.consumer_id
        AND (k.secret_digest = $2 OR (k.previous_secret_digest = $2 AND k.previous_secret_expires_at > now()))
  LEFT JOIN clients broker ON broker.id = k.client_id
 CROSS JOIN LATERAL (SELECT {LEFT.format("t.scope")} AS scope) remaining
 WHERE t.digest = $1 AND (t.connection_id IS NULL OR issued.id IS NOT NULL)
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
    is_revoked: bool
    client_is_blocked: bool
    consumer_is_blocked: bool | None
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
    """The client whose own connection has a secret; scopes are lists by space."""

    client_id: UUID
    is_blocked: bool
    scope: str
    broker_scope: str | None


# The roles in the token's client, and those that count everywhere.
FIND_OWNER = Lookup(
    """
SELECT t.name AS token_name, t.expires_at, t.expires_at <= now() AS is_expired,
       token_scope(t) IS NULL AS is_revoked, c.is_blocked AS client_is_blocked,
       consumer.is_blocked AS consumer_is_blocked,
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
  LEFT JOIN connections issued ON issued.id = t.connection_id
  LEFT JOIN clients consumer ON consumer.id = issued.consumer_id
 WHERE t.digest = $1 AND (t.connection_id IS NULL OR issued.id IS NOT NULL)
""",
    "bytea",
)
FIND_KEY_HOLDER = Lookup(
    """
SELECT c.id AS client_id, c.is_blocked, ct.scope, c.priv_settings ->> 'broker_scope' AS broker_scope
  FROM connections k JOIN clients c ON c.id = k.client_id JOIN client_types ct ON ct.id = c.client_type_id
 WHERE k.client_id = k.consumer_id
   AND (k.secret_digest = $1 OR (k.previous_secret_digest = $1 AND k.previous_secret_expires_at > now()))
""",
    "bytea",
)


async def find_owner(database: Database, digest: bytes) -> Owner | None:
    """Return the user of a token of any kind, with their roles, in one statement; or None."""
    return await find_one(database, Owner, FIND_OWNER, digest)


async def find_key_holder(database: Database, digest: bytes) -> KeyHolder | None:
    """Return the client of an API-key: the secret of its own connection, in which it is its own consumer; or None.

    The present secret counts, and a previous one that is still accepted.
    """
    return await find_one(database, KeyHolder, FIND_KEY_HOLDER, digest)


FIND_ACTIVE = Lookup(
    f"""
SELECT t.id, t.name, t.user_id, t.client_id, t.connection_id, k.consumer_id, remaining.scope, t.expires_at,
       t.inserted_at
  FROM tokens t
  JOIN clients c ON c.id = t.client_id
  JOIN client_types ct ON ct.id = c.client_type_id
  JOIN users u ON u.id = t.user_id
  LEFT JOIN connections k ON k.id = t.connection_id
  LEFT JOIN clients consumer ON consumer.id = k.consumer_id
 CROSS JOIN LATERAL (SELECT {LEFT.format("t.scope")} AS scope) remaining
 WHERE t.digest = $1 AND t.expires_at > now() AND t.used_at IS NULL
   AND NOT c.is_blocked AND NOT u.is_blocked AND consumer.is_blocked IS NOT TRUE
   AND remaining.scope IS NOT NULL AND (t.connection_id IS NULL OR k.id IS NOT NULL)
""",
    "bytea",
)


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
