"""A server is killed at each step of a move. Afterwards the move is done, with its audit row, or not begun: never half.

The server runs with a module that kills it, with SIGKILL, where a function is called or has returned.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from mithril.cleanup import service as cleanup
from mithril.openapi import document
from mithril.settings import Settings
from support import granting, moving
from support.factories import Db
from support.moving import NEW, OLD, THIRD, Clinic
from support.processes import Process, serving
from support.servers import Server, fresh_database, running_server

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(300)]

KILLER = """
import functools, importlib, os, signal

module, name, when = os.environ["KILL_AT"].split()
place = importlib.import_module(module)
called = getattr(place, name)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@functools.wraps(called)
async def after(*arguments, **options):
    await called(*arguments, **options)
    die()


@functools.wraps(called)
def before(*arguments, **options):
    die()


setattr(place, name, after if when == "after" else before)
"""
STORE, COMMIT = "mithril.connections.transition_store move", "mithril.database.operation_store commit before"
ANSWER, NOTHING = "mithril.connections.view view before", "mithril.web.envelope answer_without_data before"


class Point(NamedTuple):
    """Where the server is killed. `prepared`: what is done before, by a server that is not killed."""

    step: str
    action: str
    prepared: tuple[str, ...]
    asked: str
    place: str
    is_done: bool


# Each step of a move: begun, stored, answered, ended, cleaned up, cancelled, reverted.
POINTS = [
    Point("begun", "begin_transition", (), "begin", f"{STORE} before", is_done=False),
    Point("stored", "begin_transition", (), "begin", f"{STORE} after", is_done=False),
    Point("stored", "begin_transition", (), "begin", COMMIT, is_done=False),
    Point("answered", "begin_transition", (), "begin", ANSWER, is_done=True),
    Point("begun", "replace_transition", ("begin",), "replace", COMMIT, is_done=False),
    Point("answered", "replace_transition", ("begin",), "replace", ANSWER, is_done=True),
    Point("stored", "complete_transition", ("begin",), "complete", COMMIT, is_done=False),
    Point("answered", "complete_transition", ("begin",), "complete", ANSWER, is_done=True),
    Point("ended", "update", ("begin", "time"), "update", f"{STORE} before", is_done=False),
    Point("ended", "update", ("begin", "time"), "update", ANSWER, is_done=True),
    Point("cleaned up", "complete_transition", ("begin", "time"), "nothing", COMMIT, is_done=False),
    Point(
        "cleaned up",
        "complete_transition",
        ("begin", "time"),
        "nothing",
        "mithril.cleanup.store run_batch after",
        is_done=True,
    ),
    Point("cancelled", "cancel_transition", ("begin",), "cancel", COMMIT, is_done=False),
    Point("cancelled", "cancel_transition", ("begin",), "cancel", NOTHING, is_done=True),
    Point("reverted", "revert", ("update",), "revert", COMMIT, is_done=False),
    Point("reverted", "revert", ("update",), "revert", ANSWER, is_done=True),
]
STEPS = {"begun", "stored", "answered", "ended", "cleaned up", "cancelled", "reverted"}
OTHER_ACTIONS = {"create", "delete", "refresh_secret", "end_previous_secret"}


def test_each_step_and_each_change_of_a_redirect_uri_has_its_points() -> None:
    """One that comes later must be killed too: before it is done, and after."""
    event = document.load()["components"]["schemas"]["Event"]["properties"]
    actions = {name.removeprefix("connection.") for name in event["action"]["enum"]} - OTHER_ACTIONS
    assert {point.step for point in POINTS} == STEPS
    assert {(point.action, point.is_done) for point in POINTS} == {(a, done) for a in actions for done in (True, False)}


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killer")
    (folder / "sitecustomize.py").write_text(KILLER)
    return folder


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server that is not killed."""
    with fresh_database(postgres) as url, running_server(database_url=url, sweep_interval=0) as running:
        yield running


