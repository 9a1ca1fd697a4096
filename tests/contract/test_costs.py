"""The cost of a request as a count of statements and calls, which does not depend on the load of the machine."""

import base64
import inspect
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import starlette
import structlog
from asyncpg.introspection import INTRO_LOOKUP_TYPES

import mithril
from mithril.app import create_app
from mithril.database.connecting import STATE
from mithril.sightings import service as sightings
from support import cases, factories, granting, oauth_world
from support.factories import Db, bearer
from support.oauth_world import World
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def statements() -> list[str]:
    """The statements that the server has run since the list was last emptied."""
    return []


@pytest.fixture(scope="module")
def server(postgres: str, statements: list[str]) -> Iterator[Server]:
    """A server whose database connections record each statement, with `BEGIN` and `COMMIT`."""

    connect = asyncpg.connect

    def note(asked: Any) -> None:
        # What the pool and asyncpg ask by themselves, of each new connection, depends on the load.
        if asked.query not in {STATE, INTRO_LOOKUP_TYPES} and "set_config('jit'" not in asked.query:
            statements.append(asked.query)

    async def listen(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        connection.add_query_logger(note)
        return connection

    with pytest.MonkeyPatch.context() as patched, fresh_database(postgres) as url:
        patched.setattr(asyncpg, "connect", listen)
        patched.setattr(sightings, "WRITE_SECONDS", 3600.0)
        with running_server(database_url=url, sweep_interval=0) as running:  # the cleanup sends statements too
            yield running


@pytest.fixture
async def internal(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.internal_url) as client:
        yield client


async def brokered(db: Db) -> tuple[factories.Connection, str, str]:
    """A connection, and a token and an API-key that may change it."""
    mis = await factories.client(db, client_type="MIS", broker_scope="connection:write")
    key = await factories.connection(db, client_id=mis.id)
    clinic = await factories.client(db, access_type="BROKER")
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    return connection, await factories.token(db, client=clinic, connection_id=connection.id), key.secret


async def all_noted(client: httpx.AsyncClient) -> None:
    """Wait one turn of the loop longer than asyncpg, which reports statements one turn late."""
    assert (await client.get("/healthz")).status_code == 200


async def test_an_update_takes_two_statements(http: httpx.AsyncClient, db: Db, statements: list[str]) -> None:
    connection, token, key = await brokered(db)
    for number in range(2):  # a new database connection first reads the types that it does not know
        statements.clear()
        body = {"redirect_uri": f"https://new.example.com/callback/{number}"}
        response = await http.patch(connection.path, json=body, headers=bearer(token, api_key=key))
        assert response.status_code == 200
        await all_noted(http)
    assert len(statements) == 2, statements


async def test_verifying_takes_one_statement(internal: httpx.AsyncClient, db: Db, statements: list[str]) -> None:
    _connection, token, key = await brokered(db)
    for _ in range(2):  # as for the update
        statements.clear()
        response = await internal.get(f"/admin/tokens/{token}/verify", headers={"api-key": key})
        assert response.status_code == 200
        await all_noted(internal)
    assert len(statements) == 1, statements


@pytest.mark.parametrize("is_public", [False, True])
async def test_an_exchange_and_a_refresh_take_three_statements(
    http: httpx.AsyncClient, db: Db, server: Server, statements: list[str], *, is_public: bool
) -> None:
    """The caller, all that counts, and then all that is done."""
    party = await granting.party(db, is_public=is_public)
    proof = {"code_verifier": granting.VERIFIER} if is_public else {}
    for _ in range(2):  # a new database connection first reads the types that it does not know
        code = await granting.code(server, party, challenge=granting.CHALLENGE if is_public else None)
        await all_noted(http)
        token = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri}
        token |= party.body | proof
        statements.clear()
        response = await http.post("/oauth/tokens", json={"token": token})
        assert response.status_code == 201
        await all_noted(http)
    assert len(statements) == 3, statements
    refresh_token = response.json()["data"]["details"]["refresh_token"]
    for _ in range(2):
        statements.clear()
        token = {"grant_type": "refresh_token", "refresh_token": refresh_token, **party.body}
        response = await http.post("/oauth/tokens", json={"token": token})
        assert response.status_code == 201
        await all_noted(http)
        refresh_token = response.json()["data"]["details"]["refresh_token"]
    assert len(statements) == 3, statements


async def test_an_introspection_takes_one_statement(
    http: httpx.AsyncClient, db: Db, server: Server, statements: list[str]
) -> None:
    party = await granting.party(db)
    for _ in range(2):
        statements.clear()
        response = await http.post("/oauth2/introspect", data={"token": "unknown"}, auth=party.basic)
        assert response.json() == {"active": False}
        await all_noted(http)
    assert len(statements) == 1, statements


