"""The SQL about tokens."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from mithril import metrics, security
from mithril.audit import rows
from mithril.database.database import (
    PooledConnection,
    Source,
    find_one,
)
from mithril.identifiers import parse_uuid
from mithril.tokens import kinds
from mithril.tokens.kinds import NO_DETAILS, STARTS_A_FAMILY, Details, TokenKind

ROWS = rows.AuditedTable("tokens", "token", hidden=(*rows.HIDDEN, "digest"), client="w.client_id")


class Seen(msgspec.Struct, frozen=True):
    """The last revocations that a scope takes into account, each read before what it is about; None is the present."""

    user: int | None
    client: int | None
    type: int | None
    role: int | None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is to be issued."""

    kind: TokenKind
    user_id: UUID
    client_id: UUID
    scope: str | None = None
    details: Details = NO_DETAILS
    connection_id: UUID | None = None
    family_id: UUID | None = None
    seen: Seen | None = None
    """What was seen before the scope was judged; None where only client and type bound it."""
    is_bound_by_roles: bool = False
    """Whether the token loses what the roles of its user lose."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A token as the answer that issues it shows it."""

    id: UUID
    name: str
    value: str
    user_id: UUID
    client_id: UUID
    connection_id: UUID | None
    family_id: UUID | None
    scope: str | None
    details: Details
    expires_at: datetime
    lives_seconds: int | None = None
    """Until it expires, by the clock of the database; None where an operator said when that is."""


class Draft(NamedTuple):
    """A token that is to be issued, with its value, which is stored nowhere."""

    new: NewToken
    value: str
    lives_seconds: float

    def issued(self, token_id: UUID, expires_at: datetime, lives_seconds: int) -> Issued:
        """Return it as it was issued."""
        new = self.new
        return Issued(
            id=token_id,
            name=new.kind,
            value=self.value,
            user_id=new.user_id,
            client_id=new.client_id,
            connection_id=new.connection_id,
            family_id=new.family_id,
            scope=new.scope,
            details=new.details,
            expires_at=expires_at,
            lives_seconds=lives_seconds,
        )


# A block of client or user holds its row: this statement waits for it, and then sees that it is blocked. The family of
# a public client ends a fixed time after the token that it began with, and what it has issued not later.
TOKEN_COLUMNS = """name, digest, user_id, client_id, connection_id, family_id, scope, details, expires_at,
                    seen_user, seen_client, seen_type, seen_role, is_bound_by_roles"""


def family_end(family: str, seconds: str) -> str:
    """Return the query for `ends_at`, so long after the first token of a family of a public client `c`; else NULL."""
    return f"""
SELECT CASE WHEN c.settings @> '{{"public": true}}' THEN coalesce(
           (SELECT inserted_at FROM tokens WHERE id = {family}),
           (SELECT min(inserted_at) FROM tokens WHERE family_id = {family})
       ) + make_interval(secs => {seconds}) END AS ends_at
"""


