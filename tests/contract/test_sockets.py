"""Requests that no HTTP library would send: incomplete ones, endless ones, and input that is not HTTP."""

import asyncio
import logging
import socket
import struct
from collections.abc import Iterator

import asyncpg
import pytest
from structlog.testing import CapturingLogger

from mithril.server.connection import Protocol
from support import factories
from support.factories import Db
from support.servers import Server, fresh_database, running_server
from support.sockets import connect, exchange, read

pytestmark = pytest.mark.anyio


async def patch_head(db: Db, *lines: str) -> bytes:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner)
    head = [f"PATCH {connection.path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


JSON = "Content-Type: application/json"


async def test_an_endless_body_is_refused_before_it_ends(server: Server, db: Db) -> None:
    head = await patch_head(db, JSON, "Transfer-Encoding: chunked")
    with connect(server) as connection:
        connection.sendall(head)
        for _ in range(20):
            connection.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
        status, headers, body = read(connection)
        assert status == 413
        assert headers["connection"] == "close"
        assert body["error"]["type"] == "request_too_large"
        assert connection.recv(1) == b"", "the server says that it will send nothing more"


async def test_a_large_body_with_expect_100_is_refused_before_it_is_sent(server: Server, db: Db) -> None:
    head = await patch_head(db, JSON, "Content-Length: 70000", "Expect: 100-continue")
    status, _, body = exchange(server, head)
    assert (status, body["error"]["type"]) == (413, "request_too_large")


async def test_an_unknown_caller_with_expect_100_is_refused_before_the_body_is_sent(server: Server) -> None:
    request = (
        b"PATCH /api/clients/a/connections/b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    status, _, _ = exchange(server, request)
    assert status == 401


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"not http at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_input_that_is_not_http_gets_the_envelope_too(server: Server, request_bytes: bytes) -> None:
    status, headers, body = exchange(server, request_bytes)
    assert status == 400
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert body["error"] == {
        "type": "request_malformed",
        "message": "Malformed request. It is not valid HTTP.",
        "invalid": [{"entry_type": "request", "rules": [{"rule": "http", "description": "not a valid HTTP request"}]}],
    }
    assert body["meta"]["request_id"] == headers["x-request-id"]


async def test_an_over_long_url_is_refused(server: Server) -> None:
    status, _, body = exchange(server, b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, body["error"]["type"]) == (414, "uri_too_long")


async def test_too_many_headers_are_refused(server: Server) -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 1000) for number in range(200))
    status, _, body = exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    assert (status, body["error"]["type"]) == (431, "headers_too_large")


async def test_a_request_without_a_host_gets_a_url(server: Server) -> None:
    status, _, body = exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (status, body["meta"]["url"]) == (200, f"{server.url}/healthz")


async def test_an_invalid_host_is_refused_and_not_repeated(server: Server) -> None:
    status, _, body = exchange(server, b'GET /healthz HTTP/1.1\r\nHost: evil"><script>\r\n\r\n')
    assert (status, body["meta"]["url"]) == (400, f"{server.url}/healthz")


async def test_a_caller_who_disconnects_during_the_body_changes_nothing(server: Server, db: Db) -> None:
    head = await patch_head(db, JSON, "Content-Length: 60")
    before = await db.fetchval("SELECT count(*) FROM audit_events")
    with connect(server) as connection:
        connection.sendall(head + b'{"redirect_uri": "https://new.')
    status, _, _ = exchange(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert await db.fetchval("SELECT count(*) FROM audit_events") == before


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("next_request", ["the same", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "x\r\n\r\n", ""])
async def test_a_caller_who_leaves_a_pipeline_leaves_no_error_in_the_log(
    server: Server,
    db: Db,
    logged: CapturingLogger,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    next_request: str,
    is_reset: bool,
) -> None:
    lost = set()
    connection_lost = Protocol.connection_lost

    def note_loss(protocol: Protocol, exc: Exception | None) -> None:
        connection_lost(protocol, exc)
        lost.add(protocol.client)

    monkeypatch.setattr(Protocol, "connection_lost", note_loss)
    slow = await patch_head(db, JSON, "Content-Length: 40") + b'{"redirect_uri":"https://n.ua/callback"}'
    async with db.transaction():
        await db.execute("SELECT FROM connections FOR UPDATE")
        with connect(server) as connection:
            own = connection.getsockname()
            connection.sendall(slow + (slow if next_request == "the same" else next_request.encode()))
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await db.fetchval(waiting):  # noqa: ASYNC110 -- no event for it
                await asyncio.sleep(0.01)
            if is_reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while own not in lost:  # noqa: ASYNC110 -- no event for it
            await asyncio.sleep(0.01)
    while not logged.calls and not caplog.records:  # noqa: ASYNC110 -- no event for it
        await asyncio.sleep(0.01)
    assert {call.method_name for call in logged.calls} <= {"info"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_rest_of_a_refused_request_is_not_read_as_a_new_one(server: Server) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    length = len(smuggled) + 70_000
    request = b"PATCH /api/clients/a/connections/b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
    with connect(server) as connection:
        connection.sendall(request + smuggled)
        status, headers, _ = read(connection)
        assert (status, headers["connection"]) == (401, "close")
        assert connection.recv(1) == b""


async def test_one_connection_serves_many_requests(server: Server) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert read(connection)[0] == 200


async def test_white_space_after_a_header_is_not_part_of_its_value(server: Server, db: Db) -> None:
    owner = await factories.client(db, access_type="BROKER")
    mis = await factories.client(db, client_type="MIS", broker_scope="connection:write")
    key = (await factories.connection(db, client_id=mis.id)).secret
    connection = await factories.connection(db, client_id=owner.id, consumer_id=mis.id)
    token = await factories.token(db, client=owner)
    lines = [
        f"PATCH {connection.path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token} ",
        f"API-key: {key} \t",
        f"{JSON}  ",
        f"X-Request-ID: short{' ' * 20}",
        "Content-Length: 40",
    ]
    request = "\r\n".join([*lines, "", '{"redirect_uri":"https://n.ua/callback"}'])
    status, headers, _ = exchange(server, request.encode())
    assert status == 200
    assert not headers["x-request-id"].startswith("short")


@pytest.fixture
def impatient_server(postgres: str) -> Iterator[Server]:
    with fresh_database(postgres) as url, running_server(database_url=url, body_timeout=0.2) as running:
        yield running


async def test_a_body_that_never_arrives_times_out(impatient_server: Server) -> None:
    db = await asyncpg.connect(impatient_server.database_url)
    head = await patch_head(db, JSON, "Content-Length: 60")
    await db.close()
    status, headers, body = exchange(impatient_server, head + b"{")
    assert (status, body["error"]["type"]) == (408, "request_timeout")
    assert headers["connection"] == "close"
