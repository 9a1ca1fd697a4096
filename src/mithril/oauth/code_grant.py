"""The exchange of a code for tokens (rules TOK-10 to TOK-18; RFC 6749 section 4.1.3, RFC 9700 section 4.5)."""

import hashlib
import re
from base64 import urlsafe_b64encode
from functools import partial
from hmac import compare_digest

from mithril import refusals
from mithril.database.database import PooledConnection
from mithril.oauth.grants import GrantedTokens, Redemption, TokenGrant, check_connection
from mithril.settings import Settings
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import GrantType, TokenKind

VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")  # RFC 7636 section 4.1


def check_redirect_uri(redemption: Redemption) -> None:
    """Check that request, code and connection have one redirect URI (rule TOK-15). Raises RedirectUriMismatch.

    A code of a connection that was given another redirect URI and then the old one again stays refused. Raises
    GrantInvalid for the secret of another connection with the same redirect URI.
    """
    token, connection = redemption.token, redemption.connection
    known = {redemption.request.redirect_uri, token.details.redirect_uri, connection and connection.redirect_uri}
    if len(known) > 1 or None in known or (token.is_for_moved_redirect_uri and not token.is_used):
        raise refusals.RedirectUriMismatch
    check_connection(redemption)


def check_verifier(redemption: Redemption) -> None:
    """Check PKCE (RFC 7636 section 4.6). Raises GrantInvalid when the verifier is missing, wrong, or uncalled for."""
    challenge, verifier = redemption.token.details.code_challenge, redemption.request.code_verifier
    if challenge is None and verifier is None and not redemption.client.is_public:
        return
    if challenge is None or not VERIFIER.fullmatch(verifier or "") or not _proves(verifier or "", challenge):
        raise refusals.GrantInvalid(detail="PKCE does not match")


async def consume(transaction: PooledConnection, _: Settings, redemption: Redemption) -> bool:
    """Mark the code as used."""
    return await token_store.consume_token(transaction, redemption.token.id)


async def issue(transaction: PooledConnection, settings: Settings, redemption: Redemption) -> GrantedTokens:
    """Issue a refresh token and an access token, through the connection whose secret was shown."""
    code, connection = redemption.token, redemption.connection
    follow = partial(
        code.followed_by, scope=code.details.scope_request or "", connection_id=connection.id if connection else None
    )
    details = redemption.details(GrantType.CODE)
    refresh = await tokens.issue(transaction, settings, follow(TokenKind.REFRESH, details=details))
    details = redemption.details(GrantType.CODE, redirect_uri=code.details.redirect_uri)
    access = await tokens.issue(transaction, settings, follow(TokenKind.ACCESS, details=details))
    return GrantedTokens(access, refresh)


def _proves(verifier: str, challenge: str) -> bool:
    made = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return compare_digest(made, challenge.encode())


GRANT = TokenGrant(
    kind=TokenKind.CODE,
    check=check_redirect_uri,
    prove=check_verifier,
    consume=consume,
    issue=issue,
)
