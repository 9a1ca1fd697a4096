"""Indexes of lists. It makes none itself: they are built after the last revision, in no transaction (`indexes`)."""

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Changes nothing, but for the version: databases of older ones get the indexes too."""


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
