"""The SQL of transitions, and of every change of a redirect URI but the update of a connection without a transition.

Each function takes a locked connection. A transition that has ended by then is stored first, with its audit row, so
that what follows sees it as it is: nothing has to ask twice what counts now.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril import metrics
from mithril.audit.events import ACTOR_COLUMNS, Actor
from mithril.audit.rows import Transaction
from mithril.connections.store import COLUMNS, DETAILS, NEXT_VERSION, Connection
from mithril.database.database import Database, find_one

COMPLETED = "complete_transition"


class SignIns(msgspec.Struct, frozen=True, kw_only=True):
    """How many codes for a redirect URI were redeemed since the transition began."""

    redirect_uri: str
    sign_ins: int


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """A transition that has not ended."""

    redirect_uri: str
    began_at: datetime
    ends_at: datetime
    sign_ins: list[SignIns]


def moment(value: str) -> str:
    """Return a moment in SQL in the form of all times on the wire."""
    return f"""to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _state(row: str) -> str:
    """Return the redirect URIs of a row as the trail has them; `transition` only where the change is about one."""
    return f"""jsonb_build_object('redirect_uri', {row}.redirect_uri) ||
           CASE WHEN found.transition_redirect_uri IS NULL AND changed.transition_redirect_uri IS NULL THEN '{{}}'
                ELSE jsonb_build_object('transition', CASE WHEN {row}.transition_redirect_uri IS NOT NULL THEN
                     jsonb_build_object('redirect_uri', {row}.transition_redirect_uri,
                                        'ends_at', {moment(f"{row}.transition_ends_at")}) END) END"""


# The two parts of a statement that stores what a transition has changed, from the moment at which it ended: the change,
# and its audit row. `doomed` has the rows, locked, as they were; all of their moments have passed.
COMPLETION = (
    """
changed AS (
    UPDATE connections c
       SET redirect_uri = doomed.transition_redirect_uri, redirect_uri_since = doomed.transition_since,
           transition_redirect_uri = NULL, transition_since = NULL, transition_began_at = NULL,
           transition_ends_at = NULL, version = c.version + 1,
           updated_at = greatest(c.updated_at, doomed.transition_ends_at)
      FROM doomed WHERE c.id = doomed.id
    RETURNING c.*
)
""",
    f"""
INSERT INTO audit_events (action, subject_id, client_id, old, new)
SELECT 'connection.complete_transition', found.id, found.client_id, {_state("found")},
       {_state("changed")} || jsonb_build_object('took_effect_at', {moment("found.transition_ends_at")})
  FROM changed JOIN doomed found USING (id)
""",
)
LOCK = "SELECT id, transition_ends_at FROM connections WHERE {} FOR UPDATE"
LOCK_ONE = LOCK.format("id = $1 AND client_id = $2")
LOCK_PAIR = LOCK.format("client_id = $1 AND consumer_id = $2")
# Not `now`: the lock may have been waited for, and the transition ended meanwhile.
COMPLETE_ONE = f"""
WITH doomed AS (
    SELECT * FROM connections WHERE id = $1 AND transition_ends_at <= clock_timestamp() FOR UPDATE
), {COMPLETION[0]}
{COMPLETION[1]}
"""
COMPLETE_ALL = f"""
WITH doomed AS (
    SELECT k.* FROM connections k JOIN transitions_due d ON d.connection_id = k.id
     WHERE d.ends_at <= now() AND k.transition_ends_at <= now() ORDER BY k.id FOR UPDATE OF k
), {COMPLETION[0]}
{COMPLETION[1]}
"""

