"""Faults during writes: afterwards every acknowledged write is stored once, with its audit row.

Each test prints what it measured; `docs/reliability.md` has the figures of one run.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import asyncpg
import httpx
import pytest

from mithril.database.database import Connection
from support.clusters import Cluster, children, folders, running, url_of, workers_of
from support.disks import fill, small_disk
from support.processes import Process, run, serving
from support.proxies import Loss, losing
from support.writing import prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

WORKERS = ("--workers", "2")
SECONDS = 10  # "within seconds"; on an idle machine it is below two


def migrate(url: str) -> None:
    migrated = run("migrate", "--database-url", url)
    assert migrated.returncode == 0, migrated.stderr


async def in_thread(work: Callable[[], object]) -> None:
    """Run in a thread, so that the stream continues."""
    await asyncio.to_thread(work)


# The server


async def test_a_worker_is_killed(cluster: Cluster) -> None:
    with serving(*WORKERS, "--database-url", cluster.url) as process:
        async with writing(process.public, cluster.url) as stream:
            victim, survivor = workers_of(process)
            os.kill(victim, signal.SIGKILL)
            outage = await stream.more(200)
            await stream.until(lambda: len(set(workers_of(process)) - {victim}) == 2)
            await stream.more(200)
        assert survivor in workers_of(process)
        assert len(stream.unanswered) <= len(stream.connections), "only what that worker was at is cut off"
        assert await prove_nothing_is_lost(stream, cluster.url) > 400
    report("a worker killed", stream, outage=outage)


async def test_the_whole_server_is_killed(cluster: Cluster) -> None:
    process = Process(*WORKERS, "--database-url", cluster.url)
    async with writing(process.public, cluster.url) as stream:
        await in_thread(process.kill)
        again = await asyncio.to_thread(Process, *WORKERS, "--database-url", cluster.url)
        stream.url = again.public
        await stream.more(200)
    again.stop()
    assert await prove_nothing_is_lost(stream, cluster.url) > 200
    report("the server killed and started", stream, outage=stream.longest_silence())


async def test_the_server_stops_on_sigterm_under_load(cluster: Cluster) -> None:
    """Every accepted request is answered, and an unanswered one changed nothing."""
    with serving(*WORKERS, "--database-url", cluster.url) as process:
        async with writing(process.public, cluster.url) as stream:
            await stream.more(200)
            process.popen.send_signal(signal.SIGTERM)
            began = time.monotonic()
            await in_thread(lambda: process.popen.wait(timeout=60))
            took = time.monotonic() - began
            stream.stop()
        process.end()
        assert process.popen.returncode == 0
    assert not stream.refused
    await prove_nothing_is_lost(stream, cluster.url)
    db = await asyncpg.connect(cluster.url)
    done = await db.fetch("SELECT request_id FROM audit_events WHERE request_id = ANY ($1)", list(stream.unanswered))
    await db.close()
    assert not done, "done, and not answered"
    report("told to stop", stream, end=took)


async def test_on_sigterm_every_accepted_request_is_answered(cluster: Cluster) -> None:
    """Callers with persistent connections get answers until one says `Connection: close`."""

    async def ask_until_the_last(http: httpx.AsyncClient) -> int:
        async with http:
            for number in range(100_000):
                response = await http.get("/readyz")
                assert response.status_code == 200
                if response.headers.get("connection") == "close":
                    return number
        return 0

    with serving(*WORKERS, "--database-url", cluster.url) as process:
        callers = [httpx.AsyncClient(base_url=process.public, timeout=30) for _ in range(20)]
        asking = [asyncio.create_task(ask_until_the_last(each)) for each in callers]
        await asyncio.sleep(1)
        process.popen.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asking)
        process.end()
        assert process.popen.returncode == 0
    assert min(answers) > 0
    print(f"told to stop: {sum(answers)} answers to 20 callers, none cut off")


# PostgreSQL


@contextmanager
def served(cluster: Cluster, **variables: str) -> Iterator[Process]:
    with serving(*WORKERS, "--database-url", cluster.url, **variables) as process:
        yield process


async def test_postgresql_is_killed(cluster: Cluster) -> None:
    with served(cluster) as process:
        async with writing(process.public, cluster.url) as stream:
            cluster.kill()
            await stream.refusals()
            await in_thread(cluster.start)
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, cluster.url)
    assert resumed < SECONDS
    report("PostgreSQL killed and started", stream, resumed_after=resumed)


async def test_postgresql_is_restarted(cluster: Cluster) -> None:
    with served(cluster) as process:
        async with writing(process.public, cluster.url) as stream:
            await in_thread(cluster.stop)
            await stream.refusals()
            await in_thread(cluster.start)
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, cluster.url)
    assert resumed < SECONDS
    report("PostgreSQL restarted", stream, resumed_after=resumed)


async def test_a_process_of_the_embedded_postgresql_is_killed() -> None:
    """PostgreSQL then stops all its processes and recovers by itself."""
    with folders() as folder, serving(*WORKERS, "--home", str(folder)) as process:
        url = f"postgresql://postgres@/mithril?port=5432&host={folder / 'postgres'}"
        async with writing(process.public, url) as stream:
            db = await asyncpg.connect(url)
            backend = await db.fetchval("SELECT pid FROM pg_stat_activity WHERE application_name = 'mithril' LIMIT 1")
            os.kill(backend, signal.SIGKILL)
            # Its other processes end too, this connection's among them. On a busy machine no write may fall into that.
            await stream.until(db.is_closed)
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, url)
    assert resumed < 10
    report("a process of the embedded PostgreSQL killed", stream, resumed_after=resumed)


async def test_the_embedded_postgresql_is_killed() -> None:
    """It starts again together with the server."""
    with folders() as folder:
        url = f"postgresql://postgres@/mithril?port=5432&host={folder / 'postgres'}"
        with serving(*WORKERS, "--home", str(folder)) as process:
            async with writing(process.public, url) as stream:
                postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split("\n")[0])
                for pid in [postmaster, *children(postmaster)]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await stream.refusals()
                stream.stop()
            process.stop()
        with serving(*WORKERS, "--home", str(folder)):
            await prove_nothing_is_lost(stream, url)
    report("the embedded PostgreSQL killed", stream)


async def test_postgresql_is_frozen_for_ten_seconds(cluster: Cluster) -> None:
    with served(cluster, MITHRIL_STATEMENT_TIMEOUT="2") as process:
        async with writing(process.public, cluster.url) as stream:
            cluster.freeze()
            frozen = time.monotonic()
            await stream.refusals(2)
            said = time.monotonic() - frozen
            alive = await asyncio.to_thread(httpx.get, process.public + "/healthz", timeout=2)
            assert alive.status_code == 200
            await asyncio.sleep(10 - (time.monotonic() - frozen))
            cluster.thaw()
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, cluster.url)
    assert said < 8, "a statement may take two seconds"
    assert stream.slowest < 9, "nobody waits for as long as it is frozen"
    assert resumed < SECONDS
    report("PostgreSQL frozen for 10 s", stream, first_refusal=said, resumed_after=resumed)


async def test_postgresql_is_out_of_connections(cluster: Cluster) -> None:
    with served(cluster) as process:
        async with writing(process.public, cluster.url) as stream:
            hog = await _take_all_connections(cluster)
            await stream.refusals(20)
            for db in hog:
                await db.close()
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, cluster.url)
    assert resumed < SECONDS
    report("PostgreSQL out of connections", stream, resumed_after=resumed)


async def _take_all_connections(cluster: Cluster) -> list[Connection]:
    """Close the connections of the service, and open all that PostgreSQL allows."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mithril'"
    hog = [await asyncpg.connect(cluster.url)]
    while True:
        try:
            hog.append(await asyncpg.connect(cluster.url))
        except asyncpg.TooManyConnectionsError:
            if not await hog[0].fetch(end):
                return hog


