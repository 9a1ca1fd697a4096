"""${message}.

Rules for a migration: expand first, contract in a later release; no statement that rewrites or locks a large
table for long (an index is built CONCURRENTLY in a migration of its own); never edit one that was released.
"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("")


def downgrade() -> None:
    raise NotImplementedError("go back by restoring a backup")
