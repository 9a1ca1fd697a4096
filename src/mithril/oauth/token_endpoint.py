"""The token endpoint: a client gives a code or a refresh token, and gets an access token (rules TOK-10 to TOK-21).

    1  the edge reads the request into one `TokenRequest`        `esoz_routes`, `standard_routes`
    2  the edge authenticates the client, within its quota       `client_authentication`, `throttling`
    3  find the grant, and the token that is presented
    4  check the token; then client, user and approval; then what proves the caller
    5  consume the token
    6  issue, or revoke the family of a token that was consumed before

Steps 3 to 6 run here, in one transaction. A grant fills in only its own part (`grants.TokenGrant`).
"""

from collections.abc import Mapping

import msgspec

from mithril import refusals
from mithril.database.database import Database, PooledConnection
from mithril.oauth import client_authentication, code_grant, refresh_grant, store
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.oauth.grants import GrantedTokens, Redemption, TokenGrant, TokenRequest
from mithril.oauth.store import Approval, RegisteredClient
from mithril.settings import Settings
from mithril.tokens import store as token_store
from mithril.tokens.kinds import GrantType
from mithril.tokens.store import Token
from mithril.users import service as users
from mithril.users import store as user_store

GRANTS: Mapping[str, TokenGrant] = {
    GrantType.CODE: code_grant.GRANT,
    GrantType.REFRESH: refresh_grant.GRANT,
}


async def exchange(
    database: Database, settings: Settings, *, caller: AuthenticatedClient, request: TokenRequest
) -> GrantedTokens:
    """Consume what is presented, and issue what it gives.

    Raises Unauthorized. A refusal leaves the token as it was, unless it was consumed before: then its family ends.
    """
    grant = GRANTS[request.grant_type]
    async with database.transaction(caller.client.id) as transaction:
        redemption = await _find(transaction, grant, caller=caller, request=request)
        grant.check(redemption)
        approval = await check_client_and_user(transaction, redemption.client, redemption.token)
        redemption = msgspec.structs.replace(redemption, approval_id=approval.id)
        if redemption.connection and redemption.connection.consumer_is_blocked:
            raise refusals.ConsumerBlocked
        if redemption.token.is_revoked:
            raise refusals.ApprovalRevoked(detail="revoked, or nothing of the scope is left")
        grant.prove(redemption)
        # Consume first, then issue: of many requests at once exactly one gets past this line, but for a refresh that
        # is repeated within seconds.
        if await grant.consume(transaction, settings, redemption):
            return await grant.issue(transaction, settings, redemption)
        # The transaction is kept although the request is refused. One of the two who had the token may be a thief,
        # and the server cannot tell which, so an honest client that comes late with it signs in again.
        await token_store.revoke_family(transaction, redemption.token.family)
    raise refusals.TokenUsed


async def _find(
    transaction: PooledConnection, grant: TokenGrant, *, caller: AuthenticatedClient, request: TokenRequest
) -> Redemption:
    """Find the token, which is of the grant's kind, of this client and not expired, and hold its connection."""
    connection = await client_authentication.hold(transaction, caller, request.redirect_uri)
    token = await token_store.find_token(transaction, request.presented)
    if token is None or token.name != grant.kind:
        raise refusals.TokenNotFound
    if token.client_id != caller.client.id:
        raise refusals.GrantInvalid
    if token.is_expired and not token.is_used:
        raise refusals.TokenExpired
    if connection is None and token.connection_id is not None:
        connection = await store.hold_connection(transaction, token.connection_id, request.redirect_uri)
    return Redemption(request=request, client=caller.client, connection=connection, token=token)


async def check_client_and_user(transaction: PooledConnection, client: RegisteredClient, token: Token) -> Approval:
    """Check that client and user are not blocked; return the approval, which must exist. Raises Unauthorized.

    The approval stays locked until the transaction ends. So the grants of one user and client, and whatever revokes
    them, come one after the other: else a token that one issues could escape the other, which does not see it yet.
    """
    if client.is_blocked:
        raise refusals.ClientBlocked
    user = await user_store.find_user(transaction, token.user_id)
    if user is None:
        raise refusals.UserUnknown
    users.check_not_blocked(user)
    approval = await store.find_approval(transaction, token.user_id, client_id=client.id)
    if approval is None:
        raise refusals.ApprovalRevoked
    return approval
