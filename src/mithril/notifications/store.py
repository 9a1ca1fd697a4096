"""The SQL of notifications: webhooks, how far each target has read the trail, and the announcements of endings."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from mithril.audit import rows
from mithril.audit.events import Entry
from mithril.connections.transition_store import moment
from mithril.database import lists
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lists import Filters, Listed, Listing, Page

BATCH = 200
LEASE_SECONDS = 15
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PATIENCE = 5, 3_600, "interval '3 days'"
EMAILS = UUID(int=0)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook, and how its deliveries go. `failing_since`: of the attempts since the last that succeeded."""

    id: UUID
    url: str
    events: list[str]
    is_active: bool
    secret_version: int
    secret_digest: bytes
    previous_secret_expires_at: datetime | None
    failing_since: datetime | None
    last_failure: str | None
    given_up: int
    inserted_at: datetime
    updated_at: datetime


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where notifications are due. Without a `url` it is the one of the e-mails."""

    id: UUID
    last_event_id: int
    url: str | None
    events: list[str] | None
    secret_version: int | None
    secret_digest: bytes | None
    has_previous_secret: bool | None

    @property
    def channel(self) -> str:
        """Return how it is told, as the metrics call it."""
        return "email" if self.url is None else "webhook"


class Noticed(Entry, frozen=True, kw_only=True):
    """An event of the trail. `is_old`: it may be given up."""

    is_old: bool


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told about a client, and the name of the client."""

    email: str
    client: str


class Ending(NamedTuple):
    """What ends in so many hours, and the action of its event in the trail."""

    action: str
    hours: int


HIDDEN = (*rows.HIDDEN, "secret_digest")
ROWS = rows.AuditedTable("webhooks", "webhook", hidden=HIDDEN)
ROTATED, STOPPED = ROWS._replace(verb="refresh_secret"), ROWS._replace(verb="deactivate")
COLUMNS = """w.id, w.url, w.events, w.is_active, w.secret_version, w.secret_digest,
             CASE WHEN w.previous_secret_expires_at > now() THEN w.previous_secret_expires_at END
               AS previous_secret_expires_at,
             c.failing_since, c.last_failure, c.given_up, w.inserted_at, w.updated_at"""
CURSOR = "JOIN notification_cursors c ON c.webhook_id = w.id"
FILTERS: Filters = {"id": "w.id = {}"}
LIST = Listing(Webhook, "webhooks w", COLUMNS, FILTERS, joins=CURSOR)
FIND = f"SELECT {COLUMNS} FROM webhooks w {CURSOR} WHERE w.id = $1"
NEXT_SECRET = """
SELECT secret_version + 1 AS secret_version, clock_timestamp() + interval '1 day' AS previous_secret_expires_at
  FROM webhooks WHERE id = $1 FOR UPDATE
"""
LOCK_AT = "SELECT id FROM webhooks WHERE id = $1 AND url = $2 FOR UPDATE"
# From the newest event on.
BEGIN = """
INSERT INTO notification_cursors (id, webhook_id, last_event_id)
SELECT $1, $2, coalesce((SELECT max(id) FROM audit_events), 0) ON CONFLICT (id) DO NOTHING
"""
FIND_OWNER = """
SELECT u.email, c.name AS client FROM clients c JOIN users u ON u.id = c.user_id WHERE c.id = $1 AND NOT u.is_blocked
"""
TRY_AGAIN = "UPDATE notification_cursors SET attempts = 0, next_attempt_at = '-infinity' WHERE webhook_id = $1"

