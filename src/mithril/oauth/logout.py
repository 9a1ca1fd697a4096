"""Logout: a user's session with one client is revoked (ESOZ API-009-001-001-0326, rule SGN-37)."""

from mithril import refusals
from mithril.database.database import Database
from mithril.oauth import store
from mithril.tokens import store as token_store
from mithril.tokens.kinds import TokenKind


async def log_out(database: Database, access_token: str) -> None:
    """Revoke the access token and its family, the refresh token above all.

    Other sessions of the user stay active. Raises SessionUnknown for anything but an active access token.
    """
    async with database.transaction() as transaction:
        token = await token_store.find_token(transaction, access_token)
        if token is None or token.name != TokenKind.ACCESS or token.is_expired or token.is_revoked:
            description = "The access token is unknown or expired."
            raise refusals.SessionUnknown(error="invalid_token", description=description)
        # The same lock that the grants take: nothing is issued for this session meanwhile.
        await store.find_approval(transaction, token.user_id, client_id=token.client_id)
        await token_store.revoke_token(transaction, token.id)
        if token.family_id is not None:
            await token_store.revoke_family(transaction, token.family_id)
