"""The SQL about connections: a client, its consumer, a redirect URI and a secret."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril import metrics, security
from mithril.audit import rows
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.audit.rows import Columns
from mithril.database import lists
from mithril.database.database import Database, PooledConnection, Source, find_one
from mithril.database.lists import Filters, Listed, Listing, Page


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as it may be shown: of its secrets only what tells which one is deployed."""

    id: UUID
    client_id: UUID
    consumer_id: UUID
    redirect_uri: str
    transition_redirect_uri: str | None
    transition_ends_at: datetime | None
    secret_tail: str
    previous_secret_expires_at: datetime | None
    version: int
    inserted_at: datetime
    updated_at: datetime
    secret_last_used_at: datetime | None = None
    previous_secret_last_used_at: datetime | None = None
    moved_redirect_uri_attempts: int = 0

    @property
    def seen(self) -> tuple[object, ...]:
        """Return what its details show that changes without a new version."""
        used = (self.secret_last_used_at, self.previous_secret_last_used_at)
        return (self.previous_secret_expires_at, *used, self.moved_redirect_uri_attempts)


class Replaced(msgspec.Struct, frozen=True):
    """The result of `replace_redirect_uri`; `connection` is the state after it, changed or not."""

    connection: Connection
    is_expected_version: bool


ROWS = rows.AuditedTable(
    "connections",
    "connection",
    hidden=(
        *rows.HIDDEN,
        *("version", "secret_digest", "previous_secret_digest", "previous_secret_expires_at", "redirect_uri_since"),
        *("transition_redirect_uri", "transition_since", "transition_began_at", "transition_ends_at"),
    ),
    client="w.client_id",
    # Another secret may well end in the same four characters.
    also_seen="o.key = 'secret_tail' AND (found.t).secret_digest <> (found.w).secret_digest",
    # A given secret also ends the previous one, which a rotation may have left valid.
    on_update="updated_at = clock_timestamp(),"
    " version = t.version + 1 + (t.transition_redirect_uri IS NOT NULL)::integer,"
    " previous_secret_digest ="
    " CASE WHEN t.secret_digest = (found.w).secret_digest THEN t.previous_secret_digest END,"
    " previous_secret_expires_at ="
    " CASE WHEN t.secret_digest = (found.w).secret_digest THEN t.previous_secret_expires_at END",
)
SHORTEST_SECRET_WITH_TAIL = 4 * security.TAIL_LENGTH
# The constraint that a client has one connection with each consumer.
PAIR = "connections_client_id_consumer_id_index"
# A transition ends by the clock, whether or not anything runs: until the cleanup stores what that has changed, every
# statement computes it. The end takes the next version, so that a change before it takes the one after that.
NEXT_VERSION = "version + 1 + (transition_redirect_uri IS NOT NULL)::integer"


def columns_at(clock: str) -> str:
    """Return the columns of a connection as it is at that time, in SQL."""
    return f"""id, client_id, consumer_id, secret_tail, inserted_at,
             CASE WHEN transition_ends_at <= {clock} THEN transition_redirect_uri ELSE redirect_uri END AS redirect_uri,
             CASE WHEN transition_ends_at > {clock} THEN transition_redirect_uri END AS transition_redirect_uri,
             CASE WHEN transition_ends_at > {clock} THEN transition_ends_at END AS transition_ends_at,
             version + coalesce(transition_ends_at <= {clock}, false)::integer AS version,
             greatest(updated_at, CASE WHEN transition_ends_at <= {clock} THEN transition_ends_at END) AS updated_at,
             CASE WHEN previous_secret_expires_at > now() THEN previous_secret_expires_at END
               AS previous_secret_expires_at"""


# As they are stored: of a row that is locked, once a transition that has ended is stored.
COLUMNS = columns_at("'-infinity'")
# An expired previous secret is not shown.
DETAILS = f"""{columns_at("now()")},
             (SELECT u.last_used_at FROM secret_uses u WHERE u.digest = connections.secret_digest)
               AS secret_last_used_at,
             CASE WHEN previous_secret_expires_at > now() THEN
               (SELECT u.last_used_at FROM secret_uses u WHERE u.digest = connections.previous_secret_digest) END
               AS previous_secret_last_used_at,
             coalesce((SELECT m.attempts FROM moved_attempts m WHERE m.connection_id = connections.id), 0)
               AS moved_redirect_uri_attempts"""