LIVES_SECONDS = "floor(extract(epoch FROM expires_at - now()))::integer AS lives_seconds"
ADD_TOKEN = f"""
INSERT INTO tokens ({TOKEN_COLUMNS})
SELECT $1, $2, u.id, c.id, $5, $6, $7, $8, least(now() + make_interval(secs => $9), family.ends_at),
       coalesce($11, u.last_revocation), coalesce($12, c.last_revocation), coalesce($13, ct.last_revocation),
       coalesce($14, ct.last_role_revocation), $15
  FROM users u, clients c JOIN client_types ct ON ct.id = c.client_type_id, LATERAL (
           {family_end("$6", "$10")}
       ) family
 WHERE u.id = $3 AND NOT u.is_blocked AND c.id = $4 AND NOT c.is_blocked
   AND (family.ends_at > now()) IS NOT FALSE
   FOR KEY SHARE OF u, c
RETURNING id, name, user_id, client_id, connection_id, family_id, scope, expires_at, {LIVES_SECONDS}
"""
# The kind of a token that this ends; none where its use has ended it before.
UNUSED = "CASE WHEN used_at IS NULL THEN name END AS name"
REVOKE_OTHERS = f"""
UPDATE tokens SET expires_at = now(), updated_at = now()
 WHERE user_id = $1 AND client_id = $2 AND name = ANY ($3) AND id <> $4 AND expires_at > now()
RETURNING {UNUSED}
"""
REVOKE_FAMILY = f"""
UPDATE tokens SET expires_at = now(), updated_at = now() WHERE family_id = $1 AND expires_at > now()
RETURNING {UNUSED}
"""
REVOKE = f"""
UPDATE tokens SET expires_at = now(), updated_at = now() WHERE id = $1 AND expires_at > now()
RETURNING {UNUSED}
"""
# `clock_timestamp`, not `now`: a transaction that waited here while another one revoked the token began before that.
IS_ACTIVE = """
SELECT EXISTS (SELECT FROM tokens WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp())
"""
CONSUME = """
UPDATE tokens SET used_at = clock_timestamp(), updated_at = now()
 WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING name
"""
# A refresh token notes the first token that was issued for it, and that one of its successors by which the family
# goes on: the first that is itself used.
FIND_RECENT_SUCCESSOR = """
SELECT details ->> 'successor' FROM tokens
 WHERE id = $1 AND used_at BETWEEN clock_timestamp() - make_interval(secs => $2) AND clock_timestamp()
"""
NOTE_SUCCESSOR = """
UPDATE tokens SET details = details || jsonb_build_object('successor', $2::text)
 WHERE id = $1 AND NOT details ? 'successor'
"""
CHOOSE_SUCCESSOR = """
WITH chosen AS (
    UPDATE tokens SET details = details || jsonb_build_object('chosen', $2::text)
     WHERE id = $1 AND NOT details ? 'chosen'
    RETURNING id
)
SELECT EXISTS (SELECT FROM chosen) OR NOT EXISTS (SELECT FROM tokens WHERE id = $1)
"""
REPLACE = """
UPDATE tokens SET expires_at = now(), used_at = now(), updated_at = now()
 WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
RETURNING name
"""
# The first answer uses the token; the same answer may come again, as long as the token would have been active.
ANSWER = """
UPDATE tokens
   SET used_at = coalesce(used_at, now()), updated_at = now(),
       details = details || jsonb_build_object('answer', $2::text)
 WHERE id = $1 AND (used_at IS NULL OR details ->> 'answer' = $2) AND expires_at > clock_timestamp()
RETURNING CASE WHEN used_at = now() THEN name END AS name
"""
# A revocation takes effect at once, with however many tokens; the cleanup expires those that are left. Of very many,
# most of which may have expired before, only the first are looked at.
REVOKE_OF_USER = "SELECT revoke_of_user($1, $2)"
REVOKE_OF_CLIENT = """
WITH revocation AS (INSERT INTO revocations (client_id) VALUES ($1) RETURNING id)
UPDATE clients c SET last_revocation = revocation.id FROM revocation WHERE c.id = $1
"""
EXPIRE_SOME = f"""
WITH expired AS (
    UPDATE tokens SET expires_at = now(), updated_at = now() WHERE id IN (
        SELECT id FROM (SELECT id, expires_at FROM tokens WHERE {{}} LIMIT 20000) looked_at
         WHERE expires_at > now() LIMIT 1000)
    RETURNING {UNUSED}
)
SELECT name FROM expired
"""
EXPIRE_SOME_OF_USER = EXPIRE_SOME.format("user_id = $1 AND ($2::uuid IS NULL OR client_id = $2)")
EXPIRE_SOME_OF_CLIENT = EXPIRE_SOME.format("client_id = $1")
# Of very many, most of which may have expired before, only the first are looked at.
COUNT_ACTIVE = """
SELECT count(*) FROM (
    SELECT FROM (SELECT name, used_at, expires_at FROM tokens WHERE {} LIMIT 100000) looked_at
     WHERE used_at IS NULL AND expires_at > now() AND name = ANY ($2) LIMIT 10000) counted
"""
COUNTS_ACTIVE = {of: COUNT_ACTIVE.format(f"{of}_id = $1") for of in ("connection", "client")}
# In the order of ids, so that two who hold several do not wait for each other.
HOLD_GRANTS = "SELECT FROM apps WHERE user_id = ANY ($1) ORDER BY id FOR UPDATE"
# What is left of the scope of token `t`: NULL where nothing is, or the token is revoked. Equal numbers mean that its
# user `u`, its client `c`, the type `ct` and the roles have lost nothing since it was issued (migration 0004).
LEFT = """
CASE WHEN t.seen_user >= u.last_revocation AND t.seen_client >= c.last_revocation
      AND t.seen_type >= ct.last_revocation AND t.seen_role >= ct.last_role_revocation
     THEN coalesce({}, '') ELSE token_scope(t) END
"""
GIVEN = f"""
CASE WHEN t.name IN ({", ".join(f"'{kind}'" for kind in kinds.ASK_FOR_SCOPE)}) THEN t.details ->> 'scope_request'
     ELSE t.scope END
"""
# A code notes since when its redirect URI has been good. For one that does not, of an older release or made by hand,
# the audit trail says whether the redirect URI was changed, and perhaps changed back.
FIND_TOKEN = f"""
SELECT t.id, t.name, t.user_id, t.client_id, t.connection_id, t.family_id, t.details, t.expires_at,
       remaining.scope, t.expires_at <= now() AS is_expired, remaining.scope IS NULL AS is_revoked,
       t.used_at IS NOT NULL AS is_used, t.is_bound_by_roles,
       t.seen_user, t.seen_client, t.seen_type, t.seen_role,
       t.name = '{TokenKind.CODE}' AND NOT t.details ? 'redirect_uri_since' AND coalesce(t.inserted_at <= (
           SELECT e.occurred_at FROM audit_events e
            WHERE e.subject_id = t.connection_id AND e.old ->> 'redirect_uri' <> e.new ->> 'redirect_uri'
            ORDER BY e.id DESC LIMIT 1
       ), false) AS is_for_moved_redirect_uri
  FROM tokens t JOIN users u ON u.id = t.user_id JOIN clients c ON c.id = t.client_id
  JOIN client_types ct ON ct.id = c.client_type_id
 CROSS JOIN LATERAL (SELECT {LEFT.format(GIVEN)} AS scope) remaining
 WHERE t.digest = $1 AND (t.connection_id IS NULL OR EXISTS (SELECT FROM connections k WHERE k.id = t.connection_id))
"""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A stored token; its value is not known."""

    id: UUID
    name: str
    user_id: UUID
    client_id: UUID
    connection_id: UUID | None
    family_id: UUID | None
    scope: str | None
    """What is left of it now; of a code or a two-factor token, in `details.scope_request`."""
    details: Details
    expires_at: datetime
    is_expired: bool
    is_revoked: bool
    """Whether it was revoked, or nothing of its scope is left."""
    is_used: bool
    is_for_moved_redirect_uri: bool
    """Whether it is a code that does not note since when its redirect URI is good, and that one was changed since."""
    seen: Seen
    is_bound_by_roles: bool

    @property
    def family(self) -> UUID | None:
        """The family of what is issued after this token; None where it starts none and is in none."""
        return self.family_id or (self.id if self.name in STARTS_A_FAMILY else None)

    def followed_by(
        self, kind: TokenKind, *, scope: str | None, details: Details, connection_id: UUID | None = None
    ) -> NewToken:
        """A token of the same user and client, in the same family; by default through the same connection."""
        return NewToken(
            kind=kind,
            user_id=self.user_id,
            client_id=self.client_id,
            scope=scope,
            details=details,
            connection_id=connection_id or self.connection_id,
            family_id=self.family,
            seen=self.seen,
            is_bound_by_roles=self.is_bound_by_roles,
        )


async def add_token(
    transaction: PooledConnection, new: NewToken, value: str, *, lives_seconds: float, family_lives_seconds: float
) -> Issued | None:
    """Store the token with the digest of `value`.

    `family_lives_seconds`: how long after its first token the family of a public client ends. Returns None where that
    is over, and where client or user are blocked or deleted by now.
    """
    issued = await find_one(
        transaction,
        partial(Issued, value=value, details=new.details),
        ADD_TOKEN,
        new.kind,
        security.digest(value),
        new.user_id,
        new.client_id,
        new.connection_id,
        new.family_id,
        new.scope,
        new.details.encoded,
        float(lives_seconds),
        float(family_lives_seconds),
        *(msgspec.structs.astuple(new.seen) if new.seen else (None,) * 4),
        new.is_bound_by_roles,
    )
    if issued is not None:
        count_issued(new.kind)
    return issued


def count_issued(*names: str) -> None:
    """Count tokens of these kinds that were issued."""
    for name in names:
        metrics.TOKENS_ISSUED.add(kinds.counted(name))


async def _end(transaction: rows.Transaction, statement: str, *arguments: object) -> int:
    """Run a statement that ends tokens and returns their kinds; count them, and return their number."""
    ended = await transaction.fetch(statement, *arguments)
    for row in ended:
        if row["name"]:
            metrics.TOKENS_ENDED.add(kinds.counted(row["name"]))
    return len(ended)


async def find_token(source: Source, value: str) -> Token | None:
    """Return the token of that value, of any kind, active or not; or None."""
    row = await source.fetchrow(FIND_TOKEN, security.digest(value))
    return None if row is None else token_of(dict(row))


def token_of(known: dict[str, Any]) -> Token:
    """Return the token with these columns of `FIND_TOKEN`."""
    seen = Seen(*(known.pop(f"seen_{whose}") for whose in Seen.__struct_fields__))
    details, scope = Details.decoded(known.pop("details")), known["scope"]
    if known["name"] in kinds.ASK_FOR_SCOPE and scope is not None and details.scope_request is not None:
        details, known["scope"] = msgspec.structs.replace(details, scope_request=scope), None
    known["is_bound_by_roles"] = known["is_bound_by_roles"] is not False
    return Token(**known, details=details, seen=seen)


async def consume_token(transaction: PooledConnection, token_id: UUID) -> bool:
    """Mark a single-use token as used; False when it was used or expired. Exactly one of several gets True."""
    return await _end(transaction, CONSUME, token_id) > 0


async def find_recent_successor(transaction: PooledConnection, token_id: UUID, *, within_seconds: float) -> UUID | None:
    """Return the id of the first successor of a refresh token that was used within so many seconds; else None."""
    noted = await transaction.fetchval(FIND_RECENT_SUCCESSOR, token_id, float(within_seconds))
    return parse_uuid(noted or "")


async def note_successor(transaction: PooledConnection, token_id: UUID, *, successor_id: UUID) -> None:
    """Note the first successor of a refresh token; a later one changes nothing."""
    await transaction.execute(NOTE_SUCCESSOR, token_id, str(successor_id))


async def choose_successor(transaction: PooledConnection, token_id: UUID, *, successor_id: UUID) -> bool:
    """Let the family go on by this successor of a refresh token; False when it went on by another one.

    A refresh token that is not there any more says nothing against it.
    """
    return bool(await transaction.fetchval(CHOOSE_SUCCESSOR, token_id, str(successor_id)))


async def replace_token(transaction: PooledConnection, token_id: UUID) -> bool:
    """Revoke a token that another one replaces; False when it was used or expired. Exactly one of several gets True."""
    return await _end(transaction, REPLACE, token_id) > 0


async def answer_token(transaction: PooledConnection, token_id: UUID, answer: str) -> bool:
    """Use up a login session by an answer, or find that the same answer has used it; False for any other, or expired.

    Of several different answers at once exactly one gets True; all that are the same get it.
    """
    return await _end(transaction, ANSWER, token_id, answer) > 0


async def hold_grants(transaction: rows.Transaction, user_ids: list[UUID]) -> None:
    """Wait for the running grants of these users, and keep others from beginning.

    A grant holds the approval while it issues tokens. A later statement of the transaction sees these tokens.
    """
    await transaction.execute(HOLD_GRANTS, user_ids)


async def revoke_all(transaction: rows.Transaction, user_id: UUID, *, client_id: UUID | None = None) -> None:
    """Revoke every token of a user, of any kind, with that client, or with any where there is none."""
    await transaction.execute(REVOKE_OF_USER, user_id, client_id)
    await expire_some(transaction, user_id, client_id=client_id)


async def expire_some(transaction: rows.Transaction, user_id: UUID, *, client_id: UUID | None = None) -> None:
    """Mark the first thousand tokens as expired that were revoked with their user, a client or an approval."""
    await _end(transaction, EXPIRE_SOME_OF_USER, user_id, client_id)


async def revoke_all_of_client(transaction: PooledConnection, client_id: UUID) -> int:
    """Revoke every token of a locked client, of any kind and user; return how many are marked as expired by now."""
    await transaction.execute(REVOKE_OF_CLIENT, client_id)
    return await expire_some_of_client(transaction, client_id)


async def expire_some_of_client(transaction: PooledConnection, client_id: UUID) -> int:
    """Mark the first thousand tokens as expired that were revoked with their client; return their number."""
    return await _end(transaction, EXPIRE_SOME_OF_CLIENT, client_id)


async def revoke_others(transaction: PooledConnection, kept: Issued, *, kinds: Sequence[TokenKind]) -> None:
    """Revoke the active tokens of these kinds of the same user and client, all but `kept`."""
    await _end(transaction, REVOKE_OTHERS, kept.user_id, kept.client_id, kinds, kept.id)


async def count_active(
    source: Source,
    owner_id: UUID,
    *,
    kinds: Sequence[TokenKind],
    of: Literal["connection", "client"] = "connection",
) -> int:
    """Return how many unused tokens of these kinds a connection or a client has that have not expired.

    10 000 stands for more.
    """
    row = await source.fetchrow(COUNTS_ACTIVE[of], owner_id, list(kinds))
    counted: int = row["count"] if row else 0
    return counted


async def is_active(transaction: PooledConnection, token_id: UUID) -> bool:
    """Return whether it is neither used nor expired now, as opposed to when the transaction began."""
    return bool(await transaction.fetchval(IS_ACTIVE, token_id))


async def revoke_token(transaction: PooledConnection, token_id: UUID) -> None:
    """Revoke one token."""
    await _end(transaction, REVOKE, token_id)


async def revoke_family(transaction: PooledConnection, family_id: UUID | None) -> None:
    """Revoke all that one grant has issued."""
    await _end(transaction, REVOKE_FAMILY, family_id)
