"""Turns: of many callers who want one row, only a few take a database connection; the others wait in this process.

Otherwise the callers who wait for one locked row would hold every connection, and with them all other rows.
"""

import asyncio
from collections.abc import Hashable
from weakref import WeakValueDictionary

from mithril import errors


class Turns:
    """At most `most` callers at a time for each row, first come, first served."""

    def __init__(self, *, most: int, wait_seconds: float) -> None:
        """`wait_seconds`: how long a caller waits for its turn."""
        self._most, self._wait_seconds = most, wait_seconds
        # A row is known as long as a caller is at it.
        self._rows: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    def take(self, rows: tuple[Hashable, ...]) -> "Turn":
        """Return a context that waits for a turn at each of these rows, and keeps it until the block ends."""
        return Turn(self, rows)

    async def begin(self, row: Hashable) -> asyncio.Semaphore:
        """Wait for a turn at one row. Raises ServiceUnavailable."""
        turn = self._rows.get(row)
        if turn is None:
            turn = self._rows[row] = asyncio.Semaphore(self._most)
        if not turn.locked():
            await turn.acquire()
            return turn
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn.acquire()
        except TimeoutError:
            raise errors.ServiceUnavailable(detail="many requests wait for the same row") from None
        return turn


class Turn:
    """The turn of one caller at some rows."""

    __slots__ = ("_rows", "_taken", "_turns")

    def __init__(self, turns: Turns, rows: tuple[Hashable, ...]) -> None:
        """`rows`: in any order."""
        self._turns, self._taken = turns, list[asyncio.Semaphore]()
        # All callers in one order: else two could wait for each other.
        self._rows = rows if len(rows) < 2 else sorted(rows, key=hash)  # noqa: PLR2004 -- one row needs no order

    async def __aenter__(self) -> None:
        """Wait. Raises ServiceUnavailable when it takes too long."""
        try:
            for row in self._rows:
                self._taken.append(await self._turns.begin(row))
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Let the next one pass."""
        self._leave()

    def _leave(self) -> None:
        for turn in self._taken:
            turn.release()
