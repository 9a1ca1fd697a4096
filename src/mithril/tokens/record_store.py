"""The SQL about tokens as administrators see them: lists, and single ones."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mithril.audit import rows
from mithril.database import indexes, lists
from mithril.database.database import Condition, Database, Source, find_one
from mithril.database.lists import Filters, Listed, Listing, Page, Search
from mithril.tokens.kinds import TokenKind


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A token as administrators see it: neither its value nor its digest. `details` is JSON as text."""

    id: UUID
    name: str
    user_id: UUID
    client_id: UUID
    scope: str | None
    details: str
    expires_at: datetime
    is_used: bool


RECORD = "t.id, t.name, t.user_id, t.client_id, t.scope, t.details, t.expires_at, t.used_at IS NOT NULL AS is_used"
# Nearly all tokens are of these kinds, so that a part of such a name is found soon. An index has all the others: their
# names, of which there are few, are read one after the other, and then what has one that is asked for.
COMMON = (TokenKind.ACCESS, TokenKind.REFRESH)
OTHERS = f"t.name NOT IN ('{COMMON[0]}', '{COMMON[1]}')"
OTHER_NAMES = f"""
WITH RECURSIVE other (name) AS (
    (SELECT t.name FROM tokens t WHERE {OTHERS} ORDER BY t.name LIMIT 1)
 UNION ALL
    SELECT (SELECT t.name FROM tokens t WHERE {OTHERS} AND t.name > other.name ORDER BY t.name LIMIT 1)
      FROM other WHERE other.name IS NOT NULL
)
SELECT name FROM other WHERE name ILIKE {{}}"""
NAME = lists.containing(
    "t.name",
    index_name=indexes.OTHER_TOKEN_NAMES,
    by_index=f"{OTHERS} AND t.name = ANY (ARRAY({OTHER_NAMES}))",
    is_served=lambda text: not any(text.lower() in kind for kind in COMMON),
    is_estimated=False,
)
FILTERS: Filters = {
    "id": "t.id = {}",
    "name": NAME,
    "digest": "t.digest = {}",
    "user_id": "t.user_id = {}",
    "user_ids": "t.user_id = ANY ({}::uuid[])",
    "client_id": "t.client_id = {}",
}
LIST = Listing(Record, "tokens t", RECORD, FILTERS)
# The numbers are those of the last revocations (migration 0004), of the same moment as the scope.
FIND_TYPE = """
SELECT ct.scope, c.last_revocation AS seen_client, ct.last_revocation AS seen_type
  FROM clients c JOIN client_types ct ON ct.id = c.client_type_id WHERE c.id = $1
"""


class BoundingType(msgspec.Struct, frozen=True, kw_only=True):
    """The scope of a client's type, and what the client and the type have lost by then."""

    scope: str
    seen_client: int
    seen_type: int


def conditions_of(filters: dict[str, Any]) -> list[Condition]:
    """Return each filter as a condition on a token `t`."""
    known = {name: FILTERS[name] for name in filters}
    return [
        Condition(each.fragment, each.value(filters[name]))
        if isinstance(each, Search)
        else Condition(each, filters[name])
        for name, each in known.items()
    ]


async def list_records(database: Database, filters: dict[str, Any], *, page: Page) -> Listed[Record]:
    """List tokens, the oldest first; filters: FILTERS, of which a name is found by any part of it."""
    return await lists.fetch(database, LIST, filters, page=page)


async def find_type(source: rows.Transaction, client_id: UUID | str) -> BoundingType | None:
    """Return the type of a client, or None where there is no such client."""
    return await find_one(source, BoundingType, FIND_TYPE, client_id)


async def find_record(source: Source, token_id: UUID) -> Record | None:
    """Return the token of that id, active or not; or None."""
    return await find_one(source, Record, f"SELECT {RECORD} FROM tokens t WHERE t.id = $1", token_id)
