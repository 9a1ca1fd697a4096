"""Another access token for a refresh token (rules TOK-19 to TOK-21; RFC 6749 section 6, RFC 9700 section 4.14).

The access token is never wider than the grant, and narrowed to what roles and client type still allow. A public
client gets a new refresh token too, and one that was used before ends the family.
"""

from mithril import refusals
from mithril.database.database import PooledConnection
from mithril.oauth import scopes
from mithril.oauth.grants import GrantedTokens, Redemption, TokenGrant
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import Details, GrantType, TokenKind


def check_exists(redemption: Redemption) -> None:
    """Check that the connection through which the token was issued exists. Raises TokenNotFound."""
    if redemption.connection is None and redemption.token.connection_id is not None:
        raise refusals.TokenNotFound(detail="revoked with its connection")


async def consume(transaction: PooledConnection, redemption: Redemption) -> bool:
    """Mark the token of a public client as used; any other stays good until it expires."""
    take = token_store.consume_token if redemption.client.is_public else token_store.is_active
    return await take(transaction, redemption.token.id)


async def issue(transaction: PooledConnection, settings: Settings, redemption: Redemption) -> GrantedTokens:
    """Issue an access token, and for a public client a refresh token.

    Raises Unauthorized for a scope that is not granted, or of which nothing is left; then nothing is consumed.
    """
    token = redemption.token
    left = await _scope_left(transaction, redemption)
    details = Details(grant_type=GrantType.REFRESH)
    access = await tokens.issue(transaction, settings, token.followed_by(TokenKind.ACCESS, scope=left, details=details))
    if not redemption.client.is_public:
        return GrantedTokens(access, None)
    next_one = token.followed_by(TokenKind.REFRESH, scope=token.scope, details=token.details)
    refresh = await tokens.issue(transaction, settings, next_one)
    return GrantedTokens(access, refresh)


async def _scope_left(transaction: PooledConnection, redemption: Redemption) -> str:
    token, client, wanted = redemption.token, redemption.client, redemption.request.scope
    if not set((wanted or "").split()) <= set((token.scope or "").split()):
        raise refusals.ScopeWidened
    roles = await scopes.role_scope(transaction, token.user_id, client_id=client.id)
    left = scopes.narrowed(token.scope or "", client.type_scope, roles, *([wanted] if wanted else []))
    if not left:
        raise refusals.ApprovalRevoked(detail="no scope is left")
    return left


GRANT = TokenGrant(
    kind=TokenKind.REFRESH,
    is_bound_to_connection=True,
    check=check_exists,
    prove=lambda _: None,  # the refresh token is its own proof
    consume=consume,
    issue=issue,
)
