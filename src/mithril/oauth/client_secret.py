"""A client proves itself by the secret of one of its connections (contract.md 3.2.2, row 2; RFC 6749 section 2.3.1)."""

from mithril import refusals
from mithril.database.database import Database, PooledConnection
from mithril.identifiers import parse_uuid
from mithril.oauth import store
from mithril.oauth.store import RegisteredClient, RegisteredConnection


async def authenticate(
    database: Database, client_id: str, *, client_secret: str
) -> tuple[RegisteredClient, RegisteredConnection]:
    """The client, and the connection whose secret it is, the present one or one that still lives.

    Raises Unauthorized.
    """
    known = parse_uuid(client_id)
    connection = await store.find_connection_by_secret(database, known, client_secret) if known else None
    client = await store.find_client(database, known) if connection else None
    if connection is None or client is None:
        raise refusals.ClientSecretWrong
    return client, connection


async def hold(transaction: PooledConnection, connection: RegisteredConnection | None) -> RegisteredConnection | None:
    """The connection of `authenticate` as it is now, held against deletion; None for a public client, which has none.

    Raises Unauthorized when it was deleted in the meantime: its secret is none any more.
    """
    if connection is None:
        return None
    held = await store.hold_connection(transaction, connection.id)
    if held is None:
        raise refusals.ClientSecretWrong
    return held
