"""The SQL about users."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril import metrics
from mithril.audit import rows
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database import lists
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lists import Listed, Listing, Page


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user with the hash of the password; never part of an answer."""

    id: UUID
    email: str
    password_hash: str | None
    password_set_at: datetime
    tax_id: str
    person_id: str
    is_blocked: bool


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """A user to whom a link is sent; `phone` is that of the active second factor, or None."""

    id: UUID
    email: str
    is_blocked: bool
    phone: str | None
    state: str
    """Changes with every change of the user by an administrator, and with every change of the factor."""


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A user as it may be shown; `settings` is JSON as text."""

    id: UUID
    email: str
    tax_id: str
    person_id: str
    settings: str
    is_blocked: bool
    block_reason: str | None
    inserted_at: datetime
    updated_at: datetime


ROWS = rows.AuditedTable("users", "user", hidden=(*rows.HIDDEN, "password_hash", "otp_error_count"))
BLOCKED_ROWS, UNBLOCKED_ROWS = ROWS._replace(verb="block"), ROWS._replace(verb="unblock")
FACTOR_ROWS = rows.AuditedTable("authentication_factors", "authentication_factor")
COLUMNS = ", ".join(UserRecord.__struct_fields__)
FILTERS = {
    "id": "id = {}",
    "ids": "id = ANY ({}::uuid[])",
    "email": "email = lower({})",
    "tax_id": "tax_id = {} AND tax_id <> ''",  # the index contains only users with one
    "is_blocked": "is_blocked AND {}",
    "not is_blocked": "NOT is_blocked AND NOT {}",
}
LIST = Listing(UserRecord, "users", COLUMNS, FILTERS)
FIND = "SELECT id, email, password_hash, password_set_at, tax_id, person_id, is_blocked FROM users WHERE"
FIND_RECIPIENT = """
SELECT u.id, u.email, u.is_blocked, nullif(f.factor, '') AS phone,
       md5(concat_ws('|', u.email, extract(epoch FROM u.updated_at), f.id, f.factor, extract(epoch FROM f.updated_at)))
           AS state
  FROM users u LEFT JOIN authentication_factors f ON f.user_id = u.id AND f.type = 'SMS' AND f.is_active
 WHERE
"""
# The present one too: it may have been set without a row in the history.
PASSWORD_HASHES = """
SELECT password_hash FROM users WHERE id = $1 AND password_hash IS NOT NULL
 UNION
(SELECT password_hash FROM password_hstr WHERE user_id = $1 ORDER BY id DESC LIMIT $2)
"""
CHANGE_PASSWORD = f"""
WITH old AS (
    SELECT id, password_hash FROM users WHERE id = $1 FOR UPDATE
), changed AS (
    UPDATE users u SET password_hash = $2, password_set_at = now(), updated_at = now() FROM old WHERE u.id = old.id
    RETURNING {", ".join(f"u.{name}" for name in UserRecord.__struct_fields__)}
), remembered AS (
    INSERT INTO password_hstr (user_id, password_hash)
    SELECT $1, used.hash FROM old, unnest(ARRAY[old.password_hash, $2]) WITH ORDINALITY AS used (hash, position)
     WHERE used.hash IS NOT NULL
       AND NOT EXISTS (SELECT FROM password_hstr h WHERE h.user_id = $1 AND h.password_hash = used.hash)
     ORDER BY used.position
), recorded AS (
    INSERT INTO audit_events (action, subject_id, {ACTOR_COLUMNS})
    SELECT 'user.change_password', id, $3, $4, $5, $6, $7 FROM changed
)
SELECT * FROM changed
"""
FORGET_PASSWORDS = """
DELETE FROM password_hstr
 WHERE user_id = $1 AND id NOT IN (SELECT id FROM password_hstr WHERE user_id = $1 ORDER BY id DESC LIMIT $2)
"""
COUNT_REFUSED_CODE = f"""
WITH counted AS (
    UPDATE users
       SET otp_error_count = otp_error_count + 1,
           is_blocked = otp_error_count + 1 >= $2,
           block_reason = CASE WHEN otp_error_count + 1 >= $2 THEN $3 ELSE block_reason END,
           updated_at = CASE WHEN otp_error_count + 1 >= $2 THEN now() ELSE updated_at END
     WHERE id = $1 AND NOT is_blocked
    RETURNING id, is_blocked, block_reason
)
INSERT INTO audit_events (action, subject_id, old, new, {ACTOR_COLUMNS})
SELECT 'user.block', id, '{{"is_blocked": false}}',
       jsonb_build_object('is_blocked', is_blocked, 'block_reason', block_reason), $4, $5, $6, $7, $8
  FROM counted WHERE is_blocked
RETURNING subject_id
"""
FORGET_FAILURES = """
WITH forgotten AS (DELETE FROM attempts WHERE key = ANY ($2) OR starts_with(key, $3))
UPDATE users SET otp_error_count = 0 WHERE id = $1 AND otp_error_count <> 0
"""
EMAILS = """
SELECT id, email FROM users u WHERE id = ANY ($1)
   AND ($2::uuid IS NULL OR EXISTS (SELECT FROM user_roles r WHERE r.user_id = u.id AND r.client_id = $2))
