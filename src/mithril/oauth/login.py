"""Login by the API: a session of a user with the page that signs them in (rules SGN-2 to SGN-30).

    password ──► a session, for a user without a second factor
       │
       └───────► TWO_FACTOR token ──┬── phone known ────► REQUEST_OTP ── authorize ──► session
                      ▲    │        └── no phone yet ───► REQUEST_FACTOR ── `phone_change`
                      └────┘ refresh (another code)

A session is an access token, or a change-password token where that is what the user logged in for. The rules of the
second factor are in `second_factor`, which the pages call too.
"""

import enum
from typing import NamedTuple
from uuid import UUID

import msgspec

from mithril import refusals
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection, Source
from mithril.oauth import bearers, scopes, second_factor, store
from mithril.oauth.scopes import Reason
from mithril.oauth.store import RegisteredClient
from mithril.otp import store as factors
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.tokens import service as tokens
from mithril.tokens.kinds import Details, GrantType, TokenKind
from mithril.tokens.store import Issued, NewToken, Token
from mithril.users import service as users
from mithril.users import store as user_store
from mithril.users.store import User
from mithril.validation import scopes as syntax

CHANGE_PASSWORD_SCOPE = "user:change_password"
SESSION_SCOPE = "app:authorize"
CABINET = "CABINET"


class NextStep(enum.StrEnum):
    """What the caller is to do with the token that it was given."""

    REQUEST_APPS = "REQUEST_APPS"
    REQUEST_OTP = "REQUEST_OTP"
    REQUEST_FACTOR = "REQUEST_FACTOR"
    APPROVE_FACTOR = "APPROVE_FACTOR"


class LoginToken(NamedTuple):
    """A token of a login: a session, or one that waits for its second factor."""

    token: Issued
    next_step: NextStep


async def check_client(
    database: Database, client_id: UUID | None, *, grant_type: GrantType = GrantType.PASSWORD
) -> RegisteredClient:
    """Return the client through which a user logs in. Raises Unauthorized (rules SGN-3 to SGN-5).

    `grant_type`: what the client must be allowed.
    """
    client = await store.find_client(database, client_id)
    if client is None:
        raise refusals.LoginClientUnknown
    if client.is_blocked:
        raise refusals.ClientBlocked
    if grant_type not in client.allowed_grant_types:
        raise refusals.LoginNotAllowed
    return client


async def identify(
    database: Database,
    settings: Settings,
    *,
    client: RegisteredClient,
    email: str,
    password: str,
    network_address: str | None,
    grant_type: GrantType,
) -> User:
    """Return the user who logs in (rules SGN-6 to SGN-10). Raises Unauthorized, Forbidden."""
    user = await users.authenticate(database, settings, email=email, password=password, network_address=network_address)
    if client.type_name == CABINET and not user.tax_id:
        raise refusals.UserNotRegistered
    if grant_type is not GrantType.CHANGE_PASSWORD:
        users.check_password_age(user, settings)
    return user


async def check_scope(source: Source, client: RegisteredClient, scope: str, *, grant_type: GrantType) -> None:
    """Check the scope (rules SGN-11, SGN-12). Raises Unprocessable, Unauthorized."""
    await scopes.check(source, scope, scopes.bounds(client))
    if grant_type is GrantType.CHANGE_PASSWORD and scope.split() != [CHANGE_PASSWORD_SCOPE]:
        raise refusals.PasswordScopeWrong


async def bounded(source: Source, settings: Settings, client: RegisteredClient, session: NewToken) -> NewToken:
    """Return the session with what it may have of its scope: all or, with an administrative client, what roles allow.

    The session itself may call the API for every client there, so the password of a user without any role in such a
    client must give nothing; and what the roles lose later, the session loses too. Raises ScopeNotOfRoles where nothing
    is left (rule SGN-13).
    """
    seen = session.seen or client.seen()
    if not settings.is_administrative(client.type_name):
        return msgspec.structs.replace(session, seen=seen, is_bound_by_roles=False)
    if seen.user is None:
        seen = client.seen(await user_store.find_last_revocation(source, session.user_id))
    allowed = await scopes.role_scope(source, session.user_id, client_id=client.id)
    left = syntax.narrowed(session.scope or "", allowed)
    if not left:
        raise refusals.ScopeNotOfRoles(dict.fromkeys((session.scope or "").split(), Reason.ROLE))
    return msgspec.structs.replace(session, scope=left, seen=seen, is_bound_by_roles=True)


