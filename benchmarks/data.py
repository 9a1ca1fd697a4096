"""The rows of the benchmarks, created inside PostgreSQL in the schema of the service.

All values of row number `n` are computed from `n`, also its secrets. Identifiers are scattered like random ones.
Target `k` is a connection with an active access token. The targets are spread evenly over all rows; the other rows
only make the tables larger.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

import asyncpg

from mithril.database import database

TARGETS = 10_000
CONSUMERS = 100
# k times the factor modulo the prime modulus: scattered like a digest, and never the same number twice.
FACTOR, MODULUS = 900_000_000_019, 9_000_000_043
SCOPE = "connection:read connection:write"


class Size(NamedTuple):
    """The numbers of rows; both are multiples of TARGETS."""

    connections: int
    tokens: int


class Target(NamedTuple):
    """The identifiers and secrets of one connection, as a caller knows them."""

    token: str
    api_key: str
    secret: str
    client_id: UUID
    connection_id: UUID
    redirect_uri: str


FILL = """
SET session_replication_role = replica;  -- no checks of foreign keys: the rows are right by construction

INSERT INTO client_types (id, name, scope)
SELECT md5('type ' || name)::uuid, name, '{scope}' FROM unnest(ARRAY['MSP', 'MIS']) name;

INSERT INTO roles (id, name, scope) VALUES (md5('role')::uuid, 'OWNER', '{scope}');

INSERT INTO users (id, email)
SELECT md5('user ' || n)::uuid, 'person-' || n || '@example.com' FROM generate_series(0, {connections}) n;

INSERT INTO clients (id, name, user_id, client_type_id, priv_settings)
SELECT md5('client ' || n)::uuid, 'Clinic ' || n, md5('user ' || n)::uuid, md5('type MSP')::uuid,
       '{{"access_type": "BROKER"}}'
  FROM generate_series(1, {connections}) n;

INSERT INTO clients (id, name, user_id, client_type_id, priv_settings)
SELECT md5('consumer ' || n)::uuid, 'MIS ' || n, md5('user 0')::uuid, md5('type MIS')::uuid,
       '{{"access_type": "BROKER", "broker_scope": "{scope}"}}'
  FROM generate_series(1, {consumers}) n;

INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail)
SELECT md5('connection ' || n)::uuid, md5('client ' || n)::uuid, md5('consumer ' || 1 + n % {consumers})::uuid,
       'https://mis.example.com/callback/' || n, sha256(('secret-' || n)::bytea), right('secret-' || n, 4)
  FROM generate_series(1, {connections}) n;

INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail)
SELECT md5('own ' || n)::uuid, md5('consumer ' || n)::uuid, md5('consumer ' || n)::uuid,
       'https://mis.example.com/own/' || n, sha256(('key-' || n)::bytea), right('key-' || n, 4)
  FROM generate_series(1, {consumers}) n;

INSERT INTO user_roles (user_id, role_id, client_id)
SELECT md5('user ' || n)::uuid, md5('role')::uuid, md5('client ' || n)::uuid FROM generate_series(1, {connections}) n;

INSERT INTO apps (user_id, client_id, scope)
SELECT md5('user ' || n)::uuid, md5('client ' || n)::uuid, '{scope}' FROM generate_series(1, {connections}) n;

INSERT INTO tokens (name, digest, user_id, client_id, connection_id, family_id, scope, details, expires_at)
SELECT 'access_token', sha256(('token-' || t)::bytea), md5('user ' || n)::uuid, md5('client ' || n)::uuid,
       md5('connection ' || n)::uuid, md5('family ' || t)::uuid, '{scope}',
       '{{"grant_type": "authorization_code"}}', now() + interval '1 day'
  FROM generate_series(1, {tokens}) t, LATERAL (SELECT (t * {connections}::bigint + {tokens} - 1) / {tokens}) own (n);

