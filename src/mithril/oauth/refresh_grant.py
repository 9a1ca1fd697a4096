"""Another access token for a refresh token (rules TOK-19 to TOK-21; RFC 6749 section 6, RFC 9700 section 4.14).

The access token is never wider than the grant, and narrowed to what roles and client type still allow. The refresh
token of a confidential client stays as it is; a public client gets a new one in its place, its successor (rule STD-8):

    new ── first use ──► used, one successor ── the same again, within seconds ──► used, more successors
                                 │                  and no refresh by the first          │
                                 │                                                       │
                                 ├── the same again, later ──► family revoked ◄── a refresh by a second successor

So a client whose answer was lost, or two windows of a browser that refresh at once, keep their session, and of a token
that was stolen both copies end at the next use of the second one. Each arrow is one conditional statement, and the
lock on the approval makes one follow the other. A family ends with its last token, at a moment that no refresh moves.
"""

import msgspec

from mithril import refusals
from mithril.database.database import PooledConnection
from mithril.identifiers import parse_uuid
from mithril.oauth import scopes
from mithril.oauth.grants import Redemption, TokenGrant, check_connection
from mithril.settings import Settings
from mithril.tokens import store as token_store
from mithril.tokens.kinds import GrantType, TokenKind
from mithril.tokens.store import Issued, NewToken
from mithril.validation import scopes as syntax


def check_exists(redemption: Redemption) -> None:
    """Check that the connection through which the token was issued exists. Raises TokenNotFound, GrantInvalid."""
    check_connection(redemption)
    if redemption.connection is None and redemption.token.connection_id is not None:
        raise refusals.TokenNotFound(detail="revoked with its connection")


async def consume(transaction: PooledConnection, settings: Settings, redemption: Redemption) -> bool:
    """Take the token of a public client: once, and within the interval for repeats again. Any other stays good."""
    token = redemption.token
    if not redemption.client.is_public:
        return await token_store.is_active(transaction, token.id)
    if await token_store.consume_token(transaction, token.id):
        replaced_id = parse_uuid(token.details.replaces or "")
        if replaced_id is None:
            return True
        return await token_store.choose_successor(transaction, replaced_id, successor_id=token.id)
    interval = settings.refresh_reuse_interval
    first_id = await token_store.find_recent_successor(transaction, token.id, within_seconds=interval)
    return first_id is not None and await token_store.is_active(transaction, first_id)


def offer(redemption: Redemption) -> list[NewToken]:
    """Return an access token, and for a public client a refresh token.

    Raises ScopeWidened, and ApprovalRevoked where nothing of the scope is left.
    """
    token = redemption.token
    details = redemption.details(GrantType.REFRESH)
    access = token.followed_by(TokenKind.ACCESS, scope=_scope_left(redemption), details=details)
    access = msgspec.structs.replace(access, is_bound_by_roles=True)  # they were asked, also for a token made by hand
    if not redemption.client.is_public:
        return [access]
    kept = msgspec.structs.replace(token.details, replaces=str(token.id))
    return [access, token.followed_by(TokenKind.REFRESH, scope=token.scope, details=kept)]


async def note(transaction: PooledConnection, redemption: Redemption, issued: list[Issued]) -> None:
    """Note the successor of the refresh token, where there is one."""
    for each in issued:
        if each.name == TokenKind.REFRESH:
            await token_store.note_successor(transaction, redemption.token.id, successor_id=each.id)


def _scope_left(redemption: Redemption) -> str:
    token, client, wanted = redemption.token, redemption.client, scopes.checked(redemption.request.scope or "")
    if not set(wanted.split()) <= set((token.scope or "").split()):
        raise refusals.ScopeWidened
    roles = scopes.joined(*(scope.split() for scope in redemption.role_scopes))
    left = syntax.narrowed(token.scope or "", client.type_scope, roles, *([wanted] if wanted else []))
    if not left:
        raise refusals.ApprovalRevoked(detail="no scope is left")
    return left


GRANT = TokenGrant(
    kind=TokenKind.REFRESH,
    check=check_exists,
    prove=lambda _: None,  # the refresh token is its own proof
    is_simple=lambda redemption: redemption.connection is not None,
    consume=consume,
    offer=offer,
    note=note,
)
