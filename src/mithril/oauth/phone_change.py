"""A user names the phone of their second factor: the first one, or another (rules SGN-31 to SGN-34).

    TWO_FACTOR token, no phone yet ──┐
                                     ├──► init_factor ──► APPROVE_FACTOR ── approve_factor ──► session
    session, another phone ──────────┘

On the pages the sign-in waits in a LOGIN_FACTOR token; there only the first phone can be named. Another one is named in
the console, by a user who has signed in and shown the password again: a CONSOLE_PHONE token waits for its code.
The one-time password goes to the phone that is to be the factor. Its rules are in `second_factor`.
"""

import msgspec
import structlog

from mithril import errors, refusals
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection, Source
from mithril.oauth import login, second_factor
from mithril.oauth.login import LoginToken, NextStep
from mithril.otp import store as factors
from mithril.otp.store import Factor
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.tokens.kinds import GRANTS_TO_PROGRAMS, NO_DETAILS, Details, TokenKind
from mithril.tokens.store import Issued, NewToken, Token

SMS = "SMS"
NAMING_SCOPE = "user:request_factor"
log = structlog.stdlib.get_logger("mithril")


async def init_factor(
    database: Database, settings: Settings, *, token: Token, factor_type: str, phone: str, messenger: Messenger
) -> LoginToken:
    """Send a one-time password to the phone that is to be the user's factor.

    `token` must have passed `bearers`. Raises NotFound, Unauthorized, TooManyMessages, MessageNotSent.
    """
    factor = await _get_factor(database, token, factor_type)
    if token.name != (TokenKind.ACCESS if factor.phone else TokenKind.TWO_FACTOR) or not _may_name_phone(token):
        raise refusals.TokenKindWrong
    # The session that follows may do what the one before it could, and no more.
    scope = token.scope if token.name == TokenKind.ACCESS and token.scope else token.details.scope_request
    details = _named(msgspec.structs.replace(token.details, scope_request=scope), factor, factor_type, phone)
    new = token.followed_by(TokenKind.TWO_FACTOR, scope="", details=details)
    issued = await second_factor.begin(database, settings, new, messenger=messenger, phone=phone, replaces=token)
    return LoginToken(issued, NextStep.APPROVE_FACTOR)


async def name_first(
    database: Database, settings: Settings, *, token: Token, phone: str, messenger: Messenger, answer: str
) -> Issued:
    """Send a one-time password to the first phone of a user who signs in on the pages.

    `token`: a `LOGIN_FACTOR`; another one takes its place, as in `second_factor.send_again`. Raises NotFound,
    Unauthorized, also where a phone was named meanwhile, TooManyMessages, MessageNotSent.
    """
    factor = await _get_factor(database, token, SMS)
    if factor.phone is not None:
        raise refusals.TokenKindWrong
    new = token.followed_by(TokenKind.LOGIN_FACTOR, scope=None, details=_named(token.details, factor, SMS, phone))
    return await second_factor.begin(
        database, settings, new, messenger=messenger, phone=phone, replaces=token, answer=answer
    )


async def name_other(
    database: Database, settings: Settings, *, session: Token, phone: str, messenger: Messenger
) -> Issued:
    """Send a one-time password to the phone that is to take the place of the present one.

    `session`: of the console. Raises NotFound where there is no phone to be replaced, Unauthorized, TooManyMessages,
    MessageNotSent.
    """
    factor = await _get_factor(database, session, SMS)
    errors.found(factor.phone)
    new = NewToken(
        kind=TokenKind.CONSOLE_PHONE,
        user_id=session.user_id,
        client_id=session.client_id,
        details=_named(NO_DETAILS, factor, SMS, phone),
        seen=session.seen,
    )
    return await second_factor.begin(database, settings, new, messenger=messenger, phone=phone)


