"""The rules of one-time passwords: how they are made, sent, stored and tried.

A code is stored as an argon2id hash of code and token together. The code alone has a million values: an attacker with
the table could try them all, however slow the hash. The token has 192 bits and is in no table, only its digest is, so
a leaked dump gives no code away. The slow hash is against an attacker who has the token as well.

Which token waits for a code is decided in `oauth.second_factor`.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from mithril import errors, metrics, refusals, security
from mithril.database.database import Database, PooledConnection
from mithril.otp import store
from mithril.otp.store import OpenCode
from mithril.settings import Settings
from mithril.sms.messenger import Messenger
from mithril.throttling import store as throttling
from mithril.users import service as users

PLACE_OF_CODE = "<otp.code>"
# Why a one-time password that cannot be tried any more is refused, by its status.
CLOSED: Mapping[str, type[errors.OtpRefused]] = {
    "EXPIRED": refusals.OtpExpired,
    "UNVERIFIED": refusals.OtpAttemptsExceeded,
}


class SentMessage(NamedTuple):
    """A code that was sent and is not stored yet."""

    phone: str
    code_hash: str


async def send(
    database: Database, settings: Settings, *, messenger: Messenger, user_id: UUID, phone: str, holder: str
) -> SentMessage:
    """Send a new code, which only works together with `holder`, the value of a token.

    A message is counted before it is sent, so that none gets past the limit, and the count is taken back when sending
    fails. No database connection is held meanwhile, so that a slow SMS service stops no other request.
    Raises TooManyMessages, MessageNotSent (rules SGN-18, SGN-19).
    """
    key = users.message_counter(user_id)
    await _count_send(database, settings, key)
    code = new_code(settings.otp_length)
    code_hash = await asyncio.to_thread(security.hash_password, _bound(holder, code))
    try:
        with metrics.SMS:
            await messenger.send(phone, text_of(code, settings))
    except errors.MessageNotSent:
        await throttling.forgive(database, key)
        raise
    return SentMessage(phone, code_hash)


async def keep(
    transaction: PooledConnection,
    settings: Settings,
    sent: SentMessage,
    *,
    token_id: UUID,
    replaced_token_id: UUID | None,
) -> None:
    """Store a code that was sent for a token, and cancel the one that was sent for the token before it."""
    replaced = [] if replaced_token_id is None else [key_of(replaced_token_id, sent.phone)]
    await store.add_code(
        transaction,
        key_of(token_id, sent.phone),
        code_hash=sent.code_hash,
        lives_seconds=settings.otp_lifetime,
        replaced=replaced,
    )


async def try_code(database: Database, settings: Settings, *, key: str, holder: str, code: str) -> UUID:
    """Return the id of the stored code that `code` is right for; `use_code` decides which of several requests wins.

    A wrong try is counted, and committed, by the statement that decides how it is refused. Raises OtpRefused, which
    is no failure of the user where there is no code, or where the code was used meanwhile.
    """
    found = await store.find_open(database, key, max_attempts=settings.otp_max_attempts)
    if found is not None and await _is_right(found, holder, code.zfill(settings.otp_length)):
        return found.id
    if found is not None and await store.count_attempt(database, found.id, max_attempts=settings.otp_max_attempts):
        raise refusals.OtpInvalid
    status = await store.close_code(database, key, max_attempts=settings.otp_max_attempts)
    raise CLOSED.get(status or "", refusals.OtpInvalid)(is_failure=found is not None or status in CLOSED)


async def use_code(transaction: PooledConnection, settings: Settings, code_id: UUID) -> None:
    """Use up a code that was right: of several requests at once exactly one gets past this. Raises OtpInvalid."""
    if not await store.use_code(transaction, code_id, max_attempts=settings.otp_max_attempts):
        raise refusals.OtpInvalid(is_failure=False, detail="used at the same moment")


def key_of(token_id: UUID, phone: str) -> str:
    """Return the key under which a code is stored (rule SGN-20)."""
    return f"{token_id}==={phone}"


def new_code(length: int) -> str:
    """Return that many random digits."""
    return f"{secrets.randbelow(10**length):0{length}d}"


def text_of(code: str, settings: Settings) -> str:
    """Return the text of the message; only the code where the template has no place for it (rule SGN-23)."""
    template = settings.otp_sms_template
    return template.replace(PLACE_OF_CODE, code) if PLACE_OF_CODE in template else code


async def _count_send(database: Database, settings: Settings, key: str) -> None:
    counted = await throttling.count(database, [key], within_seconds=60 * settings.otp_send_timeout)
    if counted[key].times > settings.otp_send_counter_max:
        raise errors.TooManyMessages(retry_after_seconds=60 * settings.otp_send_timeout)


async def _is_right(tried: OpenCode, holder: str, code: str) -> bool:
    return await asyncio.to_thread(security.is_password, _bound(holder, code), tried.code_hash)


def _bound(holder: str, code: str) -> str:
    return f"{holder}:{code}"
