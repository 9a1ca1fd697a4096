"""A link by which a user sets a forgotten password, once, within 15 minutes (rules PAG-19 to PAG-23).

The link is a token of a kind of its own, whose value is in a message only. It dies when an administrator changes,
blocks or deletes the user, when the second factor changes, and when the user's tokens are revoked: so by any change of
the password. Until then it is good beside others: who asks for links in another's name takes none away.
"""

from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from mithril import errors, metrics, refusals
from mithril.audit.events import Actor
from mithril.database.database import Database, Source
from mithril.oauth import password_change
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.throttling import callers
from mithril.throttling import store as throttling
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import Details, TokenKind
from mithril.tokens.store import NewToken, Token
from mithril.users import store as user_store
from mithril.users.store import Recipient

PLACE_OF_LINK = "<link>"
# Messages that others have us send, in a window: to one user, and from one place.
MOST_TO_USER, MOST_FROM_PLACE, WINDOW_SECONDS = 3, 30, 3_600.0
log = structlog.stdlib.get_logger("mithril")


class Text(NamedTuple):
    """What is sent; the link takes the place of `<link>` in `text`. `url`: of the link, before its value."""

    subject: str
    text: str
    url: str


async def count(database: Database, *, email: str, network_address: str | None) -> None:
    """Count a request for a link, for the caller's place and then for the user, whether there is one or not.

    Raises TooManyLinks.
    """
    place = callers.place_of(network_address)
    for key, limit in ((f"link-from:{place}", MOST_FROM_PLACE), (f"link:{email.lower()}", MOST_TO_USER)):
        counted = (await throttling.count(database, [key], within_seconds=WINDOW_SECONDS))[key]
        if counted.times > limit:
            raise refusals.TooManyLinks(retry_after_seconds=counted.seconds_left)


async def send(
    database: Database, settings: Settings, *, client_id: UUID, email: str, text: Text, messenger: Messenger
) -> None:
    """Send a link to the user of this e-mail address, if there is one who is not blocked: to the phone, or by e-mail.

    It is to run when the caller has its answer already, which must show nothing of it: what goes wrong is logged.
    """
    recipient = await user_store.find_recipient(database, email=email)
    if recipient is None or recipient.is_blocked:
        return
    details = Details(account_state=recipient.state)
    new = NewToken(kind=TokenKind.PASSWORD_LINK, user_id=recipient.id, client_id=client_id, details=details)
    try:
        async with database.transaction(new.user_id, new.client_id) as transaction:
            issued = await tokens.issue(transaction, settings, new)
        await _deliver(settings, recipient, text, value=issued.value, messenger=messenger)
    except errors.MithrilError as refusal:
        log.warning("password_link_not_sent", user_id=str(recipient.id), detail=refusal.detail)


async def find(source: Source, value: str) -> tuple[Token, Recipient]:
    """Return a link that is good, and its user. Raises LinkOver."""
    token = await token_store.find_token(source, value)
    if token is None or token.name != TokenKind.PASSWORD_LINK or token.is_used or token.is_expired or token.is_revoked:
        raise refusals.LinkOver
    recipient = await user_store.find_recipient(source, user_id=token.user_id)
    if recipient is None or recipient.is_blocked or recipient.state != token.details.account_state:
        raise refusals.LinkOver
    return token, recipient


async def set_password(database: Database, *, value: str, password: str, answer: str, actor: Actor) -> None:
    """Set the password of the link's user, use the link up, and revoke every token of the user.

    `answer` stands for the form. A refused password leaves the link as it was. Raises LinkOver, ValidationFailed.
    """
    token, _ = await find(database, value)
    password_hash = await password_change.hashed(database, token.user_id, password)
    by = msgspec.structs.replace(actor, user_id=token.user_id, client_id=token.client_id)
    async with database.transaction(token.user_id) as transaction:
        await user_store.lock_user(transaction, token.user_id)
        await find(transaction, value)  # once more: an administrator may have come first
        await password_change.change(transaction, token, password_hash=password_hash, actor=by, answer=answer)


async def is_used_by(database: Database, value: str, *, answer: str) -> bool:
    """Return whether it was this form that used the link."""
    async with database.connection() as connection:
        token = await token_store.find_token(connection, value)
    return token is not None and token.is_used and token.details.answer == answer


async def _deliver(settings: Settings, recipient: Recipient, text: Text, *, value: str, messenger: Messenger) -> None:
    message = text.text.replace(PLACE_OF_LINK, text.url + value)
    if recipient.phone and settings.sms_enabled:
        try:
            with metrics.SMS:
                await messenger.send(recipient.phone, message)
        except errors.MessageNotSent as refusal:
            log.warning("password_link_not_sent_to_phone", user_id=str(recipient.id), detail=refusal.detail)
        else:
            return
    with metrics.EMAIL:
        await messenger.mailer.send(recipient.email, subject=text.subject, text=message)