OF_CONSUMER = f"SELECT {columns_at('now()')} FROM connections WHERE consumer_id = $1 ORDER BY inserted_at, id"
# What a data file says of redirect URIs, by its keys.
EXPORTED = {
    "redirect_uri": "CASE WHEN transition_ends_at <= now() THEN transition_redirect_uri ELSE redirect_uri END",
    "transition": "CASE WHEN transition_ends_at > now() THEN"
    " jsonb_build_object('redirect_uri', transition_redirect_uri,"
    """ 'ends_at', to_char(transition_ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) END""",
}
FILTERS: Filters = {
    "id": "id = {}",
    "client_id": "client_id = {}",
    "consumer_id": "consumer_id = {}",
    "redirect_uri": lists.containing(
        r"concat_ws(E'\n', CASE WHEN transition_ends_at <= now() THEN NULL ELSE redirect_uri END,"
        " transition_redirect_uri)"
    ),
}
LIST = Listing(Connection, "connections", DETAILS, FILTERS)

# One statement: lock the row, change it if its version is expected and its redirect URI differs, write the audit
# row if it was changed. The lock comes first, so that of two requests the second sees what the first did. Where there
# is a transition nothing is changed: see `transitions`.
REPLACE_REDIRECT_URI = f"""
WITH found AS (
    SELECT {COLUMNS}, $4::bigint[] IS NULL OR version = ANY ($4) AS is_expected_version
      FROM connections WHERE id = $1 AND client_id = $2 FOR UPDATE
), changed AS (
    UPDATE connections c
       SET redirect_uri = $3, redirect_uri_since = c.version + 1, version = c.version + 1,
           updated_at = clock_timestamp()
      FROM found
     WHERE c.id = found.id AND found.is_expected_version AND found.redirect_uri <> $3 AND in_time($10)
       AND found.transition_redirect_uri IS NULL
    RETURNING c.id, c.redirect_uri, c.version, c.updated_at
), recorded AS (
    INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS}, operation_id)
    SELECT 'connection.update', found.id, found.client_id,
           jsonb_build_object('redirect_uri', found.redirect_uri),
           jsonb_build_object('redirect_uri', changed.redirect_uri),
           $5, $6, $7, $8, $9, $11
      FROM changed JOIN found USING (id)
), noted AS (
    INSERT INTO operations (id, version, settled_at) SELECT $11, version, updated_at FROM changed
)
SELECT found.id, found.client_id, found.consumer_id, found.secret_tail, found.previous_secret_expires_at,
       found.transition_redirect_uri, found.transition_ends_at, found.inserted_at, found.is_expected_version,
       coalesce(changed.redirect_uri, found.redirect_uri) AS redirect_uri,
       coalesce(changed.version, found.version) AS version,
       coalesce(changed.updated_at, found.updated_at) AS updated_at, changed.id IS NOT NULL AS is_changed
  FROM found LEFT JOIN changed USING (id)
"""

# What `REPLACE_REDIRECT_URI` returned for that operation, whatever has changed since.
RECALL_REDIRECT_URI = """
SELECT k.id, k.client_id, k.consumer_id, k.secret_tail, k.previous_secret_expires_at, k.inserted_at,
       NULL AS transition_redirect_uri, NULL AS transition_ends_at, true AS is_expected_version, $2 AS redirect_uri,
       o.version, o.settled_at AS updated_at, true AS is_changed
  FROM operations o JOIN connections k ON k.id = $1 WHERE o.id = $3
"""

# Only in the trail where it changed, in the form of all times on the wire.
_EXPIRY_OF = """CASE WHEN found.previous_secret_expires_at IS DISTINCT FROM changed.previous_secret_expires_at
                     THEN jsonb_build_object('previous_secret_expires_at',
                          to_char({}.previous_secret_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                     ELSE '{{}}' END"""
# The previous secret stays valid for so many seconds; with 0 it ends at once, and so does any older one.
REPLACE_SECRET = f"""
WITH found AS (
    SELECT {COLUMNS} FROM connections WHERE id = $1
), changed AS (
    UPDATE connections
       SET previous_secret_digest = CASE WHEN $4 > 0 THEN secret_digest END,
           previous_secret_expires_at = CASE WHEN $4 > 0 THEN clock_timestamp() + make_interval(secs => $4) END,
           secret_digest = $2, secret_tail = $3, version = {NEXT_VERSION}, updated_at = clock_timestamp()
     WHERE id = $1
    RETURNING {COLUMNS}
)
INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS})
SELECT 'connection.refresh_secret', found.id, found.client_id,
       jsonb_build_object('secret_tail', found.secret_tail) || {_EXPIRY_OF.format("found")},
       jsonb_build_object('secret_tail', changed.secret_tail) || {_EXPIRY_OF.format("changed")},
       $5, $6, $7, $8, $9
  FROM changed JOIN found USING (id)
"""

