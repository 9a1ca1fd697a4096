"""Tokens as administrators manage them (rules ADM-15 to ADM-19).

Of a value only the digest is stored, and nothing shows it. How grants issue tokens is in `service`, whether a token
is good in `verification`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril import errors, security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Columns
from mithril.database.database import Condition, Database, PooledConnection
from mithril.database.lists import Listed, Page
from mithril.errors import Rule
from mithril.tokens import fields, record_store, store
from mithril.tokens.record_store import Record
from mithril.tokens.store import Issued, NewToken
from mithril.validation import scopes as syntax
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints, refuse

NOT_OF_CLIENT_TYPE = Rule("inclusion", "nothing of it is allowed by client type", [])


async def list_records(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[Record]:
    """List the tokens that match; filters as in the store, and `value`, the whole value."""
    return await record_store.list_records(database, _by_digest(filters), page=page)


async def get_record(database: Database, token_id: UUID) -> Record:
    """Return the token. Raises NotFound."""
    return errors.found(await record_store.find_record(database, token_id))


async def add(database: Database, given: Document, *, actor: Actor) -> Record:
    """Add a token of any kind. Raises ValidationFailed, also for a value that is taken."""
    columns = fields.columns(fields.TOKEN.new(given))
    async with database.transaction() as transaction:
        columns = await bounded(transaction, columns, is_new=True)
        with constraints(fields.CONSTRAINTS):
            token_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
        store.count_issued(columns["name"])
        return errors.found(await record_store.find_record(transaction, token_id))


async def change(database: Database, token_id: UUID, given: Document, *, actor: Actor) -> Record:
    """Change the given fields, with effect at once; return the state. Raises as `add`, and NotFound."""
    columns = fields.columns(fields.TOKEN.changes(given))
    async with database.transaction(token_id) as transaction:
        columns = await bounded(transaction, columns, is_new=False)
        with constraints(fields.CONSTRAINTS):
            await rows.update(transaction, store.ROWS, columns, row_id=token_id, actor=actor)
        return errors.found(await record_store.find_record(transaction, token_id))


async def bounded(source: rows.Transaction, columns: Columns, *, is_new: bool) -> Columns:
    """Return the columns with what the client's type allows of the scope, and of the one that the token would give.

    With them, of a new token, what the client and its type had lost by then. Raises ValidationFailed where nothing is
    left.
    """
    columns = dict(columns)
    found = await record_store.find_type(source, columns["client_id"]) if "client_id" in columns else None
    if found is None:
        return columns
    details = dict(columns["details"])
    for held, name in ((columns, "scope"), (details, "scope_request")):
        given = held.get(name)
        if isinstance(given, str) and given:
            held[name] = syntax.narrowed(given, found.scope)
            refuse([] if held[name] else [(f"$.details.{name}", NOT_OF_CLIENT_TYPE)])
    numbers = {"seen_client": found.seen_client, "seen_type": found.seen_type} if is_new else {}
    return columns | numbers | {"details": details}


async def remove(database: Database, token_id: UUID, *, actor: Actor) -> None:
    """Delete the token. Raises NotFound."""
    async with database.transaction(token_id) as transaction:
        conditions = [Condition("t.id = {}", token_id)]
        if not await rows.delete(transaction, store.ROWS, conditions, actor=actor):
            raise errors.NotFound


async def remove_all(database: Database, user_ids: list[UUID], *, filters: dict[str, Any], actor: Actor) -> None:
    """Delete all tokens of these users that match; filters as in `list_records`."""
    conditions = record_store.conditions_of({"user_ids": user_ids} | _by_digest(filters))
    async with database.transaction() as transaction:
        await store.hold_grants(transaction, user_ids)
        await rows.delete(transaction, store.ROWS, conditions, actor=actor)


async def issue_access(transaction: PooledConnection, new: NewToken, *, expires_at: datetime, actor: Actor) -> Issued:
    """Add an access token with its audit row; return it with its value, which is stored nowhere."""
    value = security.new_secret()
    seen = msgspec.structs.asdict(new.seen) if new.seen else {}
    known: dict[str, Any] = {"user_id": new.user_id, "client_id": new.client_id, "scope": new.scope}
    known |= {"name": new.kind, "details": new.details, "expires_at": expires_at}
    columns = known | {f"seen_{whose}": number for whose, number in seen.items()}
    columns |= {"digest": rows.bytea(security.digest(value)), "is_bound_by_roles": new.is_bound_by_roles}
    token_id = await rows.insert(transaction, store.ROWS, columns, actor=actor)
    return Issued(id=token_id, value=value, connection_id=None, family_id=None, **known)


def _by_digest(filters: dict[str, Any]) -> dict[str, Any]:
    if "value" not in filters:
        return filters
    rest = {name: value for name, value in filters.items() if name != "value"}
    return rest | {"digest": security.digest(filters["value"])}