TARGETS = "notification_cursors c LEFT JOIN webhooks w ON w.id = c.webhook_id"
LIST_DUE = f"""
SELECT c.id, c.last_event_id, w.url, w.events, w.secret_version, w.secret_digest,
       w.previous_secret_expires_at > now() AS has_previous_secret
  FROM {TARGETS}
 WHERE c.last_event_id < $1 AND c.next_attempt_at <= now() AND c.leased_until <= now()
   AND CASE WHEN c.webhook_id IS NULL THEN $2 ELSE $3 AND w.is_active END
"""
DELAY = f"""
SELECT coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT occurred_at FROM audit_events WHERE id > slowest.last_event_id ORDER BY id LIMIT 1)), 0)::float
  FROM (SELECT min(c.last_event_id) AS last_event_id FROM {TARGETS}
         WHERE CASE WHEN c.webhook_id IS NULL THEN $1 ELSE $2 AND w.is_active END) AS slowest
"""
READ = f"""
SELECT {", ".join(Entry.__struct_fields__)}, occurred_at <= now() - {PATIENCE} AS is_old
  FROM audit_events WHERE id > $1 AND id <= $2 ORDER BY id LIMIT {BATCH}
"""
LEASED = f"leased_until = now() + make_interval(secs => {LEASE_SECONDS})"
# A target that another process has moved meanwhile is not taken.
TAKE = f"""
UPDATE notification_cursors SET lease = $2, {LEASED}
 WHERE id = $1 AND last_event_id = $3 AND (lease = $2 OR leased_until <= now()) AND in_time($4) RETURNING id
"""
DELIVERED = f"""
UPDATE notification_cursors
   SET last_event_id = $3, attempts = 0, failing_since = NULL, last_failure = NULL, {LEASED}
 WHERE id = $1 AND lease = $2 AND in_time($4) RETURNING id
"""
PASSED = """
UPDATE notification_cursors SET last_event_id = $3, given_up = given_up + $4, next_attempt_at = now(),
       leased_until = '-infinity'
 WHERE id = $1 AND lease = $2 AND in_time($5) RETURNING id
"""
# Whatever is changed of a webhook, it gets its three days again.
FAILED = f"""
UPDATE notification_cursors c
   SET attempts = attempts + 1, last_failure = $3,
       failing_since = greatest(
           coalesce(failing_since, now()), (SELECT w.updated_at FROM webhooks w WHERE w.id = c.webhook_id)),
       next_attempt_at = now() + (0.9 + random() / 5) * make_interval(
           secs => least({FIRST_PAUSE_SECONDS} * 2 ^ least(attempts, 20), {LONGEST_PAUSE_SECONDS})),
       leased_until = '-infinity'
 WHERE id = $1 AND lease = $2 AND in_time($4)
RETURNING failing_since <= now() - {PATIENCE} AS is_exhausted
"""


def announcing(endings: str, change: str) -> str:
    """Return the statement that writes the events of endings that come within `$2` hours, of the action `$1`.

    `endings`: SELECT of `id`, `client_id`, `ends_at` and `told`, of those after `since`. What was set just before is
    left out: `change` is the condition of an event that has told it. Endings at the same moment are announced together.
    """
    return f"""
WITH last AS (
    SELECT greatest(announced_until, now()) AS since, now() + make_interval(hours => $2) AS until
      FROM announcements WHERE action = $1 AND hours = $2 AND EXISTS (SELECT FROM notification_cursors) FOR UPDATE
), due AS MATERIALIZED (
    {endings} ORDER BY ends_at FETCH FIRST {BATCH} ROWS WITH TIES
), announced AS (
    INSERT INTO audit_events (action, subject_id, client_id, new)
    SELECT $1, id, client_id, told FROM due
     WHERE NOT EXISTS (
        SELECT FROM (SELECT * FROM audit_events WHERE subject_id = due.id ORDER BY id DESC LIMIT 20) e
         WHERE e.occurred_at > now() - interval '10 minutes' AND {change})
)
UPDATE announcements
   SET announced_until = CASE WHEN (SELECT count(*) FROM due) < {BATCH} THEN greatest(last.since, last.until)
                              ELSE (SELECT max(ends_at) FROM due) END
  FROM last WHERE action = $1 AND hours = $2
RETURNING (SELECT count(*) FROM due) AS found
"""


TRANSITIONS_END = announcing(
    f"""
    SELECT k.id, k.client_id, d.ends_at,
           jsonb_build_object('redirect_uri', k.redirect_uri, 'transition', jsonb_build_object(
               'redirect_uri', k.transition_redirect_uri, 'ends_at', {moment("k.transition_ends_at")})) AS told
      FROM last, transitions_due d, LATERAL (SELECT * FROM connections WHERE id = d.connection_id OFFSET 0) k
     WHERE d.ends_at > last.since AND d.ends_at <= last.until AND k.transition_ends_at = d.ends_at""",
    "e.action IN ('connection.begin_transition', 'connection.replace_transition')",
)
PREVIOUS_SECRETS_END = announcing(
    f"""
    SELECT k.id, k.client_id, k.previous_secret_expires_at AS ends_at,
           jsonb_build_object('previous_secret_expires_at', {moment("k.previous_secret_expires_at")}) AS told
      FROM last, connections k
     WHERE k.previous_secret_expires_at > last.since AND k.previous_secret_expires_at <= last.until""",
    "e.action = 'connection.refresh_secret'",
)
ENDINGS = {
    Ending("notification.transition_ending", 24): TRANSITIONS_END,
    Ending("notification.previous_secret_ending", 24): PREVIOUS_SECRETS_END,
    Ending("notification.previous_secret_ending", 1): PREVIOUS_SECRETS_END,
}


