"""The SQL about second factors and one-time passwords."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril import metrics
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database import lists
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lists import Filters, Listed, Listing, Page, Search


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """A user's second factor; `phone` is None until they have named one."""

    id: UUID
    phone: str | None
    state: str
    """Changes with every change of the factor."""


class OpenCode(msgspec.Struct, frozen=True, kw_only=True):
    """A one-time password that allows one more try."""

    id: UUID
    code_hash: str


STATE = "md5(concat_ws('|', id, factor, extract(epoch FROM updated_at)))"
FIND_FACTOR = f"""
SELECT id, nullif(factor, '') AS phone, {STATE} AS state
  FROM authentication_factors WHERE user_id = $1 AND type = $2 AND is_active
"""
CHANGE_FACTOR = f"""
WITH old AS (
    SELECT id, factor FROM authentication_factors WHERE id = $1 AND is_active AND {STATE} = $3 FOR UPDATE
), changed AS (
    UPDATE authentication_factors f SET factor = $2, updated_at = now() FROM old WHERE f.id = old.id
    RETURNING f.id, old.factor AS old, f.factor AS new
), recorded AS (
    INSERT INTO audit_events (action, subject_id, old, new, {ACTOR_COLUMNS})
    SELECT 'authentication_factor.update', id, jsonb_build_object('factor', old), jsonb_build_object('factor', new),
           $4, $5, $6, $7, $8
      FROM changed
)
SELECT id FROM changed
"""
ADD_CODE = """
WITH canceled AS (
    UPDATE otp SET status = 'CANCELED', active = false WHERE key = ANY ($1) AND status = 'NEW'
)
INSERT INTO otp (key, code_digest, code_expired_at, status)
VALUES ($2, $3, now() + make_interval(secs => $4), 'NEW')
"""
NEWEST = "SELECT id FROM otp WHERE key = $1 ORDER BY inserted_at DESC LIMIT 1"
OPEN = "status = 'NEW' AND code_expired_at > now()"
FIND_OPEN = f"""
SELECT id, convert_from(code_digest, 'UTF8') AS code_hash FROM otp
 WHERE id = ({NEWEST}) AND {OPEN} AND attempts_count < $2
"""
# Of tries at the same moment each waits here for the row, and then looks again at what the one before it did: no
# more than `$2` wrong ones are told so, and no right one is accepted after them.
COUNT_ATTEMPT = f"""
UPDATE otp SET attempts_count = attempts_count + 1
 WHERE id = $1 AND {OPEN} AND attempts_count < $2 AND in_time($3)
RETURNING id
"""
USE_CODE = f"""
UPDATE otp SET status = 'VERIFIED', active = false, attempts_count = attempts_count + 1
 WHERE id = $1 AND {OPEN} AND attempts_count < $2
RETURNING id
"""
CLOSE = f"""
UPDATE otp SET status = CASE WHEN code_expired_at <= now() THEN 'EXPIRED' ELSE 'UNVERIFIED' END, active = false
 WHERE id = ({NEWEST}) AND status = 'NEW' AND (code_expired_at <= now() OR attempts_count >= $2)
   AND in_time($3)
"""
FIND_STATUS = f"SELECT status FROM otp WHERE id = ({NEWEST})"


async def find_factor(source: Source, user_id: UUID, *, factor_type: str = "SMS") -> Factor | None:
    """Return the user's active factor of that type, or None."""
    return await find_one(source, Factor, FIND_FACTOR, user_id, factor_type)


async def change_factor(
    transaction: PooledConnection, factor_id: UUID, *, state: str, phone: str, actor: Actor
) -> bool:
    """Give the factor another phone, with an audit row; False when it is no longer active, or in another state."""
    is_changed = await transaction.fetchval(CHANGE_FACTOR, factor_id, phone, state, *actor.arguments) is not None
    metrics.AUDIT_ROWS.add(by=is_changed)
    return is_changed


async def add_code(
    transaction: PooledConnection, key: str, *, code_hash: str, lives_seconds: float, replaced: list[str]
) -> None:
    """Add a one-time password, and cancel those of the keys in `replaced`."""
    await transaction.execute(ADD_CODE, [key, *replaced], key, code_hash.encode(), float(lives_seconds))


async def find_open(database: Database, key: str, *, max_attempts: int) -> OpenCode | None:
    """Return the newest code of the key, if it allows one more try."""
    return await find_one(database, OpenCode, FIND_OPEN, key, max_attempts)


async def count_attempt(database: Database, code_id: UUID, *, max_attempts: int) -> bool:
    """Count a wrong try; False for a code that allows no more. The count is committed, whatever follows."""
    async with database.turn(code_id):
        return await database.write(COUNT_ATTEMPT, code_id, max_attempts) is not None


async def close_code(database: Database, key: str, *, max_attempts: int) -> str | None:
    """Close the newest code of the key if it is expired or used up; return its status, None if there is no code."""
    await database.write(CLOSE, key, max_attempts)
    # A statement of its own: one that began before another request closed the code would still see it open.
    row = await database.fetchrow(FIND_STATUS, key)
    return None if row is None else row[0]


async def use_code(transaction: PooledConnection, code_id: UUID, *, max_attempts: int) -> bool:
    """Mark a code as used; False when it allows no more tries. Exactly one of several gets True."""
    return await transaction.fetchval(USE_CODE, code_id, max_attempts) is not None


class FactorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A second factor as administrators see it; `factor` is the phone, to be shown masked only."""

    id: UUID
    user_id: UUID
    type: str
    factor: str | None
    is_active: bool
    inserted_at: datetime
    updated_at: datetime


class CodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What may be known about a one-time password: nothing of the code."""

    id: UUID
    key: str
    code_expired_at: datetime
    status: str
    active: bool
    attempts_count: int
    inserted_at: datetime


FACTOR_COLUMNS = ", ".join(FactorRecord.__struct_fields__)
FIND_FACTOR_RECORD = f"SELECT {FACTOR_COLUMNS} FROM authentication_factors WHERE id = $1 AND user_id = $2"
FACTOR_FILTERS = {"user_id": "user_id = {}", "type": "type = {}", "is_active": "is_active = {}"}
FACTOR_LIST = Listing(FactorRecord, "authentication_factors", FACTOR_COLUMNS, FACTOR_FILTERS)
CODE_FILTERS: Filters = {
    "key": lists.containing("key"),
    "status": Search("status = {}"),
    "active": Search("active = {}"),
}
CODE_LIST = Listing(CodeRecord, "otp", ", ".join(CodeRecord.__struct_fields__), CODE_FILTERS)


async def list_factors(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[FactorRecord]:
    """List factors, the oldest first; filters: FACTOR_FILTERS."""
    return await lists.fetch(database, FACTOR_LIST, filters, page=page)


async def find_factor_record(source: Source, factor_id: UUID, *, user_id: UUID) -> FactorRecord | None:
    """Return the user's factor of that id, active or not; or None."""
    return await find_one(source, FactorRecord, FIND_FACTOR_RECORD, factor_id, user_id)


async def hold_factor(transaction: PooledConnection, factor_id: UUID, *, user_id: UUID) -> FactorRecord | None:
    """Return the same, held against change until the transaction ends."""
    return await find_one(transaction, FactorRecord, f"{FIND_FACTOR_RECORD} FOR NO KEY UPDATE", factor_id, user_id)


async def list_codes(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[CodeRecord]:
    """List one-time passwords, the oldest first; filters: CODE_FILTERS, of which a key is found by any part of it."""
    return await lists.fetch(database, CODE_LIST, filters, page=page)
