"""The rules of approvals (rules ADM-9 to ADM-14): each is of one user; deleting one revokes the tokens based on it.

A trigger revokes them. The user is locked first, then the approval: a grant locks them in this order too.
"""

from uuid import UUID

from mithril import errors, refusals
from mithril.approvals import fields, store
from mithril.approvals.store import Approval
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Columns
from mithril.database.database import Condition, Database
from mithril.oauth.store import APPROVAL_ROWS
from mithril.tokens import store as token_store
from mithril.users import store as users
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints


async def get_approval(database: Database, approval_id: UUID, *, user_id: UUID) -> Approval:
    """Return this approval of the user. Raises ApprovalNotFound, also for another user's."""
    return errors.found(await store.find_approval(database, approval_id, user_id=user_id), refusals.ApprovalNotFound)


async def add(database: Database, user_id: UUID, given: Document, *, actor: Actor) -> Approval:
    """Add an approval of the user.

    Raises ValidationFailed, also where the user has one for the client, and Forbidden for another user's approval.
    """
    columns = fields.APPROVAL.new(given)
    _check_own(user_id, columns)
    async with database.transaction(user_id) as transaction:
        with constraints(fields.CONSTRAINTS):
            approval_id = await rows.insert(transaction, APPROVAL_ROWS, columns, actor=actor)
        return errors.found(await store.find_approval(transaction, approval_id, user_id=user_id))


async def change(database: Database, approval_id: UUID, given: Document, *, user_id: UUID, actor: Actor) -> Approval:
    """Change the given fields; return the state. Another client revokes the tokens of the previous one.

    Raises ValidationFailed, also where the user has one for the client, ApprovalNotFound, and Forbidden for another
    user.
    """
    columns = fields.APPROVAL.changes(given)
    async with database.transaction(user_id) as transaction:
        held = await store.hold_approval(transaction, approval_id, user_id=user_id)
        client_id = errors.found(held, refusals.ApprovalNotFound)
        _check_own(user_id, columns)
        with constraints(fields.CONSTRAINTS):
            await rows.update(transaction, APPROVAL_ROWS, columns, row_id=approval_id, actor=actor)
        changed = errors.found(await store.find_approval(transaction, approval_id, user_id=user_id))
        if changed.client_id != client_id:
            await token_store.expire_some(transaction, user_id, client_id=client_id)
        return changed


async def remove(database: Database, approval_id: UUID, *, user_id: UUID, actor: Actor) -> None:
    """Delete the approval, and revoke the client's tokens for the user. Raises ApprovalNotFound."""
    async with database.transaction(user_id) as transaction:
        held = await store.hold_approval(transaction, approval_id, user_id=user_id)
        client_id = errors.found(held, refusals.ApprovalNotFound)
        await rows.delete(transaction, APPROVAL_ROWS, [Condition("t.id = {}", approval_id)], actor=actor)
        await token_store.expire_some(transaction, user_id, client_id=client_id)


async def remove_all(database: Database, user_id: UUID, *, client_id: UUID | None, actor: Actor) -> None:
    """Delete the approvals of a user, for one client or for all, and revoke the tokens there, based on them or not."""
    conditions = [Condition("t.user_id = {}", user_id)]
    if client_id is not None:
        conditions.append(Condition("t.client_id = {}", client_id))
    async with database.transaction(user_id) as transaction:
        await users.hold_user(transaction, user_id)
        await rows.delete(transaction, APPROVAL_ROWS, conditions, actor=actor)
        await token_store.revoke_all(transaction, user_id, client_id=client_id)


def _check_own(user_id: UUID, columns: Columns) -> None:
    if UUID(columns.get("user_id", str(user_id))) != user_id:
        raise errors.Forbidden(detail="an approval for another user than X-Consumer-Id names")
