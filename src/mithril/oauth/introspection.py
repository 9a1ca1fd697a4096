"""Introspection: what a token is good for (RFC 7662)."""

from mithril.oauth import client_authentication
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.tokens.kinds import HELD_BY_CLIENTS
from mithril.tokens.verification_store import ActiveToken


def introspect(caller: AuthenticatedClient) -> ActiveToken | None:
    """Return the access or refresh token that the caller has presented, if it is active and they may see it; else None.

    A client may see its own tokens; a consumer, by the secret of its own connection, also those that were issued
    through the connections that it serves. The caller does not learn why a token is not shown (RFC 7662 section 2.2).
    """
    found = caller.token
    if found is None or found.name not in HELD_BY_CLIENTS or not _may_see(caller, found):
        return None
    return found


def _may_see(caller: AuthenticatedClient, token: ActiveToken) -> bool:
    if client_authentication.sees(caller, client_id=token.client_id, connection_id=token.connection_id):
        return True
    own_id = caller.client.id
    return caller.connection is not None and caller.connection.consumer_id == own_id and token.consumer_id == own_id
