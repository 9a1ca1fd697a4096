"""Which client calls: one that knows the secret of one of its connections, or a public one, which has no secret.

Sources: rule TOK-11, RFC 6749 section 2.3.1. Where the credentials are in a request is not known here.
"""

from functools import partial
from typing import NamedTuple
from uuid import UUID

from mithril import errors, refusals, security
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.oauth import store
from mithril.oauth.store import RegisteredClient, RegisteredConnection
from mithril.sightings import service as sightings
from mithril.tokens.verification_store import ActiveToken


class Credentials(NamedTuple):
    """What a client says about itself; `secret` is None where it sent none, or an empty one."""

    client_id: str
    secret: str | None


class AuthenticatedClient(NamedTuple):
    """A client, and the connection whose secret it knew; None for a public client that sent none."""

    client: RegisteredClient
    connection: RegisteredConnection | None
    token: ActiveToken | None = None
    """The token that it presented, if that was asked for and is active."""

    @property
    def is_proven(self) -> bool:
        """Whether a secret was shown: a public client only says who it is."""
        return self.connection is not None


async def identify(database: Database, given: Credentials, *, presented: str | None = None) -> AuthenticatedClient:
    """Return the client of these credentials, blocked or not. Raises ClientSecretWrong, whatever is wrong with them.

    `presented`: a token to look up in the same statement, for a client that knows a secret.

    Only a public client may send no secret (RFC 6749 section 2.1). A secret that is sent must be right, for a public
    client too: the present one of a connection, or the previous one while it is still accepted.
    """
    client_id = parse_uuid(given.client_id)
    if client_id is None:
        raise _wrong(database, given)
    if given.secret is None:
        client = await store.find_client(database, client_id)
        if client is None or not client.is_public:
            raise _wrong(database, given)
        return AuthenticatedClient(client, None)
    known = await store.find_by_secret(database, client_id, given.secret, presented=presented)
    if known is None:
        raise _wrong(database, given)
    sightings.use_secret(database, security.digest(given.secret))
    return AuthenticatedClient(*known)


def _wrong(database: Database, given: Credentials) -> errors.MithrilError:
    return refusals.ClientSecretWrong().explained(partial(_explain, database, given))


async def _explain(database: Database, given: Credentials) -> dict[str, object]:
    """Say, to the caller of a demo, what of the credentials is wrong (rule CNV-53)."""
    client_id = parse_uuid(given.client_id)
    if client_id is None:
        return {"hint": "client_id is no UUID"}
    if await store.find_client(database, client_id) is None:
        return {"hint": "there is no client with this client_id"}
    secret = "no secret was sent" if given.secret is None else "the secret is of no connection of this client"
    return {"hint": secret}


async def authenticate(database: Database, given: Credentials, *, presented: str | None = None) -> AuthenticatedClient:
    """Return the client of these credentials. Raises ClientSecretWrong, and AuthenticatedClientBlocked.

    That a client is blocked is told only to the client itself. `presented`: as in `identify`.
    """
    caller = await identify(database, given, presented=presented)
    if caller.client.is_blocked:
        raise refusals.AuthenticatedClientBlocked
    return caller


def sees(caller: AuthenticatedClient, *, client_id: UUID, connection_id: UUID | None) -> bool:
    """Return whether a token of that client, issued through that connection, is the caller's own.

    The secret of one connection speaks for what was issued through it: two consumers of one client do not see each
    other's tokens. The secret of a client's own connection, the one in which it is its own consumer, speaks for all.
    """
    client, connection = caller.client, caller.connection
    if client_id != client.id:
        return False
    return connection is None or connection_id in (None, connection.id) or connection.consumer_id == client.id
