"""The pool serves callers in order, never exceeds its size, and never reuses a broken connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from mithril.database.connecting import Servers, Unreachable
from mithril.database.fair_pool import Lease, Pool

pytestmark = pytest.mark.anyio

BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'a pool'"


@asynccontextmanager
async def pool_of(size: int, database_url: str) -> AsyncIterator[Pool]:
    servers = Servers(f"{database_url}{'&' if '?' in database_url else '?'}application_name=a%20pool")
    pool = Pool(servers, size=size, wait_seconds=60, connect_seconds=60)
    await pool.open()
    yield pool
    await pool.close()


async def backend(lease: Lease) -> int:
    """Return the PostgreSQL process of a connection."""
    pid: int = await lease.connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def settle() -> None:
    """Let all tasks run that can run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_are_served_in_the_order_of_their_requests(database_url: str) -> None:
    served: list[str] = []

    async def be_served(pool: Pool, name: str) -> None:
        lease = await pool.acquire()
        served.append(name)
        await lease.connection.fetchval("SELECT 1")
        pool.release(lease)

    async with pool_of(1, database_url) as pool:
        lease = await pool.acquire()
        waiting = []
        for name in ("first", "second", "third"):
            waiting.append(asyncio.create_task(be_served(pool, name)))
            await settle()
        pool.release(lease)
        # It asks at the moment at which a connection becomes free, before a waiting task could run.
        await be_served(pool, "the newcomer")
        await asyncio.gather(*waiting)
    assert served == ["first", "second", "third", "the newcomer"]


async def test_connections_never_exceed_the_size_and_are_reused(database_url: str) -> None:
    seen: set[int] = set()

    async def use(pool: Pool) -> None:
        lease = await pool.acquire()
        seen.add(await backend(lease))
        pool.release(lease)

    async with pool_of(3, database_url) as pool:
        await asyncio.gather(*(use(pool) for _ in range(50)))
        assert len(seen) <= 3
        await asyncio.gather(*(use(pool) for _ in range(50)))
    assert len(seen) <= 3


async def test_a_wait_times_out_and_frees_its_place(database_url: str) -> None:
    async with pool_of(1, database_url) as pool:
        lease = await pool.acquire()
        pool._wait_seconds = 0.1  # not before there is a connection, which may take longer
        with pytest.raises(TimeoutError):
            await pool.acquire()
        pool.release(lease)
        assert await pool.acquire() is lease
        pool.release(lease)


async def test_a_caller_canceled_at_its_turn_passes_the_connection_on(database_url: str) -> None:
    async with pool_of(1, database_url) as pool:
        lease = await pool.acquire()
        gone, next_one = asyncio.create_task(pool.acquire()), asyncio.create_task(pool.acquire())
        await settle()
        pool.release(lease)  # to the caller that is canceled at the same moment
        gone.cancel()
        assert await next_one is lease
        pool.release(lease)
        assert gone.cancelled()


async def test_a_caller_canceled_while_waiting_is_skipped(database_url: str) -> None:
    async with pool_of(1, database_url) as pool:
        lease = await pool.acquire()
        gone = asyncio.create_task(pool.acquire())
        await settle()
        gone.cancel()
        await settle()
        pool.release(lease)
        assert await pool.acquire() is lease
        pool.release(lease)


@pytest.mark.parametrize("is_waited_for", [False, True])
async def test_a_broken_connection_is_replaced(database_url: str, *, is_waited_for: bool) -> None:
    db = await asyncpg.connect(database_url)
    async with pool_of(1, database_url) as pool:
        lease = await pool.acquire()
        pid = await backend(lease)
        waiter = asyncio.create_task(pool.acquire()) if is_waited_for else None
        await settle()
        await db.execute("SELECT pg_terminate_backend($1)", pid)
        while lease.is_usable():  # noqa: ASYNC110 -- no event for it
            await asyncio.sleep(0.01)
        pool.release(lease)
        another = await (waiter or pool.acquire())
        assert await backend(another) != pid
        pool.release(another)
    await db.close()


async def test_a_failed_connection_attempt_frees_its_place(postgres: str, database_url: str) -> None:
    db = await asyncpg.connect(postgres)
    name = urlsplit(database_url).path.removeprefix("/")
    async with pool_of(1, database_url) as pool:
        await db.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        for _ in range(3):
            with pytest.raises(Unreachable, match="is not currently accepting connections"):
                await pool.acquire()
        await db.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        pool.release(await pool.acquire())
    await db.close()


async def test_a_connection_with_an_error_is_discarded_and_its_place_is_free(database_url: str) -> None:
    async with pool_of(1, database_url) as pool:
        lease = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        with pytest.raises(TimeoutError) as caught:
            await lease.connection.fetchval("SELECT pg_sleep(60)", timeout=0.1)
        pool.take_back(lease, caught.value)
        another = await waiter
        assert await another.connection.fetchval("SELECT 1") == 1
        pool.release(another)


async def test_expired_connections_are_replaced(database_url: str) -> None:
    async with pool_of(2, database_url) as pool:
        used, idle = await pool.acquire(), await pool.acquire()
        old = {await backend(used), await backend(idle)}
        pool.release(idle)
        pool.expire()
        pool.release(used)
        leases = [await pool.acquire(), await pool.acquire()]
        assert not old & {await backend(lease) for lease in leases}
        for lease in leases:
            pool.release(lease)


async def test_closing_waits_for_connections_in_use_and_closes_all(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    async with pool_of(2, database_url) as pool:
        used, idle = await pool.acquire(), await pool.acquire()
        pool.release(idle)
        closing = asyncio.create_task(pool.close())
        await asyncio.wait([closing], timeout=0.1)
        assert not closing.done()
        assert await used.connection.fetchval("SELECT 1") == 1
        pool.release(used)
        await closing
    while await db.fetchval(BACKENDS):  # noqa: ASYNC110 -- no event for it
        await asyncio.sleep(0.01)
    await db.close()
