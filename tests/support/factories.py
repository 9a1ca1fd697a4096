"""Rows with valid defaults, inserted by plain SQL. A test names only the values that matter to it."""

import itertools
import json
from dataclasses import dataclass
from uuid import UUID, uuid4

from mithril import security
from mithril.database import database

Db = database.Connection
_numbers = itertools.count(1)
# What the details of a connection show where it has no transition, and no secret was used.
UNMOVED = {
    "transition": None,
    "secret_last_used_at": None,
    "previous_secret_last_used_at": None,
    "moved_redirect_uri_attempts": 0,
}


@dataclass(frozen=True)
class Client:
    """A client and the id of its owner."""

    id: UUID
    user_id: UUID


@dataclass(frozen=True)
class Connection:
    """A connection with its secret, which only a test knows."""

    id: UUID
    client_id: UUID
    consumer_id: UUID
    secret: str

    @property
    def path(self) -> str:
        """The path of the connection on the public listener."""
        return f"/api/clients/{self.client_id}/connections/{self.id}"


async def user(db: Db, *, is_blocked: bool = False) -> UUID:
    email = f"person-{next(_numbers)}-{uuid4()}@example.com"
    made: UUID = await db.fetchval(
        "INSERT INTO users (email, is_blocked) VALUES ($1, $2) RETURNING id", email, is_blocked
    )
    return made


async def client(
    db: Db,
    *,
    client_type: str = "MSP",
    access_type: str | None = "DIRECT",
    broker_scope: str | None = None,
    is_blocked: bool = False,
    user_id: UUID | None = None,
) -> Client:
    type_id = await db.fetchval(
        "INSERT INTO client_types (name, scope) VALUES ($1, 'connection:write')"
        " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id",
        client_type,
    )
    priv_settings = {"access_type": access_type, "broker_scope": broker_scope}
    owner = user_id or await user(db)
    made = await db.fetchval(
        "INSERT INTO clients (name, client_type_id, user_id, is_blocked, priv_settings)"
        " VALUES ($1, $2, $3, $4, $5) RETURNING id",
        f"Client {next(_numbers)}",
        type_id,
        owner,
        is_blocked,
        json.dumps({key: value for key, value in priv_settings.items() if value is not None}),
    )
    return Client(made, owner)


async def connection(
    db: Db,
    *,
    client_id: UUID,
    consumer_id: UUID | None = None,
    redirect_uri: str = "https://old.example.com/callback",
) -> Connection:
    secret = security.new_secret()
    consumer_id = consumer_id or client_id
    made = await db.fetchval(
        "INSERT INTO connections (client_id, consumer_id, redirect_uri, secret_digest, secret_tail)"
        " VALUES ($1, $2, $3, $4, $5) RETURNING id",
        client_id,
        consumer_id,
        redirect_uri,
        security.digest(secret),
        security.tail(secret),
    )
    return Connection(made, client_id, consumer_id, secret)


async def token(
    db: Db,
    *,
    client: Client,
    scope: str | None = "connection:write",
    name: str = "access_token",
    expires_in: int = 3600,
    user_id: UUID | None = None,
    connection_id: UUID | None = None,
) -> str:
    value = security.new_secret()
    await db.execute(
        "INSERT INTO tokens (name, digest, user_id, client_id, connection_id, scope, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))",
        name,
        security.digest(value),
        user_id or client.user_id,
        client.id,
        connection_id,
        scope,
        float(expires_in),
    )
    return value


def bearer(token: str, **headers: str) -> dict[str, str]:
    """Return the headers of a caller; `api_key="…"` becomes `API-key: …`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"Authorization": f"Bearer {token}", **named}


async def quietly(db: Db, statement: str, *arguments: object) -> None:
    """Execute a statement that blocks or unblocks without revoking tokens, where the subject is the order of checks."""
    async with db.transaction():
        await db.execute("SET LOCAL session_replication_role = replica")
        await db.execute(statement, *arguments)