async def list_webhooks(database: Database, filters: dict[str, object], *, page: Page) -> Listed[Webhook]:
    """List the webhooks, the oldest first."""
    return await lists.fetch(database, LIST, filters, page=page)


async def find_webhook(source: Source, webhook_id: UUID) -> Webhook | None:
    """Return the webhook, or None."""
    return await find_one(source, Webhook, FIND, webhook_id)


async def begin(transaction: PooledConnection, webhook_id: UUID) -> None:
    """Let a new webhook get what is written from now on."""
    await transaction.execute(BEGIN, webhook_id, webhook_id)


async def begin_emails(database: Database) -> None:
    """Let owners get what is written from now on, unless they get it already."""
    async with database.transaction() as transaction:
        await transaction.execute(BEGIN, EMAILS, None)


async def find_owner(database: Database, client_id: UUID) -> Owner | None:
    """Return the owner of a client, or None where there is none who may sign in."""
    return await find_one(database, Owner, FIND_OWNER, client_id)


async def try_again(transaction: PooledConnection, webhook_id: UUID) -> None:
    """Let the next attempt come at once."""
    await transaction.execute(TRY_AGAIN, webhook_id)


async def next_secret(transaction: PooledConnection, webhook_id: UUID) -> dict[str, object] | None:
    """Lock the webhook; return the version of its next secret and when the present one expires, or None."""
    row = await transaction.fetchrow(NEXT_SECRET, webhook_id)
    return None if row is None else dict(row)


async def is_at(transaction: PooledConnection, target: Target) -> bool:
    """Lock the webhook, and return whether its URL is still that of the target."""
    return await transaction.fetchval(LOCK_AT, target.id, target.url) is not None


async def list_due(database: Database, newest: int, *, sends_emails: bool, sends_webhooks: bool) -> list[Target]:
    """Return the targets that may lack an event up to that one, and that no process is at."""
    return [Target(**row) for row in await database.fetch(LIST_DUE, newest, sends_emails, sends_webhooks)]


async def find_delay(database: Database, *, sends_emails: bool, sends_webhooks: bool) -> float:
    """Return how many seconds ago the first event was written that some target has not got; 0 without one."""
    (row,) = await database.fetch(DELAY, sends_emails, sends_webhooks)
    return float(row[0])


async def read(database: Database, after: int, newest: int) -> list[Noticed]:
    """Return the next events, in order."""
    return [Noticed(**row) for row in await database.fetch(READ, after, newest)]


async def take(database: Database, target: Target, lease: UUID) -> bool:
    """Return whether this process alone may deliver to the target for the next `LEASE_SECONDS`."""
    return await database.write(TAKE, target.id, lease, target.last_event_id) is not None


async def note_delivered(database: Database, target_id: UUID, lease: UUID, event_id: int) -> bool:
    """Note that the target has got an event, and prolong the lease; return whether it was still this process's."""
    return await database.write(DELIVERED, target_id, lease, event_id) is not None


async def note_passed(database: Database, target_id: UUID, lease: UUID, event_id: int, *, given_up: int = 0) -> None:
    """Note that the target needs no event up to this one any more, and give the lease back."""
    await database.write(PASSED, target_id, lease, event_id, given_up)


async def note_failed(database: Database, target_id: UUID, lease: UUID, failure: str) -> bool:
    """Note that an attempt failed, and give the lease back; return whether attempts have failed for too long."""
    row = await database.write(FAILED, target_id, lease, failure)
    return row is not None and row["is_exhausted"]


async def announce(database: Database, ending: Ending) -> bool:
    """Write the events of what ends soon; return whether there may be more."""
    async with database.transaction() as transaction:
        found = await transaction.fetchval(ENDINGS[ending], *ending)
    return (found or 0) >= BATCH
