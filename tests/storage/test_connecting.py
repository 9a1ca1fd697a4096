"""A silent or replaced server costs no request more than it must, and a slow network is no outage."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mithril import errors
from mithril.database import connecting, database
from mithril.database.connecting import Servers, Unreachable
from mithril.database.fair_pool import Pool
from support import networks
from support.networks import Proxy, through

pytestmark = pytest.mark.anyio


@pytest.fixture
def silent(postgres: str) -> Iterator[Proxy]:
    """A host that takes connections and never answers."""
    with through(postgres) as proxy:
        proxy.is_silent = True
        yield proxy


@pytest.fixture
def good(postgres: str) -> Iterator[Proxy]:
    with through(postgres) as proxy:
        yield proxy


@pytest.fixture
def nowhere() -> Iterator[str]:
    """A host and port where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@asynccontextmanager
async def pool_of(url: str, *, size: int = 2, wait: float = 60, connect: float = 60) -> AsyncIterator[Pool]:
    pool = Pool(Servers(url, statement_seconds=60), size=size, wait_seconds=wait, connect_seconds=connect)
    await pool.open()
    try:
        yield pool
    except BaseException:  # a test that fails gives nothing back
        for lease in pool._leases:
            lease.connection.terminate()
        pool._leases.clear()
        raise
    finally:
        await pool.close()


async def host_of(pool: Pool) -> str:
    """Use a connection of the pool, and return the host that it leads to."""
    lease = await pool.acquire()
    assert await lease.connection.fetchval("SELECT 1") == 1
    pool.release(lease)
    return str(lease.host)


def events_of(caplog: pytest.LogCaptureFixture, *names: str) -> list[dict[str, Any]]:
    """Return the fields of the lines of these events, as the log shows them."""
    return [vars(record) for record in caplog.records if record.getMessage() in names]


async def until(reached: Any) -> None:
    while not reached():  # noqa: ASYNC110 -- no event for it; until pytest's own limit
        await asyncio.sleep(0.01)


async def test_a_silent_first_host_is_not_waited_for(silent: Proxy, good: Proxy) -> None:
    began = time.monotonic()
    async with pool_of(networks.url_of(silent, good)) as pool:
        assert await host_of(pool) == good.host
        asked = silent.connections
        pool.expire()
        assert await host_of(pool) == good.host
        assert silent.connections == asked, "the host that worked last is asked first"
    assert time.monotonic() - began < connecting.HOST_SECONDS


async def test_the_reason_of_silence_is_said(silent: Proxy, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "HOST_SECONDS", 0.3)
    url = f"postgresql://postgres@{silent.host},{nowhere}/mithril"
    with pytest.raises(Unreachable, match=rf"{silent.host}: it does not answer; {nowhere}: .*failed"):
        await database.connect(url)


