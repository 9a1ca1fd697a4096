"""A locked row holds up those who want it, and no one else: neither other rows nor look-ups nor the probes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from mithril.tokens.kinds import TokenKind
from support import administering, factories, granting, racing
from support.factories import Db, bearer
from support.granting import Party
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

# Of six connections one is for look-ups, and two of the other five for one row.
POOL_SIZE, MOST = 6, 2
CALLERS = 2 * POOL_SIZE
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    with fresh_database(postgres) as url, running_server(database_url=url, db_pool_size=POOL_SIZE) as running:
        yield running


@pytest.fixture
async def internal(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.internal_url, headers=administering.HEADERS) as client:
        yield client


@pytest.fixture
async def locker(server: Server) -> AsyncIterator[Db]:
    """A session that is no part of the service, and holds locks."""
    connection = await asyncpg.connect(server.database_url)
    yield connection
    await connection.close()


class Scene(NamedTuple):
    """A party whose rows are locked, another client with its connection, and who calls."""

    party: Party
    token: str
    refresh_token: str
    other: factories.Connection
    other_token: str
    http: httpx.AsyncClient
    internal: httpx.AsyncClient

    async def patch(self, connection: factories.Connection, token: str) -> httpx.Response:
        """Change the redirect URI to one that it never was."""
        body = {"redirect_uri": f"https://{uuid4().hex}.example.com/callback"}
        return await self.http.patch(connection.path, json=body, headers=bearer(token))

    async def look_up(self) -> list[int]:
        """Ask everything that only reads of the party, whose rows are locked; return the statuses."""
        basic, form = self.party.basic, {"token": self.token}
        answers = [
            await self.internal.get(f"/admin/tokens/{self.token}/verify"),
            await self.internal.get(f"/admin/tokens/{self.token}/user"),
            await self.internal.get("/admin/forward-auth", headers=bearer(self.token)),
            await self.internal.get(f"/admin/api_key/{self.party.connection.secret}/verify"),
            await self.http.post("/oauth2/introspect", data=form, auth=basic),
            await self.http.get("/readyz"),
            await self.internal.get("/readyz"),
        ]
        return [answer.status_code for answer in answers]


# A client of type MSP is no broker, so its API-key is known and refused.
FOUND = [200, 200, 200, 422, 200, 200, 200]


@pytest.fixture
async def scene(db: Db, http: httpx.AsyncClient, internal: httpx.AsyncClient) -> Scene:
    party = await granting.party(db)
    client = factories.Client(party.client_id, party.user_id)
    scope = "connection:write connection:delete connection:refresh_secret"
    await db.execute(
        "UPDATE client_types SET scope = $1 WHERE id = (SELECT client_type_id FROM clients WHERE id = $2)",
        scope,
        party.client_id,
    )
    token = await factories.token(db, client=client, scope=scope)
    await db.execute(
        "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3)", party.user_id, client.id, scope
    )
    refresh_token = await factories.token(
        db, client=client, scope=scope, name=TokenKind.REFRESH, connection_id=party.connection.id
    )
    owner = await factories.client(db)
    other = await factories.connection(db, client_id=owner.id)
    return Scene(party, token, refresh_token, other, await factories.token(db, client=owner), http, internal)


async def wait_for(db: Db, waiting: int) -> None:
    while await db.fetchval(WAITING) < waiting:  # noqa: ASYNC110 -- no event for it
        await asyncio.sleep(0.01)


Ask = Callable[[Scene], Coroutine[Any, Any, httpx.Response]]
# What many callers want at once, and the row that another session has locked meanwhile.
WANTED: dict[str, tuple[str, Callable[[Scene], UUID], Ask]] = {
    "update a connection": (
        "connections",
        lambda s: s.party.connection.id,
        lambda s: s.patch(s.party.connection, s.token),
    ),
    "refresh a secret": (
        "connections",
        lambda s: s.party.connection.id,
        lambda s: s.http.patch(f"{s.party.connection.path}/actions/refresh_secret", json={}, headers=bearer(s.token)),
    ),
    "delete a connection": (
        "connections",
        lambda s: s.party.connection.id,
        lambda s: s.http.delete(s.party.connection.path, headers=bearer(s.token)),
    ),
    "refresh a token": (
        "connections",
        lambda s: s.party.connection.id,
        lambda s: s.http.post(
            "/oauth2/token",
            data={"grant_type": "refresh_token", "refresh_token": s.refresh_token},
            auth=s.party.basic,
        ),
    ),
    "revoke a token": (
        "users",
        lambda s: s.party.user_id,
        lambda s: s.http.post("/oauth2/revoke", data={"token": s.refresh_token}, auth=s.party.basic),
    ),
    "change a client": (
        "clients",
        lambda s: s.party.client_id,
        lambda s: s.internal.patch(f"/admin/clients/{s.party.client_id}", json={"client": {"name": uuid4().hex}}),
    ),
    "block a user": (
        "users",
        lambda s: s.party.user_id,
        lambda s: s.internal.patch(f"/admin/users/{s.party.user_id}/actions/block", json={"user": {}}),
    ),
}


@pytest.mark.parametrize("name", WANTED)
async def test_many_who_want_a_locked_row_hold_up_no_one_else(name: str, scene: Scene, locker: Db, db: Db) -> None:
    table, row_of, ask = WANTED[name]
    async with locker.transaction():
        await locker.execute(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE", row_of(scene))
        waiting = [asyncio.create_task(ask(scene)) for _ in range(CALLERS)]
        await wait_for(db, MOST)
        for _ in range(3):
            assert (await scene.patch(scene.other, scene.other_token)).status_code == 200
        assert await scene.look_up() == FOUND
        assert await db.fetchval(WAITING) == MOST
        assert not any(each.done() for each in waiting)
    answers = await asyncio.gather(*waiting)
    assert not [each.text for each in answers if each.status_code >= 500]


async def test_no_write_takes_the_connections_of_look_ups(scene: Scene, locker: Db, db: Db) -> None:
    """Not even when so many rows are locked that every other connection waits."""
    connections = [
        await factories.connection(db, client_id=scene.party.client_id, consumer_id=(await factories.client(db)).id)
        for _ in range(POOL_SIZE)
    ]
    async with locker.transaction():
        await locker.execute("SELECT FROM connections WHERE client_id = $1 FOR UPDATE", scene.party.client_id)
        waiting = [asyncio.create_task(scene.patch(each, scene.token)) for each in connections]
        await wait_for(db, POOL_SIZE - 1)
        assert await scene.look_up() == FOUND
        assert not any(each.done() for each in waiting)
    assert {each.status_code for each in await asyncio.gather(*waiting)} == {200}


async def test_a_locked_row_is_503_soon_and_changes_nothing(server: Server, scene: Scene, locker: Db, db: Db) -> None:
    """Soon is the limit for locks: any other limit would end the test first."""
    connection = scene.party.connection
    with running_server(database_url=server.database_url, lock_timeout=0.2) as impatient:
        async with httpx.AsyncClient(base_url=impatient.url) as http, locker.transaction():
            await locker.execute("SELECT FROM connections WHERE id = $1 FOR UPDATE", connection.id)
            response = await scene._replace(http=http).patch(connection, scene.token)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "service_unavailable"
    assert response.headers["retry-after"] == "1"
    assert await db.fetchval("SELECT version FROM connections WHERE id = $1", connection.id) == 1
    assert await db.fetchval("SELECT count(*) FROM audit_events WHERE subject_id = $1", connection.id) == 0


async def test_who_waits_for_a_turn_too_long_gets_503(server: Server, scene: Scene, locker: Db, db: Db) -> None:
    connection = scene.party.connection
    limits = {"db_pool_size": POOL_SIZE, "pool_timeout": 0.3}
    with running_server(database_url=server.database_url, **limits) as impatient:
        async with httpx.AsyncClient(base_url=impatient.url) as http:
            there = scene._replace(http=http)
            while (await there.patch(connection, scene.token)).status_code != 200:
                pass  # a busy machine may take longer to open the first connection
            async with locker.transaction():
                await locker.execute("SELECT FROM connections WHERE id = $1 FOR UPDATE", connection.id)
                first = [
                    await racing.sent(db, there.patch(connection, scene.token), waiting=n + 1) for n in range(MOST)
                ]
                late = await there.patch(connection, scene.token)
                assert not any(each.done() for each in first)
            assert {each.status_code for each in await asyncio.gather(*first)} == {200}
    assert late.status_code == 503
    assert late.headers["retry-after"] == "1"
