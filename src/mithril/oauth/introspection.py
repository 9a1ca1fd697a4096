"""Introspection: what a token is good for (RFC 7662)."""

from mithril.database.database import Database
from mithril.oauth import client_authentication
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.tokens import verification_store as tokens
from mithril.tokens.kinds import HELD_BY_CLIENTS
from mithril.tokens.verification_store import ActiveToken


async def introspect(database: Database, *, caller: AuthenticatedClient, token: str) -> ActiveToken | None:
    """Return the access or refresh token of that value if it is active and the caller may see it; else None.

    A client may see its own tokens; a consumer, by the secret of its own connection, also those that were issued
    through the connections that it serves. The caller does not learn why a token is not shown (RFC 7662 section 2.2).
    """
    found = await tokens.find_active(database, token, kinds=HELD_BY_CLIENTS)
    if found is None or not _may_see(caller, found):
        return None
    return found


def _may_see(caller: AuthenticatedClient, token: ActiveToken) -> bool:
    if client_authentication.sees(caller, client_id=token.client_id, connection_id=token.connection_id):
        return True
    own_id = caller.client.id
    return caller.connection is not None and caller.connection.consumer_id == own_id and token.consumer_id == own_id
