"""Changes of rows with their audit rows. The statement that makes a change also writes its audit row.

`insert`, `update` and `delete` work for every audited table; a store whose changes need more has its own statements.
The columns of a row are passed as one JSON object, which PostgreSQL turns into a row (`jsonb_populate_record`). A
column that is not given keeps its value, or gets the default in a new row. In the statements `t` is the row
before a change and `w` the row after it. A statement names `ACTOR_COLUMNS` and gets `Actor.arguments`.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from mithril import metrics
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.database.database import (
    Condition,
    Connection,
    PooledConnection,
    Violation,
    savepoint,
    violations,
)

Columns = dict[str, Any]
Transaction: TypeAlias = "Connection | PooledConnection"
# The trail has columns of its own for the first three; the others are numbers of revocations, which triggers set.
HIDDEN = (
    "id",
    "inserted_at",
    "updated_at",
    "last_revocation",
    "last_role_revocation",
    "type_since",
    "since",
    "seen_user",
    "seen_client",
    "seen_type",
    "seen_role",
    "is_bound_by_roles",
)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


class AuditedTable(NamedTuple):
    """A table whose changes are written with audit rows."""

    name: str
    noun: str
    """The resource's name in the actions `<noun>.create`, `.update` and `.delete`."""
    verb: str = "update"
    """The second part of the action of an update."""
    hidden: tuple[str, ...] = HIDDEN
    """Columns that the trail must not show."""
    client: str = "NULL::uuid"
    """SQL for the client of an audit row."""
    also_seen: str = "false"
    """SQL condition: the trail shows column `o` of an update even though it did not change."""
    on_update: str = "updated_at = clock_timestamp()"
    is_audited: bool = True

    @property
    def words(self) -> str:
        """Return the noun with a space between two words."""
        return self.noun.replace("_", " ")


async def insert(transaction: Transaction, table: AuditedTable, columns: Columns, *, actor: Actor) -> UUID:
    """Insert a row with its audit row, and return its id. Raises Violation."""
    arguments = actor.arguments if table.is_audited else ()
    with violations():
        added: UUID = await transaction.fetchval(_insert(table, tuple(sorted(columns))), encoded(columns), *arguments)
    metrics.AUDIT_ROWS.add(by=table.is_audited)
    return added


async def insert_first(
    transaction: Transaction, table: AuditedTable, columns: Columns, *, key: str, actor: Actor
) -> UUID | None:
    """Insert as `insert` does, or return None when another row has the same key; the transaction goes on.

    `key`: the name of the unique constraint. Of simultaneous calls one inserts; the others wait for it and get None.
    """
    try:
        async with savepoint(transaction):
            return await insert(transaction, table, columns, actor=actor)
    except Violation as violation:
        if violation.constraint != key:
            raise
        return None


async def update(
    transaction: Transaction, table: AuditedTable, columns: Columns, *, row_id: UUID | str, actor: Actor
) -> bool:
    """Update a row to these values, and return whether anything changed. Raises Violation."""
    arguments = actor.arguments if table.is_audited else ()
    names = tuple(sorted(columns.keys() - {"id"}))
    if not names:
        return False
    with violations():
        changed: int = await transaction.fetchval(_update(table, names), row_id, encoded(columns), *arguments)
    metrics.AUDIT_ROWS.add(by=changed * table.is_audited)
    return changed > 0


async def delete(
    transaction: Transaction, table: AuditedTable, conditions: Sequence[Condition], *, actor: Actor
) -> int:
    """Delete the rows that meet all conditions, with audit rows, and return their number. Raises Violation."""
    arguments = actor.arguments if table.is_audited else ()
    fragments, values = tuple(c.fragment for c in conditions), [c.value for c in conditions]
    with violations():
        removed: int = await transaction.fetchval(_delete(table, fragments), *values, *arguments)
    metrics.AUDIT_ROWS.add(by=removed * table.is_audited)
    return removed


def encoded(value: object) -> str:
    """Return the value as the JSON text that these statements take."""
    return _ENCODER.encode(value).decode()


def bytea(value: bytes) -> str:
    """Return bytes as PostgreSQL reads them from the JSON of a row."""
    return f"\\x{value.hex()}"


def listed(columns: Sequence[str], prefix: str = "") -> str:
    """Return the column names, each with the prefix, as a list in SQL."""
    return ", ".join(prefix + column for column in columns)


@functools.cache
def _insert(table: AuditedTable, columns: tuple[str, ...]) -> str:
    # The clock, not the time of the transaction, so that lists show the rows in the order of writing.
    recorded = f"""
, recorded AS (
    INSERT INTO audit_events (action, subject_id, client_id, new, {ACTOR_COLUMNS})
    SELECT '{table.noun}.create', w.id, {table.client}, to_jsonb(w) - {_array(table.hidden)}, $2, $3, $4, $5, $6
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
    # A row that does not differ is not locked, so requests go on during an import of thousands of rows.
    recorded = f"""
, recorded AS (
    INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS})
    SELECT '{table.noun}.{table.verb}', $1, {table.client.replace("w.", "(found.w).")}, difference.old, difference.new,
           $3, $4, $5, $6, $7
      FROM changed, found, LATERAL (
        SELECT jsonb_object_agg(o.key, o.value) AS old, jsonb_object_agg(o.key, n.value) AS new
          FROM jsonb_each(to_jsonb(found.t) - {_array(table.hidden)}) o JOIN jsonb_each(to_jsonb(found.w)) n USING (key)
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
    SELECT '{table.noun}.delete', w.id, {table.client}, to_jsonb(w) - {_array(table.hidden)}, {actor} FROM w
)
"""
    return f"""
WITH w AS (DELETE FROM {table.name} t WHERE {conditions} RETURNING *)
{recorded if table.is_audited else ""}
SELECT count(*) FROM w
"""


def _array(columns: Sequence[str]) -> str:
    return "ARRAY[" + ", ".join(f"'{column}'" for column in columns) + "]"
