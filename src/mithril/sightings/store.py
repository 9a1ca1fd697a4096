"""The SQL of sightings: when a secret was last used, and who asks for a redirect URI that has moved."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from mithril.database.database import Database

USE_SECRETS = """
INSERT INTO secret_uses (digest, last_used_at) SELECT unnest($1::bytea[]), now() WHERE in_time($2) ORDER BY 1
    ON CONFLICT (digest) DO UPDATE SET last_used_at = excluded.last_used_at
"""
# A redirect URI has moved where a connection had it, alone or in a transition, until an event or the end of a
# transition took it away. Of a connection that changes very often only the last events count.
COUNT_MOVED = """
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[]) a (client_id, redirect_uri, attempts) WHERE in_time($4)
), moved AS (
    SELECT DISTINCT ON (a.client_id, a.redirect_uri) a.*, k.id AS connection_id, gone.moved_at
      FROM asked a JOIN connections k ON k.client_id = a.client_id, LATERAL (
          SELECT k.transition_ends_at AS moved_at
           WHERE k.redirect_uri = a.redirect_uri AND k.transition_ends_at <= now()
           UNION ALL
          SELECT coalesce((e.new ->> 'took_effect_at')::timestamptz, e.occurred_at)
            FROM (SELECT * FROM audit_events WHERE subject_id = k.id AND occurred_at > now() - interval '30 days'
                   ORDER BY id DESC LIMIT 1000) e
           WHERE a.redirect_uri IN (e.old ->> 'redirect_uri', e.old -> 'transition' ->> 'redirect_uri')
             AND (a.redirect_uri IN (e.new ->> 'redirect_uri', e.new -> 'transition' ->> 'redirect_uri')) IS NOT TRUE
      ) gone
     WHERE gone.moved_at > now() - interval '30 days'
     ORDER BY a.client_id, a.redirect_uri, gone.moved_at DESC
), counted AS (
    INSERT INTO moved_attempts AS m (connection_id, attempts)
    SELECT connection_id, sum(attempts) FROM moved GROUP BY connection_id ORDER BY connection_id
        ON CONFLICT (connection_id) DO UPDATE SET attempts = m.attempts + excluded.attempts
)
SELECT * FROM moved
"""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts at a redirect URI that a connection had until `moved_at`."""

    client_id: UUID
    redirect_uri: str
    attempts: int
    connection_id: UUID
    moved_at: datetime


async def use_secrets(database: Database, digests: list[bytes]) -> None:
    """Note that the secrets with these digests were used by now."""
    await database.write_all(USE_SECRETS, digests)


async def count_moved(database: Database, attempts: Mapping[tuple[UUID, str], int]) -> list[Moved]:
    """Add the attempts, by client and redirect URI, to the counts of the connections that had these redirect URIs.

    Return those that moved within the last 30 days.
    """
    clients, uris = [client for client, _ in attempts], [uri for _, uri in attempts]
    return [Moved(**row) for row in await database.write_all(COUNT_MOVED, clients, uris, list(attempts.values()))]
