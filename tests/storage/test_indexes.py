"""Every statement of the service, and every deletion by foreign key, uses an index.

The statements are those in the stores, those that lists compose for each filter, and deletions of each kind of row:
the server gets requests for all of these, and the statements that it runs are recorded.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from mithril.audit import events
from support import described, granting, plans
from support.servers import fresh_database, running_server

pytestmark = pytest.mark.anyio

UNINDEXED_FOREIGN_KEYS = """
SELECT conrelid::regclass || '.' || attname
  FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
 WHERE contype = 'f' AND conrelid::regclass::text <> ALL ($1)
   AND NOT EXISTS (
    SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1]
       AND (indpred IS NULL OR pg_get_expr(indpred, indrelid) = format('(%s IS NOT NULL)', attname))
)
"""

# Related rows of a filled database, by the names of their parameters in paths and filters.
OWN = """
SELECT u.id AS users, u.id AS user_id, c.id AS clients, c.id AS client_id, k.id AS connections, k.consumer_id,
       a.id AS apps, f.id AS authentication_factors, ur.id AS roles, ur.role_id, gr.id AS global_roles, t.id AS tokens
  FROM users u JOIN clients c ON c.user_id = u.id JOIN connections k ON k.client_id = c.id
  JOIN apps a ON a.user_id = u.id JOIN authentication_factors f ON f.user_id = u.id
  JOIN user_roles ur ON ur.user_id = u.id JOIN global_user_roles gr ON gr.user_id = u.id
  JOIN tokens t ON t.user_id = u.id
 LIMIT 1
"""
# Values of filters that are not identifiers.
OTHERS = {"is_active": "true", "is_blocked": "true", "active": "true"}
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
TRAIL = {
    "action": "client.update",
    "noun": "client",
    "request_id": "r",
    "since": MOMENT,
    "until": MOMENT,
    "after_id": 1,
}


@pytest.fixture(scope="module")
def filled(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        asyncio.run(plans.fill(url))
        yield url


@pytest.fixture
async def db(filled: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(filled)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM tokens WHERE scope = $1",
        "SELECT FROM connections WHERE redirect_uri = $1",
        "UPDATE otp SET active = false WHERE id = (SELECT id FROM otp WHERE code_digest = $1 LIMIT 1)",
        "DELETE FROM attempts WHERE count > $1",
        "SELECT FROM tokens t JOIN users u ON u.id = t.user_id WHERE u.person_id = $1",
        "SELECT FROM clients WHERE name = $1 ORDER BY inserted_at, id LIMIT 50",
        "SELECT FROM clients ORDER BY name LIMIT 50",
        "SELECT count(*) FROM tokens",
    ],
)
async def test_a_statement_without_an_index_is_found(db: Any, statement: str) -> None:
    assert await plans.objections_to(db, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM tokens WHERE digest = $1",
        "SELECT FROM clients ORDER BY inserted_at, id LIMIT 50 OFFSET 100",
        "SELECT count(*) FROM (SELECT FROM tokens WHERE true LIMIT 10000) AS counted",
        "SELECT FROM clients c JOIN client_types ct ON ct.id = c.client_type_id ORDER BY c.inserted_at, c.id LIMIT 50",
    ],
)
async def test_a_statement_with_an_index_is_accepted(db: Any, statement: str) -> None:
    assert await plans.objections_to(db, statement) == []


async def test_every_statement_of_the_stores_uses_an_index(db: Any) -> None:
    statements = plans.written()
    assert len(statements) > 30
    await judge(db, statements)


async def test_lists_with_any_filter_and_deletions_use_an_index(db: Any, filled: str) -> None:
    own = dict(await db.fetchrow(OWN))
    with plans.noted() as statements, running_server(database_url=filled) as server:
        async with httpx.AsyncClient(base_url=server.internal_url) as internal:
            for path, query in requests("GET", own):
                response = await internal.get(path, params=query, headers={"X-Consumer-Id": str(own["users"])})
                assert response.status_code < 500, response.text
            for path, query in requests("DELETE", own):
                assert (await internal.delete(path, params=query)).status_code < 500
        async with granting.database_of(server) as database:
            for name in events.FILTERS:
                await events.list_last(database, {name: TRAIL.get(name, own["users"])}, most=50)
    assert len(statements) > 80
    await judge(db, statements)


async def judge(db: Any, statements: set[str]) -> None:
    if objections := await plans.judge(db, statements):
        pytest.fail("no index leads to what these read:\n" + "\n".join(objections), pytrace=False)


def requests(method: str, own: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the described operations below `/admin` about stored rows, without filters and with each filter alone."""
    for known, path, operation in described.operations():
        row = re.search(r"(\w+)/{id}", path)
        names = {"id": own[row[1]], **own} if row and row[1] in own else own
        if known != method or not path.startswith("/admin/") or set(re.findall(r"{(\w+)}", path)) - names.keys():
            continue
        parameters = map(described.resolved, operation["parameters"])
        filters = [p["name"] for p in parameters if p["in"] == "query" and not p["name"].startswith("page")]
        values = {name: str(OTHERS.get(name) or own.get(name.replace("ids", "id"), own["users"])) for name in filters}
        yield from ((path.format(**names), {name: value}) for name, value in values.items())
        yield path.format(**names), {}


async def test_every_foreign_key_has_an_index_on_the_referencing_side(db: Any) -> None:
    """A deletion looks up the referencing rows by their foreign key."""
    assert await db.fetch(UNINDEXED_FOREIGN_KEYS, list(plans.SMALL)) == []
