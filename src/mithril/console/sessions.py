"""Sessions of the console: a user who has signed in and acts for one client.

A session is a token of a kind of its own, whose value the browser has in a cookie; no API takes it. It ends after half
an hour without a page and eight hours in all, and whenever the tokens of its user or client are revoked. It has no
scope: what its user may do there is computed with every request, by the rule of a grant, so a role that is taken away
is gone with the next click (rules CSL-3 to CSL-6).
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors, refusals
from mithril.access import Caller
from mithril.console import store
from mithril.console.store import Place
from mithril.identifiers import parse_uuid
from mithril.oauth import scopes
from mithril.oauth import store as oauth
from mithril.pages import cookies
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import ACCOUNT_ONLY, CONSOLE_IDLE_SECONDS, CONSOLE_SECONDS, Details, TokenKind
from mithril.tokens.store import NewToken, Token
from mithril.users import service as users
from mithril.users import store as user_store
from mithril.users.store import User
from mithril.validation import scopes as syntax
from mithril.web import requests

# A page extends a session at most once in five minutes.
EXTENDED_BELOW = timedelta(seconds=CONSOLE_IDLE_SECONDS - 300)
OPENS = "client:read"


class Session(NamedTuple):
    """A session with its user, and with what they may do in it now."""

    token: Token
    expires_at: datetime
    began_at: datetime
    user: User
    caller: Caller
    client_name: str | None
    """Of the client for which it acts; None where it shows its user only their own account."""

    @property
    def is_open(self) -> bool:
        """Whether its user may see anything in it beside their own account."""
        return self.may(OPENS)

    def may(self, scope: str) -> bool:
        """Return whether what needs this scope is shown."""
        return self.caller.lacking(scope) is None


class Beginning(NamedTuple):
    """The client of a session that is to begin. `acts`: whether the session acts for it."""

    client_id: UUID
    acts: bool = True


class OfferedPlace(NamedTuple):
    """A client for which the user may have a session. `opens`: whether the console shows them anything there."""

    place: Place
    opens: bool


async def find(request: Request) -> Session | None:
    """Return the browser's session, and extend it; None where there is none, or not any more."""
    settings, database, _ = requests.resources(request)
    token = await find_token(request)
    if token is None or token.name != TokenKind.CONSOLE or token.is_used:
        return None
    began_at = _began_at(token)
    latest, now = began_at + timedelta(seconds=CONSOLE_SECONDS), datetime.now(UTC)
    user, client = (
        await user_store.find_user(database, token.user_id),
        await oauth.find_client(database, token.client_id),
    )
    if now >= latest or user is None or user.is_blocked or client is None or client.is_blocked:
        return None
    if users.is_password_expired(user, settings):
        return None
    expires_at: datetime | None = token.expires_at
    if token.expires_at < min(now + EXTENDED_BELOW, latest):
        expires_at = await store.extend(database, token.id)
    if expires_at is None:
        return None
    acts = token.details.acts_for is None
    allowed = await _scopes(request, user.id, client.id, client.type_scope) if acts else frozenset[str]()
    is_administrative = acts and settings.is_administrative(client.type_name)
    caller = Caller(
        user_id=user.id,
        client_id=client.id,
        client_type=client.type_name,
        scopes=allowed if _admits(request, client.type_name, has_factor=token.family_id is not None) else frozenset(),
        is_administrative=is_administrative,
    )
    requests.note_caller(request.scope, user_id=user.id, client_id=client.id)
    return Session(token, min(expires_at, latest), began_at, user, caller, client.name if acts else None)


async def find_token(request: Request) -> Token | None:
    """Return the token in the cookie of the console, used or not; None where it has expired or is revoked."""
    value = cookies.read(request, cookies.CONSOLE_SESSION)
    token = await token_store.find_token(requests.resources(request).database, value) if value else None
    return None if token is None or token.is_expired or token.is_revoked else token


