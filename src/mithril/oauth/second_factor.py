"""The second factor: what stands between a right password and a session (contract.md 3.2.3, 3.2.5).

    password ──► 2fa_access_token ──┬── phone known ───► REQUEST_OTP ── authorize ──► session
                    ▲    │          └── no phone yet ──► REQUEST_FACTOR
                    └────┘ refresh (another code)             │
                                                              ▼
    session, to change the phone ──────────────────────► init_factor ──► APPROVE_FACTOR ── approve ──► session

The message is sent first and what it opens is stored afterwards, in one transaction. When sending fails, nothing
was stored; when storing fails, there is a message that opens nothing. A token without its message there is never.

A session is an access token, or a change-password token where that is what the person logged in for.
"""

from typing import NamedTuple
from uuid import UUID

import msgspec

from mithril import errors, refusals, security
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.oauth import bearers
from mithril.oauth.login import CHANGE_PASSWORD_SCOPE
from mithril.oauth.store import RegisteredClient
from mithril.otp import service as codes
from mithril.otp import store as factors
from mithril.otp.service import Sent
from mithril.otp.store import Factor
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import GRANTS_TO_PROGRAMS, Details, GrantType, TokenKind
from mithril.tokens.store import Issued, Token
from mithril.users import service as users
from mithril.users.store import User

SESSION_SCOPE = "app:authorize"
REQUEST_OTP, REQUEST_FACTOR, APPROVE_FACTOR = "REQUEST_OTP", "REQUEST_FACTOR", "APPROVE_FACTOR"


class Begun(NamedTuple):
    """A token that gives nothing yet, and what the person is asked for next."""

    token: Issued
    next_step: str


class _Wanted(NamedTuple):
    """The two-factor token that is to be issued; `replaces` ends with it."""

    user_id: UUID
    client_id: UUID
    details: Details
    replaces: Token | None = None


async def begin(
    database: Database,
    settings: Settings,
    *,
    user: User,
    client: RegisteredClient,
    scope: str,
    grant_type: GrantType,
    messenger: Messenger,
) -> Begun | None:
    """What a right password gives a person with an active factor; None for a person without one.

    Raises TooManyMessages, MessageNotSent; then nothing is stored and older sessions live on.
    """
    factor = await factors.find_factor(database, user.id)
    if factor is None:
        return None
    wanted = _Wanted(user.id, client.id, Details(grant_type=grant_type, scope_request=scope))
    token = await _issue(database, settings, wanted, messenger=messenger, phone=factor.phone)
    return Begun(token, REQUEST_OTP if factor.phone else REQUEST_FACTOR)


async def refresh(database: Database, settings: Settings, *, bearer: str, messenger: Messenger) -> Begun:
    """Another code, for another token in place of the one that is presented.

    Raises Unauthorized, Conflict, TooManyMessages, MessageNotSent; the presented token then lives on.
    """
    token = await _present(database, bearer)
    phone = _phone(await factors.find_factor(database, token.user_id))
    wanted = _Wanted(token.user_id, token.client_id, token.details, replaces=token)
    return Begun(await _issue(database, settings, wanted, messenger=messenger, phone=phone), REQUEST_OTP)


async def authorize(database: Database, settings: Settings, *, bearer: str, code: str, actor: Actor) -> Issued:
    """The session that the code opens. `actor` need not name the person. Raises Unauthorized, Conflict."""
    token = await _present(database, bearer)
    phone = _phone(await factors.find_factor(database, token.user_id))
    code_id = await _try(database, settings, token, phone=phone, holder=bearer, code=code, actor=actor)
    kept = token.details
    if not _is_changing_password(token):
        kept = msgspec.structs.replace(kept, scope_request=None)
    async with database.transaction() as transaction:
        await _use(transaction, settings, token, code_id)
        return await _open_session(transaction, settings, token, details=kept)


async def init_factor(
    database: Database, settings: Settings, *, token: Token, kind: str, phone: str, messenger: Messenger
) -> Begun:
    """Asks for a code that was sent to another phone: the first one of a person, or a new one.

    `token` must have passed `bearers`. Raises NotFound, Unauthorized, TooManyMessages, MessageNotSent.
    """
    factor = await factors.find_factor(database, token.user_id, kind=kind)
    if factor is None:
        raise errors.NotFound(detail="no active factor")
    if token.name != (TokenKind.ACCESS if factor.phone else TokenKind.TWO_FACTOR) or not _may_name_phone(token):
        raise refusals.TokenKindWrong
    # The session that comes of it may do what the one before it could, and no more.
    scope = token.scope if token.name == TokenKind.ACCESS and token.scope else token.details.scope_request
    details = msgspec.structs.replace(
        token.details,
        scope_request=scope,
        request_authentication_factor=phone,
        request_authentication_factor_type=kind,
    )
    wanted = _Wanted(token.user_id, token.client_id, details, replaces=token)
    return Begun(await _issue(database, settings, wanted, messenger=messenger, phone=phone), APPROVE_FACTOR)


def check_initiated(token: Token) -> None:
    """Raises Unauthorized for a token that did not come from `init_factor`."""
    asked = token.details.request_authentication_factor, token.details.request_authentication_factor_type
    if token.name != TokenKind.TWO_FACTOR or None in asked:
        raise refusals.FactorNotInitiated


