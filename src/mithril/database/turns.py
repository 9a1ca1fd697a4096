"""Turns: of many callers who want one row, only a few take a database connection; the others wait in this process.

Otherwise the callers who wait for one locked row would hold every connection, and with them all other rows.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from mithril import errors


class Turns:
    """At most `most` callers at a time for each row, first come, first served."""

    def __init__(self, *, most: int, wait_seconds: float) -> None:
        """`wait_seconds`: how long a caller waits for its turn."""
        self._most, self._wait_seconds = most, wait_seconds
        # A row is known as long as a caller is at it.
        self._rows: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, rows: tuple[Hashable, ...]) -> AsyncIterator[None]:
        """Wait for a turn at each of these rows, and keep it until the block ends. Raises ServiceUnavailable."""
        taken: list[asyncio.Semaphore] = []
        try:
            # In one order, whatever the order of the rows: else two callers could wait for each other.
            for row in sorted(rows, key=hash):
                turn = self._rows.get(row)
                if turn is None:
                    turn = self._rows[row] = asyncio.Semaphore(self._most)
                if turn.locked():
                    await self._wait(turn)
                else:
                    await turn.acquire()
                taken.append(turn)
            yield
        finally:
            for turn in taken:
                turn.release()

    async def _wait(self, turn: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn.acquire()
        except TimeoutError:
            raise errors.ServiceUnavailable(detail="many requests wait for the same row") from None
