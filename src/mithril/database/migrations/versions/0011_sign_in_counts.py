"""Sign-ins and refusals by the hour, for the pictures of the console; kept for some days (see `sightings`).

`subject_id` is a client, a connection, or the identifier of zeros, which stands for all. No other table is touched.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE sign_in_counts (
    id          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    hour        timestamptz NOT NULL,
    subject_id  uuid        NOT NULL,
    outcome     text        NOT NULL,
    times       bigint      NOT NULL CHECK (times > 0)
)
""",
    "CREATE UNIQUE INDEX sign_in_counts_subject_id_hour_outcome_index ON sign_in_counts (subject_id, hour, outcome)",
    "CREATE INDEX sign_in_counts_hour_id_index ON sign_in_counts (hour, id)",
    "CREATE INDEX sign_in_counts_refused_index ON sign_in_counts (hour) WHERE outcome <> ''",
)


def upgrade() -> None:
    """Adds the table."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
