"""Faults of clusters of PostgreSQL: servers that fall silent, and networks that are cut without a word."""

import asyncio
import os
import signal
import time
from pathlib import Path

import asyncpg
import httpx
import pytest

from support import factories
from support.clusters import Cluster, url_of
from support.processes import run, serving
from support.writing import connect_patiently, prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(300)]

END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'"
WORKERS = ("--workers", "2")


async def test_a_frozen_primary_is_replaced_and_wakes_up(pair: tuple[Cluster, Cluster]) -> None:
    """It says nothing, and later takes writes again, but the service never returns to it."""
    primary, standby = pair
    with serving(*WORKERS, "--database-url", url_of(primary, standby)) as process:
        async with writing(process.public, primary.url) as stream:
            primary.freeze()
            await stream.refusals(8)
            await asyncio.to_thread(standby.promote)
            resumed = await stream.more(200)
            # It would acknowledge writes without the standby, as where replication is asynchronous.
            with (primary.data / "postgresql.auto.conf").open("a") as settings:
                settings.write("synchronous_standby_names = ''\n")
            primary.thaw()
            os.kill(primary.pids()[0], signal.SIGHUP)
            awake = await connect_patiently(primary.url)
            assert await awake.fetchval("SHOW transaction_read_only") == "off"
            await awake.close()
            await stream.more(400)
        await prove_nothing_is_lost(stream, standby.url)
    assert resumed < 5
    report("a frozen primary replaced, and woken", stream, resumed_after=resumed)


async def test_standbys_answer_verifications_while_no_server_takes_writes(pair: tuple[Cluster, Cluster]) -> None:
    primary, standby = pair
    both = url_of(standby, primary)  # look-ups ask the first host first
    refused = await asyncio.to_thread(run, "serve", "--database-url", both, MITHRIL_VERIFY_FROM_STANDBYS="true")
    assert refused.returncode == 1
    assert "synchronous_commit is on, not remote_apply" in refused.stderr
    db = await asyncpg.connect(primary.url)
    await db.execute("ALTER DATABASE mithril SET synchronous_commit = 'remote_apply'")
    await db.close()
    db = await asyncpg.connect(primary.url)
    owner = await factories.client(db)
    tokens = [await factories.token(db, client=owner) for _ in range(2)]
    with serving(*WORKERS, "--database-url", both, MITHRIL_VERIFY_FROM_STANDBYS="true") as process:
        async with (
            httpx.AsyncClient(base_url=process.internal) as internal,
            writing(process.public, primary.url) as stream,
        ):

            async def status(token: str) -> int:
                return (await internal.get(f"/admin/tokens/{token}/verify")).status_code

            assert [await status(token) for token in tokens] == [200, 200]
            on_standby = await asyncpg.connect(standby.url)
            await on_standby.execute("SELECT pg_wal_replay_pause()")
            revoked = await db.fetchval("SELECT id FROM tokens WHERE digest = sha256($1)", tokens[1].encode())
            revoking = asyncio.create_task(internal.delete(f"/admin/tokens/{revoked}"))
            await asyncio.sleep(0.3)
            assert not revoking.done(), "it waits until every standby shows it"
            await on_standby.execute("SELECT pg_wal_replay_resume()")
            assert (await revoking).status_code == 204
            assert await status(tokens[1]) == 404, "no stale answer"
            await on_standby.close()
            await db.close()
            primary.kill()
            await stream.refusals(8)
            answers = [await status(token) for token in tokens * 50]
            assert answers == [200, 404] * 50
            await asyncio.to_thread(standby.promote)
            resumed = await stream.more(200)
            assert [await status(token) for token in tokens] == [200, 404]
        await prove_nothing_is_lost(stream, standby.url)
    report("the primary lost, verified from the standby", stream, resumed_after=resumed)


async def test_the_password_is_changed(cluster: Cluster, tmp_path: Path) -> None:
    """The file has the new one before or after the database: it is read again when a connection is refused."""
    access = cluster.data / "pg_hba.conf"
    access.write_text("local all rotated scram-sha-256\n" + access.read_text())
    db = await asyncpg.connect(cluster.url)
    await db.execute("CREATE ROLE rotated LOGIN SUPERUSER PASSWORD 'one'; SELECT pg_reload_conf()")
    url = tmp_path / "url"

    def write_url(password: str) -> None:
        url.write_text(cluster.url.replace("postgres@", f"rotated:{password}@"))

    write_url("one")
    with serving(*WORKERS, MITHRIL_DATABASE_URL_FILE=str(url)) as process:
        async with writing(process.public, cluster.url) as stream:
            await db.execute("ALTER ROLE rotated PASSWORD 'two'")
            write_url("two")
            await db.execute(END_SESSIONS)
            await stream.more(200)
            assert stream.failures <= 2 * len(stream.connections), "what the ended sessions were at"
            await db.execute("ALTER ROLE rotated PASSWORD 'three'")
            await db.execute(END_SESSIONS)
            await stream.refusals(8)
            write_url("three")
            resumed = await stream.more(200)
        await prove_nothing_is_lost(stream, cluster.url)
    await db.close()
    assert resumed < 5
    report("the password changed", stream, resumed_after=resumed)


async def test_a_server_starts_and_migrates_beside_a_silent_host(pair: tuple[Cluster, Cluster]) -> None:
    primary, standby = pair
    primary.freeze()
    await asyncio.to_thread(standby.promote)
    both = url_of(primary, standby)
    began = time.monotonic()
    migrated = await asyncio.to_thread(run, "migrate", "--database-url", both)
    assert migrated.returncode == 0, migrated.stderr
    with serving(*WORKERS, "--database-url", both) as process:
        started = time.monotonic() - began
        ready = await asyncio.to_thread(httpx.get, process.public + "/readyz")
        assert ready.status_code == 200
    print(f"a silent host: migrated and started in {started:.2f} s")