INSERT INTO tokens (name, digest, user_id, client_id, connection_id, family_id, scope, details, expires_at)
SELECT 'refresh_token', sha256(('refresh-' || k)::bytea), md5('user ' || n)::uuid, md5('client ' || n)::uuid,
       md5('connection ' || n)::uuid, md5('refreshed ' || k)::uuid, '{scope}',
       '{{"grant_type": "authorization_code"}}', now() + interval '1 day'
  FROM generate_series(1::bigint, {targets}) k, LATERAL (SELECT k * {connections} / {targets} - 1) own (n);

-- For pgbench, which knows numbers but no digests: another API-key for each consumer, as the previous secret of its own
-- connection, and another token for each target.
UPDATE connections k SET previous_secret_digest = int8send(n * {factor} % {modulus}),
       previous_secret_expires_at = now() + interval '1 day'
  FROM generate_series(1::bigint, {consumers}) n WHERE k.id = md5('own ' || n)::uuid;

INSERT INTO tokens (name, digest, user_id, client_id, connection_id, scope, details, expires_at)
SELECT 'access_token', int8send(k * {factor} % {modulus}), md5('user ' || n)::uuid, md5('client ' || n)::uuid,
       md5('connection ' || n)::uuid, '{scope}', '{{"grant_type": "authorization_code"}}', now() + interval '1 day'
  FROM generate_series(1::bigint, {targets}) k, LATERAL (SELECT k * {connections} / {targets}) own (n);
"""

# Codes for connections that no measurement changes: the neighbours of the targets, which also have refresh tokens.
ADD_CODES = """
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, details, expires_at)
SELECT 'authorization_code', sha256(('code-' || lpad(c::text, 10, '0'))::bytea), md5('user ' || n)::uuid,
       md5('client ' || n)::uuid, md5('connection ' || n)::uuid,
       jsonb_build_object('grant_type', 'password', 'scope_request', $4::text,
                          'redirect_uri', 'https://mis.example.com/callback/' || n,
                          'redirect_uri_since', k.redirect_uri_since::text),
       now() + interval '1 day'
  FROM generate_series($1::bigint, $1 + $2 - 1) c,
       LATERAL (SELECT ((c - 1) % {targets} + 1) * $3 - 1) own (n)
       JOIN connections k ON k.id = md5('connection ' || n)::uuid
"""


async def fill(url: str, size: Size) -> None:
    """Create the schema and the rows in an empty database."""
    await database.migrate(url)
    connection = await asyncpg.connect(url)
    words = {"consumers": CONSUMERS, "targets": TARGETS, "factor": FACTOR, "modulus": MODULUS, "scope": SCOPE}
    await connection.execute(FILL.format(connections=size.connections, tokens=size.tokens, **words))
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()


def add_codes(url: str, size: Size, first: int, count: int) -> None:
    """Add `count` authorization codes from number `first` on; code `c` is for neighbour `(c - 1) % TARGETS + 1`."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        statement = ADD_CODES.format(targets=TARGETS)
        await connection.execute(statement, first, count, size.connections // TARGETS, SCOPE)
        await connection.close()

    asyncio.run(run())


def targets(size: Size) -> Iterator[Target]:
    """Yield the targets in order."""
    for k in range(1, TARGETS + 1):
        yield _target(k * size.connections // TARGETS, token=k * size.tokens // TARGETS)


def neighbours(size: Size) -> Iterator[Target]:
    """Yield a connection beside each target, which no request changes. `size` needs two connections for each target."""
    for k in range(1, TARGETS + 1):
        yield _target(k * size.connections // TARGETS - 1, token=0)


def _target(n: int, *, token: int) -> Target:
    return Target(
        token=f"token-{token}",
        api_key=f"key-{1 + n % CONSUMERS}",
        secret=f"secret-{n}",
        client_id=identifier(f"client {n}"),
        connection_id=identifier(f"connection {n}"),
        redirect_uri=f"https://mis.example.com/callback/{n}",
    )


def identifier(text: str) -> UUID:
    """Return the result of `md5(text)::uuid` in PostgreSQL: scattered like a random identifier."""
    return UUID(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest())