async def ask(clinic: Clinic, asked: str) -> httpx.Response | None:
    events = await clinic.db.fetchval(
        "SELECT max(id) FROM audit_events WHERE subject_id = $1", clinic.party.connection.id
    )
    asks: dict[str, Callable[[], Awaitable[Any]]] = {
        "begin": lambda: clinic.begin(seconds=3600),
        "replace": lambda: clinic.begin(THIRD, seconds=3600),
        "complete": lambda: clinic.update(NEW),
        "update": lambda: clinic.update(THIRD),
        "cancel": clinic.cancel,
        "revert": lambda: clinic.revert(events),
        "time": lambda: clinic.pass_time(3600),
        "nothing": lambda: asyncio.sleep(0),
    }
    answer: httpx.Response | None = await asks[asked]()
    return answer


async def state(clinic: Clinic) -> tuple[Any, ...]:
    shown = await clinic.details()
    return (shown["redirect_uri"], shown["transition"], await clinic.good(), await clinic.tag())


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.step}: {point.action}, {point.place}")
async def test_a_server_that_is_killed_leaves_a_move_done_or_not_begun(
    point: Point, server: Server, http: httpx.AsyncClient, db: Db, killer: Path
) -> None:
    clinic = await moving.clinic(server, http, db)
    codes = [await clinic.code(OLD)]
    for each in point.prepared:
        await ask(clinic, each)
    codes += [await clinic.code(NEW)] if await clinic.is_good(NEW) else []
    before, recorded = await state(clinic), await clinic.actions()
    variables = {"PYTHONPATH": str(killer), "KILL_AT": point.place}
    cleans = {"MITHRIL_SWEEP_INTERVAL": "0.1" if point.asked == "nothing" else "0"}
    doomed = Process("--database-url", server.database_url, **variables, **cleans)
    async with httpx.AsyncClient(base_url=doomed.public) as other:
        with suppress(httpx.TransportError):
            answer = await ask(Clinic(server, other, db, clinic.party, clinic.headers), point.asked)
            assert answer is None, answer.text
    await asyncio.to_thread(doomed.popen.wait, 60)
    doomed.end()
    assert doomed.popen.returncode == -signal.SIGKILL, "the server must come to the point, and die there"
    after, done = await state(clinic), await clinic.actions()
    assert (done[len(recorded) :][-1:] == [point.action]) is point.is_done
    if not point.is_done:
        assert (after, done) == (before, recorded)
    else:
        assert (after == before) is (point.asked == "nothing"), "a cleanup changes nothing that is shown"
    assert len(after[2]) == (2 if after[1] else 1)
    async with granting.database_of(server) as database:
        await cleanup.clean_up(database, Settings())
    assert await state(clinic) == after
    for code, uri in zip(codes, (OLD, NEW), strict=False):
        # A code is good where its redirect URI is, unless that one was away.
        assert (await clinic.redeem(code, uri) == 201) is (uri in after[2] and point.action != "revert")
    if not point.is_done:
        response = await ask(clinic, point.asked)
        assert response is None or response.status_code == 200, "and then it can be done"


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as made:
        yield made


async def test_a_transition_ends_while_no_process_runs(url: str) -> None:
    db = await asyncpg.connect(url)
    with serving("--database-url", url) as process:
        async with httpx.AsyncClient(base_url=process.public) as http:
            server = Server(process.public, process.internal, url, Settings(database_url=url))
            clinic = await moving.clinic(server, http, db)
            await clinic.begin()
            codes = [await clinic.code(OLD), await clinic.code(NEW)]
        process.kill()
    await db.execute("UPDATE connections SET transition_ends_at = clock_timestamp() + interval '0.5 s'")
    await asyncio.sleep(0.6)
    assert await clinic.good() == [NEW]
    with serving("--database-url", url, MITHRIL_SWEEP_INTERVAL="0") as process:
        async with httpx.AsyncClient(base_url=process.public) as http:
            again = Clinic(server, http, db, clinic.party, clinic.headers)
            assert await again.redeem(codes[0], OLD) == 401
            assert await again.redeem(codes[1], NEW) == 201
    await db.close()