async def test_postgresql_is_read_only_for_a_while(cluster: Cluster) -> None:
    with served(cluster) as process:
        async with writing(process.public, cluster.url) as stream:
            db = await asyncpg.connect(cluster.url)
            await _set_read_only(db, "on")
            await stream.refusals(20)
            await _set_read_only(db, "off")
            resumed = await stream.more(200)
            await db.close()
        await prove_nothing_is_lost(stream, cluster.url)
    assert resumed < SECONDS
    report("PostgreSQL read-only", stream, resumed_after=resumed)


async def _set_read_only(db: Connection, value: str) -> None:
    await db.execute("SET default_transaction_read_only = off")
    await db.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await db.execute("SELECT pg_reload_conf()")


async def test_the_disk_of_postgresql_is_full() -> None:
    with small_disk("96m") as disk:
        cluster = Cluster(disk / "one", max_wal_size="4MB", min_wal_size="2MB", checkpoint_timeout="30s")
        cluster.initialise()
        cluster.start()
        try:
            migrate(cluster.url)
            with served(cluster) as process:
                async with writing(process.public, cluster.url) as stream:
                    while stream.failures < 20:  # fill the space that a crash freed
                        fill(disk)
                        await asyncio.sleep(0.05)
                    (disk / "filling").unlink()
                    if not cluster.pids():
                        await in_thread(cluster.start)
                    resumed = await stream.more(200)
                await prove_nothing_is_lost(stream, cluster.url)
        finally:
            cluster.stop("immediate")
    assert resumed < 30
    report("the disk full", stream, resumed_after=resumed)


