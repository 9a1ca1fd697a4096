"""The SQL of operations: what was done by a write whose answer was lost.

This process gives each write an id, its operation. The transaction that writes also adds a row with that id, so the
row is there if and only if the write is done. Where the answer is lost (the connection breaks, or nothing comes in
time), `SETTLE` asks over another connection, and settles it for good:

    the row is there        the write is done
    it is being written     wait until the transaction ends, then as above or below
    it is not there         add it, as that of a write that was given up: the write may still be under way, in a network
                            or in front of a lock, but its own row then meets this one, and all of it is undone

`SETTLE` itself writes, so its answer comes only when the synchronous standbys have it, and with it all that was written
before: a write that it finds is as safe as the operator wants it.
"""

from uuid import UUID

import asyncpg

from mithril.database import faults

# What leaves open whether the statement that was sent last is done. PostgreSQL's other errors say that it is not.
LOST_ANSWERS = (*faults.BROKEN, asyncpg.OperatorInterventionError)
# For how long it is tried to find out, in so many attempts; a statement may be given less.
SETTLE_SECONDS, ATTEMPTS, PAUSE_SECONDS = 5.0, 3, 0.1

SETTLE = """
INSERT INTO operations AS o (id, is_done) VALUES ($1, false)
    ON CONFLICT (id) DO UPDATE SET is_done = o.is_done
RETURNING is_done
"""


def begin(operation_id: UUID) -> str:
    """Return the statements that begin the transaction of an operation; its audit rows get the id by their default."""
    return f"BEGIN; {name(operation_id)}"


def name(operation_id: UUID) -> str:
    """Return the statement that gives a transaction its operation."""
    return f"SET LOCAL mithril.operation = '{operation_id}'"


def note(operation_id: UUID) -> str:
    """Return the last statement of its transaction. One that has written nothing adds no row."""
    return f"INSERT INTO operations (id) SELECT '{operation_id}' WHERE pg_current_xact_id_if_assigned() IS NOT NULL"


def commit(operation_id: UUID) -> str:
    """Return the statements that end it."""
    return f"{note(operation_id)}; COMMIT"
