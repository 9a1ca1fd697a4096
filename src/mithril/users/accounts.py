"""Users as administrators manage them: added, changed, blocked and deleted (rules USR-1 to USR-11).

Whatever takes access away from a user revokes the tokens in the same transaction. It locks the user first, as grants
do: it waits for a grant that is under way and revokes what that has issued; a later grant sees the change.
Passwords are hashed and compared in threads, with no database connection held.
"""

import asyncio
from uuid import UUID

from mithril import errors, refusals, security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.database.database import Condition, Database, PooledConnection
from mithril.errors import Rule
from mithril.settings import Settings
from mithril.tokens import store as token_store
from mithril.users import fields, passwords, service, store
from mithril.users.store import User, UserRecord
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints, refuse

MISMATCH = Rule("password", "password does not match password in field current_password", [])
WRONG_PASSWORD = ("$.current_password", MISMATCH)


async def get(database: Database, user_id: UUID) -> UserRecord:
    """Return the user. Raises NotFound."""
    return errors.found(await store.find_user_record(database, user_id))


async def add(database: Database, settings: Settings, given: Document, *, actor: Actor) -> UserRecord:
    """Add a user, with a second factor, perhaps without a phone, unless the fields or the settings say otherwise.

    Raises ValidationFailed, also for an e-mail address that is taken.
    """
    checked = fields.USER.new(given)
    columns = fields.columns(checked) | {"password_hash": await passwords.hashed(checked["password"])}
    async with database.transaction() as transaction:
        with constraints(fields.CONSTRAINTS):
            user_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
        if _wants_factor(checked, settings):
            await _set_factor(transaction, user_id, phone=checked.get("factor"), actor=actor)
        return errors.found(await store.find_user_record(transaction, user_id))


async def change(database: Database, settings: Settings, user_id: UUID, given: Document, *, actor: Actor) -> UserRecord:
    """Change the given fields of a user; return the state. The second factor stays unless a phone is given.

    Raises ValidationFailed, also for a used password or an e-mail address that is taken, and NotFound.
    """
    checked = fields.USER.changes(given)
    columns, password, password_hash = fields.columns(checked), checked.get("password"), None
    if password is not None:
        broken = await passwords.judge(database, user_id, password)
        refuse(("$.password", rule) for rule in broken)
        password_hash = await passwords.hashed(password)
    is_blocked = columns.get("is_blocked")
    async with database.transaction(user_id) as transaction:
        before = await _lock(transaction, user_id)
        with constraints(fields.CONSTRAINTS):
            await rows.update(transaction, store.ROWS, columns, row_id=user_id, actor=actor)
        if "factor" in checked and _wants_factor(checked, settings):
            await _set_factor(transaction, user_id, phone=checked["factor"], actor=actor)
        if password_hash is not None:
            await passwords.change(transaction, user_id, password_hash=password_hash, actor=actor)
        if is_blocked is not None and is_blocked != before.is_blocked:
            await _follow(transaction, before, is_blocked=is_blocked)
        return errors.found(await store.find_user_record(transaction, user_id))


async def remove(database: Database, user_id: UUID, *, actor: Actor) -> None:
    """Delete a user with all that the user owns: clients, approvals, tokens, roles. Raises NotFound."""
    async with database.transaction(user_id) as transaction:
        await _lock(transaction, user_id)
        await rows.delete(transaction, store.ROWS, [Condition("t.id = {}", user_id)], actor=actor)


async def block(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> UserRecord:
    """Block a user, perhaps with a `block_reason`; revoke all tokens. Raises ValidationFailed, NotFound, Conflict."""
    reason = fields.BLOCK.new(given).get("block_reason")
    async with database.transaction(user_id) as transaction:
        before = await _lock(transaction, user_id)
        if before.is_blocked:
            raise refusals.UserAlreadyBlocked
        columns = {"is_blocked": True, "block_reason": reason}
        await rows.update(transaction, store.BLOCKED_ROWS, columns, row_id=user_id, actor=actor)
        await _follow(transaction, before, is_blocked=True)
        return errors.found(await store.find_user_record(transaction, user_id))


async def unblock(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> UserRecord:
    """Unblock a user, and reset the counters of failures. Raises ValidationFailed, NotFound, Conflict."""
    reason = fields.BLOCK.new(given).get("block_reason")
    async with database.transaction(user_id) as transaction:
        before = await _lock(transaction, user_id)
        if not before.is_blocked:
            raise refusals.UserAlreadyUnblocked
        columns = {"is_blocked": False, "block_reason": reason}
        await rows.update(transaction, store.UNBLOCKED_ROWS, columns, row_id=user_id, actor=actor)
        await _follow(transaction, before, is_blocked=False)
        return errors.found(await store.find_user_record(transaction, user_id))


async def change_password(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> UserRecord:
    """Set a new password for a user who knows the present one, and revoke the user's tokens.

    Raises ValidationFailed, NotFound.
    """
    checked = fields.PASSWORD_CHANGE.cast(given)
    present, password = checked["current_password"], checked["password"]
    user = errors.found(await store.find_user(database, user_id))
    is_right = await asyncio.to_thread(security.is_password, present, user.password_hash)
    broken = [("$.password", rule) for rule in await passwords.judge(database, user_id, password)]
    refuse(broken if is_right else [WRONG_PASSWORD, *broken])
    password_hash = await passwords.hashed(password)
    async with database.transaction(user_id) as transaction:
        locked = await _lock(transaction, user_id)
        if locked.password_hash != user.password_hash:  # changed while it was compared
            refuse([WRONG_PASSWORD])
        return await passwords.change(transaction, user_id, password_hash=password_hash, actor=actor)


async def _lock(transaction: PooledConnection, user_id: UUID) -> User:
    """Lock the user until the transaction ends, and return it. Raises NotFound."""
    return errors.found(await store.lock_user(transaction, user_id))


async def _follow(transaction: PooledConnection, before: User, *, is_blocked: bool) -> None:
    """Mark the tokens of a user who is blocked or unblocked, which a trigger has revoked, as expired.

    Reset the counters of one who is unblocked.
    """
    await token_store.expire_some(transaction, before.id)
    if not is_blocked:
        counters = [service.login_counter(before.email), service.message_counter(before.id)]
        beginning = service.place_counters(before.email)
        await store.forget_failures(transaction, before.id, counters=counters, beginning=beginning)


async def _set_factor(transaction: PooledConnection, user_id: UUID, *, phone: str | None, actor: Actor) -> None:
    """Set the second factor of a user who is new or locked, so that no other request sets it now."""
    factor_id = await store.find_factor_id(transaction, user_id)
    if factor_id is None:
        columns = {"user_id": user_id, "type": "SMS", "factor": phone}
        await rows.insert(transaction, store.FACTOR_ROWS, columns, actor=actor)
    else:
        await rows.update(transaction, store.FACTOR_ROWS, {"factor": phone}, row_id=factor_id, actor=actor)


def _wants_factor(checked: Document, settings: Settings) -> bool:
    """Only `true` asks for a second factor; where nothing is given, the setting counts."""
    wish = checked.get("2fa_enable")
    return settings.user_2fa_enabled if wish is None else wish is True
