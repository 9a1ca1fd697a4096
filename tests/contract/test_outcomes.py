"""A write whose answer is lost between database and server: the caller learns the truth, or hears that none is known.

A proxy between the two loses the answer to one request of the database.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from mithril import security
from support import factories, granting
from support.factories import Db, bearer
from support.proxies import Loss, Proxy, losing
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

ARRIVED = [Loss.CUT, pytest.param(Loss.SILENCE, marks=pytest.mark.slow)]
BRIEF_SECONDS = 0.5


@pytest.fixture(scope="module")
def direct_url(postgres: str) -> Iterator[str]:
    """The database of the server, without the proxy."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(scope="module")
def proxy(direct_url: str) -> Iterator[Proxy]:
    with losing(direct_url) as proxy:
        yield proxy


@pytest.fixture
def isolating(proxy: Proxy) -> Iterator[Proxy]:
    """The proxy, which passes on everything again after the test."""
    yield proxy
    proxy.open.set()


@pytest.fixture(scope="module")
def server(proxy: Proxy) -> Iterator[Server]:
    """A server that reaches its database through the proxy, and is not patient."""
    limits = {"statement_timeout": 2, "pool_timeout": BRIEF_SECONDS}
    with running_server(database_url=proxy.url, sweep_interval=0, **limits) as running:
        yield running


@pytest.fixture(scope="module")
async def db(direct_url: str) -> AsyncIterator[Db]:
    connection = await asyncpg.connect(direct_url)
    yield connection
    await connection.close()


@pytest.fixture
async def target(db: Db) -> tuple[factories.Connection, dict[str, str]]:
    """A connection, and headers that allow to change it."""
    owner = await factories.client(db)
    scope = "connection:write connection:read connection:delete connection:refresh_secret"
    token = await factories.token(db, client=owner, scope=scope)
    return await factories.connection(db, client_id=owner.id), bearer(token)


def new_uri() -> str:
    return f"https://{uuid4().hex}.example.com/callback"


async def trail(db: Db, connection: factories.Connection) -> list[str]:
    rows = await db.fetch("SELECT action FROM audit_events WHERE subject_id = $1 ORDER BY id", connection.id)
    return [row["action"] for row in rows]


def assert_unknown(response: httpx.Response) -> UUID:
    assert response.status_code == 503, response.text
    error = response.json()["error"]
    assert error["type"] == "outcome_unknown"
    assert set(error) == {"type", "message", "operation_id"}
    assert "retry-after" not in response.headers
    return UUID(error["operation_id"])


