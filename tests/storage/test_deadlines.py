"""A write that arrives when its caller was refused long ago does nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from mithril import errors
from mithril.database.database import Database, TooLate
from support import factories
from support.factories import bearer
from support.networks import through
from support.servers import running_server

pytestmark = pytest.mark.anyio

LATE, NEWER = ({"redirect_uri": f"https://{name}.example.com/callback"} for name in ("late", "newer"))
STATES = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mithril' AND state <> 'idle'"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.mark.slow
async def test_a_refused_write_that_arrives_later_changes_nothing(database_url: str, db: Any) -> None:
    """The network is cut between the look-up and the change, and delivers the change when it is whole again."""
    owner = await factories.client(db)
    connection, token = await factories.connection(db, client_id=owner.id), await factories.token(db, client=owner)
    with through(database_url) as network, running_server(database_url=network.url, statement_timeout=1) as cut_off:
        async with httpx.AsyncClient(base_url=cut_off.url, headers=bearer(token)) as http:
            assert (await http.patch(connection.path, json=NEWER)).status_code == 200
            network.cut_at = LATE["redirect_uri"].encode()
            refused = await http.patch(connection.path, json=LATE)
            assert refused.status_code == 503
            assert network.is_silent
            network.is_silent = False
            await asyncio.sleep(0.5)
            while await db.fetchval(STATES):  # noqa: ASYNC110 -- no event for it
                await asyncio.sleep(0.01)
            assert await db.fetchval("SELECT redirect_uri FROM connections") == NEWER["redirect_uri"]
            assert await db.fetchval("SELECT count(*) FROM audit_events WHERE action = 'connection.update'") == 1
            assert (await http.patch(connection.path, json=LATE)).status_code == 200


async def test_a_write_that_comes_late_is_refused_before_it_changes_anything(database_url: str, db: Any) -> None:
    await db.execute("CREATE TABLE written (id int)")
    insert = "INSERT INTO written SELECT $1 WHERE in_time($2) RETURNING id"
    with pytest.raises(TooLate, match="the statement came after its deadline"):
        await db.fetchval(insert, 1, time.time() - 0.5)
    assert await db.fetchval(insert, 2, time.time() + 60) == 2
    assert await db.fetchval(insert, 3, None) == 3
    assert await db.fetchval("SELECT count(*) FROM written") == 2


async def test_a_clock_of_the_database_that_was_set_refuses_no_write(database_url: str) -> None:
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
        await database.fetch("SELECT 1")
        assert database._servers._clock_ahead is not None
        database._servers._clock_ahead -= 3600  # so the clock of the database was set forward meanwhile
        assert await database.write("SELECT 1 WHERE in_time($1)") is not None
        assert abs(database._servers._clock_ahead + time.monotonic() - time.time()) < 60


async def test_a_write_is_given_as_long_as_its_caller_waits(database_url: str) -> None:
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
        await database.fetch("SELECT 1")
        deadline = database._servers.deadline()
        assert deadline is not None
        assert 0 < deadline - time.time() <= 60
        assert await database.write("SELECT 1 WHERE in_time($1)") is not None
        database._servers._statement_seconds = -60  # and so is the second attempt
        with pytest.raises(errors.ServiceUnavailable):
            await database.write("SELECT 1 WHERE in_time($1)")
