"""A migration that fails or is killed leaves the schema as it was, and the next one succeeds."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from mithril.database import database
from support.clusters import Cluster
from support.processes import run
from support.writing import connect_patiently

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

BROKEN = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{newest}", None, None


def upgrade():
    op.execute("CREATE TABLE half_way (id bigint PRIMARY KEY)")
    op.execute("ALTER TABLE connections ADD COLUMN half_way bigint")
    op.execute("UPDATE connections SET version = version + 1")
    op.execute("SELECT {last}")
"""


@contextmanager
def migrations(folder: Path, last: str) -> Iterator[str]:
    """A program that migrates with one more revision, whose last statement is `SELECT last`."""
    package = Path(database.__file__).parent
    shutil.copytree(package / "migrations", folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    broken = BROKEN.format(newest=database.SCHEMA_VERSION, last=last)
    (folder / "migrations" / "versions" / "9999_broken.py").write_text(broken)
    yield (
        "import asyncio, sys; from mithril.database import database, partitions; "
        "partitions.make = lambda _: asyncio.sleep(0); "  # the function for it may be of a later revision
        f"database.__file__ = {str(folder / 'database.py')!r}; asyncio.run(database.migrate(sys.argv[1]))"
    )


def migrate_to(revision: str, url: str, folder: Path) -> None:
    """Bring an empty database to an old revision."""
    with migrations(folder, "1") as program:
        for file in (folder / "migrations" / "versions").glob("0*.py"):
            if file.name[:4] > revision:
                file.unlink()
        (folder / "migrations" / "versions" / "9999_broken.py").unlink()
        subprocess.run([sys.executable, "-c", program, url], check=True)


def schema(cluster: Cluster) -> str:
    """Return the schema as pg_dump prints it."""
    dumped = cluster.run("pg_dump", "--schema-only", "-h", str(cluster.folder), "-U", "postgres", "mithril")
    return "\n".join(line for line in dumped.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict")))


async def test_a_migration_that_fails_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = schema(cluster)
    with migrations(tmp_path, "1 / 0") as program:
        failed = subprocess.run(
            [sys.executable, "-c", program, cluster.url], capture_output=True, text=True, check=False
        )
    assert failed.returncode != 0
    assert "division by zero" in failed.stderr
    assert schema(cluster) == before
    assert run("migrate", "--database-url", cluster.url).returncode == 0


async def test_a_migration_that_is_killed_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = schema(cluster)
    db = await asyncpg.connect(cluster.url)
    with migrations(tmp_path, "pg_sleep(3)") as program:
        running = subprocess.Popen([sys.executable, "-c", program, cluster.url])
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while not await db.fetchval(asleep):
            assert running.poll() is None
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    while await db.fetchval(asleep):  # the statement runs on after its client is killed
        pass
    await db.close()
    assert run("migrate", "--database-url", cluster.url).returncode == 0
    assert schema(cluster) == before


async def test_a_migration_during_which_postgresql_is_killed_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = schema(cluster)
    db = await asyncpg.connect(cluster.url)
    with migrations(tmp_path, "pg_sleep(60)") as program:
        running = subprocess.Popen([sys.executable, "-c", program, cluster.url], stderr=subprocess.DEVNULL)
        while not await db.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            assert running.poll() is None
        cluster.kill()
        assert running.wait(timeout=30) != 0
    db.terminate()
    cluster.start()
    again = await connect_patiently(cluster.url)
    assert await database.schema_version(again) == database.SCHEMA_VERSION
    await again.close()
    assert schema(cluster) == before


MILLION = """
INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail)
SELECT md5('k' || n)::uuid, md5('c' || n)::uuid, md5('m' || n % 100)::uuid, 'https://example.com/' || n,
       sha256(n::text::bytea), '' FROM generate_series(1, 1000000) n
"""
FILES = """
SELECT pg_relation_filenode('connections'), pg_relation_filenode('tokens'), pg_relation_filenode(coalesce(
           (SELECT oid FROM pg_class WHERE relname LIKE 'audit_events_to_%' AND relkind = 'r'),
           'audit_events'::regclass))
"""


@pytest.mark.size
async def test_transitions_are_added_to_a_million_connections_while_writes_go_on(
    unmigrated: str, tmp_path: Path
) -> None:
    """No table is rewritten, and no write waits longer than for a lock that is given up and tried again."""
    migrate_to("0005", unmigrated, tmp_path)
    db = await asyncpg.connect(unmigrated)
    await db.execute("SET session_replication_role = replica")
    await db.execute(MILLION)
    await db.execute("ANALYZE connections")
    before, waits = await db.fetchrow(FILES), []
    is_over = asyncio.Event()

    async def write(number: int) -> None:
        """Write as a process of the release before does."""
        connection = await asyncpg.connect(unmigrated)
        statement = (
            "UPDATE connections SET redirect_uri = $2, version = version + 1 WHERE id = md5('k' || $1::text)::uuid"
        )
        while not is_over.is_set():
            number = number % 1_000_000 + 7
            began = time.monotonic()
            await connection.execute(statement, str(number), f"https://example.com/new/{number}")
            waits.append(time.monotonic() - began)
        await connection.close()

    writers = [asyncio.create_task(write(number * 1_000)) for number in range(4)]
    while len(waits) < 500:
        await asyncio.sleep(0.05)
    began = time.monotonic()
    migrated = await asyncio.to_thread(run, "migrate", "--database-url", unmigrated)
    took, written = time.monotonic() - began, len(waits)
    assert migrated.returncode == 0, migrated.stderr
    while len(waits) < written + 500:  # with the trigger
        await asyncio.sleep(0.05)
    is_over.set()
    await asyncio.gather(*writers)
    assert await db.fetchrow(FILES) == before, "a table was rewritten"
    assert await database.schema_version(db) == database.SCHEMA_VERSION
    assert await db.fetchval("SELECT count(*) FROM connections WHERE transition_redirect_uri IS NOT NULL") == 0
    await db.close()
    print(f"a million connections migrated in {took:.2f} s; {len(waits)} writes, the slowest {max(waits):.3f} s")
    assert max(waits) < 2, "some write waited long"
