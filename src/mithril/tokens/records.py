"""Tokens as administrators keep them (contract.md 3.5). A value comes in, is kept as a digest, and is seen no more.

How tokens come into being by grants is in `service`, whether one is good in `verification`.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mithril import errors, security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Document
from mithril.database.database import Condition, Database, Listed, Page, PooledConnection
from mithril.tokens import store
from mithril.tokens.store import Issued, Record

# Of the details these are columns; the original kept a refresh token there, and no value is kept here.
COLUMNS, NEVER_KEPT = ("client_id", "scope"), ("refresh_token",)


async def list_records(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[Record]:
    """Those that match; filters as in the store, and `value`, the whole value."""
    return await store.list_records(database, _by_digest(filters), page=page)


async def get_record(database: Database, token_id: UUID) -> Record:
    """The token. Raises NotFound."""
    return _found(await store.find_record(database, token_id))


async def add(database: Database, fields: Document, *, actor: Actor) -> Record:
    """A new token of any kind. `fields`: as on the wire. Raises Violation for a value that is taken."""
    async with database.transaction() as transaction:
        token_id = await rows.insert(transaction, store.ROWS, _columns(fields), actor=actor)
        return _found(await store.find_record(transaction, token_id))


async def change(database: Database, token_id: UUID, fields: Document, *, actor: Actor) -> Record:
    """The state after the change, which takes effect at once. Raises NotFound, Violation as `add`."""
    async with database.transaction() as transaction:
        await rows.update(transaction, store.ROWS, _columns(fields), row_id=token_id, actor=actor)
        return _found(await store.find_record(transaction, token_id))


async def remove(database: Database, token_id: UUID, *, actor: Actor) -> None:
    """Deletes it. Raises NotFound."""
    async with database.transaction() as transaction:
        conditions = [Condition("t.id = {}", token_id)]
        if not await rows.delete(transaction, store.ROWS, conditions, actor=actor):
            raise errors.NotFound


async def remove_all(database: Database, user_ids: list[UUID], *, filters: dict[str, Any], actor: Actor) -> None:
    """Deletes all tokens of these people that match; filters as in `list_records`."""
    conditions = store.conditions_of({"user_ids": user_ids} | _by_digest(filters))
    async with database.transaction() as transaction:
        await store.hold_grants(transaction, user_ids)
        await rows.delete(transaction, store.ROWS, conditions, actor=actor)


async def issue_access(
    transaction: PooledConnection,
    *,
    user_id: UUID,
    client_id: UUID,
    scope: str,
    grant_type: str,
    expires_at: datetime,
    actor: Actor,
) -> Issued:
    """A new access token with its value, which is nowhere else, and its audit row."""
    value, details = security.new_secret(), {"grant_type": grant_type}
    known = {"user_id": user_id, "client_id": client_id, "scope": scope, "expires_at": expires_at}
    columns = {"name": store.ACCESS_TOKEN, "digest": _digest(value), "details": details, **known}
    token_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
    return Issued(
        id=token_id,
        name=store.ACCESS_TOKEN,
        value=value,
        connection_id=None,
        family_id=None,
        details=rows.encoded(details),
        user_id=user_id,
        client_id=client_id,
        scope=scope,
        expires_at=expires_at,
    )


def _columns(fields: Document) -> Document:
    columns: Document = {name: fields[name] for name in ("name", "user_id") if name in fields}
    if "value" in fields:
        columns["digest"] = _digest(fields["value"])
    if "expires_at" in fields:
        columns["expires_at"] = datetime.fromtimestamp(int(fields["expires_at"]), UTC)
    if "details" in fields:
        details: Document = fields["details"]
        columns |= {name: details.get(name) for name in COLUMNS}
        apart = {*COLUMNS, *NEVER_KEPT}
        columns["details"] = {name: value for name, value in details.items() if name not in apart}
    return columns


def _by_digest(filters: dict[str, Any]) -> dict[str, Any]:
    if "value" not in filters:
        return filters
    rest = {name: value for name, value in filters.items() if name != "value"}
    return rest | {"digest": security.digest(filters["value"])}


def _digest(value: str) -> str:
    """As PostgreSQL reads a bytea from text."""
    return f"\\x{security.digest(value).hex()}"


def _found(record: Record | None) -> Record:
    if record is None:
        raise errors.NotFound
    return record
