"""The rules of users: how a user proves who it is, and what keeps others from guessing."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from mithril import errors, refusals, security
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.settings import Settings
from mithril.throttling import callers
from mithril.throttling import store as throttling
from mithril.tokens import store as token_store
from mithril.users import store
from mithril.users.fields import LONGEST_EMAIL
from mithril.users.store import User

TOO_MANY_CODES = "Passed invalid OTP more than USER_OTP_ERROR_MAX"


class LoginCounters(NamedTuple):
    """The keys of the counters of a failed login."""

    of_user_at_place: str
    of_place: str
    of_user: str


async def authenticate(
    database: Database,
    settings: Settings,
    *,
    email: str,
    password: str,
    network_address: str | None,
) -> User:
    """Return the user whose e-mail address and password these are.

    Failures are counted for the user at the caller's place, for the place, and for the user at all places, each by the
    statement that decides the answer. A right password resets the first of these: so wrong ones from other places do
    not keep a user out until there are very many. The counters decide after the hash: of guesses at the same moment
    none is accepted beyond a limit, and right passwords at the same moment are not failures. An unknown user and a
    wrong password get the same answer after the same time. Only who knows the password learns that the user is
    blocked. Raises Unauthorized. Source: rules SGN-6 to SGN-8.
    """
    email = email.replace("\0", " ")[:LONGEST_EMAIL]  # what PostgreSQL and an index can hold; no user has more
    place = callers.place_of(network_address)
    counters = LoginCounters(f"{place_counters(email)}{place}", f"login-from:{place}", login_counter(email))
    limits = _login_limits(settings, counters)
    window = 60 * settings.max_failed_logins_period
    if await throttling.is_exhausted(database, limits, within_seconds=window):  # costs no hash
        raise refusals.LoginAttemptsExceeded
    user = await store.find_user_by_email(database, email)
    known_hash = user.password_hash if user else None
    if not await asyncio.to_thread(_is_password, password, known_hash) or user is None:
        failure = await _count_failure(database, counters, limits, within_seconds=window)
        raise failure.about(user_id=user.id if user else None)
    if not await throttling.forget(database, limits, within_seconds=window, key=counters.of_user_at_place):
        raise refusals.LoginAttemptsExceeded
    check_not_blocked(user)
    return user


def login_counter(email: str) -> str:
    """Return the key of the counter of a user's failed logins from all places."""
    return f"login:{email.lower()}"


def place_counters(email: str) -> str:
    """Return the beginning of the keys of the counters of a user's failed logins at one place; the place follows.

    A place has no space, so that no other e-mail address leads to the same key.
    """
    return f"login-at:{email.lower()} "


def message_counter(user_id: UUID) -> str:
    """Return the key of the counter of messages sent to a user."""
    return f"otp-send:{user_id}"


def check_not_blocked(user: User) -> None:
    """Raise UserBlocked for a blocked user."""
    if user.is_blocked:
        raise refusals.UserBlocked


async def hold_unblocked(transaction: PooledConnection, user_id: UUID) -> None:
    """Keep the user from being blocked until the transaction ends, so that blocking revokes what it issues.

    Raises UserUnknown, and UserBlocked for a user who is blocked meanwhile.
    """
    user = await store.hold_user(transaction, user_id)
    if user is None:
        raise refusals.UserUnknown
    check_not_blocked(user)


async def count_refused_code(database: Database, settings: Settings, user_id: UUID, *, actor: Actor) -> None:
    """Count a refused one-time password; the last one that is allowed blocks the user and revokes the tokens.

    Source: rule SGN-22.
    """
    async with database.transaction(user_id) as transaction:
        is_blocked = await store.count_refused_code(
            transaction, user_id, limit=settings.user_otp_error_max, reason=TOO_MANY_CODES, actor=actor
        )
        if is_blocked:
            await token_store.expire_some(transaction, user_id)


async def forget_refused_codes(transaction: PooledConnection, user_id: UUID) -> None:
    """Reset the count of refused codes after a right one. Raises UserBlocked for a user who is blocked meanwhile."""
    if not await store.forget_refused_codes(transaction, user_id):
        raise refusals.UserBlocked


def check_password_age(user: User, settings: Settings) -> None:
    """Raise Unauthorized when the password is older than it may be (rule SGN-10)."""
    if is_password_expired(user, settings):
        raise refusals.PasswordExpired(user.id)


def is_password_expired(user: User, settings: Settings) -> bool:
    """Return whether the password is older than it may be."""
    return datetime.now(UTC) - user.password_set_at >= timedelta(days=settings.password_expiration_days)


def _login_limits(settings: Settings, counters: LoginCounters) -> dict[str, int]:
    return {
        counters.of_user_at_place: settings.max_failed_logins,
        counters.of_place: settings.max_failed_logins_per_address,
        counters.of_user: settings.max_failed_logins_per_user,
    }


async def _count_failure(
    database: Database, counters: LoginCounters, limits: Mapping[str, int], *, within_seconds: float
) -> errors.Unauthorized:
    """Count a failed login, and return its refusal.

    One that is beyond a limit of its place does not count for the user at all places: many attempts at one moment from
    one place would keep the user out everywhere.
    """
    at_place = [counters.of_user_at_place, counters.of_place]
    for keys in (at_place, [counters.of_user]):
        counted = await throttling.count(database, keys, within_seconds=within_seconds)
        if any(counted[key].times > limits[key] for key in keys):
            return refusals.LoginAttemptsExceeded()
    return refusals.PasswordWrong()


def _is_password(password: str, known_hash: str | None) -> bool:
    """Compare with some hash even for an unknown user, so that the time is that of a wrong password."""
    is_right = security.is_password(password, known_hash or security.random_hash())
    return is_right and known_hash is not None
