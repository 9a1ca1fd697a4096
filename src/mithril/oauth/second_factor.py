"""The second factor: a one-time password between a right password and what it gives. The API and the pages call it.

    right password ──► a token that waits ──┬── confirm, use ──► what the caller issues for it
                           ▲                │
                           └── send_again ──┘

A token that waits (`TWO_FACTOR` of the API, `LOGIN_FACTOR` of the pages) gives nothing else. The message goes out
first, and the token is stored afterwards, in one transaction: when sending fails, nothing was stored; when storing
fails, there is a message that opens nothing. There is never a token without its message.

How one-time passwords are made, kept and tried is in `otp`; which session follows is in `login` and in the pages.
"""

from uuid import UUID

import msgspec

from mithril import errors, refusals, security
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.otp import service as otp
from mithril.otp import store as factors
from mithril.otp.service import SentMessage
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import NO_DETAILS, Details, TokenKind
from mithril.tokens.store import Issued, Token
from mithril.users import service as users


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """The token that is to wait for its one-time password; `replaces` is the one that it takes the place of."""

    kind: TokenKind
    user_id: UUID
    client_id: UUID
    details: Details = NO_DETAILS
    replaces: Token | None = None


def in_place_of(token: Token, *, details: Details | None = None) -> Waiting:
    """Return what is to wait in place of `token`. `details`: by default those of `token`."""
    kind = TokenKind.LOGIN_FACTOR if token.name == TokenKind.LOGIN_FACTOR else TokenKind.TWO_FACTOR
    known = {"user_id": token.user_id, "client_id": token.client_id}
    return Waiting(kind=kind, details=details or token.details, replaces=token, **known)


async def begin(
    database: Database, settings: Settings, waiting: Waiting, *, messenger: Messenger, phone: str | None
) -> Issued:
    """Send a one-time password to `phone`, and issue the token that waits for it.

    `phone`: None where the user has named none yet; then no message is sent. Raises TooManyMessages, MessageNotSent
    and Unauthorized; then nothing is stored, and older sessions stay active.
    """
    value = security.new_secret()
    sent = None
    if phone is not None:
        sent = await otp.send(
            database, settings, messenger=messenger, user_id=waiting.user_id, phone=phone, holder=value
        )
    async with database.transaction() as transaction:
        return await _store(transaction, settings, waiting, value=value, sent=sent)


async def send_again(database: Database, settings: Settings, token: Token, *, messenger: Messenger) -> Issued:
    """Send another one-time password, for a new token in place of `token`.

    Raises as `begin`, and FactorNotSet; then `token` stays active.
    """
    phone = await find_phone(database, token.user_id)
    return await begin(database, settings, in_place_of(token), messenger=messenger, phone=phone)


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
        return await otp.try_code(database, settings, key=otp.key_of(token.id, phone), holder=value, code=code)
    except errors.OtpRefused as refusal:
        if refusal.is_failure:
            await users.count_refused_code(database, settings, token.user_id, actor=actor_of(actor, token))
        raise


def actor_of(actor: Actor, token: Token) -> Actor:
    """Return the actor with user and client of the token, which is all that says who is acting."""
    return msgspec.structs.replace(actor, user_id=token.user_id, client_id=token.client_id)


async def use(transaction: PooledConnection, settings: Settings, token: Token, *, otp_id: UUID) -> None:
    """Use up the one-time password and its token. Raises Unauthorized for all but one of several requests at once."""
    await users.forget_refused_codes(transaction, token.user_id)
    await otp.use_code(transaction, settings, otp_id)
    if not await token_store.replace_token(transaction, token.id):
        raise refusals.OtpInvalid(is_failure=False, detail="revoked at the same moment")


async def _store(
    transaction: PooledConnection, settings: Settings, waiting: Waiting, *, value: str, sent: SentMessage | None
) -> Issued:
    await users.hold_unblocked(transaction, waiting.user_id)
    before = waiting.replaces
    # A browser that asks twice at once shows the later answer only, so there the later token is good too.
    if before and not await token_store.replace_token(transaction, before.id) and before.name != TokenKind.LOGIN_FACTOR:
        raise refusals.TokenExpired(detail="revoked while the message went out")
    scope = "" if waiting.kind is TokenKind.TWO_FACTOR else None
    issued = await tokens.issue(
        transaction,
        settings,
        waiting.kind,
        user_id=waiting.user_id,
        client_id=waiting.client_id,
        scope=scope,
        details=waiting.details,
        connection_id=before.connection_id if before else None,
        family_id=before.family if before else None,
        value=value,
    )
    await tokens.revoke_older_sessions(transaction, issued)
    if sent is not None:
        replaced_token_id = before.id if before else None
        await otp.keep(transaction, settings, sent, token_id=issued.id, replaced_token_id=replaced_token_id)
    return issued