async def list_places(request: Request, user: User, *, has_factor: bool) -> list[OfferedPlace]:
    """Return the clients for which the user may have a session, by name."""
    settings, database, _ = requests.resources(request)
    found = []
    for place in await store.list_places(database, user.id, administrative=settings.admin_client_types):
        allowed = await _scopes(request, user.id, place.id, place.type_scope)
        is_admitted = _admits(request, place.type_name, has_factor=has_factor)
        found.append(OfferedPlace(place, is_admitted and OPENS in allowed))
    return found


async def choose(request: Request, user: User, *, has_factor: bool, wanted: UUID | None = None) -> Beginning:
    """Return with which client a session of the user begins: `wanted`, else one that opens the console, else any.

    Every user has their own account, also one to whom no client gives a role. Raises NotFound where there is no client.
    """
    offered = await list_places(request, user, has_factor=has_factor)
    free = [each for each in offered if not each.place.is_blocked]
    free.sort(key=lambda each: (not each.opens, each.place.id != wanted))  # False goes first
    if free:
        return Beginning(free[0].place.id)
    return Beginning(errors.found(await store.find_any_client(requests.resources(request).database)), acts=False)


async def begin(request: Request, user: User, beginning: Beginning, *, after: Token | None = None) -> str:
    """Issue a session, and return its value. `after`: what its user proved who they are by, or the session before it.

    A session before it is used up in the same transaction. Raises IssueDenied where the user or the client was blocked
    meanwhile, TokenExpired where the one before it is over.
    """
    settings, database, _ = requests.resources(request)
    follows_session = after is not None and after.name == TokenKind.CONSOLE
    began_at = _began_at(after) if after and follows_session else datetime.now(UTC)
    new = NewToken(
        kind=TokenKind.CONSOLE,
        user_id=user.id,
        client_id=beginning.client_id,
        family_id=after.family if after else None,
        seen=after.seen if after else None,
        details=Details(began_at=began_at.isoformat(), acts_for=None if beginning.acts else ACCOUNT_ONLY),
    )
    async with database.transaction(user.id, beginning.client_id) as transaction:
        if after and follows_session and not await token_store.consume_token(transaction, after.id):
            raise refusals.TokenExpired
        return (await tokens.issue(transaction, settings, new)).value


async def end(request: Request, user_id: UUID, *, only_id: UUID | None = None) -> None:
    """Revoke the user's sessions of the console, or only one of them."""
    await store.end_sessions(requests.resources(request).database, user_id, only_id=only_id)


def keep(request: Request, response: Response, value: str) -> Response:
    """Give the browser the cookie of the session, until it is closed."""
    cookies.keep(request, response, cookies.CONSOLE_SESSION, value)
    return response


async def _scopes(request: Request, user_id: UUID, client_id: UUID, type_scope: str) -> frozenset[str]:
    """Return what the roles of the user and the type of the client both allow: no more than a grant could give."""
    roles = await scopes.role_scope(requests.resources(request).database, user_id, client_id=client_id)
    return frozenset(syntax.narrowed(roles, type_scope).split())


def _admits(request: Request, client_type: str, *, has_factor: bool) -> bool:
    """Return whether a client of that type may use the console on this listener (rule CSL-2)."""
    settings = requests.resources(request).settings
    if not settings.is_administrative(client_type) or request.scope["app"].listener == "internal":
        return True
    return settings.console == "all" and (has_factor or settings.demo)


def _began_at(token: Token) -> datetime:
    """Return when the user of a session signed in; long ago for a token that was stored by hand without it."""
    try:
        began_at = datetime.fromisoformat(token.details.began_at or "")
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return began_at if began_at.tzinfo else began_at.replace(tzinfo=UTC)


def client_in(path: str) -> UUID | None:
    """Return the client that a path of the console names, or None."""
    parts = path.partition("?")[0].split("/")
    return parse_uuid(parts[3]) if parts[1:3] == ["console", "clients"] and len(parts) > 3 else None  # noqa: PLR2004
