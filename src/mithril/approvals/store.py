"""The SQL about approvals, beyond what the grants need of them (`oauth.store`)."""

from datetime import datetime
from uuid import UUID

import msgspec

from mithril.database import lists
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lists import Listed, Listing, Page


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a user allows one client; `scope` is separated by spaces."""

    id: UUID
    scope: str
    user_id: UUID
    client_id: UUID
    client_name: str
    inserted_at: datetime
    updated_at: datetime


COLUMNS = "a.id, a.scope, a.user_id, a.client_id, c.name AS client_name, a.inserted_at, a.updated_at"
CLIENT = "JOIN clients c ON c.id = a.client_id"
TABLES = f"apps a {CLIENT}"
# `client-<id>` names a client, `client_name-<text>` the clients whose names begin with it. The two cannot be confused.
OF_CLIENTS = """
EXISTS (SELECT FROM clients c, unnest({}::text[]) named WHERE c.id = a.client_id
           AND (named = 'client-' || c.id OR starts_with(lower('client_name-' || c.name), lower(named))))
"""
LIST = Listing(Approval, "apps a", COLUMNS, {"user_id": "a.user_id = {}", "clients": OF_CLIENTS}, joins=CLIENT)
HOLD_APPROVAL = """
SELECT a.client_id FROM users u JOIN apps a ON a.user_id = u.id WHERE a.id = $1 AND u.id = $2
   FOR NO KEY UPDATE OF u FOR UPDATE OF a
"""


async def list_approvals(database: Database, user_id: UUID, *, clients: list[str], page: Page) -> Listed[Approval]:
    """List a user's approvals, the oldest first; `clients`: only for these, if any (see OF_CLIENTS)."""
    filters = {"user_id": user_id} | ({"clients": clients} if clients else {})
    return await lists.fetch(database, LIST, filters, page=page)


async def find_approval(source: Source, approval_id: UUID, *, user_id: UUID) -> Approval | None:
    """Return this approval of the user, or None."""
    statement = f"SELECT {COLUMNS} FROM {TABLES} WHERE a.id = $1 AND a.user_id = $2"
    return await find_one(source, Approval, statement, approval_id, user_id)


async def hold_approval(transaction: PooledConnection, approval_id: UUID, *, user_id: UUID) -> UUID | None:
    """Lock this approval of the user until the transaction ends; return its client, or None where there is none.

    Waits for the grants that hold it.
    """
    client_id: UUID | None = await transaction.fetchval(HOLD_APPROVAL, approval_id, user_id)
    return client_id
