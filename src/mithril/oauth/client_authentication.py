"""Which client calls: one that knows the secret of one of its connections, or a public one, which has none to know.

Where the credentials stand in a request is not known here (`forms`), nor how a secret is found (`client_secret`).
"""

from typing import NamedTuple
from uuid import UUID

from mithril import refusals
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.oauth import client_secret, store
from mithril.oauth.store import RegisteredClient, RegisteredConnection


class Authenticated(NamedTuple):
    """A client, and the connection whose secret it knew; None for a public client that sent none."""

    client: RegisteredClient
    connection: RegisteredConnection | None

    @property
    def is_proven(self) -> bool:
        """Whether a secret was shown: a public client only says who it is."""
        return self.connection is not None


async def authenticate(database: Database, client_id: str, *, secret: str | None) -> Authenticated:
    """The client of that identifier, once it is known to be the one that calls, and may.

    `secret`: None where none was sent, which only a public client may do (RFC 6749 section 2.1); one that is sent
    must be right, for a public client too. Raises Unauthorized: what is wrong with the credentials is not told,
    and that a client is blocked only to the client.
    """
    caller = await _identify(database, client_id, secret=secret)
    if caller.client.is_blocked:
        raise refusals.AuthenticatedClientBlocked
    return caller


async def _identify(database: Database, client_id: str, *, secret: str | None) -> Authenticated:
    if secret is not None:
        return Authenticated(*await client_secret.authenticate(database, client_id, client_secret=secret))
    known = parse_uuid(client_id)
    client = await store.find_client(database, known) if known else None
    if client is None or not client.is_public:
        raise refusals.ClientSecretWrong
    return Authenticated(client, None)


def sees(authenticated: Authenticated, *, client_id: UUID, connection_id: UUID | None) -> bool:
    """Whether a token of that client, issued through that connection, is the caller's own.

    The secret of one connection speaks for what was issued through it: two consumers of one client do not see each
    other's tokens. The secret of a client's own connection, the one in which it is its own consumer, speaks for all.
    """
    client, connection = authenticated
    if client_id != client.id:
        return False
    return connection is None or connection_id in (None, connection.id) or connection.consumer_id == client.id