async def confirm_other(
    database: Database, settings: Settings, *, token: Token, value: str, code: str, actor: Actor
) -> None:
    """Make the phone that the one-time password went to the user's factor.

    `token`: a `CONSOLE_PHONE`, of this value. Raises NotFound, OtpRefused; FactorNotInitiated as `approve_factor`.
    """
    phone = await find_named(database, token) or ""
    otp_id = await second_factor.confirm(database, settings, token, value=value, phone=phone, code=code, actor=actor)
    async with database.transaction(token.user_id) as transaction:
        await second_factor.use(transaction, settings, token, otp_id=otp_id)
        await keep_named(transaction, token, actor=actor)


async def tell(messenger: Messenger, phone: str, text: str) -> None:
    """Tell the phone that was replaced; that this fails is logged, and changes nothing."""
    try:
        await messenger.send(phone, text)
    except errors.MessageNotSent as error:
        log.warning("message_not_sent", detail=error.detail)


def check_initiated(token: Token) -> None:
    """Refuse a token that did not come from `init_factor`. Raises FactorNotInitiated."""
    asked = token.details
    named = (
        asked.request_authentication_factor,
        asked.request_authentication_factor_type,
        asked.request_authentication_factor_state,
    )
    if token.name != TokenKind.TWO_FACTOR or None in named:
        raise refusals.FactorNotInitiated


async def approve_factor(
    database: Database, settings: Settings, *, token: Token, bearer: str, code: str, actor: Actor
) -> Issued:
    """Make the phone that the one-time password went to the user's factor, and issue a session.

    `token` must have passed `bearers` and `check_initiated`. Raises NotFound, Unauthorized; FactorNotInitiated when
    the factor was changed since `init_factor`: else a password alone could replace a phone that was named meanwhile.
    """
    phone = await find_named(database, token) or ""
    otp_id = await second_factor.confirm(database, settings, token, value=bearer, phone=phone, code=code, actor=actor)
    kept = msgspec.structs.replace(
        token.details,
        request_authentication_factor=None,
        request_authentication_factor_type=None,
        request_authentication_factor_state=None,
    )
    by = second_factor.actor_of(actor, token)
    async with database.transaction(token.user_id, token.client_id) as transaction:
        await second_factor.use(transaction, settings, token, otp_id=otp_id)
        await keep_named(transaction, token, actor=by)
        return await login.open_session(transaction, settings, token, details=kept)


async def find_named(source: Source, token: Token) -> str | None:
    """Return the phone that is named in the token, or None. Raises NotFound, and FactorNotInitiated as above."""
    asked = token.details
    if asked.request_authentication_factor is not None:
        factor = await _get_factor(source, token, asked.request_authentication_factor_type or "")
        if factor.state != asked.request_authentication_factor_state:
            raise refusals.FactorNotInitiated(detail="the factor was changed meanwhile")
    return asked.request_authentication_factor


async def keep_named(transaction: PooledConnection, token: Token, *, actor: Actor) -> None:
    """Make the phone that is named in the token the user's factor. Raises as `find_named`."""
    asked = token.details
    phone, state = asked.request_authentication_factor or "", asked.request_authentication_factor_state or ""
    factor = await _get_factor(transaction, token, asked.request_authentication_factor_type or "")
    if not await factors.change_factor(transaction, factor.id, state=state, phone=phone, actor=actor):
        raise refusals.FactorNotInitiated(detail="the factor was changed at the same moment")


def _named(details: Details, factor: Factor, factor_type: str, phone: str) -> Details:
    """Return the details of a token that waits for the one-time password of that phone."""
    return msgspec.structs.replace(
        details,
        request_authentication_factor=phone,
        request_authentication_factor_type=factor_type,
        request_authentication_factor_state=factor.state,
    )


async def _get_factor(source: Source, token: Token, factor_type: str) -> Factor:
    factor = await factors.find_factor(source, token.user_id, factor_type=factor_type)
    if factor is None:
        raise errors.NotFound(detail="no active factor")
    return factor


def _may_name_phone(token: Token) -> bool:
    """A token that a client's program got for a code may not: it could make its own phone the user's factor.

    In the field the gateway keeps it away, by asking for a scope of its own.
    """
    is_of_a_program = token.details.grant_type in GRANTS_TO_PROGRAMS
    return not is_of_a_program or NAMING_SCOPE in (token.scope or "").split()
