"""Indexes for the lists of people's roles, which are in the order of their giving.

They are built while the table takes no writes: some seconds for a million roles.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the indexes; the one that goes is the beginning of a new one."""
    op.execute("CREATE INDEX user_roles_inserted_at_id_index ON user_roles (inserted_at, id)")
    op.execute("CREATE INDEX user_roles_role_id_inserted_at_id_index ON user_roles (role_id, inserted_at, id)")
    op.execute("DROP INDEX user_roles_role_id_index")


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
