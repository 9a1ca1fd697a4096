"""Partitions of the audit trail: what comes before the revision that makes them (0010), and those of the next months.

That revision must not read the table while it is locked. So `mithril migrate` builds an index before, and a constraint
that says which month is the last one of the first partition, while reads and writes go on. From the constraint on the
old table takes rows of 14 days or more: for so long an interrupted `mithril migrate` may wait for its repetition.
"""

from contextlib import suppress

import asyncpg

from mithril.database import indexes
from mithril.database.connecting import Connection

KEY = {"audit_events_id_occurred_at_index": "audit_events (id, occurred_at)"}
IS_WHOLE = "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass('audit_events')"
# A constraint of an interrupted run, some weeks ago perhaps, gives way to that of today.
BOUND = """
DO $$
DECLARE
    soon timestamp := (now() + interval '14 days') AT TIME ZONE 'UTC';
    wanted text := to_char(soon, '"audit_events_to_"YYYY_MM');
    old text;
BEGIN
    SET LOCAL lock_timeout = '200ms';
    LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE;
    SELECT min(conname) INTO old FROM pg_constraint
     WHERE conrelid = 'audit_events'::regclass AND conname LIKE 'audit_events_to_%';
    IF old IS DISTINCT FROM wanted AND (SELECT relkind = 'r' FROM pg_class WHERE oid = 'audit_events'::regclass) THEN
        EXECUTE format('ALTER TABLE audit_events DROP CONSTRAINT IF EXISTS %I,
                        ADD CONSTRAINT %I CHECK (occurred_at < %L) NOT VALID', coalesce(old, wanted), wanted,
                       (date_trunc('month', soon) + interval '1 month') AT TIME ZONE 'UTC');
    END IF;
END
$$
"""
# In a statement of its own: the lock for `ADD CONSTRAINT` is not kept while all rows are read.
VALIDATE = """
DO $$
BEGIN
    EXECUTE coalesce((SELECT format('ALTER TABLE audit_events VALIDATE CONSTRAINT %I', conname) FROM pg_constraint
        WHERE conrelid = 'audit_events'::regclass AND conname LIKE 'audit_events_to_%'), 'SELECT');
END
$$
"""
MAKE = "SELECT audit_events_make_partitions()"


async def prepare(connection: Connection) -> None:
    """Prepare a trail that has no partitions yet. Several processes may call this at once."""
    if await connection.fetchval(IS_WHOLE):
        with suppress(asyncpg.FeatureNotSupportedError):  # another process was faster, and there are partitions
            await indexes.build_missing(connection, KEY, kind="UNIQUE INDEX")
        await connection.execute(BOUND)
        await connection.execute(VALIDATE)


async def make(connection: Connection) -> int:
    """Make the partitions of this month and the next three that are not there, and return their number."""
    made: int = await connection.fetchval(MAKE)
    return made
