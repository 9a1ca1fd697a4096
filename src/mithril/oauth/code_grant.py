"""The exchange of a code for tokens (rules TOK-10 to TOK-18; RFC 6749 section 4.1.3, RFC 9700 section 4.5)."""

import hashlib
import re
from base64 import urlsafe_b64encode
from functools import partial
from hmac import compare_digest

from mithril import refusals
from mithril.database.database import PooledConnection
from mithril.oauth import authorization, store
from mithril.oauth.grants import Redemption, TokenGrant, check_connection, note_nothing
from mithril.settings import Settings
from mithril.tokens.kinds import GrantType, TokenKind
from mithril.tokens.store import NewToken

VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")  # RFC 7636 section 4.1


def check_redirect_uri(redemption: Redemption) -> None:
    """Check that request and code have one redirect URI, which the connection has too (rule TOK-15).

    It must have been good without a break since the code was issued: one that was taken away and given back does not
    count. Raises RedirectUriMismatch, and GrantInvalid for the secret of another connection with the same redirect URI.
    """
    token, connection = redemption.token, redemption.connection
    if connection is None or connection.since is None or connection.redirect_uri != token.details.redirect_uri:
        raise refusals.RedirectUriMismatch().explained(partial(_compare, redemption))
    has_moved = token.is_for_moved_redirect_uri or token.details.redirect_uri_since not in (None, connection.since)
    if has_moved and token.connection_id in (None, connection.id) and not token.is_used:
        raise refusals.RedirectUriMismatch
    check_connection(redemption)


async def _compare(redemption: Redemption) -> dict[str, object]:
    """Show the redirect URI of the code beside the one that was sent, to the caller of a demo (rule CNV-53)."""
    code = redemption.token.details.redirect_uri
    return authorization.compared(redemption.request.redirect_uri, [code] if code else [])


def check_verifier(redemption: Redemption) -> None:
    """Check PKCE (RFC 7636 section 4.6). Raises GrantInvalid when the verifier is missing, wrong, or uncalled for."""
    challenge, verifier = redemption.token.details.code_challenge, redemption.request.code_verifier
    if challenge is None and verifier is None and not redemption.client.is_public:
        return
    if challenge is None or not VERIFIER.fullmatch(verifier or "") or not _proves(verifier or "", challenge):
        raise refusals.GrantInvalid(detail="PKCE does not match")


async def consume(transaction: PooledConnection, _: Settings, redemption: Redemption) -> bool:
    """Mark the code as used. Raises RedirectUriMismatch where its redirect URI has moved since `check_redirect_uri`."""
    code, connection = redemption.token, redemption.connection
    assert connection is not None, "check_redirect_uri wants one"
    if await store.consume_code(transaction, code.id, connection=connection):
        return True
    held = await store.hold_connection(transaction, connection.id, connection.redirect_uri)
    if held != connection and not code.is_used:
        raise refusals.RedirectUriMismatch
    return False


def offer(redemption: Redemption) -> list[NewToken]:
    """Return a refresh token and an access token, through the connection whose secret was shown."""
    code, connection = redemption.token, redemption.connection
    details = redemption.details(GrantType.CODE, redirect_uri=code.details.redirect_uri)
    follow = partial(
        code.followed_by,
        scope=code.details.scope_request or "",
        details=details,
        connection_id=connection.id if connection else None,
    )
    return [follow(TokenKind.REFRESH), follow(TokenKind.ACCESS)]


def _proves(verifier: str, challenge: str) -> bool:
    made = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return compare_digest(made, challenge.encode())


GRANT = TokenGrant(
    kind=TokenKind.CODE,
    check=check_redirect_uri,
    prove=check_verifier,
    is_simple=lambda _: True,
    consume=consume,
    offer=offer,
    note=note_nothing,
)
