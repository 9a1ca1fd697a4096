"""A user, a client and its connection for the tests of grants, and authorization codes for them.

The rows are inserted by plain SQL; the codes are issued by the code of the sign-in page and the ESOZ route.
"""

import functools
import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from mithril import security
from mithril.audit.events import Actor
from mithril.database.database import Database
from mithril.oauth import authorization
from mithril.users import store as users
from support import factories
from support.factories import Db
from support.servers import Server

SCOPE = "connection:read connection:write"
PASSWORD = "Test-Password-1"
# The pair of RFC 7636 appendix B.
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@dataclass(frozen=True)
class Party:
    """A client with one connection, and a user with a role in it, whose password is PASSWORD."""

    client_id: UUID
    user_id: UUID
    connection: factories.Connection
    redirect_uri: str
    email: str = ""

    @property
    def basic(self) -> tuple[str, str]:
        """The credentials of the client for HTTP Basic."""
        return str(self.client_id), self.connection.secret

    @property
    def body(self) -> dict[str, str]:
        """The credentials of the client for the form."""
        return {"client_id": str(self.client_id), "client_secret": self.connection.secret}


async def party(
    db: Db,
    *,
    is_public: bool = False,
    scope: str = SCOPE,
    redirect_uri: str | None = None,
    consumer_id: UUID | None = None,
    access_type: str = "DIRECT",
) -> Party:
    """Add a client with its own client type, so that a test may change the scope of the type."""
    redirect_uri = redirect_uri or f"https://app-{uuid4()}.example.com/callback"
    name = f"Type {uuid4()}"
    await db.execute("INSERT INTO client_types (name, scope) VALUES ($1, $2)", name, scope)
    client = await factories.client(db, client_type=name, access_type=access_type)
    settings = json.dumps({"public": True} if is_public else {})
    await db.execute("UPDATE clients SET settings = $2 WHERE id = $1", client.id, settings)
    connection = await factories.connection(db, client_id=client.id, consumer_id=consumer_id, redirect_uri=redirect_uri)
    person = await factories.user(db)
    role = await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", name, scope)
    await db.execute(
        "INSERT INTO user_roles (user_id, client_id, role_id) VALUES ($1, $2, $3)", person, client.id, role
    )
    secure = "UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING email"
    email = await db.fetchval(secure, person, _password_hash())
    return Party(client.id, person, connection, redirect_uri, email)


@functools.cache
def _password_hash() -> str:
    return security.hash_password(PASSWORD)


@asynccontextmanager
async def database_of(server: Server) -> AsyncIterator[Database]:
    """Open the service's own pool on the database of the server."""
    async with Database(server.database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
        yield database


async def code(server: Server, party: Party, *, scope: str = SCOPE, challenge: str | None = None) -> str:
    """Issue a code after consent of the user of `party`."""
    async with database_of(server) as database:
        known = await authorization.identify_client(database, party.client_id)
        redirect = await authorization.match_redirect_uri(database, known, party.redirect_uri)
        user = authorization.identify_user(await users.find_user(database, party.user_id))
        granted = await authorization.bound_scope(database, server.settings, redirect=redirect, user=user, scope=scope)
        actor = Actor(request_id=None, user_id=party.user_id)
        issued = await authorization.approve(database, server.settings, granted, actor=actor, code_challenge=challenge)
    return issued.value


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
