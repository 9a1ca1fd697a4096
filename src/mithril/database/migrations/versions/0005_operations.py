"""Operations: which writes are done, by identifiers that the service makes (see `database.operation_store`).

`is_done` is false for a write that was given up. `version`: of the row that was written, where it counts versions. In
a transaction of the service an audit row gets the identifier from the setting `mithril.operation`; where nothing has
set it, it has none. No table is rewritten: the new column has no value in the rows that are there.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE operations (
    id          uuid        PRIMARY KEY,
    is_done     boolean     NOT NULL DEFAULT true,
    version     bigint,
    settled_at  timestamptz NOT NULL DEFAULT clock_timestamp()
)
""",
    "CREATE INDEX operations_settled_at_index ON operations (settled_at)",
    "ALTER TABLE audit_events ADD COLUMN operation_id uuid",
    """
ALTER TABLE audit_events ALTER COLUMN operation_id
    SET DEFAULT nullif(current_setting('mithril.operation', true), '')::uuid
""",
)


def upgrade() -> None:
    """Makes the table and the column."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
