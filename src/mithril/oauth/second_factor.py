"""The second factor: a one-time password between a right password and what it gives. The API and the pages call it.

    right password ──► a token that waits ──┬── confirm, use ──► what the caller issues for it
                           ▲                │
                           └── send_again ──┘

A token that waits (`TWO_FACTOR` of the API, `LOGIN_FACTOR` and `CONSOLE_PHONE` of the pages) gives nothing else. The
message goes out first, and the token is stored afterwards, in one transaction: when sending fails, nothing was stored;
when storing fails, there is a message that opens nothing. There is never a token without its message.

How one-time passwords are made, kept and tried is in `otp`; which session follows is in `login` and in the pages.
"""

from uuid import UUID

import msgspec

from mithril import errors, metrics, refusals, security
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.otp import service as otp
from mithril.otp import store as factors
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.tokens import service as tokens
from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Issued, NewToken, Token
from mithril.users import service as users


async def begin(
    database: Database,
    settings: Settings,
    new: NewToken,
    *,
    messenger: Messenger,
    phone: str | None,
    replaces: Token | None = None,
    answer: str | None = None,
) -> Issued:
    """Send a one-time password to `phone`, and issue the token that waits for it.

    `phone`: None where the user has named none yet; then no message is sent. `replaces`: the token in whose place the
    new one waits; `answer` as in `use`. Raises TooManyMessages, MessageNotSent and Unauthorized; then nothing is
    stored, and older sessions stay active.
    """
    value = security.new_secret()
    sent = None
    if phone is not None:
        sent = await otp.send(database, settings, messenger=messenger, user_id=new.user_id, phone=phone, holder=value)
    async with database.transaction(new.user_id, new.client_id) as transaction:
        await users.hold_unblocked(transaction, new.user_id)
        if replaces is not None:
            await _replace(transaction, replaces, answer)
        issued = await tokens.issue(transaction, settings, new, value=value)
        await tokens.revoke_older_sessions(transaction, issued)
        if sent is not None:
            replaced_token_id = replaces.id if replaces else None
            await otp.keep(transaction, settings, sent, token_id=issued.id, replaced_token_id=replaced_token_id)
        return issued


async def send_again(
    database: Database,
    settings: Settings,
    token: Token,
    *,
    messenger: Messenger,
    phone: str | None = None,
    answer: str | None = None,
) -> Issued:
    """Send another one-time password, for a new token in place of `token`.

    `phone`: where it is not that of the user's factor yet. Raises as `begin`, and FactorNotSet; then `token` stays
    active.
    """
    phone = phone or await find_phone(database, token.user_id)
    scope = "" if token.name == TokenKind.TWO_FACTOR else None
    new = token.followed_by(TokenKind(token.name), scope=scope, details=token.details)
    return await begin(database, settings, new, messenger=messenger, phone=phone, replaces=token, answer=answer)


async def find_phone(database: Database, user_id: UUID) -> str:
    """Return the phone of the user's active factor. Raises FactorNotSet, also where an operator has just taken it."""
    factor = await factors.find_factor(database, user_id)
    if factor is None or factor.phone is None:
        raise refusals.FactorNotSet
    return factor.phone


async def confirm(
    database: Database, settings: Settings, token: Token, *, value: str, phone: str, code: str, actor: Actor
) -> UUID:
    """Return the id of the one-time password that `code` is right for; `use` must follow.

    `value`: that of the token, with which the one-time password was bound. Raises OtpRefused; a failure is counted
    for the user, who is blocked at the last one.
    """
    try:
        with metrics.SECOND_FACTORS:
            return await otp.try_code(database, settings, key=otp.key_of(token.id, phone), holder=value, code=code)
    except errors.OtpRefused as refusal:
        if refusal.is_failure:
            await users.count_refused_code(database, settings, token.user_id, actor=actor_of(actor, token))
        raise


def actor_of(actor: Actor, token: Token) -> Actor:
    """Return the actor with user and client of the token, which is all that says who is acting."""
    return msgspec.structs.replace(actor, user_id=token.user_id, client_id=token.client_id)


async def use(
    transaction: PooledConnection, settings: Settings, token: Token, *, otp_id: UUID, answer: str | None = None
) -> None:
    """Use up the one-time password and its token. Raises Unauthorized for all but one of several requests at once.

    `answer`: of a login session, the form that uses it, so that the same form may come again.
    """
    await users.forget_refused_codes(transaction, token.user_id)
    await otp.use_code(transaction, settings, otp_id)
    if not await tokens.take(transaction, token.id, answer):
        raise refusals.OtpInvalid(is_failure=False, detail="revoked at the same moment")


async def _replace(transaction: PooledConnection, token: Token, answer: str | None) -> None:
    """Refuse a token that was used or revoked meanwhile. Raises TokenExpired."""
    if not await tokens.take(transaction, token.id, answer):
        raise refusals.TokenExpired(detail="revoked while the message went out")