# The redirect URI ($2) and the one of the transition ($3; NULL for none) of a locked row. It ends at $4 or, where that
# is NULL, in $5 seconds. A redirect URI that was good before has been good since then.
MOVE = f"""
WITH found AS (
    SELECT *, {NEXT_VERSION} AS next_version FROM connections WHERE id = $1
), changed AS (
    UPDATE connections c
       SET redirect_uri = $2, transition_redirect_uri = $3, version = found.next_version,
           updated_at = clock_timestamp(),
           redirect_uri_since = CASE $2 WHEN found.redirect_uri THEN found.redirect_uri_since
               WHEN found.transition_redirect_uri THEN found.transition_since ELSE found.next_version END,
           transition_since = CASE WHEN $3 = found.transition_redirect_uri THEN found.transition_since
               WHEN $3 IS NOT NULL THEN found.next_version END,
           transition_began_at = CASE WHEN $3 = found.transition_redirect_uri THEN found.transition_began_at
               WHEN $3 IS NOT NULL THEN clock_timestamp() END,
           transition_ends_at = CASE WHEN $3 IS NOT NULL THEN
               coalesce($4::timestamptz, clock_timestamp() + make_interval(secs => $5)) END
      FROM found WHERE c.id = found.id
    RETURNING c.*
), due AS (
    INSERT INTO transitions_due (connection_id, ends_at)
    SELECT id, transition_ends_at FROM changed WHERE transition_ends_at IS NOT NULL
        ON CONFLICT (connection_id) DO UPDATE SET ends_at = excluded.ends_at
)
INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS})
SELECT 'connection.' || $6, found.id, found.client_id, {_state("found")}, {_state("changed")} || $7::jsonb ||
       CASE WHEN $6 = 'complete_transition'
            THEN jsonb_build_object('took_effect_at', {moment("changed.updated_at")}) ELSE '{{}}' END,
       $8, $9, $10, $11, $12
  FROM changed JOIN found USING (id)
"""
END_PREVIOUS_SECRET = f"""
WITH found AS (
    SELECT id, client_id, previous_secret_expires_at FROM connections WHERE id = $1
), changed AS (
    UPDATE connections SET previous_secret_digest = NULL, previous_secret_expires_at = NULL,
           version = {NEXT_VERSION}, updated_at = clock_timestamp()
     WHERE id = $1
)
INSERT INTO audit_events (action, subject_id, client_id, old, new, {ACTOR_COLUMNS})
SELECT 'connection.end_previous_secret', id, client_id,
       jsonb_build_object('previous_secret_expires_at', {moment("previous_secret_expires_at")}),
       '{{"previous_secret_expires_at": null}}', $2, $3, $4, $5, $6
  FROM found
"""
# One statement, so that the two redirect URIs are those of one moment.
FIND = """
SELECT k.transition_redirect_uri AS redirect_uri, k.transition_began_at AS began_at, k.transition_ends_at AS ends_at,
       (SELECT jsonb_agg(jsonb_build_object('redirect_uri', each.redirect_uri, 'sign_ins', each.sign_ins)
                         ORDER BY each.place)
          FROM (SELECT good.redirect_uri, good.place, count(t.id) AS sign_ins
                  FROM unnest(ARRAY[k.redirect_uri, k.transition_redirect_uri])
                         WITH ORDINALITY good (redirect_uri, place)
                  LEFT JOIN tokens t ON t.connection_id = k.id AND t.name = 'authorization_code'
                   AND t.used_at >= k.transition_began_at AND t.details ->> 'redirect_uri' = good.redirect_uri
                 GROUP BY good.redirect_uri, good.place) each) AS sign_ins
  FROM connections k WHERE k.id = $1 AND k.client_id = $2 AND k.transition_ends_at > now()
"""


async def lock_connection(transaction: Transaction, connection_id: UUID, *, client_id: UUID) -> Connection | None:
    """Return this connection of the client, locked until the transaction ends, or None."""
    return await _lock(transaction, LOCK_ONE, connection_id, client_id)


async def lock_pair(transaction: Transaction, *, client_id: UUID, consumer_id: UUID) -> Connection | None:
    """Return the connection of the two, locked until the transaction ends, or None."""
    return await _lock(transaction, LOCK_PAIR, client_id, consumer_id)


async def _lock(transaction: Transaction, statement: str, *arguments: UUID) -> Connection | None:
    locked = await transaction.fetchrow(statement, *arguments)
    if locked is None:
        return None
    if locked["transition_ends_at"] is not None:
        count_changes(COMPLETED, _number(await transaction.execute(COMPLETE_ONE, locked["id"])))
    return await find_one(transaction, Connection, f"SELECT {COLUMNS} FROM connections WHERE id = $1", locked["id"])


async def complete_all(transaction: Transaction) -> None:
    """Store every transition that has ended, with its audit row."""
    count_changes(COMPLETED, _number(await transaction.execute(COMPLETE_ALL)))


def count_changes(action: str, number: int = 1) -> None:
    """Count changes of redirect URIs, each of which has an audit row with this action."""
    metrics.REDIRECT_URI_CHANGES.add(action, by=number)
    metrics.AUDIT_ROWS.add(by=number)


def _number(status: str) -> int:
    """Return how many rows an INSERT has added, by what PostgreSQL says of it."""
    return int(status.rpartition(" ")[2])


async def move(
    transaction: Transaction,
    connection_id: UUID,
    *,
    redirect_uri: str,
    transition_redirect_uri: str | None = None,
    ends_at: datetime | None = None,
    lasts_seconds: float = 0.0,
    action: str,
    more: dict[str, Any],
    actor: Actor,
) -> None:
    """Give a locked connection these redirect URIs. `more`: what the audit row says beside them."""
    noted = msgspec.json.encode(more).decode()
    places = (redirect_uri, transition_redirect_uri, ends_at, float(lasts_seconds))
    await transaction.execute(MOVE, connection_id, *places, action, noted, *actor.arguments)
    count_changes(action)


async def end_previous_secret(transaction: Transaction, connection_id: UUID, *, actor: Actor) -> None:
    """Revoke the previous secret of a locked connection."""
    await transaction.execute(END_PREVIOUS_SECRET, connection_id, *actor.arguments)
    metrics.AUDIT_ROWS.add()


async def find_transition(database: Database, connection_id: UUID, *, client_id: UUID) -> Transition | None:
    """Return the transition of this connection of the client, with the sign-ins through both redirect URIs; or None."""
    row = await database.fetchrow(FIND, connection_id, client_id)
    if row is None:
        return None
    return Transition(**dict(row) | {"sign_ins": msgspec.json.decode(row["sign_ins"], type=list[SignIns])})


async def show_connection(transaction: Transaction, connection_id: UUID) -> Connection:
    """Return a connection that is locked as its details show it."""
    found = await find_one(transaction, Connection, f"SELECT {DETAILS} FROM connections WHERE id = $1", connection_id)
    assert found is not None, "a locked row is there"
    return found
