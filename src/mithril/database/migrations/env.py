"""Runs the migrations over one asyncpg connection, inside one transaction and behind one advisory lock.

The lock makes `mithril migrate` safe from two processes at once: the second waits, then finds nothing to do.
"""

from alembic import context
from sqlalchemy import Connection, text

# Any constant serves; this one is the bytes of "mithril".
MIGRATION_LOCK = 0x6D69746872696C


def run(connection: Connection) -> None:
    """Brings the schema behind `connection` to the newest revision."""
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


run(context.config.attributes["connection"])
