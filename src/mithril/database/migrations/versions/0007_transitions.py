"""Transitions: two redirect URIs of a connection for a time, and what was seen of secrets and moved redirect URIs.

`redirect_uri_since` and `transition_since` are versions of the row: since that one the redirect URI has been good
without a break. A code notes it, so that no clock decides whether a redirect URI came back. A trigger keeps it right
for a process of an older release, and for SQL by hand.

No table is rewritten or read: the new columns of `connections` are empty or have a constant default, the constraint is
for rows that are written from now on, and the cleanup finds transitions that have ended in a table of their own.
"""

from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
ALTER TABLE connections
    ADD COLUMN redirect_uri_since bigint NOT NULL DEFAULT 0,
    ADD COLUMN transition_redirect_uri text,
    ADD COLUMN transition_since bigint,
    ADD COLUMN transition_began_at timestamptz,
    ADD COLUMN transition_ends_at timestamptz,
    ADD CONSTRAINT connections_transition_check CHECK (
        num_nulls(transition_redirect_uri, transition_since, transition_began_at, transition_ends_at) IN (0, 4)
        AND transition_redirect_uri <> redirect_uri AND transition_redirect_uri <> ''
    ) NOT VALID
""",
    """
CREATE FUNCTION connections_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := greatest(NEW.version, OLD.version + 1 + (OLD.transition_redirect_uri IS NOT NULL)::integer);
    NEW.redirect_uri_since :=
        CASE WHEN NEW.redirect_uri = OLD.transition_redirect_uri THEN OLD.transition_since ELSE NEW.version END;
    NEW.transition_redirect_uri := NULL;
    NEW.transition_since := NULL;
    NEW.transition_began_at := NULL;
    NEW.transition_ends_at := NULL;
    RETURN NEW;
END
$$
""",
    """
CREATE TRIGGER connections_move BEFORE UPDATE OF redirect_uri ON connections FOR EACH ROW
    WHEN (NEW.redirect_uri <> OLD.redirect_uri AND NEW.redirect_uri_since = OLD.redirect_uri_since)
    EXECUTE FUNCTION connections_move()
""",
    """
CREATE TABLE transitions_due (
    connection_id  uuid        PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    ends_at        timestamptz NOT NULL
)
""",
    "CREATE INDEX transitions_due_ends_at_index ON transitions_due (ends_at, connection_id)",
    """
CREATE TABLE secret_uses (
    digest        bytea       PRIMARY KEY,
    last_used_at  timestamptz NOT NULL
)
""",
    "CREATE INDEX secret_uses_last_used_at_index ON secret_uses (last_used_at, digest)",
    """
CREATE TABLE moved_attempts (
    connection_id  uuid    PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    attempts       bigint  NOT NULL
)
""",
)


def upgrade() -> None:
    """Makes the columns, the trigger and the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
