"""Second factors as administrators keep them (contract.md 3.10). A person's own way to theirs is in `oauth`."""

from typing import Any, NamedTuple
from uuid import UUID

from mithril import errors, refusals
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.database.database import Database, Listed, Page, PooledConnection, Source
from mithril.otp import store
from mithril.otp.store import CodeRecord, FactorRecord
from mithril.users import store as user_store
from mithril.users.store import FACTOR_ROWS, Person


class OfPerson(NamedTuple):
    """A factor, and whose it is."""

    factor: FactorRecord
    person: Person


async def list_factors(
    database: Database, user_id: UUID, filters: dict[str, Any], *, page: Page
) -> Listed[FactorRecord]:
    """The person's; filters as in the store."""
    return await store.list_factors(database, {"user_id": user_id} | filters, page=page)


async def list_codes(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[CodeRecord]:
    """Those that match; filters as in the store."""
    return await store.list_codes(database, filters, page=page)


async def get_factor(database: Database, user_id: UUID, factor_id: UUID) -> OfPerson:
    """The person's factor of that id. Raises NotFound."""
    async with database.connection() as connection:
        return await _get(connection, user_id, factor_id)


async def add_factor(database: Database, user_id: UUID, columns: Document, *, actor: Actor) -> OfPerson:
    """A new one. Raises NotFound where there is nobody, Violation where there is one of that type already."""
    async with database.transaction() as transaction:
        if await user_store.hold_user(transaction, user_id) is None:
            raise errors.NotFound
        document = columns | {"user_id": user_id}
        factor_id = await rows.insert(transaction, FACTOR_ROWS, document, actor=actor)
        return await _get(transaction, user_id, factor_id)


async def reset_factor(database: Database, user_id: UUID, factor_id: UUID, *, actor: Actor) -> OfPerson:
    """Takes the phone from an active factor: the person names one when they log in next. Raises NotFound."""
    async with database.transaction() as transaction:
        if not (await _hold(transaction, user_id, factor_id)).is_active:
            raise errors.NotFound(detail="the factor is not active")
        await rows.update(transaction, FACTOR_ROWS, {"factor": None}, row_id=factor_id, actor=actor)
        return await _get(transaction, user_id, factor_id)


async def set_active(database: Database, user_id: UUID, factor_id: UUID, *, is_active: bool, actor: Actor) -> OfPerson:
    """Enables or disables it. Raises NotFound, and Conflict where it is so already."""
    async with database.transaction() as transaction:
        if (await _hold(transaction, user_id, factor_id)).is_active == is_active:
            raise refusals.FactorAlreadyEnabled if is_active else refusals.FactorAlreadyDisabled
        await rows.update(transaction, FACTOR_ROWS, {"is_active": is_active}, row_id=factor_id, actor=actor)
        return await _get(transaction, user_id, factor_id)


async def _hold(transaction: PooledConnection, user_id: UUID, factor_id: UUID) -> FactorRecord:
    factor = await store.hold_factor(transaction, factor_id, user_id=user_id)
    if factor is None:
        raise errors.NotFound
    return factor


async def _get(source: Source, user_id: UUID, factor_id: UUID) -> OfPerson:
    factor = await store.find_factor_record(source, factor_id, user_id=user_id)
    person = await user_store.find_person(source, user_id)
    if factor is None or person is None:
        raise errors.NotFound
    return OfPerson(factor, person)
