"""Another access token for a refresh token (contract.md 3.2.2; RFC 6749 section 6, RFC 9700 section 4.14)."""

from mithril import refusals
from mithril.database.database import Database, PooledConnection
from mithril.oauth import client_secret, scopes, store
from mithril.oauth.code_grant import Grant, check_client_and_user
from mithril.oauth.store import RegisteredClient, RegisteredConnection
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Token


async def refresh(
    database: Database,
    settings: Settings,
    *,
    client: RegisteredClient,
    connection: RegisteredConnection | None,
    refresh_token: str,
    scope: str | None = None,
) -> Grant:
    """A new access token, never wider than the grant, narrowed to what roles and client type still allow.

    A public client gets a new refresh token too, and one that was used before ends the family.
    `connection`: as in `code_grant.redeem`.
    `scope`: less than the grant, if the caller wants less. Raises Unauthorized; a refusal for the scope or for
    people leaves the refresh token as it was.
    """
    async with database.transaction() as transaction:
        connection = await client_secret.hold(transaction, connection)
        token = await _check(transaction, client, connection, refresh_token)
        is_rotated = client.is_public
        takes = token_store.consume_token if is_rotated else token_store.is_active
        if await takes(transaction, token.id):
            access = await _issue(transaction, settings, client, token, scope=scope)
            return Grant(access, await _rotate(transaction, settings, token) if is_rotated else None)
        # The transaction is kept although the request is refused: one of the two who had it may be a thief, and
        # which one nobody can tell, so an honest client that repeats a lost answer signs in again.
        await token_store.revoke_family(transaction, token.family_id or token.id)
    raise refusals.TokenUsed


async def _check(
    transaction: PooledConnection, client: RegisteredClient, connection: RegisteredConnection | None, refresh_token: str
) -> Token:
    token = await token_store.find_token(transaction, refresh_token)
    if token is None or token.name != TokenKind.REFRESH:
        raise refusals.TokenNotFound
    if token.client_id != client.id or (connection is not None and token.connection_id not in (None, connection.id)):
        raise refusals.GrantInvalid
    if token.is_expired and not token.is_used:
        raise refusals.TokenExpired
    if (
        connection is None
        and token.connection_id
        and await store.hold_connection(transaction, token.connection_id) is None
    ):
        raise refusals.TokenNotFound(detail="ended with its connection")
    await check_client_and_user(transaction, client, token)
    return token


async def _issue(
    transaction: PooledConnection, settings: Settings, client: RegisteredClient, token: Token, *, scope: str | None
) -> token_store.Issued:
    if not set((scope or "").split()) <= set((token.scope or "").split()):
        raise refusals.ScopeWidened
    roles = await scopes.role_scope(transaction, token.user_id, client_id=client.id)
    left = scopes.narrowed(token.scope or "", client.type_scope, roles, *([scope] if scope else []))
    if not left:
        raise refusals.ApprovalRevoked(detail="no scope is left")
    return await tokens.issue(
        transaction,
        TokenKind.ACCESS,
        user_id=token.user_id,
        client_id=token.client_id,
        connection_id=token.connection_id,
        family_id=token.family_id or token.id,
        lives_seconds=settings.auth_access_token_lifetime,
        scope=left,
        details=Details(grant_type=GrantType.REFRESH),
    )


async def _rotate(transaction: PooledConnection, settings: Settings, token: Token) -> token_store.Issued:
    return await tokens.issue(
        transaction,
        TokenKind.REFRESH,
        user_id=token.user_id,
        client_id=token.client_id,
        connection_id=token.connection_id,
        family_id=token.family_id or token.id,
        lives_seconds=settings.auth_refresh_token_lifetime,
        scope=token.scope,
        details=token.details,
    )
