"""A migration that fails or is killed leaves the schema as it was, and the next one succeeds."""

import os
import shutil
import signal
import subprocess
import sys
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
        "import asyncio, sys; from mithril.database import database; "
        f"database.__file__ = {str(folder / 'database.py')!r}; asyncio.run(database.migrate(sys.argv[1]))"
    )


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
