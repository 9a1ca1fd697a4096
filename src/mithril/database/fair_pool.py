"""Who gets a connection to PostgreSQL next: whoever has waited longest.

asyncpg's pool gives a free connection to whoever happens to ask when it becomes free, so that under load some wait a
hundred times as long as others; and what it does at each coming and going takes longer than sending a short statement.
So connections are borrowed from it for a while, and handed on here. It still makes them, watches over them and closes
them; and one about which something went wrong goes back there at once.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeAlias

import asyncpg

# How long one is borrowed. What asyncpg's pool does about idle and old connections comes so much later.
LEASE_SECONDS = 30.0

# Strings, because asyncpg's classes are generic for the type checker only.
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Lease:
    """A connection that is ours until it `is_over`."""

    __slots__ = ("connection", "is_over", "timer")

    def __init__(self, connection: PooledConnection) -> None:
        """`connection`: as asyncpg's pool gave it."""
        self.connection = connection
        self.is_over = False
        self.timer: asyncio.TimerHandle | None = None

    def is_usable(self) -> bool:
        """Whether it can take another statement."""
        try:
            return not (self.is_over or self.connection.is_closed())
        except asyncpg.InterfaceError:  # it broke, and asyncpg's pool has it already
            return False


class Pool:
    """At most `size` connections in use at a time, for one event loop."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, size: int, wait_seconds: float) -> None:
        """`pool`: of that size. `wait_seconds`: for how long somebody waits for a connection, also a new one."""
        self._pool = pool
        self._wait_seconds = wait_seconds
        self._free = size  # how many more may be in use
        self._idle: list[Lease] = []
        self._waiting: dict[asyncio.Future[Lease | None], None] = {}
        self._leases: set[Lease] = set()
        self._going_back: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Gets ready. Connections are made when they are first needed."""
        self._loop = asyncio.get_running_loop()
        await self._pool

    async def close(self) -> None:
        """Closes all connections; one that is in use is waited for."""
        self.expire()
        await asyncio.gather(*self._going_back, return_exceptions=True)
        await self._pool.close()

    def expire(self) -> None:
        """Has all connections made anew, once they are not in use."""
        for lease in list(self._leases):
            self._end(lease)
        self._return(self._pool.expire_connections())

    async def acquire(self) -> Lease:
        """A usable connection, in the order of asking. Raises TimeoutError, and what asyncpg raises on connecting."""
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
        """Hands on one with which all is well."""
        if lease.is_over:
            self._return(self.give_up(lease))
        else:
            self._pass_on(lease)

    async def give_up(self, lease: Lease) -> None:
        """Takes back one with which something went wrong; what still runs on it is waited for, or cut."""
        try:
            await self._give_back(lease)
        finally:
            self._pass_on(None)

    async def _turn(self, deadline: float) -> Lease | None:
        """Waits in the queue for a connection, or for the right to have one made."""
        turn: asyncio.Future[Lease | None] = self._loop.create_future()
        timer = self._loop.call_at(deadline, _give_up_waiting, turn)
        self._waiting[turn] = None
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # it came at the same moment
                self._pass_on(turn.result())
            raise
        finally:
            timer.cancel()
            self._waiting.pop(turn, None)

    def _pass_on(self, lease: Lease | None) -> None:
        """To the first in the queue; `lease` is None where only a place became free."""
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
        lease.timer = self._loop.call_later(LEASE_SECONDS, self._end, lease)
        self._leases.add(lease)
        return lease

    def _end(self, lease: Lease) -> None:
        """The lease is over: it goes back now, or when it is released."""
        lease.is_over = True
        if lease in self._idle:
            self._idle.remove(lease)
            self._return(self._give_back(lease))

    async def _give_back(self, lease: Lease) -> None:
        self._leases.discard(lease)
        if lease.timer is not None:
            lease.timer.cancel()
        await self._pool.release(lease.connection, timeout=self._wait_seconds)

    def _return(self, going_back: Coroutine[Any, Any, None]) -> None:
        """Lets that happen by itself; when it fails, asyncpg's pool has closed the connection."""
        task = self._loop.create_task(going_back)
        self._going_back.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._going_back.discard(task)
        if not task.cancelled():
            task.exception()


def _give_up_waiting(turn: asyncio.Future[Lease | None]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError("no connection became free in time"))
