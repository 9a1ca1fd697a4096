"""An unavailable, busy or slow database: callers get a quick 503, and requests resume when it is back."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from mithril.database import database, embedded
from mithril.database.database import Database
from support import factories, racing
from support.factories import bearer
from support.servers import running_server

pytestmark = pytest.mark.anyio

BODY = {"redirect_uri": "https://new.example.com/callback"}


async def target(url: str) -> tuple[str, dict[str, str]]:
    """The path of a PATCH, and headers that allow it."""
    db = await asyncpg.connect(url)
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner)
    await db.close()
    return connection.path, bearer(token)


async def until_available(http: httpx.AsyncClient, path: str, headers: dict[str, str], uri: str) -> None:
    """Repeats a change until it is made: with short time limits, on a busy machine, the first try may be too slow."""
    while (response := await http.patch(path, json={"redirect_uri": uri}, headers=headers)).status_code != 200:
        assert_unavailable(response)


def assert_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.json()["error"]["type"] == "service_unavailable"
    assert int(response.headers["retry-after"]) >= 1


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[str]:
    with embedded.running(tmp_path) as url:
        asyncio.run(database.migrate(url))
        yield url


def postmaster_pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def postgres_processes(home: Path) -> list[int]:
    """Return the postmaster and all its descendants."""
    postmaster = postmaster_pid(home)
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii")
    return [postmaster, *map(int, children.split())]


async def test_an_unavailable_database_is_503_and_requests_resume_by_themselves(
    own_postgres: str, tmp_path: Path
) -> None:
    path, headers = await target(own_postgres)
    with running_server(database_url=own_postgres) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            assert (await http.patch(path, json=BODY, headers=headers)).status_code == 200
            os.kill(postmaster_pid(tmp_path), signal.SIGINT)
            while (tmp_path / "postgres" / "postmaster.pid").exists():  # noqa: ASYNC110 -- another process's file
                await asyncio.sleep(0.01)

            assert_unavailable(await http.patch(path, json=BODY, headers=headers))
            assert_unavailable(await http.get("/readyz"))
            assert (await http.get("/healthz")).status_code == 200

            with embedded.running(tmp_path):
                again = {"redirect_uri": "https://third.example.com/"}
                assert (await http.patch(path, json=again, headers=headers)).status_code == 200
                assert (await http.get("/readyz")).status_code == 200


@pytest.mark.slow
async def test_a_hanging_database_is_503_in_time_and_requests_resume_by_themselves(
    own_postgres: str, tmp_path: Path
) -> None:
    path, headers = await target(own_postgres)
    with running_server(database_url=own_postgres, pool_timeout=0.5, statement_timeout=0.5) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            await until_available(http, path, headers, BODY["redirect_uri"])
            processes = postgres_processes(tmp_path)
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            try:
                for _ in range(2):  # while it hangs, or there would be no answer at all
                    assert_unavailable(await http.patch(path, json=BODY, headers=headers))
                assert (await http.get("/healthz")).status_code == 200
            finally:
                for pid in processes:
                    os.kill(pid, signal.SIGCONT)
            # What was under way when it froze may still be in the way of the first attempt.
            await until_available(http, path, headers, "https://third.example.com/")


async def test_an_exhausted_pool_is_503_quickly(database_url: str) -> None:
    path, headers = await target(database_url)
    locker = await asyncpg.connect(database_url)
    with running_server(database_url=database_url, db_pool_size=2, pool_timeout=0.5) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            await until_available(http, path, headers, BODY["redirect_uri"])  # from now on there is a connection
            async with locker.transaction():
                await locker.execute("LOCK TABLE connections")
                other = {"redirect_uri": "https://third.example.com/"}
                blocked = await racing.sent(locker, http.patch(path, json=other, headers=headers), waiting=1)
                assert_unavailable(await http.patch(path, json=BODY, headers=headers))
                assert not blocked.done(), "the one that holds the connection goes on"
            assert (await blocked).status_code == 200
            assert (await http.patch(path, json=BODY, headers=headers)).status_code == 200
    await locker.close()


async def test_a_database_with_an_old_schema_is_not_ready(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    await db.execute("UPDATE alembic_version SET version_num = '0000'")
    await db.close()
    with running_server(database_url=database_url) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            assert_unavailable(await http.get("/readyz"))


async def test_a_change_of_url_holds_for_new_connections(database_url: str, postgres: str) -> None:
    """A statement that runs at that moment ends on its own connection."""
    where = "SELECT current_database() FROM pg_sleep($1)"
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        running = asyncio.create_task(opened.fetch(where, 0.5))
        watching = await asyncpg.connect(postgres)
        begun = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active' AND wait_event = 'PgSleep'"
        while not running.done() and not await watching.fetchval(begun, where):  # noqa: ASYNC110 -- no event for it
            await asyncio.sleep(0.01)
        await watching.close()
        opened.change_url(postgres)
        found = [row["current_database"] for (row,) in (await running, await opened.fetch(where, 0))]
    assert found[0].startswith("test_")
    assert found[1] == "mithril"
