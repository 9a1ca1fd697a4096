"""People as administrators keep them: made, changed, blocked and deleted (contract.md 3.8).

Whatever takes a person's access away ends their tokens in the same transaction. It locks the person first, as grants
do: one that is under way is waited for, and what it has issued ends too; one that comes later sees the change.
Passwords are hashed and compared in threads, with no database connection held.
"""

import asyncio
from typing import Any, NamedTuple
from uuid import UUID

from mithril import errors, refusals, security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.database.database import Condition, Database, Listed, Page, PooledConnection
from mithril.errors import Rule
from mithril.settings import Settings
from mithril.tokens import store as token_store
from mithril.users import passwords, service, store
from mithril.users.store import Person, User
from mithril.validation import fields as validation

MISMATCH = Rule("password", "password does not match password in field current_password", [])
WRONG_PASSWORD = ("$.current_password", MISMATCH)
# What a person is not without: a blank one is an empty one.
NEVER_NULL = ("tax_id", "person_id")


class Account(NamedTuple):
    """What is said about a person: `columns`, a password if there is one, and their second factor."""

    columns: Document
    password: str | None
    is_two_factor: bool
    """Whether the second factor is to be there, with `phone`."""
    phone: str | None


def new_account(fields: Document, settings: Settings) -> Account:
    """As the fields of a new person have it; they get a second factor, perhaps without a phone, unless told not to."""
    return _account(fields, is_two_factor=_wants_factor(fields, settings))


def changed_account(fields: Document, settings: Settings) -> Account:
    """As the changed fields have it; the second factor stays as it is unless a phone is named."""
    return _account(fields, is_two_factor="factor" in fields and _wants_factor(fields, settings))