DELETE = f"""
WITH deleted AS (
    DELETE FROM connections WHERE id = $1 RETURNING {COLUMNS}
)
INSERT INTO audit_events (action, subject_id, client_id, old, {ACTOR_COLUMNS})
SELECT 'connection.delete', id, client_id,
       jsonb_build_object('client_id', client_id, 'consumer_id', consumer_id, 'redirect_uri', redirect_uri,
                          'secret_tail', secret_tail),
       $2, $3, $4, $5, $6
  FROM deleted
"""


async def replace_redirect_uri(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    redirect_uri: str,
    expected_versions: list[int] | None,
    actor: Actor,
) -> Replaced | None:
    """Set the redirect URI of this connection of the client; return None when there is no such connection.

    `expected_versions` None accepts any version. Nothing is written when the version is not expected, the redirect URI
    is the present one, or there is a transition.
    """
    arguments = (connection_id, client_id, redirect_uri, expected_versions, *actor.arguments)
    recall = (RECALL_REDIRECT_URI, connection_id, redirect_uri)
    async with database.turn(connection_id):
        row = await database.write(REPLACE_REDIRECT_URI, *arguments, recall=recall)
    if row is None:
        return None
    values = dict(row)
    is_expected_version = values.pop("is_expected_version")
    if values.pop("is_changed"):
        metrics.REDIRECT_URI_CHANGES.add("update")
        metrics.AUDIT_ROWS.add()
    return Replaced(Connection(**values), is_expected_version)


async def list_connections(
    database: Database, filters: dict[str, Any], *, client_id: UUID, page: Page
) -> Listed[Connection]:
    """List the connections of one client, the oldest first."""
    return await lists.fetch(database, LIST, filters | {"client_id": client_id}, page=page)


async def list_of_consumer(database: Database, consumer_id: UUID) -> list[Connection]:
    """Return all connections with this consumer, the oldest first, without what was seen of them."""
    return [Connection(**row) for row in await database.fetch(OF_CONSUMER, consumer_id)]


async def find_connection(source: Source, connection_id: UUID, *, client_id: UUID) -> Connection | None:
    """Return this connection of the client, or None."""
    statement = f"SELECT {DETAILS} FROM connections WHERE id = $1 AND client_id = $2"
    return await find_one(source, Connection, statement, connection_id, client_id)


async def hold_client(transaction: PooledConnection, client_id: UUID) -> bool:
    """Keep the client from being deleted until the transaction ends; return False when there is none."""
    return await transaction.fetchrow("SELECT FROM clients WHERE id = $1 FOR KEY SHARE", client_id) is not None


def secret_columns(secret: str) -> Columns:
    """Return what is kept of a secret. Of a short one nothing is readable: its tail would reveal too much."""
    tail = security.tail(secret) if len(secret) >= SHORTEST_SECRET_WITH_TAIL else ""
    return {"secret_digest": rows.bytea(security.digest(secret)), "secret_tail": tail}


async def add_pair(
    transaction: PooledConnection, columns: Columns, secret: str, *, client_id: UUID, consumer_id: UUID, actor: Actor
) -> UUID | None:
    """Add the connection of the two; return its id, or None when another request was faster. Raises Violation."""
    pair = {"client_id": client_id, "consumer_id": consumer_id, **secret_columns(secret)}
    return await rows.insert_first(transaction, ROWS, columns | pair, key=PAIR, actor=actor)


async def replace_secret(
    transaction: PooledConnection, connection_id: UUID, secret: str, *, previous_expires_in_seconds: int, actor: Actor
) -> None:
    """Give a locked connection its new secret; the present one stays valid for so many more seconds."""
    new = (security.digest(secret), security.tail(secret), float(previous_expires_in_seconds))
    await transaction.execute(REPLACE_SECRET, connection_id, *new, *actor.arguments)
    metrics.SECRET_ROTATIONS.add()
    metrics.AUDIT_ROWS.add()


async def delete_connection(transaction: PooledConnection, connection_id: UUID, *, actor: Actor) -> None:
    """Delete a locked connection. Every token and code issued through it is unknown then."""
    await transaction.execute(DELETE, connection_id, *actor.arguments)
    metrics.AUDIT_ROWS.add()
