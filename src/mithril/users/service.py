"""The rules of people: how one proves who they are, and what keeps others from guessing."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from mithril import refusals, security
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.settings import Settings
from mithril.throttling import store as throttling
from mithril.tokens import store as token_store
from mithril.users import store
from mithril.users.fields import LONGEST_EMAIL
from mithril.users.store import User

TOO_MANY_CODES = "Passed invalid OTP more than USER_OTP_ERROR_MAX"


async def authenticate(
    database: Database,
    settings: Settings,
    *,
    email: str,
    password: str,
    network_address: str | None,
) -> User:
    """The person whose password it is.

    Failures are counted for the person and for the address, each in the statement that decides what it is told; a
    right password starts the person's counter anew. It is judged after the hash, so that of guesses at the same
    moment none is accepted beyond the limit, while right passwords at the same moment are no failures. An unknown
    person and a wrong password get the same answer after the same time, and that somebody is blocked is told only
    to who knows their password. Raises Unauthorized. Source: rules SGN-6 to SGN-8.
    """
    email = email.replace("\0", " ")[:LONGEST_EMAIL]  # what PostgreSQL and an index can hold; nobody has more
    person, place = login_counter(email), f"login-from:{network_address}"
    limits = {person: settings.max_failed_logins, place: settings.max_failed_logins_per_address}
    window = 60 * settings.max_failed_logins_period
    if await throttling.is_exhausted(database, limits, within_seconds=window):  # costs no hash
        raise refusals.LoginAttemptsExceeded
    user = await store.find_user_by_email(database, email)
    known_hash = user.password_hash if user else None
    if not await asyncio.to_thread(_is_password, password, known_hash) or user is None:
        counted = await throttling.count(database, list(limits), within_seconds=window)
        is_over = any(counted[key].times > most for key, most in limits.items())
        raise refusals.LoginAttemptsExceeded if is_over else refusals.PasswordWrong
    if not await throttling.forget(database, limits, within_seconds=window, key=person):
        raise refusals.LoginAttemptsExceeded
    check_not_blocked(user)
    return user


def login_counter(email: str) -> str:
    """Under which a person's failed logins are counted."""
    return f"login:{email.lower()}"


def message_counter(user_id: UUID) -> str:
    """Under which the messages that a person was sent are counted."""
    return f"otp-send:{user_id}"


def check_not_blocked(user: User) -> None:
    """Raises Unauthorized for a blocked person."""
    if user.is_blocked:
        raise refusals.UserBlocked


async def hold_unblocked(transaction: PooledConnection, user_id: UUID) -> None:
    """Keeps the person from being blocked until the transaction ends, so that what it issues can be ended by then.

    Raises Unauthorized for who is blocked meanwhile, or gone.
    """
    user = await store.hold_user(transaction, user_id)
    if user is None:
        raise refusals.UserUnknown
    check_not_blocked(user)


async def count_refused_code(database: Database, settings: Settings, user_id: UUID, *, actor: Actor) -> None:
    """Counts a refused one-time password; the last one that is allowed blocks the person and ends their tokens.

    Source: rule SGN-22.
    """
    async with database.transaction() as transaction:
        is_blocked = await store.count_refused_code(
            transaction, user_id, limit=settings.user_otp_error_max, reason=TOO_MANY_CODES, actor=actor
        )
        # A statement of its own: it must see the tokens of whoever held the person's row until now.
        if is_blocked:
            await token_store.end_all(transaction, user_id)


async def forget_refused_codes(transaction: PooledConnection, user_id: UUID) -> None:
    """A right code makes the wrong ones before it forgotten. Raises Unauthorized for who is blocked meanwhile."""
    if not await store.forget_refused_codes(transaction, user_id):
        raise refusals.UserBlocked


def check_password_age(user: User, settings: Settings) -> None:
    """Raises Unauthorized when the password is older than it may be (rule SGN-10)."""
    if datetime.now(UTC) - user.password_set_at >= timedelta(days=settings.password_expiration_days):
        raise refusals.PasswordExpired(user.id)


def _is_password(password: str, known_hash: str | None) -> bool:
    """An unknown person costs the same time as a wrong password: there is always a hash to compare with."""
    is_right = security.is_password(password, known_hash or security.nobodys_hash())
    return is_right and known_hash is not None