@pytest.mark.slow
async def test_callers_do_not_wait_for_a_host_that_is_known_to_be_silent(
    silent: Proxy, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://postgres@{silent.host},{nowhere}/mithril"
    async with pool_of(url) as pool:
        monkeypatch.setattr(connecting, "HOST_SECONDS", 0.3)
        with pytest.raises(Unreachable):
            await pool.acquire()
        monkeypatch.setattr(connecting, "HOST_SECONDS", 600.0)
        for _ in range(3):
            with pytest.raises(Unreachable):
                await pool.acquire()
        silent.is_silent = False
        assert await host_of(pool) == silent.host


async def test_the_log_has_an_outage_once_and_its_end_once(good: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """Of all pools of a worker together, and of any number of requests."""
    caplog.set_level("INFO", logger="mithril")  # a server of another test may have set it
    async with database.Database(good.url, size=2, wait_seconds=60, statement_seconds=60, connect_seconds=60) as opened:

        async def ask() -> None:
            await opened.fetch("SELECT 1")
            await opened.is_current()

        await ask()
        assert not events_of(caplog, "database_away", "database_back"), "there was no outage"
        good.refuses = lambda _: "57P03 the database system is starting up"
        opened._pool.expire()
        opened._lookup_pool.expire()
        for _ in range(5):
            with pytest.raises(errors.ServiceUnavailable):
                await opened.fetch("SELECT 1")
            with pytest.raises(errors.ServiceUnavailable):
                await opened.is_current()
        good.refuses = None
        await ask()
    away, back = events_of(caplog, "database_away", "database_back")
    assert (away["msg"], back["msg"]) == ("database_away", "database_back")
    assert good.host in away["reason"]
    assert 0 <= back["seconds"] < 60


async def test_opening_a_connection_goes_on_after_its_caller_has_given_up(good: Proxy) -> None:
    good.is_silent = True
    async with pool_of(good.url, wait=0.05, connect=0.1) as pool:
        for _ in range(3):
            with pytest.raises(TimeoutError, match="no connection was made in time"):
                await pool.acquire()
        asked = good.connections
        good.is_silent = False
        await until(lambda: pool._leases)
        assert good.connections == asked <= 2, "none beyond the size of the pool, and none again"
        assert await host_of(pool) == good.host


@pytest.mark.slow
async def test_a_caller_waits_longer_for_a_connection_that_is_being_made(good: Proxy) -> None:
    good.delay_seconds = 0.1
    async with pool_of(good.url, wait=0.01) as pool:
        assert await host_of(pool) == good.host


@pytest.mark.slow
async def test_connections_to_a_server_that_falls_silent_are_left(good: Proxy, postgres: str) -> None:
    with through(postgres) as other:
        async with pool_of(networks.url_of(good, other)) as pool:
            leases = [await pool.acquire(), await pool.acquire()]
            for lease in leases:
                pool.release(lease)
            good.is_silent = True
            await until(lambda: not pool._leases)
            began = time.monotonic()
            assert await host_of(pool) == other.host
            assert time.monotonic() - began < connecting.HOST_SECONDS
            good.is_silent = False
            pool.expire()
            assert await host_of(pool) == other.host, "who worked last is asked first, though the other one is back"


@pytest.mark.slow
async def test_connections_to_a_server_that_became_read_only_are_left(good: Proxy, postgres: str) -> None:
    with through(postgres) as other:
        async with pool_of(networks.url_of(good, other)) as pool:
            lease = await pool.acquire()
            await lease.connection.execute("SET default_transaction_read_only = on")
            pool.release(lease)
            await until(lambda: lease not in pool._leases)
            assert await host_of(pool) == other.host


async def test_a_server_with_an_older_timeline_was_replaced(good: Proxy) -> None:
    servers = Servers(good.url)
    connection = await servers.open_one()
    (cluster,) = servers._newest
    servers._newest[cluster] = "0000000F"
    with pytest.raises(connecting.Unfit, match="it was replaced: its timeline is 00000001"):
        await servers.check(connection)
    with pytest.raises(connecting.Unfit):
        await servers.for_reading().check(connection)
    servers._newest = {cluster + 1: "0000000F"}
    await servers.check(connection)  # another cluster
    await connection.close()


async def test_an_abandoned_connection_is_reset(good: Proxy) -> None:
    connection = await database.connect(good.url)
    connection.terminate()
    await until(lambda: good.resets)


async def test_a_connection_that_is_being_made_is_expired_too(good: Proxy) -> None:
    good.is_silent = True
    async with pool_of(good.url) as pool:
        asked = asyncio.create_task(pool.acquire())
        await until(lambda: good.connections)
        pool.expire()
        good.is_silent = False
        pool.release(await asked)
        assert good.connections == 2


async def test_one_broken_connection_does_not_concern_the_others(good: Proxy) -> None:
    async with pool_of(good.url) as pool:
        leases = [await pool.acquire(), await pool.acquire()]
        with pytest.raises(TimeoutError) as caught:
            await leases[0].connection.fetchval("SELECT pg_sleep(60)", timeout=0.1)
        pool.take_back(leases[0], caught.value)
        pool.release(leases[1])
        await asyncio.sleep(0.1)  # the pool checks another one now
        assert pool._leases == {leases[1]}


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_connection_is_kept_after_a_refusal_and_closed_within_a_transaction(
    good: Proxy, *, is_open: bool
) -> None:
    async with pool_of(good.url) as pool:
        lease = await pool.acquire()
        if is_open:
            await lease.connection.execute("BEGIN")
        pool.take_back(lease, ValueError("a rule"))
        assert (lease in pool._leases) is not is_open


@pytest.mark.slow
async def test_a_network_with_long_round_trips_and_a_slow_dns_is_no_outage(
    good: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    good.delay_seconds = 0.125
    loop = asyncio.get_running_loop()
    getaddrinfo = loop.getaddrinfo

    async def slow(*arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(2)
        return await getaddrinfo(*arguments, **options)

    monkeypatch.setattr(loop, "getaddrinfo", slow)
    url = good.url.replace("127.0.0.1", "localhost")
    opened = database.Database(url, size=10, wait_seconds=1, statement_seconds=3)
    async with opened:
        answers = await asyncio.gather(*(opened.fetch("SELECT 1") for _ in range(10)))
    assert len(answers) == 10


async def test_a_socket_notices_a_dead_peer(good: Proxy) -> None:
    connection: Any = await database.connect(good.url)
    kernel = connection._transport.get_extra_info("socket")
    assert kernel.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
    await connection.close()


async def test_a_refused_password_is_read_again(good: Proxy) -> None:
    def refusal(first: bytes) -> str | None:
        return "28P01 password authentication failed" if b"application_name\0old" in first else None

    good.refuses = refusal
    old, new = (f"{good.url}?application_name={name}" for name in ("old", "new"))
    now = old
    servers = Servers(old, statement_seconds=60, reread=lambda: now)
    with pytest.raises(Unreachable, match="password authentication failed"):
        await servers.open_one()
    now = new
    connections = await asyncio.gather(*(servers.open_one() for _ in range(3)))
    for connection in connections:
        assert await connection.fetchval("SHOW application_name") == "new"
        await connection.close()


async def test_a_transaction_of_a_lost_machine_ends(good: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL hears nothing any more: no end of the transaction, and no end of the connection."""
    monkeypatch.setitem(connecting.SETTINGS, "idle_in_transaction_session_timeout", "500ms")
    other = await database.connect(good.url)
    async with pool_of(good.url) as pool:
        lost = await pool.acquire()
        await lost.connection.execute("CREATE TABLE held (id int); INSERT INTO held VALUES (1)")
        await lost.connection.execute("BEGIN; UPDATE held SET id = 2")
        assert await other.fetchval("UPDATE held SET id = 3 RETURNING id") == 3
        pool.take_back(lost, TimeoutError())
    await other.execute("DROP TABLE held")
    await other.close()


async def test_both_sides_notice_that_the_other_is_gone(good: Proxy) -> None:
    """The settings of a session, which no URL of the tests changes."""
    async with pool_of(good.url) as pool:
        lease = await pool.acquire()
        found = {name: await lease.connection.fetchval(f"SHOW {name}") for name in connecting.SETTINGS}
        pool.release(lease)
    assert found["idle_in_transaction_session_timeout"] == "10s"
    assert found["application_name"] == "mithril"


async def test_the_url_may_set_what_the_service_sets(good: Proxy) -> None:
    connection = await database.connect(f"{good.url}?idle_in_transaction_session_timeout=7s&application_name=mine")
    assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "7s"
    assert await connection.fetchval("SHOW application_name") == "mine"
    await connection.close()


async def test_a_pooler_that_refuses_settings_is_used_without_them(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mithril")  # as above

    def refusal(first: bytes) -> str | None:
        return "08P01 unsupported startup parameter: statement_timeout" if b"statement_timeout" in first else None

    with through(postgres, refuses=refusal) as pooler:
        async with pool_of(pooler.url) as pool:
            leases = [await pool.acquire(), await pool.acquire()]
            for lease in leases:
                assert await lease.connection.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
                assert await lease.connection.fetchval("SHOW application_name") == "mithril"
                pool.release(lease)
    (line,) = events_of(caplog, "session_settings_refused")
    said = "unsupported startup parameter: statement_timeout"
    assert (line["host"], line["reason"]) == (str(pooler.host), said)


async def test_a_read_whose_connection_broke_is_repeated_once(postgres: str) -> None:
    """A statement that ends its own session breaks off each time; one that finds no session breaks off once."""
    async with database.Database(postgres, size=2, wait_seconds=60, statement_seconds=60) as opened:
        pid = (await opened.fetch("SELECT pg_backend_pid()"))[0][0]
        once = f"SELECT CASE WHEN pg_backend_pid() = {pid} THEN pg_terminate_backend({pid}, 1000) END"
        assert len(await opened.fetch(once)) == 1
        with pytest.raises(errors.ServiceUnavailable):
            await opened.fetch("SELECT pg_terminate_backend(pg_backend_pid(), 1000)")
        assert await opened.fetchrow("SELECT 1") is not None


async def test_a_write_whose_connection_broke_is_not_repeated(database_url: str) -> None:
    async with database.Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        pid = (await opened.fetch("SELECT pg_backend_pid()"))[0][0]
        once = f"SELECT CASE WHEN pg_backend_pid() = {pid} THEN pg_terminate_backend({pid}, 1000) END WHERE in_time($1)"
        with pytest.raises(errors.ServiceUnavailable):
            await opened.write(once)