async def begin(
    database: Database,
    settings: Settings,
    *,
    user: User,
    client: RegisteredClient,
    scope: str,
    grant_type: GrantType,
    messenger: Messenger,
) -> LoginToken:
    """Issue what a right password gives: a session, or for a user with an active factor a token that waits for it.

    Older sessions of the user with this client are revoked. Raises ScopeNotOfRoles, TooManyMessages, MessageNotSent,
    and Unauthorized where the user was blocked meanwhile; then nothing is stored.
    """
    session = NewToken(
        kind=TokenKind.ACCESS if grant_type is GrantType.PASSWORD else TokenKind.CHANGE_PASSWORD,
        user_id=user.id,
        client_id=client.id,
        scope=scope,
        details=Details(grant_type=grant_type),
        seen=client.seen(),
    )
    if grant_type is GrantType.PASSWORD:
        session = await bounded(database, settings, client, session)
    factor = await factors.find_factor(database, user.id)
    if factor is None:
        async with database.transaction(user.id, client.id) as transaction:
            await users.hold_unblocked(transaction, user.id)
            issued = await tokens.issue(transaction, settings, session)
            await tokens.revoke_older_sessions(transaction, issued)
        return LoginToken(issued, NextStep.REQUEST_APPS)
    details = Details(grant_type=grant_type, scope_request=session.scope)
    waiting = msgspec.structs.replace(
        session, kind=TokenKind.TWO_FACTOR, scope="", details=details, is_bound_by_roles=False
    )
    issued = await second_factor.begin(database, settings, waiting, messenger=messenger, phone=factor.phone)
    return LoginToken(issued, NextStep.REQUEST_OTP if factor.phone else NextStep.REQUEST_FACTOR)


async def refresh(database: Database, settings: Settings, *, bearer: str, messenger: Messenger) -> LoginToken:
    """Send another one-time password, for another token in place of the one that is presented.

    Raises Unauthorized, Conflict, TooManyMessages, MessageNotSent; the presented token then stays active.
    """
    token = await _find_waiting(database, bearer)
    issued = await second_factor.send_again(database, settings, token, messenger=messenger)
    return LoginToken(issued, NextStep.REQUEST_OTP)


async def authorize(database: Database, settings: Settings, *, bearer: str, code: str, actor: Actor) -> Issued:
    """Issue the session that a one-time password opens. Raises Unauthorized, Conflict.

    `actor` need not name the user.
    """
    token = await _find_waiting(database, bearer)
    phone = await second_factor.find_phone(database, token.user_id)
    otp_id = await second_factor.confirm(database, settings, token, value=bearer, phone=phone, code=code, actor=actor)
    kept = token.details
    if kept.grant_type != GrantType.CHANGE_PASSWORD:
        kept = msgspec.structs.replace(kept, scope_request=None)
    async with database.transaction(token.user_id, token.client_id) as transaction:
        await second_factor.use(transaction, settings, token, otp_id=otp_id)
        return await open_session(transaction, settings, token, details=kept)


async def open_session(transaction: PooledConnection, settings: Settings, token: Token, *, details: Details) -> Issued:
    """Issue the session for which `token` was waiting, and revoke the older ones."""
    kind, default_scope = TokenKind.ACCESS, SESSION_SCOPE
    if token.details.grant_type == GrantType.CHANGE_PASSWORD:
        kind, default_scope = TokenKind.CHANGE_PASSWORD, CHANGE_PASSWORD_SCOPE
    session = token.followed_by(kind, scope=token.details.scope_request or default_scope, details=details)
    if kind is TokenKind.ACCESS:
        client = await store.find_client(transaction, token.client_id)
        if client is None:
            raise refusals.ClientBlocked
        if not token.details.scope_request:  # a token made by hand
            await scopes.check(transaction, SESSION_SCOPE, scopes.bounds(client))
        session = await bounded(transaction, settings, client, session)
    issued = await tokens.issue(transaction, settings, session)
    await tokens.revoke_older_sessions(transaction, issued)
    return issued


async def _find_waiting(database: Database, bearer: str) -> Token:
    """Find an active two-factor token of a user and a client that are not blocked (rules SGN-26, SGN-27)."""
    token = await bearers.find(database, bearer)
    await bearers.check_client_and_user(database, token)
    if token.name != TokenKind.TWO_FACTOR:
        raise refusals.TokenNotTwoFactor
    bearers.check_active(token)
    return token