async def list_people(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[Person]:
    """Those that match; filters as in the store."""
    return await store.list_people(database, filters, page=page)


async def get(database: Database, user_id: UUID) -> Person:
    """The person. Raises NotFound."""
    return _found(await store.find_person(database, user_id))


async def add(database: Database, account: Account, *, actor: Actor) -> Person:
    """A new person with their second factor. Raises Violation for an e-mail address that is taken."""
    assert account.password is not None, "a new person has a password"
    columns = account.columns | {"password_hash": await passwords.hashed(account.password)}
    async with database.transaction() as transaction:
        user_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
        if account.is_two_factor:
            await _set_factor(transaction, user_id, phone=account.phone, actor=actor)
        return _found(await store.find_person(transaction, user_id))


async def change(database: Database, user_id: UUID, account: Account, *, actor: Actor) -> Person:
    """The state after the change. Raises NotFound, ValidationFailed for a used password, Violation as `add`."""
    password_hash = None
    if account.password is not None:
        broken = await passwords.judge(database, user_id, account.password)
        validation.refuse(("$.password", rule) for rule in broken)
        password_hash = await passwords.hashed(account.password)
    is_blocked = account.columns.get("is_blocked")
    async with database.transaction() as transaction:
        before = await _lock(transaction, user_id)
        await rows.update(transaction, store.ROWS, account.columns, row_id=user_id, actor=actor)
        if account.is_two_factor:
            await _set_factor(transaction, user_id, phone=account.phone, actor=actor)
        if password_hash is not None:
            await passwords.change(transaction, user_id, password_hash=password_hash, actor=actor)
        if is_blocked is not None and is_blocked != before.is_blocked:
            await _follow(transaction, before, is_blocked=is_blocked)
        return _found(await store.find_person(transaction, user_id))


async def remove(database: Database, user_id: UUID, *, actor: Actor) -> None:
    """Deletes the person with all that is theirs: clients, approvals, tokens, roles. Raises NotFound."""
    async with database.transaction() as transaction:
        await _lock(transaction, user_id)
        await rows.delete(transaction, store.ROWS, [Condition("t.id = {}", user_id)], actor=actor)


async def block(database: Database, user_id: UUID, *, reason: str | None, actor: Actor) -> Person:
    """Blocks a person, which ends all their tokens. Raises NotFound, Conflict."""
    async with database.transaction() as transaction:
        before = await _lock(transaction, user_id)
        if before.is_blocked:
            raise refusals.UserAlreadyBlocked
        columns = {"is_blocked": True, "block_reason": reason}
        await rows.update(transaction, store.BLOCKED_ROWS, columns, row_id=user_id, actor=actor)
        await _follow(transaction, before, is_blocked=True)
        return _found(await store.find_person(transaction, user_id))


async def unblock(database: Database, user_id: UUID, *, reason: str | None, actor: Actor) -> Person:
    """Lets a person in again, and forgets what they did wrong before. Raises NotFound, Conflict."""
    async with database.transaction() as transaction:
        before = await _lock(transaction, user_id)
        if not before.is_blocked:
            raise refusals.UserAlreadyUnblocked
        columns = {"is_blocked": False, "block_reason": reason}
        await rows.update(transaction, store.UNBLOCKED_ROWS, columns, row_id=user_id, actor=actor)
        await _follow(transaction, before, is_blocked=False)
        return _found(await store.find_person(transaction, user_id))


async def change_password(database: Database, user_id: UUID, *, present: str, password: str, actor: Actor) -> Person:
    """A new password for who knows the present one; ends their tokens. Raises NotFound, ValidationFailed."""
    user = await store.find_user(database, user_id)
    if user is None:
        raise errors.NotFound
    is_right = await asyncio.to_thread(_is_password, present, user)
    broken = [("$.password", rule) for rule in await passwords.judge(database, user_id, password)]
    validation.refuse(broken if is_right else [WRONG_PASSWORD, *broken])
    password_hash = await passwords.hashed(password)
    async with database.transaction() as transaction:
        locked = await _lock(transaction, user_id)
        if locked.password_hash != user.password_hash:  # changed while it was compared
            validation.refuse([WRONG_PASSWORD])
        return await passwords.change(transaction, user_id, password_hash=password_hash, actor=actor)


async def _lock(transaction: PooledConnection, user_id: UUID) -> User:
    """Raises NotFound."""
    user = await store.lock_user(transaction, user_id)
    if user is None:
        raise errors.NotFound
    return user


async def _follow(transaction: PooledConnection, before: User, *, is_blocked: bool) -> None:
    """What comes with being blocked, or no longer so.

    What a blocked person was given meanwhile they could not use, and unblocking must not bring it to life.
    """
    await token_store.end_all(transaction, before.id)
    if not is_blocked:
        counters = [service.login_counter(before.email), service.message_counter(before.id)]
        await store.forget_failures(transaction, before.id, counters=counters)


async def _set_factor(transaction: PooledConnection, user_id: UUID, *, phone: str | None, actor: Actor) -> None:
    """The person is new or held, so nobody else sets it now."""
    factor_id = await store.find_factor_id(transaction, user_id)
    if factor_id is None:
        columns = {"user_id": user_id, "type": "SMS", "factor": phone}
        await rows.insert(transaction, store.FACTOR_ROWS, columns, actor=actor)
    else:
        await rows.update(transaction, store.FACTOR_ROWS, {"factor": phone}, row_id=factor_id, actor=actor)


def _account(fields: Document, *, is_two_factor: bool) -> Account:
    apart = {"password", "factor", "2fa_enable"}
    columns = {name: value for name, value in fields.items() if name not in apart}
    if "email" in columns:
        columns["email"] = columns["email"].lower()
    columns |= {name: columns[name] or "" for name in NEVER_NULL if name in columns}
    return Account(columns, fields.get("password"), is_two_factor, fields.get("factor"))


def _wants_factor(fields: Document, settings: Settings) -> bool:
    """Said by nothing but `true`; the setting counts where nothing is said."""
    wish = fields.get("2fa_enable")
    return settings.user_2fa_enabled if wish is None else wish is True


def _is_password(password: str, user: User) -> bool:
    return user.password_hash is not None and security.is_password(password, user.password_hash)


def _found(person: Person | None) -> Person:
    if person is None:
        raise errors.NotFound
    return person
