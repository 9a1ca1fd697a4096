"""${message}.

Rules for a migration: add in one release and remove in a later one; no statement that rewrites a large table or locks
it for long (an index is built CONCURRENTLY in a migration of its own); a released migration is never edited.
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
