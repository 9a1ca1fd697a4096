"""The SQL about approvals, beyond what the grants need of them (`oauth.store`)."""

from datetime import datetime
from uuid import UUID

import msgspec

from mithril.database.database import Condition, Database, Listed, Page, PooledConnection, Source, find_one


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has consented to for one client; `scope` is a list by space."""

    id: UUID
    scope: str
    user_id: UUID
    client_id: UUID
    client_name: str
    inserted_at: datetime
    updated_at: datetime


COLUMNS = "a.id, a.scope, a.user_id, a.client_id, c.name AS client_name, a.inserted_at, a.updated_at"
TABLES = "apps a JOIN clients c ON c.id = a.client_id"
OF_PERSON = "a.user_id = {}"
# `client-<id>` names a client, `client_name-<text>` those whose names begin so. Neither can look like the other.
OF_CLIENTS = """
EXISTS (SELECT FROM unnest({}::text[]) named
         WHERE named = 'client-' || a.client_id OR starts_with(lower('client_name-' || c.name), lower(named)))
"""


async def list_approvals(database: Database, user_id: UUID, *, clients: list[str], page: Page) -> Listed[Approval]:
    """A person's approvals in the order of their making; `clients`: for these only, if any (see OF_CLIENTS)."""
    of_clients = [Condition(OF_CLIENTS, clients)] if clients else []
    return await database.fetch_page(
        Approval,
        columns=COLUMNS,
        tables=TABLES,
        conditions=[Condition(OF_PERSON, user_id), *of_clients],
        order="a.inserted_at, a.id",
        page=page,
    )


async def find_approval(source: Source, approval_id: UUID, *, user_id: UUID) -> Approval | None:
    """The approval, or None, also for another person's."""
    statement = f"SELECT {COLUMNS} FROM {TABLES} WHERE a.id = $1 AND a.user_id = $2"
    return await find_one(source, Approval, statement, approval_id, user_id)


async def hold_approval(transaction: PooledConnection, approval_id: UUID, *, user_id: UUID) -> UUID | None:
    """The client of the person's approval, which is held until the transaction ends; None where there is none.

    Waits for the grants that hold it.
    """
    statement = "SELECT client_id FROM apps WHERE id = $1 AND user_id = $2 FOR UPDATE"
    client_id: UUID | None = await transaction.fetchval(statement, approval_id, user_id)
    return client_id
