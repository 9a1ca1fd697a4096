"""The exchange of a code for tokens (contract.md 3.2.2; RFC 6749 section 4.1.3, RFC 9700 section 4.5)."""

import hashlib
import re
from base64 import urlsafe_b64encode
from hmac import compare_digest
from typing import Any, NamedTuple

from mithril import refusals
from mithril.database.database import Database, PooledConnection
from mithril.oauth import client_secret, store
from mithril.oauth.store import RegisteredClient, RegisteredConnection
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued, Token
from mithril.users import service as users
from mithril.users import store as user_store

VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")  # RFC 7636 section 4.1


class Grant(NamedTuple):
    """What a grant gives."""

    access: Issued
    refresh: Issued | None


async def redeem(
    database: Database,
    settings: Settings,
    *,
    client: RegisteredClient,
    connection: RegisteredConnection | None,
    code: str,
    redirect_uri: str,
    code_verifier: str | None = None,
) -> Grant:
    """Consumes the code and issues an access and a refresh token.

    `connection`: the connection whose secret was presented; None for a public client, which proves itself by
    `code_verifier`. Raises Unauthorized; a code that was used before also ends what it gave.
    """
    async with database.transaction() as transaction:
        connection = await client_secret.hold(transaction, connection)
        token, present = await _check(transaction, client, connection, code=code, redirect_uri=redirect_uri)
        check_verifier(token, code_verifier, is_public=client.is_public)
        # Consume first, then issue: of many requests at once exactly one gets past this line.
        if await token_store.consume_token(transaction, token.id):
            return await _issue(transaction, settings, token, through=present)
        # The transaction is kept although the request is refused: whoever stole the code loses the tokens.
        await token_store.revoke_family(transaction, token.id)
    raise refusals.TokenUsed


def check_verifier(token: Token, code_verifier: str | None, *, is_public: bool) -> None:
    """PKCE (RFC 7636 section 4.6). Raises Unauthorized when the verifier is missing, wrong, or uncalled for."""
    challenge = token.details.code_challenge
    if challenge is None and code_verifier is None and not is_public:
        return
    if challenge is None or not VERIFIER.fullmatch(code_verifier or "") or not _proves(code_verifier, challenge):
        raise refusals.GrantInvalid(detail="PKCE does not match")


def _proves(code_verifier: str | None, challenge: str) -> bool:
    made = urlsafe_b64encode(hashlib.sha256((code_verifier or "").encode()).digest()).rstrip(b"=")
    return compare_digest(made, challenge.encode())


async def check_client_and_user(transaction: PooledConnection, client: RegisteredClient, token: Token) -> None:
    """Raises Unauthorized when client or user are blocked, or the approval is gone: blocking must bite.

    The approval stays locked until the transaction ends, so that grants of one person and client, and what ends
    them, come one after the other: else what one issues could escape the other, which does not see it yet.
    """
    if client.is_blocked:
        raise refusals.ClientBlocked
    user = await user_store.find_user(transaction, token.user_id)
    if user is None:
        raise refusals.UserUnknown
    users.check_not_blocked(user)
    if await store.find_approval(transaction, token.user_id, client_id=client.id) is None:
        raise refusals.ApprovalRevoked


async def _check(
    transaction: PooledConnection,
    client: RegisteredClient,
    connection: RegisteredConnection | None,
    *,
    code: str,
    redirect_uri: str,
) -> tuple[Token, RegisteredConnection]:
    """Rows 3 to 8 in their order; the code, and the connection through which it is redeemed."""
    token = await token_store.find_token(transaction, code)
    if token is None or token.name != TokenKind.CODE:
        raise refusals.TokenNotFound
    if token.client_id != client.id:
        raise refusals.GrantInvalid
    if token.is_expired and not token.is_used:
        raise refusals.TokenExpired
    present = connection or await _issued_through(transaction, token)
    addresses = {redirect_uri, token.details.redirect_uri, present.redirect_uri}
    if len(addresses) > 1 or (token.is_for_moved_address and not token.is_used):
        raise refusals.RedirectUriMismatch
    await check_client_and_user(transaction, client, token)
    return token, present


async def _issued_through(transaction: PooledConnection, token: Token) -> RegisteredConnection:
    connection = await store.hold_connection(transaction, token.connection_id)
    if connection is None:
        raise refusals.RedirectUriMismatch
    return connection


async def _issue(
    transaction: PooledConnection, settings: Settings, code: Token, *, through: RegisteredConnection
) -> Grant:
    scope = code.details.scope_request or ""
    common: dict[str, Any] = {
        "user_id": code.user_id,
        "client_id": code.client_id,
        "connection_id": through.id,
        "family_id": code.id,
        "scope": scope,
    }
    refresh = await tokens.issue(
        transaction,
        TokenKind.REFRESH,
        lives_seconds=settings.auth_refresh_token_lifetime,
        details=Details(grant_type=GrantType.CODE),
        **common,
    )
    access = await tokens.issue(
        transaction,
        TokenKind.ACCESS,
        lives_seconds=settings.auth_access_token_lifetime,
        details=Details(grant_type=GrantType.CODE, redirect_uri=code.details.redirect_uri),
        **common,
    )
    return Grant(access, refresh)
