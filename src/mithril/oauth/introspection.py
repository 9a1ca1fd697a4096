"""What a token is good for, told to whom it concerns (RFC 7662)."""

from mithril.database.database import Database
from mithril.oauth import client_authentication
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.tokens import store as tokens
from mithril.tokens.kinds import HELD_BY_CLIENTS
from mithril.tokens.store import ActiveToken


async def introspect(database: Database, *, caller: AuthenticatedClient, token: str) -> ActiveToken | None:
    """The access or refresh token of that value, if it is good at this moment and the caller may know; else None.

    A client may know its own tokens, and a consumer, by the secret of its own connection, those that were issued
    through the connections that it serves. Why a token is not shown is not told (RFC 7662 section 2.2).
    """
    found = await tokens.find_active(database, token, kinds=HELD_BY_CLIENTS)
    if found is None or not _may_know(caller, found):
        return None
    return found


def _may_know(caller: AuthenticatedClient, token: ActiveToken) -> bool:
    if client_authentication.sees(caller, client_id=token.client_id, connection_id=token.connection_id):
        return True
    own_id = caller.client.id
    return caller.connection is not None and caller.connection.consumer_id == own_id and token.consumer_id == own_id
