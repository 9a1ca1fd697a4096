"""Tokens that continue a login, rather than call the API: each check has its own refusal.

What a bearer token may do at the API is decided in `access`, which gives one answer to all of these.
"""

from mithril import refusals
from mithril.database.database import Database
from mithril.oauth import store
from mithril.tokens import store as token_store
from mithril.tokens.store import Token
from mithril.users import service as users
from mithril.users import store as user_store


async def find(database: Database, value: str) -> Token:
    """Return the token of that value, of any kind, active or not. Raises TokenInvalid."""
    token = await token_store.find_token(database, value)
    if token is None:
        raise refusals.TokenInvalid
    return token


def check_active(token: Token) -> None:
    """Refuse a token that is expired or used. Raises TokenExpired."""
    if token.is_expired or token.is_used:
        raise refusals.TokenExpired


async def check_client_and_user(database: Database, token: Token) -> None:
    """Refuse a token whose user or client is blocked or deleted, or that was revoked. Raises Unauthorized."""
    user = await user_store.find_user(database, token.user_id)
    if user is None:
        raise refusals.UserUnknown
    users.check_not_blocked(user)
    client = await store.find_client(database, token.client_id)
    if client is None or client.is_blocked:
        raise refusals.ClientBlocked
    if token.is_revoked:
        raise refusals.TokenExpired
