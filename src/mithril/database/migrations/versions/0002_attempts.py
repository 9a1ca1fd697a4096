"""Counters of refused attempts, by user and by IP address, in a window of time.

A row is a counter: one upsert counts and returns the count, so that simultaneous attempts are all counted.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
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
    """Raise NotImplementedError: the way back is to restore a backup."""
    raise NotImplementedError("go back by restoring a backup")
