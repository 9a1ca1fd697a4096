"""The token endpoint: a client gives a code or a refresh token, and gets an access token (rules TOK-10 to TOK-21).

    1  the edge reads the request into one `TokenRequest`        `esoz_routes`, `standard_routes`
    2  the edge authenticates the client, within its quota       `client_authentication`, `throttling`
    3  find the token that is presented, and all that counts     `redemption_store.find`
    4  check the token; then client, user and approval; then what proves the caller
    5  consume the token and issue what it gives, if all is still as it was found       `redemption_store.redeem`
    6  else hold all that counts, and find, check and decide once more; the family of a token that was consumed before
       is revoked

Step 5 is one statement, and mostly the last one. A grant fills in only its own part (`grants.TokenGrant`).
"""

from collections.abc import Mapping

from mithril import metrics, refusals
from mithril.database.database import Database, PooledConnection, Source
from mithril.oauth import code_grant, redemption_store, refresh_grant, store
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.oauth.grants import GrantedTokens, Redemption, TokenGrant, TokenRequest
from mithril.oauth.store import RegisteredClient
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import GrantType, TokenKind
from mithril.tokens.store import Issued

GRANTS: Mapping[str, TokenGrant] = {
    GrantType.CODE: code_grant.GRANT,
    GrantType.REFRESH: refresh_grant.GRANT,
}
# Where the edge counts how it ends.
OUTCOMES: Mapping[str, metrics.Outcomes] = {
    GrantType.CODE: metrics.EXCHANGES,
    GrantType.REFRESH: metrics.REFRESHES,
}


async def exchange(
    database: Database, settings: Settings, *, caller: AuthenticatedClient, request: TokenRequest
) -> GrantedTokens:
    """Consume what is presented, and issue what it gives.

    Raises Unauthorized. A refusal leaves the token as it was, unless it was consumed before: then its family ends.
    """
    grant = GRANTS[request.grant_type]
    found = await _find(database, grant, caller=caller, request=request)
    _check(grant, found)
    issued = await _redeem(database, settings, grant, found)
    if issued is None:
        issued = await _decide(database, settings, grant, found, caller=caller)
    by_kind = {each.name: each for each in issued}
    return GrantedTokens(by_kind[TokenKind.ACCESS], by_kind.get(TokenKind.REFRESH))


async def _find(source: Source, grant: TokenGrant, *, caller: AuthenticatedClient, request: TokenRequest) -> Redemption:
    """Find the token, which is of the grant's kind, of this client and not expired, and what counts for it."""
    shown = caller.connection.id if caller.connection else None
    found = await redemption_store.find(
        source, request.presented, connection_id=shown, redirect_uri=request.redirect_uri
    )
    connection, token = found.connection, found.token
    if shown is not None and connection is None:  # deleted meanwhile, and its secret with it
        raise refusals.ClientSecretWrong
    if token is None or token.name != grant.kind:
        reason = f"its kind is {token.name}, and not {grant.kind}" if token else "nothing was issued with this value"
        raise refusals.TokenNotFound(detail=reason)
    if token.client_id != caller.client.id:
        raise refusals.GrantInvalid(detail="issued to another client")
    if token.is_expired and not token.is_used:
        raise refusals.TokenExpired
    return Redemption(
        request, caller.client, connection, token, found.is_user_blocked, found.approval_id, found.role_scopes
    )


def _check(grant: TokenGrant, found: Redemption) -> None:
    """Check all that is known, in the order of the rules. Raises Unauthorized."""
    grant.check(found)
    if found.client.is_blocked:
        raise refusals.ClientBlocked
    if found.is_user_blocked:
        raise refusals.UserBlocked
    if found.approval_id is None:
        raise refusals.ApprovalRevoked
    if found.connection and found.connection.consumer_is_blocked:
        raise refusals.ConsumerBlocked
    if found.token.is_revoked:
        raise refusals.ApprovalRevoked(detail="revoked, or nothing of the scope is left")
    grant.prove(found)


async def _redeem(database: Database, settings: Settings, grant: TokenGrant, found: Redemption) -> list[Issued] | None:
    """Consume and issue in one statement; None where something has changed, or where that is not enough."""
    if found.token.is_used or not grant.is_simple(found):
        return None
    drafts = [tokens.draft(settings, new) for new in grant.offer(found)]
    async with database.turn(found.client.id):
        return await redemption_store.redeem(
            database, found.unchanged(), drafts, family_lives_seconds=settings.auth_refresh_family_lifetime
        )


async def _decide(
    database: Database, settings: Settings, grant: TokenGrant, seen: Redemption, *, caller: AuthenticatedClient
) -> list[Issued]:
    """Do the same while nothing can change, in one transaction. Raises Unauthorized."""
    async with database.transaction(caller.client.id) as transaction:
        caller = AuthenticatedClient(await _hold(transaction, seen), caller.connection)
        found = await _find(transaction, grant, caller=caller, request=seen.request)
        _check(grant, found)
        # Consume first, then issue: of many requests at once exactly one gets past this line, but for a refresh that
        # is repeated within seconds.
        if await grant.consume(transaction, settings, found):
            issued = [await tokens.issue(transaction, settings, new) for new in grant.offer(found)]
            await grant.note(transaction, found, issued)
            return issued
        # The transaction is kept although the request is refused. One of the two who had the token may be a thief,
        # and the server cannot tell which, so an honest client that comes late with it signs in again.
        await token_store.revoke_family(transaction, found.token.family)
    raise refusals.TokenUsed


async def _hold(transaction: PooledConnection, seen: Redemption) -> RegisteredClient:
    """Hold connection, client, user and approval until the transaction ends, in the order of a deletion.

    So the grants of one user and client, and whatever revokes them, come one after the other: else a token that one
    issues could escape the other, which does not see it yet. Returns the client as it is now.
    """
    if seen.connection is not None:
        await store.hold_connection(transaction, seen.connection.id, None)
    await store.find_approval(transaction, seen.token.user_id, client_id=seen.client.id)
    client = await store.find_client(transaction, seen.client.id)
    if client is None:
        raise refusals.ClientSecretWrong
    return client
