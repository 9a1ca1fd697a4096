"""The rules of approvals: each is its person's own, and with it end the tokens that rest on it (contract.md 3.6).

The approval is locked first and tokens are ended afterwards, in a statement of their own: so a grant that held the
approval until then is over, and what it issued is seen (see `oauth.code_grant.check_people`).
"""

from uuid import UUID

from mithril import errors
from mithril.approvals import store
from mithril.approvals.store import Approval
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.database.database import Condition, Database, Listed, Page
from mithril.oauth.store import APPROVAL_ROWS
from mithril.tokens import store as token_store


async def list_approvals(database: Database, user_id: UUID, *, clients: list[str], page: Page) -> Listed[Approval]:
    """The person's own; `clients` as in the store."""
    return await store.list_approvals(database, user_id, clients=clients, page=page)


async def get_approval(database: Database, approval_id: UUID, *, user_id: UUID) -> Approval:
    """The person's approval. Raises NotFound, also for another person's."""
    return _found(await store.find_approval(database, approval_id, user_id=user_id))


async def add(database: Database, user_id: UUID, columns: Document, *, actor: Actor) -> Approval:
    """A new one. Raises Forbidden where it is not the person's own; Violation where there is one already."""
    _check_own(user_id, columns)
    async with database.transaction() as transaction:
        approval_id = await rows.insert(transaction, APPROVAL_ROWS, columns, actor=actor)
        return _found(await store.find_approval(transaction, approval_id, user_id=user_id))


async def change(database: Database, approval_id: UUID, columns: Document, *, user_id: UUID, actor: Actor) -> Approval:
    """The state after the change. One that is for another client now ends the tokens of the client that it was for.

    Raises NotFound, Forbidden, Violation.
    """
    async with database.transaction() as transaction:
        client_id = await store.hold_approval(transaction, approval_id, user_id=user_id)
        if client_id is None:
            raise errors.NotFound
        _check_own(user_id, columns)
        await rows.update(transaction, APPROVAL_ROWS, columns, row_id=approval_id, actor=actor)
        changed = _found(await store.find_approval(transaction, approval_id, user_id=user_id))
        if changed.client_id != client_id:
            await token_store.end_all(transaction, user_id, client_id=client_id)
        return changed


async def remove(database: Database, approval_id: UUID, *, user_id: UUID, actor: Actor) -> None:
    """Deletes it, and ends the tokens of person and client. Raises NotFound."""
    async with database.transaction() as transaction:
        client_id = await store.hold_approval(transaction, approval_id, user_id=user_id)
        if client_id is None:
            raise errors.NotFound
        await rows.delete(transaction, APPROVAL_ROWS, [Condition("t.id = {}", approval_id)], actor=actor)
        await token_store.end_all(transaction, user_id, client_id=client_id)


async def remove_all(database: Database, user_id: UUID, *, client_id: UUID | None, actor: Actor) -> None:
    """Deletes a person's approvals, for one client or for all, and ends as many of their tokens."""
    conditions = [Condition("t.user_id = {}", user_id)]
    if client_id is not None:
        conditions.append(Condition("t.client_id = {}", client_id))
    async with database.transaction() as transaction:
        await token_store.hold_grants(transaction, [user_id])
        await rows.delete(transaction, APPROVAL_ROWS, conditions, actor=actor)
        await token_store.end_all(transaction, user_id, client_id=client_id)


def _check_own(user_id: UUID, columns: Document) -> None:
    if UUID(columns.get("user_id", str(user_id))) != user_id:
        raise errors.Forbidden(detail="an approval for another person than X-Consumer-Id names")


def _found(approval: Approval | None) -> Approval:
    if approval is None:
        raise errors.NotFound
    return approval
