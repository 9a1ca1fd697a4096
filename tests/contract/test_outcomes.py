"""A write whose answer is lost between database and server: the caller learns the truth, or hears that none is known.

A proxy between the two loses the answer to one request of the database.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril import security
from mithril.database import database
from mithril.database.database import Database
from mithril.oauth import store
from support import cases, factories, granting
from support.factories import Db, bearer
from support.proxies import Loss, Proxy, losing
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

ARRIVED = [Loss.CUT, pytest.param(Loss.SILENCE, marks=pytest.mark.slow)]
BRIEF_SECONDS = 0.5

# What the statement sends that issues tokens for a code, and no other one.
NEW_TOKENS = b'"grant_type":"authorization_code"'


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
    proxy.lose(NEW_TOKENS, loss)
    response = await http.post("/oauth/tokens", json={"token": token})
    assert proxy.has_lost
    assert response.status_code == 201, response.text
    refresh = response.json()["data"]["details"]["refresh_token"]
    again = {"grant_type": "refresh_token", "refresh_token": refresh, **party.body}
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        verified = await internal.get(f"/admin/tokens/{response.json()['data']['value']}/verify")
    assert verified.status_code == 200, "the tokens work"
    assert (await http.post("/oauth/tokens", json={"token": again})).status_code == 201


async def test_a_request_that_does_not_arrive_leaves_the_code_as_it_was(
    proxy: Proxy, http: httpx.AsyncClient, db: Db, server: Server
) -> None:
    party = await granting.party(db)
    for _ in range(2):  # so that the server's connections have prepared the statement
        known = {"grant_type": "authorization_code", "code": await granting.code(server, party), **party.body}
        response = await http.post("/oauth/tokens", json={"token": known | {"redirect_uri": party.redirect_uri}})
        assert response.status_code == 201
    code = await granting.code(server, party)
    token = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    proxy.lose(NEW_TOKENS, Loss.HELD)
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


async def test_an_approval_whose_answers_are_lost_gives_a_code(proxy: Proxy, http: httpx.AsyncClient, db: Db) -> None:
    case = await cases.make_case(db)
    url = f"/sign-in?{case.changed()}"
    page = await cases.consent_page(http, url, case)
    proxy.lose(b"COMMIT", Loss.CUT, times=2)  # the login session is used up, and the code is issued
    code = cases.sent_back(await cases.decide(http, url, page, "allow"), case)["code"]
    assert proxy.has_lost
    assert (await cases.redeem(http, case, code)).status_code == 200


async def test_a_nonce_whose_answer_is_lost_is_used_up(proxy: Proxy, db: Db) -> None:
    client = await factories.client(db)
    async with Database(proxy.url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        nonce = await store.add_nonce(opened, client_id=client.id, lives_seconds=60)
        proxy.lose(b"COMMIT", Loss.CUT)
        async with opened.transaction() as transaction:
            assert await store.consume_nonce(transaction, nonce, client_id=client.id)
        assert proxy.has_lost
        assert not await store.has_nonce(opened, nonce, client_id=client.id)


async def test_what_changes_nothing_leaves_no_operation(
    http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    uri, count = new_uri(), "SELECT count(*) FROM operations"
    before = await db.fetchval(count)
    for expected in (before + 1, before + 1):
        await http.patch(connection.path, json={"redirect_uri": uri}, headers=headers)
        assert await db.fetchval(count) == expected
    absent = f"{connection.path[:-36]}{uuid4()}"
    assert (await http.patch(absent, json={"redirect_uri": uri}, headers=headers)).status_code == 404
    assert (await http.delete(absent, headers=headers)).status_code == 404
    assert await db.fetchval(count) == before + 1


async def test_every_change_has_an_operation_of_its_own(
    http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    named = headers | {"X-Request-ID": "the-same-for-all-of-them"}
    for _ in range(2):
        await http.patch(connection.path, json={"redirect_uri": new_uri()}, headers=named)
    await http.patch(f"{connection.path}/actions/refresh_secret", headers=named)
    await http.delete(connection.path, headers=named)
    rows = await db.fetch(
        "SELECT o.id, o.is_done FROM audit_events e LEFT JOIN operations o ON o.id = e.operation_id"
        " WHERE e.subject_id = $1 ORDER BY e.id",
        connection.id,
    )
    assert all(row["is_done"] for row in rows)
    assert len({row["id"] for row in rows}) == 4


async def test_the_log_says_when_an_answer_was_lost_and_what_was_done(
    proxy: Proxy, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "log", logged := CapturingLogger())
    client = await factories.client(db)
    async with Database(proxy.url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        nonce = await store.add_nonce(opened, client_id=client.id, lives_seconds=60)
        proxy.lose(b"COMMIT", Loss.CUT)
        async with opened.transaction() as transaction:
            await store.consume_nonce(transaction, nonce, client_id=client.id)
    ((level, events, line),) = logged.calls
    assert (level, events, line["is_done"]) == ("warning", ("answer_lost",), True)
    assert "ConnectionDoesNotExistError" in line["detail"]
    assert await db.fetchval("SELECT is_done FROM operations WHERE id = $1", UUID(line["operation_id"]))


@pytest.mark.slow
async def test_where_nothing_can_be_found_out_the_caller_is_told_so(
    isolating: Proxy,
    http: httpx.AsyncClient,
    target: tuple[factories.Connection, dict[str, str]],
    logged: CapturingLogger,
) -> None:
    connection, headers = target
    uri = new_uri()
    isolating.lose(uri.encode(), Loss.CUT, is_last=True)
    operation_id = assert_unknown(await http.patch(connection.path, json={"redirect_uri": uri}, headers=headers))
    isolating.open.set()
    (failure,) = (call.kwargs for call in logged.calls if call.method_name == "error")
    assert failure["detail"].startswith(f"operation {operation_id}: the database cannot be reached: ")
    assert [call.args for call in logged.calls if call.method_name == "error"] == [("outcome_unknown",)]
    history = await http.get(f"{connection.path}/history", headers=headers)
    (event,) = history.json()["data"]
    assert event["operation_id"] == str(operation_id)
    assert event["new"] == {"redirect_uri": uri}


@pytest.mark.slow
async def test_a_token_request_of_unknown_outcome_is_no_invitation_to_repeat(
    isolating: Proxy, http: httpx.AsyncClient, db: Db, server: Server
) -> None:
    party = await granting.party(db)
    code = await granting.code(server, party)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    isolating.lose(NEW_TOKENS, Loss.CUT, is_last=True)
    response = await http.post("/oauth2/token", data=form)
    assert response.status_code == 503
    assert response.json()["error"] == "server_error"
    assert UUID(response.json()["operation_id"]).version == 7
    assert "retry-after" not in response.headers


@pytest.mark.slow
async def test_the_page_of_an_unknown_outcome_names_the_operation(
    isolating: Proxy, http: httpx.AsyncClient, db: Db
) -> None:
    case = await cases.make_case(db)
    url = f"/sign-in?{case.changed()}"
    page = await cases.consent_page(http, url, case)
    isolating.lose(b"COMMIT", Loss.CUT, is_last=True)
    response = await cases.decide(http, url, page, "allow")
    isolating.open.set()
    assert response.status_code == 503
    assert "retry-after" not in response.headers
    assert "It is not known whether this was done" in response.text
    shown = re.search("<dt>Operation number</dt>\\s*<dd><code>([0-9a-f-]{36})</code>", response.text)
    assert shown
    assert await db.fetchval("SELECT is_done FROM operations WHERE id = $1", UUID(shown[1]))


@asynccontextmanager
async def no_standby(db: Db) -> AsyncIterator[None]:
    """In the block no commit is confirmed: the synchronous standby that it needs is missing."""
    await db.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
    await db.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await db.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await db.execute("SELECT pg_reload_conf()")


async def until_waiting(db: Db, statement: str) -> None:
    """Wait until a session waits for the standby with a statement like that."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE $1"
    while not await db.fetchval(waiting, f"%{statement}%"):  # noqa: ASYNC110 -- another process's rows
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_without_the_synchronous_standby_the_outcome_of_every_change_is_unknown(
    http: httpx.AsyncClient, server: Server, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    party, uri = await granting.party(db), new_uri()
    code = await granting.code(server, party)
    token = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    async with no_standby(db):
        updating = http.patch(connection.path, json={"redirect_uri": uri}, headers=headers)
        exchanging = http.post("/oauth/tokens", json={"token": token})
        answers = await asyncio.gather(updating, exchanging)
        shown = await http.get(connection.path, headers=headers)
    assert shown.json()["data"]["redirect_uri"] == uri, "it is done, and reading goes on"
    for operation_id in map(assert_unknown, answers):
        assert await db.fetchval("SELECT is_done FROM operations WHERE id = $1", operation_id)
    again = await http.patch(connection.path, json={"redirect_uri": new_uri()}, headers=headers)
    assert again.status_code == 200
    assert again.headers["etag"] == '"3"'


@pytest.mark.slow
async def test_a_change_is_confirmed_when_the_synchronous_standby_is_back_in_time(
    http: httpx.AsyncClient, db: Db, target: tuple[factories.Connection, dict[str, str]]
) -> None:
    connection, headers = target
    async with no_standby(db):
        updating = asyncio.create_task(http.patch(connection.path, json={"redirect_uri": new_uri()}, headers=headers))
        await until_waiting(db, "ON CONFLICT (id) DO UPDATE SET is_done")
    response = await updating
    assert response.status_code == 200, response.text
    assert response.headers["etag"] == '"2"'
    assert await trail(db, connection) == ["connection.update"]