async def test_a_login_and_an_authorization_take_few_statements(
    http: httpx.AsyncClient, db: Db, world: World, statements: list[str]
) -> None:
    """With those that begin and end a transaction. A login revokes the session before it."""
    taken = {}
    for _ in range(2):
        statements.clear()
        assert (await oauth_world.login(http, world)).status_code == 201
        await all_noted(http)
        taken["login"] = len(statements)
        session = await oauth_world.session_of(db, world)
        statements.clear()
        assert (await oauth_world.authorize(http, world, session)).status_code == 201
        await all_noted(http)
        taken["authorization"] = len(statements)
    assert taken == {"login": 10, "authorization": 13}


async def test_a_sign_in_at_the_pages_takes_few_statements(
    server: Server, http: httpx.AsyncClient, db: Db, statements: list[str]
) -> None:
    taken = {}
    for _ in range(2):  # the second user is like the first, and each consents for the first time
        case = await cases.make_case(db)
        url = f"/sign-in?{case.changed()}"
        async with httpx.AsyncClient(base_url=server.url) as browser:
            page = await browser.get(url)
            filled = {"form_token": cases.form_token(page), "email": case.email, "password": cases.PASSWORD}
            await all_noted(http)
            statements.clear()
            assert (await browser.post(url, data=filled)).status_code == 303
            await all_noted(http)
            taken["password"] = len(statements)
            statements.clear()
            page = await browser.get(url)
            await all_noted(http)
            taken["consent page"] = len(statements)
            statements.clear()
            assert (await cases.decide(browser, url, page, "allow")).status_code == 303
            await all_noted(http)
            taken["consent"] = len(statements)
    assert taken == {"password": 12, "consent page": 7, "consent": 17}


class Calls:
    """How often Python functions were called, or resumed, in the files of the service and of the HTTP edge.

    A function that waits and goes on counts once, however often it waits. The files are those of the packages
    themselves, not those whose path has such a name in it: the folder of a clone may be called mithril too.
    """

    COUNTED = tuple(f"{Path(inspect.getfile(package)).parent}{os.sep}" for package in (mithril, starlette, structlog))

    def __init__(self) -> None:
        self.frames: set[FrameType] = set()  # one for each call; held, because the next one could take its place

    @property
    def number(self) -> int:
        return len(self.frames)

    def note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self.COUNTED):
            self.frames.add(frame)


@contextmanager
def counted() -> Iterator[Calls]:
    """Count in this thread, without the event loop's own calls, which depend on time."""
    calls, before = Calls(), sys.getprofile()
    sys.setprofile(calls.note)
    try:
        yield calls
    finally:
        sys.setprofile(before)


async def calls_of_request(
    server: Server, method: str, path: str, headers: dict[str, str], body: bytes = b"", *, port: int
) -> int:
    """Send the request without sockets, twice, and count the second time: the first also opens connections."""
    settings = msgspec.structs.replace(server.settings, log_level="info")
    app = create_app(settings)
    scope = {
        "type": "http",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", port),
        "client": ("127.0.0.1", 50_000),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async with app.database:
        for _ in range(2):
            with counted() as calls:
                await app(dict(scope), receive, send)
    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [200, 200]
    return calls.number


async def test_an_update_takes_few_calls(db: Db, server: Server) -> None:
    """At most a quarter above the first measurement (199, and 87 below); at least enough to show that it counts."""
    connection, token, key = await brokered(db)
    headers = bearer(token, api_key=key, content_type="application/json")
    body = json.dumps({"redirect_uri": "https://new.example.com/callback"}).encode()
    calls = await calls_of_request(server, "PATCH", connection.path, headers, body, port=server.settings.port)
    assert 100 < calls < 185


async def test_verifying_takes_few_calls(db: Db, server: Server) -> None:
    """The limits are set as for an update; four of the calls count for the metrics."""
    _connection, token, key = await brokered(db)
    path, headers = f"/admin/tokens/{token}/verify", {"api-key": key}
    calls = await calls_of_request(server, "GET", path, headers, port=server.settings.internal_port)
    assert 50 < calls < 87


async def test_an_introspection_takes_few_calls(db: Db, server: Server) -> None:
    """The limit is set as for an update (125)."""
    connection, token, _key = await brokered(db)
    basic = base64.b64encode(f"{connection.client_id}:{connection.secret}".encode()).decode()
    headers = {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
    body = f"token={token}".encode()
    calls = await calls_of_request(server, "POST", "/oauth2/introspect", headers, body, port=server.settings.port)
    assert 50 < calls < 156
