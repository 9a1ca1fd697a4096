"""Slow, silent and greedy callers: every phase has a limit and a time-out, and beyond it there is a quick 503."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from mithril import errors
from support import factories
from support.factories import bearer
from support.servers import Server, fresh_database, running_server
from support.sockets import connect, exchange, read

pytestmark = pytest.mark.anyio

PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def impatient(postgres: str) -> Iterator[Server]:
    with (
        fresh_database(postgres) as url,
        running_server(
            database_url=url, header_timeout=0.3, keep_alive_timeout=1, send_timeout=0.3, max_connections=20
        ) as running,
    ):
        yield running


@pytest.fixture
def small(postgres: str) -> Iterator[Server]:
    """A server with few places and long time limits: what becomes free there is not free because time passed."""
    with fresh_database(postgres) as url, running_server(database_url=url, max_connections=20) as running:
        yield running


def rest(connection: socket.socket) -> bytes:
    """What the server sends until it says that it will send no more. Raises TimeoutError when it never does."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            received += piece
    return received


def is_taken(connection: socket.socket, text: bytes) -> bool:
    """Sends a byte at a time, and much more slowly than the server allows; whether it took in all of them."""
    try:
        for byte in text:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        return False
    return True


@pytest.mark.slow
async def test_a_head_that_arrives_too_slowly_is_refused(impatient: Server) -> None:
    with connect(impatient) as connection:
        assert not is_taken(connection, b"GET /healthz HTTP/1.1\r\nX-Slow: " + b"y" * 1000)
        status, headers, body = read(connection)
    assert (status, body["error"]["type"], headers["connection"]) == (408, "request_timeout", "close")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\r\n", PROBE])
async def test_a_silent_connection_is_closed(impatient: Server, sent: bytes) -> None:
    with connect(impatient) as connection:
        connection.sendall(sent)
        received = rest(connection)
    assert received.count(b"HTTP/1.1") == (sent == PROBE)


async def test_empty_lines_do_not_keep_a_connection_open(impatient: Server) -> None:
    with connect(impatient) as connection:
        assert not is_taken(connection, b"\r\n" * 500)
        assert rest(connection) == b""


async def test_a_caller_that_does_not_read_the_answers_is_cut_off(impatient: Server) -> None:
    with connect(impatient) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while True:  # until pytest's own limit
                with contextlib.suppress(BlockingIOError):
                    connection.send(request)
                await asyncio.sleep(0.01)


async def test_at_the_limit_who_never_sent_a_byte_goes_first(small: Server) -> None:
    with contextlib.ExitStack() as stack:
        idle, silent = ([stack.enter_context(connect(small)) for _ in range(10)] for _ in range(2))
        for connection in idle:
            connection.sendall(PROBE)
            assert read(connection)[0] == 200
        for _ in range(30):
            silent.append(stack.enter_context(connect(small)))
        silent[-1].sendall(PROBE)
        assert read(silent[-1])[0] == 200
        assert [rest(connection) for connection in silent[:30]] == [b""] * 30, "the oldest ones first"
        for connection in idle:
            connection.sendall(PROBE)
            assert read(connection)[0] == 200, "others keep their connections"


async def test_at_the_limit_idle_connections_are_closed_and_slow_ones_are_not(small: Server) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(small)) for _ in range(20)]
        for connection in idle:
            connection.sendall(PROBE)
            assert read(connection)[0] == 200
        assert exchange(small, PROBE)[0] == 200, "the one that had idled longest gave way at once"
        assert rest(idle[0]) == b""
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(small)).sendall(b"GET")
        status, headers, body = exchange(small, PROBE)
        assert (status, body["error"]["type"], headers["retry-after"]) == (503, "service_unavailable", "1")
        async with httpx.AsyncClient(base_url=small.internal_url) as gateway:
            assert (await gateway.get("/healthz")).status_code == 200, "the gateway has places of its own"
    while (status := exchange(small, PROBE)[0]) != 200:  # until pytest's own limit
        assert status == 503


async def test_beyond_capacity_the_answer_is_a_quick_503_except_for_probes(database_url: str) -> None:
    url = database_url
    with running_server(database_url=url, max_requests=5) as server:
        db = await asyncpg.connect(url)
        owner = await factories.client(db)
        consumers = [(await factories.client(db)).id for _ in range(5)]
        # A connection each: of many who want one row, few would wait in the database.
        paths = [(await factories.connection(db, client_id=owner.id, consumer_id=each)).path for each in consumers]
        headers = bearer(await factories.token(db, client=owner))
        async with httpx.AsyncClient(base_url=server.url) as http:

            async def write(number: int) -> httpx.Response:
                body = {"redirect_uri": f"https://n{number}.example.com"}
                return await http.patch(paths[number % 5], json=body, headers=headers)

            async with db.transaction():
                await db.execute("SELECT FROM connections WHERE client_id = $1 FOR UPDATE", owner.id)
                running = [asyncio.create_task(write(number)) for number in range(5)]
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                while await db.fetchval(waiting) < 5:  # noqa: ASYNC110 -- no event for it
                    await asyncio.sleep(0.01)
                refused = [await write(9) for _ in range(20)]
                assert not any(each.done() for each in running), "nobody waited for these"
                assert (await http.get("/healthz")).status_code == 200
                assert (await http.get("/readyz")).status_code == 200
            assert {each.status_code for each in refused} == {503}
            assert refused[0].json()["error"] == {"type": "service_unavailable", "message": errors.AtCapacity.message}
            assert refused[0].headers["retry-after"] == "1"
            assert [(await each).status_code for each in running] == [200] * 5
            assert (await write(10)).status_code == 200
        await db.close()


async def test_pipelined_requests_are_answered_in_their_order(impatient: Server) -> None:
    paths = ["/readyz", "/healthz", "/no/such/path", "/healthz"]
    requests = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
    with connect(impatient) as connection:
        connection.sendall(requests + b"not http\r\n\r\n")
        received = rest(connection)
    statuses = [int(part.split(b" ", 1)[0]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 404, 200, 400], "what is no HTTP is answered last"


async def test_a_long_pipeline_is_cut_off_at_its_limit(impatient: Server) -> None:
    with connect(impatient) as connection:
        connection.sendall(PROBE * 3_000)
        received = rest(connection)
    assert 1 <= received.count(b"HTTP/1.1 200") <= 40
    assert received.count(b"connection: close") == 1


async def test_a_malformed_chunked_body_gets_one_answer(impatient: Server) -> None:
    db = await asyncpg.connect(impatient.database_url)
    owner = await factories.client(db)
    target = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner)
    await db.close()
    lines = [f"PATCH {target.path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", "Transfer-Encoding: chunked", "", "zz"]
    with connect(impatient) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n")
        received = rest(connection)
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 400 ")
