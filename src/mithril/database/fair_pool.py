"""A pool of connections to PostgreSQL that serves callers in the order in which they ask.

asyncpg's pool gives a free connection to any caller who asks at that moment, so under load some callers wait a hundred
times as long as others; and its acquire and release take longer than sending a short statement. So this pool borrows
connections from asyncpg's pool for LEASE_SECONDS and hands them on itself. asyncpg's pool still opens, checks and
closes them, and gets a connection back at once after an error.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

import asyncpg

# How long a connection is borrowed. asyncpg's limits for idle and old connections take effect so much later.
LEASE_SECONDS = 30.0

# Strings, because asyncpg's classes are generic only for the type checker.
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Lease:
    """A connection borrowed from asyncpg's pool, until it is expired."""

    __slots__ = ("connection", "is_expired", "timer")

    def __init__(self, connection: PooledConnection) -> None:
        """`connection`: from asyncpg's pool."""
        self.connection = connection
        self.is_expired = False
        self.timer: asyncio.TimerHandle | None = None

    def is_usable(self) -> bool:
        """Return whether the connection can run another statement."""
        try:
            return not (self.is_expired or self.connection.is_closed())
        except asyncpg.InterfaceError:  # it broke, and asyncpg's pool took it back
            return False


class Pool:
    """At most `size` connections in use at a time, for one event loop."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, size: int, wait_seconds: float) -> None:
        """`pool`: of the same size. `wait_seconds`: how long a caller waits for a connection, new or used."""
        self._pool = pool
        self._wait_seconds = wait_seconds
        self._free = size  # how many more connections may be in use
        self._idle: list[Lease] = []
        self._waiting: dict[asyncio.Future[Lease | None], None] = {}
        self._leases: set[Lease] = set()
        self._returning: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Prepare the pool. It opens connections when they are first needed."""
        self._loop = asyncio.get_running_loop()
        await self._pool

    async def close(self) -> None:
        """Close all connections, each after its current use."""
        self.expire()
        await asyncio.gather(*self._returning, return_exceptions=True)
        await self._pool.close()

    def expire(self) -> None:
        """Replace all connections, each after its current use."""
        for lease in list(self._leases):
            self._expire(lease)
        self._run(self._pool.expire_connections())

    async def acquire(self) -> Lease:
        """Return a usable connection, first come, first served. Raises TimeoutError and asyncpg's connection errors."""
        deadline = self._loop.time() + self._wait_seconds
        if self._free:
            self._free -= 1
            lease = self._idle.pop() if self._idle else None
        else:
            lease = await self._turn(deadline)
        if lease is not None and lease.is_usable():
            return lease
        try:
            if lease is not None:
                await self._give_back(lease)
            return await self._borrow(deadline)
        except BaseException:
            self._pass_on(None)
            raise

    def release(self, lease: Lease) -> None:
        """Pass a healthy connection on to the next caller."""
        if lease.is_expired:
            self._run(self.discard(lease))
        else:
            self._pass_on(lease)

    async def discard(self, lease: Lease) -> None:
        """Return a connection to asyncpg's pool after an error. A statement that still runs on it may be cut off."""
        try:
            await self._give_back(lease)
        finally:
            self._pass_on(None)

    async def _turn(self, deadline: float) -> Lease | None:
        """Wait in the queue for a connection, or, when the result is None, for permission to open one."""
        turn: asyncio.Future[Lease | None] = self._loop.create_future()
        timer = self._loop.call_at(deadline, _time_out, turn)
        self._waiting[turn] = None
        try:
            return await turn
        except asyncio.CancelledError:
            if (
                turn.done() and not turn.cancelled() and turn.exception() is None
            ):  # the connection came at the same moment
                self._pass_on(turn.result())
            raise
        finally:
            timer.cancel()
            self._waiting.pop(turn, None)

    def _pass_on(self, lease: Lease | None) -> None:
        """Pass the connection, or with None the permission to open one, to the first caller in the queue."""
        while self._waiting:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(lease)
                return
        self._free += 1
        if lease is not None:
            self._idle.append(lease)

    async def _borrow(self, deadline: float) -> Lease:
        async with asyncio.timeout_at(deadline):
            lease = Lease(await self._pool.acquire())
        lease.timer = self._loop.call_later(LEASE_SECONDS, self._expire, lease)
        self._leases.add(lease)
        return lease

    def _expire(self, lease: Lease) -> None:
        """Return the connection to asyncpg's pool, now if it is idle, else when it is released."""
        lease.is_expired = True
        if lease in self._idle:
            self._idle.remove(lease)
            self._run(self._give_back(lease))

    async def _give_back(self, lease: Lease) -> None:
        self._leases.discard(lease)
        if lease.timer is not None:
            lease.timer.cancel()
        await self._pool.release(lease.connection, timeout=self._wait_seconds)

    def _run(self, returning: Coroutine[Any, Any, None]) -> None:
        """Run in the background. If it fails, asyncpg's pool has closed the connection."""
        task = self._loop.create_task(returning)
        self._returning.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._returning.discard(task)
        if not task.cancelled():
            task.exception()


def _time_out(turn: asyncio.Future[Lease | None]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError("no connection became free in time"))
