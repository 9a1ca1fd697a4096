"""Counters of attempts: failed logins of a person and from an address, in a window of time.

A row is a counter, not a log: one upsert counts and tells how many there were, so that attempts at the same
moment are all counted.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.execute(
        """
        CREATE TABLE attempts (
            key         text PRIMARY KEY,
            started_at  timestamptz NOT NULL DEFAULT now(),
            count       integer     NOT NULL DEFAULT 1
        )
        """
    )
    op.execute("CREATE INDEX attempts_started_at_index ON attempts (started_at)")


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