async def test_a_standby_is_promoted(pair: tuple[Cluster, Cluster]) -> None:
    """The primary is lost. With synchronous replication it acknowledged only what the standby has."""
    primary, standby = pair
    with serving(*WORKERS, "--database-url", url_of(primary, standby)) as process:
        async with writing(process.public, primary.url) as stream:
            primary.kill()
            await stream.refusals()
            await in_thread(standby.promote)
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, standby.url)
    assert resumed < SECONDS
    report("a standby promoted", stream, resumed_after=resumed)


async def test_the_synchronous_standby_is_away_for_a_while(pair: tuple[Cluster, Cluster]) -> None:
    """Every write is done, on the primary alone: no answer may say that it is safe, or that it is not done."""
    primary, standby = pair
    with served(primary, MITHRIL_STATEMENT_TIMEOUT="2") as process:
        async with writing(process.public, primary.url) as stream:
            await in_thread(lambda: standby.stop("immediate"))
            await stream.until(lambda: len(stream.unknown) >= 2 * len(stream.connections))
            await in_thread(standby.start)
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, primary.url)
    assert not stream.refused
    assert resumed < SECONDS
    report("the synchronous standby away", stream, resumed_after=resumed)


async def test_answers_to_writes_are_lost_again_and_again(cluster: Cluster) -> None:
    """Some writes arrive and their answer is lost, some do not arrive, or arrive after they were refused."""
    with (
        losing(cluster.url) as proxy,
        serving(*WORKERS, "--database-url", proxy.url, MITHRIL_STATEMENT_TIMEOUT="10") as process,
    ):
        async with writing(process.public, cluster.url) as stream:
            for number in range(60):
                proxy.lose(b"written-", (Loss.CUT, Loss.HELD)[number % 2])
                await stream.until(lambda: proxy.has_lost)
            await stream.more(200)
        refused_late = [proxy.deliver() for _ in range(30)]
        assert not [answer for answer in refused_late if b"ERROR" not in answer]
        await prove_nothing_is_lost(stream, cluster.url)
    assert not stream.unknown
    assert stream.refused.total() == 30, "those that did not arrive"
    report("60 answers lost", stream)


def test_the_check_of_the_writes_can_fail() -> None:
    """A write that is acknowledged and missing is found."""

    async def scenario(url: str, server: str) -> None:
        async with writing(server, url) as stream:
            pass
        db = await asyncpg.connect(url)
        await db.execute("ALTER TABLE audit_events DISABLE TRIGGER ALL")
        await db.execute("DELETE FROM audit_events WHERE id = (SELECT max(id) FROM audit_events)")
        await db.close()
        with pytest.raises(AssertionError, match="acknowledged, and not there"):
            await prove_nothing_is_lost(stream, url)

    with running() as cluster:
        migrate(cluster.url)
        with served(cluster) as process:
            asyncio.run(scenario(cluster.url, process.public))
