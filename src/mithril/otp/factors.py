"""Second factors as administrators manage them (rules USR-18 to USR-21). How users set up their own is in `oauth`."""

from uuid import UUID

import msgspec

from mithril import errors, refusals
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.database.database import Database, Source
from mithril.otp import fields, store
from mithril.otp.store import FactorRecord
from mithril.users import store as user_store
from mithril.users.store import FACTOR_ROWS, UserRecord
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints


class FactorOfUser(msgspec.Struct, frozen=True):
    """A factor, and the user to whom it belongs."""

    factor: FactorRecord
    user: UserRecord


async def get_factor(database: Database, user_id: UUID, factor_id: UUID) -> FactorOfUser:
    """Return this factor of the user. Raises NotFound."""
    async with database.connection() as connection:
        return await _get(connection, user_id, factor_id)


async def add_factor(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> FactorOfUser:
    """Add a factor. Raises ValidationFailed, also where the user has one of that type, and NotFound for the user."""
    columns = fields.FACTOR.new(given) | {"user_id": user_id}
    async with database.transaction(user_id) as transaction:
        errors.found(await user_store.hold_user(transaction, user_id))
        with constraints(fields.CONSTRAINTS):
            factor_id = await rows.insert(transaction, FACTOR_ROWS, columns, actor=actor)
        return await _get(transaction, user_id, factor_id)


async def reset_factor(database: Database, user_id: UUID, factor_id: UUID, *, actor: Actor) -> FactorOfUser:
    """Remove the phone of an active factor: the user names one at the next login. Raises NotFound."""
    async with database.transaction(user_id) as transaction:
        factor = errors.found(await store.hold_factor(transaction, factor_id, user_id=user_id))
        if not factor.is_active:
            raise errors.NotFound(detail="the factor is not active")
        await rows.update(transaction, FACTOR_ROWS, {"factor": None}, row_id=factor_id, actor=actor)
        return await _get(transaction, user_id, factor_id)


async def set_active(
    database: Database, user_id: UUID, factor_id: UUID, *, is_active: bool, actor: Actor
) -> FactorOfUser:
    """Enable or disable the factor. Raises NotFound, and Conflict where it is in that state already."""
    async with database.transaction(user_id) as transaction:
        factor = errors.found(await store.hold_factor(transaction, factor_id, user_id=user_id))
        if factor.is_active == is_active:
            raise refusals.FactorAlreadyEnabled if is_active else refusals.FactorAlreadyDisabled
        await rows.update(transaction, FACTOR_ROWS, {"is_active": is_active}, row_id=factor_id, actor=actor)
        return await _get(transaction, user_id, factor_id)


async def _get(source: Source, user_id: UUID, factor_id: UUID) -> FactorOfUser:
    factor = await store.find_factor_record(source, factor_id, user_id=user_id)
    user = await user_store.find_user_record(source, user_id)
    return FactorOfUser(errors.found(factor), errors.found(user))
