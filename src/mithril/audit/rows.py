"""Rows of the audit trail. A row is written by the very statement that makes the change.

`ACTOR_COLUMNS` and `Actor.arguments` go together: the statement names the first, and passes the second. A noun
whose rows change in ways of their own has its own statements, in its store. The plain changes of a row, by a
document of its columns, are the same for every noun and are here (`insert`, `update`, `delete`): PostgreSQL turns the
document into a row (`jsonb_populate_record`); what the document does not have, an existing row keeps, and a new
one gets by default. In all statements `t` is a row as it is, and `w` the row that is wanted.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database.database import (
    Condition,
    Connection,
    PooledConnection,
    Violation,
    violations,
)

Document = dict[str, Any]
Transaction: TypeAlias = "Connection | PooledConnection"
UNSEEN = ("id", "inserted_at", "updated_at")  # the trail has columns of its own for these
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class AuditedTable(NamedTuple):
    """What changing a row of a table, and recording it, takes to know."""

    name: str
    noun: str
    """The kind of thing, as in the actions `<noun>.create`, `.update` and `.delete`."""
    verb: str = "update"
    """What a change of a row is called, where it has a name of its own."""
    unseen: tuple[str, ...] = UNSEEN
    """Columns that the trail must not show."""
    client: str = "NULL::uuid"
    """The client that an audit row is about."""
    also_seen: str = "false"
    """When the trail shows a column (`o`) that does not differ."""
    on_update: str = "updated_at = clock_timestamp()"
    is_audited: bool = True


async def insert(transaction: Transaction, table: AuditedTable, document: Document, *, actor: Actor) -> UUID:
    """A new row with its audit row; its id. Raises Violation."""
    arguments = actor.arguments if table.is_audited else ()
    with violations():
        added: UUID = await transaction.fetchval(_insert(table, tuple(sorted(document))), encoded(document), *arguments)
    return added


async def insert_first(
    transaction: Transaction, table: AuditedTable, document: Document, *, key: str, actor: Actor
) -> UUID | None:
    """As `insert`; None, and the transaction goes on, where a row is there with which it shares the key.

    `key`: the name of that constraint. Of several at the same moment one adds; the others wait for it, and find it.
    """
    try:
        async with transaction.transaction():
            return await insert(transaction, table, document, actor=actor)
    except Violation as violation:
        if violation.constraint != key:
            raise
        return None


async def update(
    transaction: Transaction, table: AuditedTable, document: Document, *, row_id: UUID | str, actor: Actor
) -> bool:
    """Brings a row to what the document says, if it differs; says whether it did. Raises Violation."""
    arguments = actor.arguments if table.is_audited else ()
    columns = tuple(sorted(document.keys() - {"id"}))
    if not columns:
        return False
    with violations():
        changed: int = await transaction.fetchval(_update(table, columns), row_id, encoded(document), *arguments)
    return changed > 0


async def delete(
    transaction: Transaction, table: AuditedTable, conditions: Sequence[Condition], *, actor: Actor
) -> int:
    """Deletes the rows that meet all conditions, each with its audit row; their number. Raises Violation."""
    arguments = actor.arguments if table.is_audited else ()
    fragments, values = tuple(c.fragment for c in conditions), [c.value for c in conditions]
    with violations():
        removed: int = await transaction.fetchval(_delete(table, fragments), *values, *arguments)
    return removed


def encoded(value: object) -> str:
    """The value as the JSON text that these statements take."""
    return _ENCODER.encode(value).decode()


def bytea(value: bytes) -> str:
    """Return bytes as PostgreSQL reads them from the JSON of a document."""
    return f"\\x{value.hex()}"


def listed(columns: Sequence[str], prefix: str = "") -> str:
    """Column names, each behind the prefix, as SQL lists them."""
    return ", ".join(prefix + column for column in columns)


@functools.cache
def _insert(table: AuditedTable, columns: tuple[str, ...]) -> str:
    # The clock, not the transaction's time: the order of writing stays the order of lists.
    recorded = f"""
, recorded AS (
    INSERT INTO audit_events (action, subject_id, client_id, new, {ACTOR_COLUMNS})
    SELECT '{table.noun}.create', w.id, {table.client}, to_jsonb(w) - {_array(table.unseen)}, $2, $3, $4, $5, $6
      FROM w
)
"""
    own = "".join(f"{column}, " for column in columns)
    return f"""
WITH w AS (
    INSERT INTO {table.name} ({own}inserted_at, updated_at)
    SELECT {"".join(f"w.{column}, " for column in columns)}moment, moment
      FROM jsonb_populate_record(NULL::{table.name}, $1) w, clock_timestamp() moment
    RETURNING *
)
{recorded if table.is_audited else ""}
SELECT id FROM w
"""


@functools.cache
def _update(table: AuditedTable, columns: tuple[str, ...]) -> str:
    # Only a row that differs is locked: requests go on beside an import of thousands of rows.
    recorded = f"""
, recorded AS (
    INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS})
    SELECT '{table.noun}.{table.verb}', $1, {table.client.replace("w.", "(found.w).")}, difference.old, difference.new,
           $3, $4, $5, $6, $7
      FROM changed, found, LATERAL (
        SELECT jsonb_object_agg(o.key, o.value) AS old, jsonb_object_agg(o.key, n.value) AS new
          FROM jsonb_each(to_jsonb(found.t) - {_array(table.unseen)}) o JOIN jsonb_each(to_jsonb(found.w)) n USING (key)
         WHERE o.value <> n.value OR {table.also_seen}
      ) difference
)
"""
    assignments = ", ".join(f"{column} = (found.w).{column}" for column in columns)
    return f"""
WITH found AS (
    SELECT t, jsonb_populate_record(t, $2) AS w FROM {table.name} t
     WHERE t.id = $1 AND t IS DISTINCT FROM jsonb_populate_record(t, $2) FOR UPDATE
), changed AS (
    UPDATE {table.name} t SET {assignments}, {table.on_update} FROM found WHERE t.id = $1 RETURNING t.id
)
{recorded if table.is_audited else ""}
SELECT count(*) FROM changed
"""


@functools.cache
def _delete(table: AuditedTable, fragments: tuple[str, ...]) -> str:
    conditions = " AND ".join(fragment.format(f"${place}") for place, fragment in enumerate(fragments, start=1))
    actor = ", ".join(f"${place}" for place in range(len(fragments) + 1, len(fragments) + 6))
    recorded = f"""
, recorded AS (
    INSERT INTO audit_events (action, subject_id, client_id, old, {ACTOR_COLUMNS})
    SELECT '{table.noun}.delete', w.id, {table.client}, to_jsonb(w) - {_array(table.unseen)}, {actor} FROM w
)
"""
    return f"""
WITH w AS (DELETE FROM {table.name} t WHERE {conditions} RETURNING *)
{recorded if table.is_audited else ""}
SELECT count(*) FROM w
"""


def _array(columns: Sequence[str]) -> str:
    return "ARRAY[" + ", ".join(f"'{column}'" for column in columns) + "]"
