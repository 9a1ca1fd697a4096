"""A pool of connections to PostgreSQL that serves callers in the order in which they ask.

asyncpg's pool gives a free connection to any caller who asks at that moment, so under load some callers wait a hundred
times as long as others; its acquire and release take longer than sending a short statement; and who gets no connection
within the time of one request ends the attempt to open it. So this pool opens and keeps the connections itself.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial

import asyncpg

from mithril import metrics
from mithril.database import faults
from mithril.database.connecting import Connection, Host, Opened, Servers, Unfit, Unreachable, reason_of

# How often an unused connection is checked, and how long its server may take to answer.
CHECK_SECONDS = 1.0
CHECK_LIMIT_SECONDS = 2.0
# How long a statement that was given up may take to be canceled.
CLOSE_SECONDS = 1.0

log = logging.getLogger("mithril")


class NoConnection(TimeoutError):
    """A caller waited for a connection for too long."""


# The errors of `acquire`, after which nothing has been sent to the database.
NOT_SENT = (NoConnection, Unreachable)


class Lease:
    """A connection of the pool, until it is expired."""

    __slots__ = ("connection", "host", "is_expired")

    def __init__(self, opened: Opened) -> None:
        """`opened`: a new connection."""
        self.connection: Connection = opened.connection
        self.host: Host = opened.host
        self.is_expired = False

    def is_usable(self) -> bool:
        """Return whether the connection can run another statement."""
        return not (self.is_expired or self.connection.is_closed())


class Pool:
    """At most `size` connections, for one event loop. Connections that are being closed do not count."""

    def __init__(
        self, servers: Servers, *, size: int, wait_seconds: float, connect_seconds: float, name: str = "statements"
    ) -> None:
        """`wait_seconds`: how long a caller waits for a connection in use, `connect_seconds`: for one being made.

        `name`: in the metrics.
        """
        self._name = name
        self._servers = servers
        self._size = size
        self._wait_seconds, self._connect_seconds = wait_seconds, max(wait_seconds, connect_seconds)
        self._leases: set[Lease] = set()
        self._idle: list[Lease] = []
        self._waiting: dict[asyncio.Future[Lease], None] = {}
        self._openings: dict[asyncio.Task[None], None] = {}
        self._closings: set[asyncio.Task[None]] = set()
        self._is_failing = False  # whether the last attempt to open a connection failed
        self._is_closing = False
        self._expirations = 0

    async def open(self) -> None:
        """Prepare the pool. It opens connections when they are first needed, and checks them from then on."""
        self._loop = asyncio.get_running_loop()
        self._doubt = asyncio.Event()
        self._all_returned = asyncio.Event()
        self._watching = self._loop.create_task(self._watch())

    async def close(self) -> None:
        """Close all connections, each after its current use."""
        self._is_closing = True
        for task in (self._watching, *self._openings):
            task.cancel()
        await asyncio.gather(self._watching, *self._openings, return_exceptions=True)
        self.expire()
        self._all_returned.clear()
        if self._leases:
            await self._all_returned.wait()
        await asyncio.gather(*self._closings)

    def expire(self, host: Host | None = None) -> None:
        """Close the connections of a host, or all with those that are being made, each after its current use."""
        self._expirations += host is None
        for lease in [each for each in self._leases if host in (None, each.host)]:
            lease.is_expired = True
            if lease in self._idle:
                self._idle.remove(lease)
                self._drop(lease)

    def measure(self) -> None:
        """Set the gauges of this pool."""
        metrics.POOL_LIMIT.set(self._size, self._name)
        metrics.POOL_OPEN.set(len(self._leases), self._name)
        metrics.POOL_USED.set(len(self._leases) - len(self._idle), self._name)
        metrics.POOL_WAITING.set(len(self._waiting), self._name)

    async def acquire(self) -> Lease:
        """Return a usable connection, first come, first served. Raises TimeoutError and Unreachable."""
        while self._idle:
            lease = self._idle.pop()
            if lease.is_usable():
                return lease
            self._drop(lease)
        return await self._turn()

    def release(self, lease: Lease) -> None:
        """Pass a connection on to the next caller, or close it when it is not usable."""
        if not lease.is_usable():
            self._drop(lease)
            return
        while self._waiting:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(lease)
                return
        self._idle.append(lease)

    def take_back(self, lease: Lease, error: BaseException) -> None:
        """Take a connection back from a caller who got an error, and close it unless it can be used again.

        A statement that still runs on it is canceled, or cut off. What the error says of the server concerns all
        connections.
        """
        connection = lease.connection
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            self._leave(lease.host, error)
        if isinstance(error, faults.BROKEN):
            self._doubt.set()
        is_whole = isinstance(error, Exception) and not isinstance(error, faults.BROKEN)
        if is_whole and (connection.is_closed() or not connection.is_in_transaction()):
            self.release(lease)
        else:
            self._drop(lease)

    async def _turn(self) -> Lease:
        """Wait in the queue for a connection."""
        turn: asyncio.Future[Lease] = self._loop.create_future()
        self._waiting[turn] = None
        now = self._loop.time()
        timer = self._loop.call_at(now + self._wait_seconds, self._time_out, turn, now + self._connect_seconds)
        self._grow()
        try:
            return await turn
        except asyncio.CancelledError:
            # The connection came at the same moment.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(turn.result())
            raise
        finally:
            timer.cancel()
            self._waiting.pop(turn, None)
            metrics.POOL_WAITS.observe(self._loop.time() - now, self._name)

    def _time_out(self, turn: "asyncio.Future[Lease]", latest: float) -> None:
        """Tell a caller that it waited for too long. While a connection is being made that is later."""
        if turn.done():
            return
        is_being_made = self._openings and not self._is_failing
        if is_being_made and self._loop.time() < latest:
            self._loop.call_at(latest, self._time_out, turn, latest)
        else:
            what = "was made" if is_being_made else "became free"
            metrics.POOL_TIMEOUTS.add(self._name)
            turn.set_exception(NoConnection(f"no connection {what} in time"))

    def _grow(self) -> None:
        """Begin to open as many connections as callers wait for and the size allows."""
        wanted = min(len(self._waiting), self._size - len(self._leases), 1 if self._is_failing else self._size)
        for _ in range(len(self._openings), 0 if self._is_closing else wanted):
            task = self._loop.create_task(self._open())
            self._openings[task] = None
            task.add_done_callback(self._opened)

    async def _open(self) -> None:
        """Open a connection. It goes on after the caller who asked for it has given up."""
        receive = partial(self._receive, after=self._expirations)
        await self._servers.open(receive, report=self._refuse, is_wanted=lambda: bool(self._waiting))

    def _opened(self, task: "asyncio.Task[None]") -> None:
        del self._openings[task]
        if not task.cancelled():
            task.result()
        self._grow()

    def _receive(self, opened: Opened, *, after: int) -> None:
        """Take a new connection into the pool. `after`: how often all were expired when it was begun."""
        self._is_failing = False
        self._servers.note_state(None)
        lease = Lease(opened)
        self._leases.add(lease)
        is_old = after != self._expirations
        lease.is_expired = is_old or self._is_closing or len(self._leases) > self._size
        self.release(lease)

    def _refuse(self, error: Exception) -> None:
        """Tell all callers who wait that no host gives a connection; where there is one, they wait for that."""
        self._is_failing = True
        metrics.CONNECT_FAILURES.add(self._name)
        for another in [*self._openings][1:]:  # one goes on trying, for all
            another.cancel()
        if not self._leases:
            self._servers.note_state(error)
            for turn in self._waiting:
                if not turn.done():
                    turn.set_exception(error)
            self._waiting.clear()

    def _drop(self, lease: Lease) -> None:
        """Close a connection in the background."""
        self._leases.discard(lease)
        task = self._loop.create_task(_close(lease.connection))
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)
        if not self._leases:
            self._all_returned.set()
        self._grow()

    def _leave(self, host: Host, error: Exception) -> None:
        """Turn away from a host: close its connections, each after its current use, and ask the other hosts first."""
        log.warning("database_server_left", extra={"host": str(host), "reason": reason_of(error)})
        self._servers.leave(host)
        self.expire(host)

    async def _watch(self) -> None:
        """Check the connection that was unused for longest, every second and whenever another one broke."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._doubt.wait()
            self._doubt.clear()
            if self._idle:
                await self._check(self._idle.pop(0))

    async def _check(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(CHECK_LIMIT_SECONDS):
                await self._servers.check(lease.connection)
        except (TimeoutError, Unfit) as error:
            self._leave(lease.host, error)
            self._drop(lease)
        except Exception:  # noqa: BLE001 -- the connection itself is broken, and the next one is checked
            self._doubt.set()
            self._drop(lease)
        except asyncio.CancelledError:
            self._drop(lease)
            raise
        else:
            self.release(lease)


async def _close(connection: Connection) -> None:
    """Close a connection; what is not canceled in time is cut off."""
    with suppress(Exception):
        await connection.close(timeout=CLOSE_SECONDS)
