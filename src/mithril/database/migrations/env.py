"""Run the migrations on one asyncpg connection, in one transaction and under one advisory lock.

With the lock two processes may run `mithril migrate` at once: the second waits, and then finds nothing to do. For a
table that something else uses a migration waits only shortly, and is then tried again: all requests wait behind it.
"""

from alembic import context
from sqlalchemy import Connection, text

# An arbitrary constant: the bytes of "mithril".
MIGRATION_LOCK = 0x6D69746872696C


def run(connection: Connection) -> None:
    """Bring the schema to the newest revision."""
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '200ms'"))
        context.run_migrations()


run(context.config.attributes["connection"])
