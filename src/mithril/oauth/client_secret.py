"""A client proves itself by the secret of one of its connections (contract.md 3.2.2, row 2; RFC 6749 section 2.3.1)."""

from mithril import refusals
from mithril.database.database import Database, PooledConnection
from mithril.identifiers import parse_uuid
from mithril.oauth import store
from mithril.oauth.store import Client, Link


async def authenticate(database: Database, client_id: str, *, client_secret: str) -> tuple[Client, Link]:
    """The client, and the connection whose secret it is, the present one or one that still lives.

    Raises Unauthorized.
    """
    known = parse_uuid(client_id)
    link = await store.find_link_by_secret(database, known, client_secret) if known else None
    client = await store.find_client(database, known) if link else None
    if link is None or client is None:
        raise refusals.ClientSecretWrong
    return client, link


async def hold(transaction: PooledConnection, link: Link | None) -> Link | None:
    """The connection of `authenticate` as it is now, held against deletion; None for a public client, which has none.

    Raises Unauthorized when it was deleted in the meantime: its secret is none any more.
    """
    if link is None:
        return None
    held = await store.hold_link(transaction, link.id)
    if held is None:
        raise refusals.ClientSecretWrong
    return held
