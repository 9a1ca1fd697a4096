"""Tokens that are presented to sign in further, rather than to call the API: each check with its own answer.

What a bearer token may do at the API is decided in `access`, which tells all of these apart for nobody.
"""

from mithril import refusals
from mithril.database.database import Database
from mithril.oauth import store
from mithril.tokens import store as token_store
from mithril.tokens.store import Token
from mithril.users import service as users
from mithril.users import store as user_store


async def find(database: Database, value: str) -> Token:
    """The token of that value, of any kind, living or not. Raises Unauthorized."""
    token = await token_store.find_token(database, value)
    if token is None:
        raise refusals.TokenInvalid
    return token


def check_active(token: Token) -> None:
    """Raises Unauthorized for a token that is expired, ended or used up."""
    if token.is_expired or token.is_used:
        raise refusals.TokenExpired


async def check_client_and_user(database: Database, token: Token) -> None:
    """Raises Unauthorized when the token's person or client is gone or blocked: blocking must bite."""
    user = await user_store.find_user(database, token.user_id)
    if user is None:
        raise refusals.UserUnknown
    users.check_not_blocked(user)
    client = await store.find_client(database, token.client_id)
    if client is None or client.is_blocked:
        raise refusals.ClientBlocked