@pytest.mark.parametrize("loss", ARRIVED)
async def test_an_update_whose_answer_is_lost_is_answered_truly(
    loss: Loss, proxy: Proxy, http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    uri = new_uri()
    proxy.lose(uri.encode(), loss)
    response = await http.patch(connection.path, json={"redirect_uri": uri}, headers=headers)
    assert proxy.has_lost
    assert response.status_code == 200, response.text
    assert response.headers["etag"] == '"2"'
    shown = await http.get(connection.path, headers=headers)
    published = shown.json()["data"]
    assert response.json()["data"].items() <= published.items()
    assert published["redirect_uri"] == uri
    assert await trail(db, connection) == ["connection.update"]


async def test_the_answer_is_about_that_update_when_another_one_follows(
    isolating: Proxy, server: Server, db: Db, direct_url: str, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    uri, later = new_uri(), new_uri()
    isolating.lose(uri.encode(), Loss.CUT, is_last=True)
    async with httpx.AsyncClient(base_url=server.url) as http:
        asked = asyncio.create_task(http.patch(connection.path, json={"redirect_uri": uri}, headers=headers))
        while await trail(db, connection) != ["connection.update"]:  # noqa: ASYNC110 -- another process's rows
            await asyncio.sleep(0.01)
        with running_server(database_url=direct_url, sweep_interval=0) as other:
            async with httpx.AsyncClient(base_url=other.url) as faster:
                second = await faster.patch(connection.path, json={"redirect_uri": later}, headers=headers)
        assert second.headers["etag"] == '"3"'
        isolating.open.set()
        response = await asked
    assert response.headers["etag"] == '"2"'
    assert response.json()["data"]["redirect_uri"] == uri
    assert response.json()["data"]["updated_at"] < second.json()["data"]["updated_at"]


async def test_an_update_that_does_not_arrive_is_not_done_and_never_will_be(
    proxy: Proxy, http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    uri = new_uri()
    for known in (new_uri(), new_uri()):  # so that the server's connections have prepared the statement
        assert (await http.patch(connection.path, json={"redirect_uri": known}, headers=headers)).status_code == 200
    proxy.lose(uri.encode(), Loss.HELD)
    response = await http.patch(connection.path, json={"redirect_uri": uri}, headers=headers)
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "service_unavailable"
    assert response.headers["retry-after"] == "1"
    assert b"operations_pkey" in proxy.deliver(), "what arrives late is refused"
    assert await trail(db, connection) == ["connection.update"] * 2
    assert await db.fetchval("SELECT redirect_uri FROM connections WHERE id = $1", connection.id) == known


@pytest.mark.parametrize("loss", ARRIVED)
async def test_a_code_whose_answer_is_lost_gives_its_tokens(
    loss: Loss, proxy: Proxy, http: httpx.AsyncClient, db: Db, server: Server
) -> None:
    party = await granting.party(db)
    code = await granting.code(server, party)
    token = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    proxy.lose(b"COMMIT", loss)
    response = await http.post("/oauth/tokens", json={"token": token})
    assert proxy.has_lost
    assert response.status_code == 201, response.text
    refresh = response.json()["data"]["details"]["refresh_token"]
    again = {"grant_type": "refresh_token", "refresh_token": refresh, **party.body}
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        verified = await internal.get(f"/admin/tokens/{response.json()['data']['value']}/verify")
    assert verified.status_code == 200, "the tokens work"
    assert (await http.post("/oauth/tokens", json={"token": again})).status_code == 201


async def test_a_commit_that_does_not_arrive_leaves_the_code_as_it_was(
    proxy: Proxy, http: httpx.AsyncClient, db: Db, server: Server
) -> None:
    party = await granting.party(db)
    code = await granting.code(server, party)
    token = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    proxy.lose(b"COMMIT", Loss.HELD)
    refused = await http.post("/oauth/tokens", json={"token": token})
    assert refused.status_code == 503
    assert refused.json()["error"]["type"] == "service_unavailable"
    assert b"operations_pkey" in proxy.deliver(), "what arrives late is refused"
    assert (await http.post("/oauth/tokens", json={"token": token})).status_code == 201


async def test_a_new_secret_whose_answer_is_lost_is_shown(
    proxy: Proxy, http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    proxy.lose(b"COMMIT", Loss.CUT)
    response = await http.patch(f"{connection.path}/actions/refresh_secret", headers=headers)
    assert proxy.has_lost
    assert response.status_code == 200, response.text
    digest = security.digest(response.json()["data"]["secret"])
    assert await db.fetchval("SELECT secret_digest FROM connections WHERE id = $1", connection.id) == digest


async def test_a_deletion_whose_answer_is_lost_is_answered_truly(
    proxy: Proxy, http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    proxy.lose(b"COMMIT", Loss.CUT)
    assert (await http.delete(connection.path, headers=headers)).status_code == 200
    assert proxy.has_lost
    assert await trail(db, connection) == ["connection.delete"]


async def test_where_nothing_can_be_found_out_the_caller_is_told_so(
    isolating: Proxy, http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    uri = new_uri()
    isolating.lose(uri.encode(), Loss.CUT, is_last=True)
    operation_id = assert_unknown(await http.patch(connection.path, json={"redirect_uri": uri}, headers=headers))
    isolating.open.set()
    history = await http.get(f"{connection.path}/history", headers=headers)
    (event,) = history.json()["data"]
    assert event["operation_id"] == str(operation_id)
    assert event["new"] == {"redirect_uri": uri}


async def test_a_token_request_of_unknown_outcome_is_no_invitation_to_repeat(
    isolating: Proxy, http: httpx.AsyncClient, db: Db, server: Server
) -> None:
    party = await granting.party(db)
    code = await granting.code(server, party)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    isolating.lose(b"COMMIT", Loss.CUT, is_last=True)
    response = await http.post("/oauth2/token", data=form)
    assert response.status_code == 503
    assert response.json()["error"] == "server_error"
    assert UUID(response.json()["operation_id"]).version == 7
    assert "retry-after" not in response.headers