async def approve_factor(
    database: Database, settings: Settings, *, token: Token, bearer: str, code: str, actor: Actor
) -> Issued:
    """Makes the phone that the code went to the person's factor; a session.

    `token` must have passed `bearers` and `check_initiated`. Raises NotFound, Unauthorized.
    """
    phone = token.details.request_authentication_factor or ""
    kind = token.details.request_authentication_factor_type or ""
    factor = await factors.find_factor(database, token.user_id, kind=kind)
    if factor is None:
        raise errors.NotFound(detail="no active factor")
    code_id = await _try(database, settings, token, phone=phone, holder=bearer, code=code, actor=actor)
    kept = msgspec.structs.replace(
        token.details, request_authentication_factor=None, request_authentication_factor_type=None
    )
    async with database.transaction() as transaction:
        await _use(transaction, settings, token, code_id)
        if not await factors.change_factor(transaction, factor.id, phone=phone, actor=_by(actor, token)):
            raise errors.NotFound(detail="the factor is no longer active")
        return await _open_session(transaction, settings, token, details=kept)


async def _present(database: Database, bearer: str) -> Token:
    """Rows 3 to 6 of contract.md 3.2.3: a living two-factor token of somebody who is not blocked."""
    token = await bearers.find(database, bearer)
    await bearers.check_client_and_user(database, token)
    if token.name != TokenKind.TWO_FACTOR:
        raise refusals.TokenNotTwoFactor
    bearers.check_active(token)
    return token


def _phone(factor: Factor | None) -> str:
    """Rows 7 and 8: a factor that was taken away meanwhile is as good as one that was never set."""
    if factor is None or factor.phone is None:
        raise refusals.FactorNotSet
    return factor.phone


async def _issue(
    database: Database, settings: Settings, wanted: _Wanted, *, messenger: Messenger, phone: str | None
) -> Issued:
    """Sends, then stores; see the module's text."""
    value = security.new_secret()
    sent = None
    if phone is not None:
        sent = await codes.send(
            database, settings, messenger=messenger, user_id=wanted.user_id, phone=phone, holder=value
        )
    async with database.transaction() as transaction:
        return await _store(transaction, settings, wanted, value=value, sent=sent)


async def _store(
    transaction: PooledConnection, settings: Settings, wanted: _Wanted, *, value: str, sent: Sent | None
) -> Issued:
    await users.hold_unblocked(transaction, wanted.user_id)
    before = wanted.replaces
    if before is not None and not await token_store.replace_token(transaction, before.id):
        raise refusals.TokenExpired(detail="ended while the message went out")
    issued = await tokens.issue(
        transaction,
        TokenKind.TWO_FACTOR,
        user_id=wanted.user_id,
        client_id=wanted.client_id,
        connection_id=before.connection_id if before else None,
        family_id=before.family_id if before else None,
        lives_seconds=settings.auth_access_token_lifetime,
        scope="",
        details=wanted.details,
        value=value,
    )
    await tokens.revoke_older_sessions(transaction, issued)
    if sent is not None:
        replaced = before.id if before else None
        await codes.keep(transaction, settings, sent, token_id=issued.id, replaced_token_id=replaced)
    return issued


async def _try(
    database: Database, settings: Settings, token: Token, *, phone: str, holder: str, code: str, actor: Actor
) -> UUID:
    """Raises Unauthorized; a failure is counted for the person, who is blocked at the last one."""
    try:
        return await codes.try_code(database, settings, key=codes.key_of(token.id, phone), holder=holder, code=code)
    except errors.OtpRefused as refusal:
        if refusal.is_failure:
            await users.count_refused_code(database, settings, token.user_id, actor=_by(actor, token))
        raise


async def _use(transaction: PooledConnection, settings: Settings, token: Token, code_id: UUID) -> None:
    """Uses up code and token; of many requests at once exactly one gets past this. Raises Unauthorized."""
    await users.forget_refused_codes(transaction, token.user_id)
    await codes.use_code(transaction, settings, code_id)
    if not await token_store.replace_token(transaction, token.id):
        raise refusals.OtpInvalid(is_failure=False, detail="revoked at the same moment")


async def _open_session(transaction: PooledConnection, settings: Settings, token: Token, *, details: Details) -> Issued:
    is_changing = _is_changing_password(token)
    issued = await tokens.issue(
        transaction,
        TokenKind.CHANGE_PASSWORD if is_changing else TokenKind.ACCESS,
        user_id=token.user_id,
        client_id=token.client_id,
        connection_id=token.connection_id,
        family_id=token.family_id,
        lives_seconds=settings.auth_access_token_lifetime,
        scope=token.details.scope_request or (CHANGE_PASSWORD_SCOPE if is_changing else SESSION_SCOPE),
        details=details,
    )
    await tokens.revoke_older_sessions(transaction, issued)
    return issued


def _may_name_phone(token: Token) -> bool:
    """Not the token that a code gave to a client's program: it could make its own phone the person's factor.

    In the field the gateway keeps it away, by asking for a scope of its own.
    """
    is_of_a_program = token.details.grant_type in GRANTS_TO_PROGRAMS
    return not is_of_a_program or "user:request_factor" in (token.scope or "").split()


def _is_changing_password(token: Token) -> bool:
    return token.details.grant_type == GrantType.CHANGE_PASSWORD


def _by(actor: Actor, token: Token) -> Actor:
    return Actor(
        user_id=token.user_id,
        client_id=token.client_id,
        request_id=actor.request_id,
        network_address=actor.network_address,
    )
