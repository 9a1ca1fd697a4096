"""Revocation: a client gives a token back (RFC 7009)."""

from mithril import refusals
from mithril.database.database import Database
from mithril.oauth import client_authentication, store
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.tokens import store as token_store
from mithril.tokens.kinds import HELD_BY_CLIENTS, TokenKind


async def revoke(database: Database, *, caller: AuthenticatedClient, token: str) -> None:
    """Revoke an access token, or a refresh token with its family (RFC 7009 section 2.1).

    Nothing happens for a token that is unknown, inactive or of another kind. Raises TokenOfAnotherClient for a token
    that is not the caller's, which stays as it is.
    """
    async with database.transaction(caller.client.id) as transaction:
        found = await token_store.find_token(transaction, token)
        if found is None or found.name not in HELD_BY_CLIENTS:
            return
        if not client_authentication.sees(caller, client_id=found.client_id, connection_id=found.connection_id):
            raise refusals.TokenOfAnotherClient
        # The same lock that the grants take (see `token_endpoint`): nothing is issued meanwhile.
        await store.find_approval(transaction, found.user_id, client_id=found.client_id)
        await token_store.revoke_token(transaction, found.id)
        if found.name == TokenKind.REFRESH:
            await token_store.revoke_family(transaction, found.family)
