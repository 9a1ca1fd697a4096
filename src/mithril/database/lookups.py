"""Look-ups: statements that find at most one row, and are asked so often that simultaneous ones share a statement."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from mithril import metrics
from mithril.database.connecting import Connection

# A row by its columns, or None.
Found: TypeAlias = dict[str, Any] | None
Ask: TypeAlias = Callable[[Connection], Awaitable[list[Found]]]


class Lookup:
    """A statement that finds at most one row, alone and for several sets of arguments at once."""

    def __init__(self, statement: str, *types: str) -> None:
        """`types`: the PostgreSQL types of `$1` and the parameters after it."""
        self.alone = statement
        numbers = range(1, len(types) + 1)
        # Within SELECT the planner does not see the length of an array; else it would plan again for each length.
        arrays = ", ".join(f"(SELECT ${number}::{kind}[])" for number, kind in zip(numbers, types, strict=True))
        parameters = ", ".join(f"parameter_{number}" for number in numbers)
        asked = re.sub(r"[$]([0-9]+)", r"asked.parameter_\1", statement)
        # LIMIT stops the planner from merging the whole into one join that begins at another table.
        self.together = f"""
SELECT asked.position, found.*
  FROM unnest({arrays}) WITH ORDINALITY AS asked ({parameters}, position), LATERAL ({asked} LIMIT 1) AS found
"""


class Asked(NamedTuple):
    """The arguments of one call, and its answer to come."""

    arguments: tuple[object, ...]
    answer: "asyncio.Future[Found]"


class Lookups:
    """Runs look-ups on the connections of one pool.

    All calls that wait for a connection share a statement, so a few connections are enough for any number of calls,
    and for any distance to the database. The statement begins after the last of them, so no call gets an older answer.
    Nothing is cached.
    """

    def __init__(
        self, read: Callable[[Callable[[Connection], Awaitable[list[Found]]]], Awaitable[list[Found]]]
    ) -> None:
        """`read`: does something with a connection, perhaps twice; its errors are those of the calls."""
        self._read = read
        self._waiting: dict[Lookup, list[Asked]] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def find(self, lookup: Lookup, arguments: tuple[object, ...]) -> Found:
        """Return the row of a lookup as a dict of its columns, or None. Raises ServiceUnavailable."""
        loop = asyncio.get_running_loop()
        asked = Asked(arguments, loop.create_future())
        if lookup in self._waiting:
            self._waiting[lookup].append(asked)
        else:
            self._waiting[lookup] = [asked]
            task = loop.create_task(self._run(lookup))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await asked.answer

    async def _run(self, lookup: Lookup) -> None:
        """Wait for a connection, and then answer all calls that wait by now."""
        asked = self._waiting[lookup]
        try:
            rows = await self._read(partial(self._ask, lookup, asked))
        except BaseException as error:  # whatever it is, the callers are told
            self._close(lookup, asked)
            for each in asked:
                if not each.answer.done():
                    each.answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for each, row in zip(asked, rows, strict=True):
                if not each.answer.done():  # its caller may have gone
                    each.answer.set_result(row)

    async def _ask(self, lookup: Lookup, asked: list[Asked], connection: Connection) -> list[Found]:
        self._close(lookup, asked)
        began = time.perf_counter()
        rows = await _fetch(connection, lookup, asked)
        metrics.LOOKUP_SECONDS.observe(time.perf_counter() - began)
        metrics.LOOKUP_CALLS.observe(len(asked))
        return rows

    def _close(self, lookup: Lookup, asked: list[Asked]) -> None:
        """Let the calls that come from now on share another statement."""
        if self._waiting.get(lookup) is asked:
            del self._waiting[lookup]


async def _fetch(connection: Connection, lookup: Lookup, asked: list[Asked]) -> list[Found]:
    """Return one row or None for each call, in their order."""
    if len(asked) == 1:
        row = await connection.fetchrow(lookup.alone, *asked[0].arguments)
        return [None if row is None else dict(row)]
    rows = map(dict, await connection.fetch(lookup.together, *zip(*(each.arguments for each in asked), strict=True)))
    found = {row.pop("position"): row for row in rows}
    return [found.get(position) for position in range(1, len(asked) + 1)]
