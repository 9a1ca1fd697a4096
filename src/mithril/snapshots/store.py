"""The SQL of import and export, made from what `sections` says. How a row is written and recorded is in `audit.rows`.

In all statements `t` is a row as it is, and `w` the row that is wanted.
"""

import functools
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mithril.audit import rows
from mithril.audit.rows import Columns
from mithril.database.database import Connection
from mithril.snapshots.sections import Key, Section

ONE_IMPORT_AT_A_TIME = 6_480_317_551  # the name of an advisory lock; any number that nothing else uses
ID = Key("id", ("id",), "id")
HIDDEN = {"password", "secret"}


class Match(NamedTuple):
    """An existing row that a row of the file names: by which key, its id and its state."""

    key: Key
    id: str
    state: str | None


async def begin(connection: Connection) -> datetime:
    """Wait for other imports to end; return the database's time, which is that of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_IMPORT_AT_A_TIME)
    now: datetime = await connection.fetchval("SELECT now()")
    return now


async def names(connection: Connection, section: Section) -> dict[str, str]:
    """Return the ids of all client types or roles (there are few), by name and by id."""
    found = await connection.fetch(f"SELECT id::text, name FROM {section.table.name}")
    return {row["id"]: row["id"] for row in found} | {row["name"]: row["id"] for row in found}


async def find(connection: Connection, section: Section, wanted: Sequence[Columns]) -> list[tuple[int, Match]]:
    """Find the existing rows that share the id or another key with a wanted row, each with that row's position."""
    keys = (ID, *section.keys)
    found = await connection.fetch(_find(section), rows.encoded(wanted))
    return [(row["position"], Match(keys[row["key"]], row["id"], row["state"])) for row in found]


async def remember_password(connection: Connection, user_id: str, password_hash: str) -> None:
    """Add a hash to the stored passwords of a user."""
    insert = "INSERT INTO password_hstr (user_id, password_hash) VALUES ($1, $2)"
    await connection.execute(insert, user_id, password_hash)


async def export(connection: Connection, section: Section) -> list[str]:
    """Return each row as one line of JSON, oldest first."""
    noun = section.reference
    name = f"(SELECT name FROM {noun}s WHERE id = t.{noun}_id) AS {noun}"
    columns = [name if key == noun else key for key in section.schema["properties"] if key not in HIDDEN]
    found = await connection.fetch(
        f"SELECT (SELECT row_to_json(line) FROM (SELECT {', '.join(columns)}) line)::text"
        f" FROM {section.table.name} t ORDER BY t.inserted_at, t.id"
    )
    return [row[0] for row in found]


@functools.cache
def _find(section: Section) -> str:
    lookups = (
        f"SELECT w.position, {number} AS key, t.id::text, {section.state} AS state"
        f" FROM wanted w JOIN {section.table.name} t"
        f" ON ({rows.listed(key.held_in or key.columns, 't.')}) = ({rows.listed(key.columns, 'w.')})"
        for number, key in enumerate((ID, *section.keys))
    )
    return f"""
WITH wanted AS MATERIALIZED (
    SELECT item.position - 1 AS position, w.*
      FROM jsonb_array_elements($1) WITH ORDINALITY item (document, position),
           jsonb_populate_record(NULL::{section.table.name}, item.document) w
)
{" UNION ALL ".join(lookups)}
"""
