"""The SQL of a token request: one statement finds all that is asked about, another one does all that is granted.

Between the two anything may change, so the second does something only if what the first has seen is still so. Each row
that counts is locked, in the order of a block or a deletion, and PostgreSQL then judges its newest version.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from mithril import metrics, security
from mithril.database.database import Database, Source
from mithril.oauth import store
from mithril.oauth.store import GOOD_SINCE, RegisteredConnection
from mithril.tokens import store as tokens
from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Draft, Issued, Token


class Found(NamedTuple):
    """What a token request is about."""

    connection: RegisteredConnection | None
    """That of the caller, else the one through which the token was issued."""
    token: Token | None
    is_user_blocked: bool
    approval_id: UUID | None
    role_scopes: list[str]
    """One text for each role of the user."""


class Unchanged(NamedTuple):
    """What must be as it was found, for the tokens to be issued."""

    token_id: UUID
    connection_id: UUID
    approval_id: UUID
    redirect_uri: str | None
    """That of a code, which must still be good since the same version; of no other token."""
    since: str | None
    is_used_up: bool
    """Whether the presented token is good for one request."""
    replaced_id: UUID | None
    """The refresh token whose successor it is, where that is for a public client."""


FIND = f"""
SELECT {store.CONNECTION_COLUMNS}, token.*, coalesce(u.is_blocked, false) AS is_user_blocked, a.id AS approval_id,
       ARRAY({store.role_scopes("token.user_id", "token.client_id")}) AS role_scopes
  FROM (SELECT) one
  LEFT JOIN ({tokens.FIND_TOKEN}) token ON true
  LEFT JOIN LATERAL ({store.connections_of("$3")} k.id = coalesce($2, token.connection_id)) k ON true
  LEFT JOIN users u ON u.id = token.user_id
  LEFT JOIN apps a ON a.user_id = token.user_id AND a.client_id = token.client_id
"""
# Locks of several rows are taken in the order in which they are named. What the clock decides is asked when all are
# held (`free`): PostgreSQL judges a row that it has waited for once more only if it has changed. The new tokens have
# seen what the presented one has: whatever was revoked since that was issued concerns them too. The refresh token of a
# public client notes its successor, and its family goes on by it alone (see `tokens.store`).
REDEEM = f"""
WITH held AS (
    SELECT t.user_id, t.client_id, t.seen_user, t.seen_client, t.seen_type, t.seen_role, t.expires_at, family.ends_at,
           k.redirect_uri, k.redirect_uri_since, k.transition_redirect_uri, k.transition_since, k.transition_ends_at
      FROM connections k JOIN clients consumer ON consumer.id = k.consumer_id,
           apps a JOIN users u ON u.id = a.user_id JOIN clients c ON c.id = a.client_id, tokens t, LATERAL (
               {tokens.family_end("$9", "$10")}
           ) family
     WHERE k.id = $2 AND NOT consumer.is_blocked AND a.id = $3 AND NOT u.is_blocked AND NOT c.is_blocked
       AND t.id = $1 AND t.used_at IS NULL
       FOR KEY SHARE OF k, c, u FOR UPDATE OF a FOR NO KEY UPDATE OF t
), free AS (
    SELECT * FROM held k
     WHERE expires_at > clock_timestamp() AND (ends_at > clock_timestamp()) IS NOT FALSE
       AND ($4::text IS NULL OR ({GOOD_SINCE.format(clock="clock_timestamp()", uri="$4")})::text = $5)
), chosen AS (
    UPDATE tokens t SET details = t.details || jsonb_build_object('chosen', $1::text)
      FROM free WHERE t.id = $7 AND NOT t.details ? 'chosen'
    RETURNING t.id
), going AS (
    SELECT * FROM free
     WHERE EXISTS (SELECT FROM chosen) OR NOT EXISTS (SELECT FROM tokens WHERE id = $7)
), issued AS (
    INSERT INTO tokens ({tokens.TOKEN_COLUMNS})
    SELECT new.name, new.digest, going.user_id, going.client_id, $8, $9, new.scope, new.details,
           least(now() + make_interval(secs => new.lives_seconds), going.ends_at),
           going.seen_user, going.seen_client, going.seen_type, going.seen_role, new.is_bound
      FROM going, unnest($11::text[], $12::bytea[], $13::text[], $14::jsonb[], $15::float8[], $16::boolean[])
                 new (name, digest, scope, details, lives_seconds, is_bound)
     WHERE in_time($17)
    RETURNING id, digest, details, expires_at, {tokens.LIVES_SECONDS}
), used AS (
    UPDATE tokens t SET used_at = clock_timestamp(), updated_at = now(), details = t.details || coalesce((
               SELECT jsonb_build_object('successor', id::text) FROM issued WHERE details ->> 'replaces' = $1::text
           ), '{{}}')
      FROM going WHERE t.id = $1 AND $6
), noted AS (
    INSERT INTO operations (id) SELECT $18 FROM going
)
SELECT array_agg(id ORDER BY place) AS ids, array_agg(expires_at ORDER BY place) AS expire_at,
       array_agg(lives_seconds ORDER BY place) AS live_seconds
  FROM issued JOIN unnest($12) WITH ORDINALITY new (digest, place) USING (digest) HAVING count(*) > 0
