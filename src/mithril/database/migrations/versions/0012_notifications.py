"""Notifications: webhooks, how far each target has read the trail, and which endings were announced.

The trail is the outbox: `last_event_id` is the last event of it that a target has got. The cursor with the nil UUID is
that of e-mails to owners, which has no webhook. `announced_until`: endings up to then have their events in the trail.

No table is rewritten or read.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE webhooks (
    id                          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    url                         text        NOT NULL CHECK (url <> ''),
    events                      text[]      NOT NULL,
    is_active                   boolean     NOT NULL,
    secret_version              bigint      NOT NULL,
    secret_digest               bytea       NOT NULL,
    previous_secret_expires_at  timestamptz,
    inserted_at                 timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now()
)
""",
    "CREATE INDEX webhooks_inserted_at_id_index ON webhooks (inserted_at, id)",
    """
CREATE TABLE notification_cursors (
    id               uuid        PRIMARY KEY,
    webhook_id       uuid        UNIQUE REFERENCES webhooks ON DELETE CASCADE,
    last_event_id    bigint      NOT NULL,
    lease            uuid,
    leased_until     timestamptz NOT NULL DEFAULT '-infinity',
    attempts         integer     NOT NULL DEFAULT 0,
    next_attempt_at  timestamptz NOT NULL DEFAULT '-infinity',
    failing_since    timestamptz,
    last_failure     text,
    given_up         bigint      NOT NULL DEFAULT 0
)
""",
    """
CREATE TABLE announcements (
    action           text        NOT NULL,
    hours            integer     NOT NULL,
    announced_until  timestamptz NOT NULL,
    PRIMARY KEY (action, hours)
)
""",
    """
INSERT INTO announcements (action, hours, announced_until)
VALUES ('notification.transition_ending', 24, now()), ('notification.previous_secret_ending', 24, now()),
       ('notification.previous_secret_ending', 1, now())
""",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuses: go back by restoring a backup."""
    raise NotImplementedError("go back by restoring a backup")