"""
FORGET_REFUSED_CODES = "UPDATE users SET otp_error_count = 0 WHERE id = $1 AND NOT is_blocked RETURNING id"


async def find_user_by_email(database: Database, email: str) -> User | None:
    """Return the user with this e-mail address, in any letter case, or None."""
    return await find_one(database, User, f"{FIND} email = $1", email.lower())


async def list_emails(source: Source, user_ids: list[UUID], *, client_id: UUID | None) -> dict[UUID, str]:
    """Return the e-mail addresses of those of the users who have a role in the client; None: of all, for operators."""
    rows = await source.fetch(EMAILS, user_ids, client_id)
    return {row["id"]: row["email"] for row in rows}


async def find_user(source: Source, user_id: UUID) -> User | None:
    """Return the user, or None."""
    return await find_one(source, User, f"{FIND} id = $1", user_id)


async def list_users_by_tax_id(database: Database, tax_id: str) -> list[User]:
    """Return users with that tax id, at most two, those with a `person_id` first."""
    if "\0" in tax_id:  # PostgreSQL has no text with it
        return []
    statement = f"{FIND} tax_id = $1 AND tax_id <> '' ORDER BY person_id = '', id LIMIT 2"
    return [User(**row) for row in await database.fetch(statement, tax_id)]


async def find_recipient(source: Source, *, email: str | None = None, user_id: UUID | None = None) -> Recipient | None:
    """Return the user with this e-mail address, in any letter case, or else with this id; or None."""
    if email is not None:
        return await find_one(source, Recipient, f"{FIND_RECIPIENT} u.email = $1", email.lower())
    return await find_one(source, Recipient, f"{FIND_RECIPIENT} u.id = $1", user_id)


async def find_last_revocation(source: Source, user_id: UUID) -> int | None:
    """Return the number of what the user has last lost, to be read before their roles; None for no such user."""
    row = await source.fetchrow("SELECT last_revocation FROM users WHERE id = $1", user_id)
    return None if row is None else row["last_revocation"]


async def list_users(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[UserRecord]:
    """List the users that match, the oldest first; the e-mail address in any letter case."""
    return await lists.fetch(database, LIST, filters, page=page)


async def find_user_record(source: Source, user_id: UUID) -> UserRecord | None:
    """Return the user as it may be shown, or None."""
    return await find_one(source, UserRecord, f"SELECT {COLUMNS} FROM users WHERE id = $1", user_id)


async def hold_user(transaction: PooledConnection, user_id: UUID) -> User | None:
    """Return the user, locked against change until the transaction ends; rows that refer to it need not wait."""
    return await find_one(transaction, User, f"{FIND} id = $1 FOR NO KEY UPDATE", user_id)


async def lock_user(transaction: PooledConnection, user_id: UUID) -> User | None:
    """Return the user, locked for taking access away: this waits for grants under way, which hold the user too."""
    return await find_one(transaction, User, f"{FIND} id = $1 FOR UPDATE", user_id)


async def find_factor_id(source: Source, user_id: UUID, *, kind: str = "SMS") -> UUID | None:
    """Return the id of the user's second factor of this type, active or not, or None."""
    row = await source.fetchrow("SELECT id FROM authentication_factors WHERE user_id = $1 AND type = $2", user_id, kind)
    return None if row is None else row["id"]


async def forget_failures(transaction: PooledConnection, user_id: UUID, *, counters: list[str], beginning: str) -> None:
    """Reset what is counted against the user; `counters`: the keys of its attempts; `beginning`: of further keys."""
    await transaction.execute(FORGET_FAILURES, user_id, counters, beginning)


async def count_refused_code(
    transaction: PooledConnection, user_id: UUID, *, limit: int, reason: str, actor: Actor
) -> bool:
    """Count a refused one-time password; return whether that blocked the user, with an audit row, at the limit."""
    blocked = await transaction.fetchval(COUNT_REFUSED_CODE, user_id, limit, reason, *actor.arguments)
    metrics.AUDIT_ROWS.add(by=blocked is not None)
    return blocked is not None


async def forget_refused_codes(transaction: PooledConnection, user_id: UUID) -> bool:
    """Reset the count; return False for a blocked user. The user cannot be blocked until the transaction ends."""
    return await transaction.fetchval(FORGET_REFUSED_CODES, user_id) is not None


async def list_password_hashes(database: Database, user_id: UUID, *, limit: int) -> list[str]:
    """Return the hashes of the user's present and last passwords, each once, in no order."""
    return [row["password_hash"] for row in await database.fetch(PASSWORD_HASHES, user_id, limit)]


async def change_password(
    transaction: PooledConnection, user_id: UUID, *, password_hash: str, actor: Actor
) -> UserRecord | None:
    """Set and store the password, with an audit row that shows neither hash; return None when there is no user."""
    changed = await find_one(transaction, UserRecord, CHANGE_PASSWORD, user_id, password_hash, *actor.arguments)
    metrics.AUDIT_ROWS.add(by=changed is not None)
    return changed


async def forget_passwords(transaction: rows.Transaction, user_id: UUID | str, *, kept: int) -> None:
    """Delete all but the newest stored passwords of the user."""
    await transaction.execute(FORGET_PASSWORDS, user_id, kept)
