"""Turns: few callers at a time for a row, first come, first served, and no two that wait for each other."""

import asyncio

import pytest

from mithril import errors
from mithril.database.turns import Turns

pytestmark = pytest.mark.anyio


class Visits:
    """Callers who take turns, and stay until they are told to go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.inside: list[str] = []
        self.leaving: dict[str, asyncio.Event] = {}

    async def visit(self, name: str, *rows: str) -> None:
        self.leaving[name] = asyncio.Event()
        async with self.turns.take(rows):
            self.inside.append(name)
            await self.leaving[name].wait()
            self.inside.remove(name)

    def begin(self, name: str, *rows: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self.visit(name, *rows))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_at_a_time_take_a_row_in_the_order_in_which_they_came() -> None:
    visits = Visits(Turns(most=2, wait_seconds=60))
    tasks = [visits.begin(name, "a row") for name in "abcd"]
    await settle()
    assert visits.inside == ["a", "b"]
    for leaving, inside in (("b", ["a", "c"]), ("a", ["c", "d"])):
        visits.leaving[leaving].set()
        await settle()
        assert visits.inside == inside
    tasks.append(visits.begin("e", "another row"))
    await settle()
    assert visits.inside == ["c", "d", "e"]
    for event in visits.leaving.values():
        event.set()
    await asyncio.gather(*tasks)
    assert not visits.turns._rows, "a row that no one wants is forgotten"


async def test_a_turn_that_does_not_come_in_time_is_unavailable_and_takes_nothing() -> None:
    visits = Visits(Turns(most=1, wait_seconds=0.05))
    first = visits.begin("first", "a row")
    await settle()
    with pytest.raises(errors.ServiceUnavailable):
        await visits.visit("late", "a row")
    with pytest.raises(errors.ServiceUnavailable):
        await visits.visit("late", "a free row", "a row")
    assert visits.inside == ["first"]
    visits.leaving["first"].set()
    await first
    async with visits.turns.take(("a free row", "a row")):
        pass


async def test_a_canceled_caller_and_one_that_fails_leave_their_turn() -> None:
    visits = Visits(Turns(most=1, wait_seconds=60))
    first, canceled, last = (visits.begin(name, "a row") for name in ("first", "canceled", "last"))
    await settle()
    canceled.cancel()
    first.cancel()
    await settle()
    assert visits.inside[-1] == "last"
    visits.leaving["last"].set()
    await last
    with pytest.raises(ZeroDivisionError):
        async with visits.turns.take(("a row",)):
            raise ZeroDivisionError
    async with visits.turns.take(("a row",)):
        pass
    await asyncio.gather(first, canceled, return_exceptions=True)


async def test_two_who_want_the_same_rows_in_another_order_do_not_wait_for_each_other() -> None:
    turns = Turns(most=1, wait_seconds=60)

    async def pass_through(*rows: str) -> None:
        for _ in range(20):
            async with turns.take(rows):
                await asyncio.sleep(0)

    names = [f"row {number}" for number in range(5)]
    async with asyncio.timeout(60):
        await asyncio.gather(pass_through(*names), pass_through(*reversed(names)))