"""
# What `REDEEM` returned for that operation.
RECALL = f"""
SELECT array_agg(id ORDER BY place) AS ids, array_agg(expires_at ORDER BY place) AS expire_at,
       array_agg({tokens.LIVES_SECONDS.replace("now()", "inserted_at").removesuffix(" AS lives_seconds")}
                 ORDER BY place) AS live_seconds
  FROM tokens JOIN unnest($1::bytea[]) WITH ORDINALITY new (digest, place) USING (digest)
 WHERE EXISTS (SELECT FROM operations o WHERE o.id = $2) HAVING count(*) > 0
"""


async def find(source: Source, value: str, *, connection_id: UUID | None, redirect_uri: str | None) -> Found:
    """Return what is known of a presented token. `connection_id`: of the caller, if it has shown a secret.

    `redirect_uri`: what is asked about it is in the connection, as `store.hold_connection` has it.
    """
    row = await source.fetchrow(FIND, security.digest(value), connection_id, store.askable(redirect_uri))
    assert row is not None, "the statement always gives one"
    known = dict(row)
    connection = store.connection_in(known)
    own = {name: known.pop(name) for name in ("is_user_blocked", "approval_id", "role_scopes")}
    return Found(connection, None if known["id"] is None else tokens.token_of(known), **own)


async def redeem(
    database: Database, seen: Unchanged, drafts: Sequence[Draft], *, family_lives_seconds: float
) -> list[Issued] | None:
    """Issue these tokens for the one that was presented; None, and nothing is done, where something has changed.

    The drafts are of one user, client, connection and family.
    """
    digests = [security.digest(draft.value) for draft in drafts]
    first = drafts[0].new
    row = await database.write(
        REDEEM,
        *seen,
        first.connection_id,
        first.family_id,
        float(family_lives_seconds),
        [draft.new.kind for draft in drafts],
        digests,
        [draft.new.scope for draft in drafts],
        [draft.new.details.encoded for draft in drafts],
        [float(draft.lives_seconds) for draft in drafts],
        [draft.new.is_bound_by_roles for draft in drafts],
        recall=(RECALL, digests),
    )
    if row is None:
        return None
    tokens.count_issued(*(draft.new.kind for draft in drafts))
    if seen.is_used_up:
        metrics.TOKENS_ENDED.add(TokenKind.REFRESH if seen.redirect_uri is None else TokenKind.CODE)
    moments = zip(drafts, row["ids"], row["expire_at"], row["live_seconds"], strict=True)
    return [draft.issued(id_, expires_at, lives) for draft, id_, expires_at, lives in moments]
