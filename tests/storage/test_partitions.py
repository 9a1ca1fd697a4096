"""The audit trail in partitions: the migration of a trail in use, the months to come, and months in files."""

import asyncio
import gzip
import itertools
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mithril import errors
from mithril.audit import archive, archive_store, events
from mithril.audit.events import Actor
from mithril.cleanup import service as cleanup
from mithril.database import database, embedded, partitions
from mithril.database.database import Connection, Database
from mithril.settings import Settings
from support import clusters, plans, releases, repository
from support.processes import run

pytestmark = pytest.mark.anyio

MOST, MOST_OF_A_TIME = 2_500, 400  # of 48 000
SEVERAL, EMPTY = 9, 15  # months of the first partition, and which one has no events
PACKAGED = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
ACTOR = Actor(request_id="a test")
PARTS = """
SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class
 WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_events'::regclass) ORDER BY relname
"""
FIRST = "SELECT min(relname) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'audit_events_to_%'"
ADD = "INSERT INTO audit_events (action, subject_id, occurred_at) VALUES ($1, gen_random_uuid(), $2) RETURNING id"
# As if the months of 2024 and 2025 had passed under this schema.
YEARS = """
CREATE TABLE audit_events_to_{0}_11 PARTITION OF audit_events FOR VALUES FROM (MINVALUE) TO ('{0}-12-01 00:00Z');
CREATE TABLE audit_events_{0}_12 PARTITION OF audit_events FOR VALUES FROM ('{0}-12-01 00:00Z') TO ('{1}-01-01 00:00Z');
"""
MONTH = "CREATE TABLE audit_events_{0:%Y_%m} PARTITION OF audit_events FOR VALUES FROM ('{0}') TO ('{1}')"


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as made:
        yield made


@pytest.fixture
async def old(db: Connection) -> dict[str, list[int]]:
    """Rows in two partitions before 2025, and in one of 2025; the numbers of the rows by partition."""
    await db.execute(f"DROP TABLE {await db.fetchval(FIRST)}")
    await db.execute(YEARS.format(2024, 2025))
    await db.execute(MONTH.format(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)))
    for moment in ("2023-03-01", "2024-11-30T23:59:59", "2024-12-01", "2024-12-31", "2025-01-01"):
        await db.fetchval(ADD, "a.test", datetime.fromisoformat(f"{moment}+00:00"))
    return await numbers(db)


async def numbers(db: Connection) -> dict[str, list[int]]:
    rows = await db.fetch(
        "SELECT tableoid::regclass::text AS part, array_agg(id ORDER BY id) AS ids FROM audit_events"
        " WHERE action = 'a.test' GROUP BY 1"
    )
    return {row["part"]: row["ids"] for row in rows}


async def archived(opened: Database, folder: Path) -> list[str]:
    return [f"{f.name}: {rows}" async for f, rows in archive.archive(opened, folder, before="2025_01", actor=ACTOR)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), reverse=True)


def content(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def psql(url: str, script: str) -> list[str]:
    command = (embedded.postgres_bin() / "psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", url)
    return subprocess.run(command, input=script, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(params=["embedded", pytest.param("packaged", marks=pytest.mark.slow)])
def released(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database as 0.1.0 has left it, in both kinds of PostgreSQL."""
    if request.param == "embedded":
        url: str = request.getfixturevalue("unmigrated")
        asyncio.run(restore(url))
        yield url
        return
    if PACKAGED is None:
        pytest.skip("there is no packaged PostgreSQL")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(embedded, "postgres_bin", lambda: PACKAGED)
        patched.setattr(embedded, "_let_others_read_programs", lambda: None)
        with clusters.running(fsync="off") as cluster:
            asyncio.run(restore(cluster.url))
            yield cluster.url


async def restore(url: str) -> None:
    db = await asyncpg.connect(url)
    lines = (releases.FOLDER / "0.1.0.sql").read_text().splitlines()
    await db.execute("\n".join(line for line in lines if "transaction_timeout" not in line))  # unknown to 15
    await db.close()


async def test_a_trail_in_use_becomes_the_first_partition_without_a_rewrite(released: str) -> None:
    db, writer = await asyncpg.connect(released), await asyncpg.connect(released)
    await db.execute("DROP ROLE IF EXISTS auditor; CREATE ROLE auditor; GRANT SELECT ON audit_events TO auditor")
    file = await db.fetchval("SELECT pg_relation_filenode('audit_events')")
    add = await writer.prepare(
        "INSERT INTO audit_events (action, subject_id) VALUES ($1, gen_random_uuid()) RETURNING id"
    )
    last = await writer.prepare("SELECT max(id) FROM audit_events")
    before, added, waits, is_over = await last.fetchval(), [], [], asyncio.Event()

    async def write() -> None:
        """Write as a process of the release before does."""
        while not is_over.is_set():
            began = time.monotonic()
            added.append(await add.fetchval("a.test"))
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    await database.migrate(released)
    was_written = len(added)
    while len(added) < was_written + 5:
        await db.fetchval("SELECT pg_sleep(0.01)")
    is_over.set()
    await writing
    first = await db.fetchval(FIRST)
    assert await db.fetchval("SELECT pg_relation_filenode($1::text::regclass)", first) == file
    assert [
        row["id"] for row in await db.fetch("SELECT id FROM audit_events WHERE action = 'a.test' ORDER BY id")
    ] == added
    assert added == list(range(before + 1, before + 1 + len(added)))
    assert await last.fetchval() == added[-1]
    assert max(waits) < 10, "a write waited for long"
    assert await db.fetchval("SELECT has_table_privilege('auditor', 'audit_events', 'SELECT')")
    assert not await db.fetchval("SELECT has_table_privilege('auditor', $1, 'SELECT')", first)
    assert (
        await db.fetch("SELECT FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::text::regclass", first) == []
    )
    await db.execute("DROP OWNED BY auditor; DROP ROLE auditor")
    await writer.close()
    await db.close()


async def test_an_interrupted_preparation_of_a_past_month_is_replaced(released: str) -> None:
    db = await asyncpg.connect(released)
    await db.execute(
        "ALTER TABLE audit_events ADD CONSTRAINT audit_events_to_2020_01 CHECK (occurred_at < '2020-02-01') NOT VALID"
    )
    await partitions.prepare(db)
    await database.migrate(released)
    await db.fetchval(ADD, "a.test", datetime.now(UTC))
    assert await db.fetchval(FIRST) > "audit_events_to_2026"
    await db.close()


async def test_the_next_three_months_have_partitions(db: Connection) -> None:
    now, parts = datetime.now(UTC), [row["relname"] for row in await db.fetch(PARTS)]
    later = [(now.replace(day=1) + timedelta(days=31 * n)).replace(day=1) for n in range(4)]
    (first,) = [name for name in parts if name.startswith("audit_events_to_")]
    own = {f"audit_events_{month:%Y_%m}" for month in later if f"{month:%Y_%m}" > first[-7:]}
    assert set(parts) == own | {first, "audit_events_default"}


@pytest.mark.parametrize("statement", ["UPDATE {} SET action = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
async def test_every_partition_only_grows(db: Connection, statement: str) -> None:
    for row in await db.fetch(PARTS):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only grows"):
            await db.execute(statement.format(row["relname"]))


async def test_the_cleanup_makes_partitions_while_a_write_is_under_way(db: Connection, opened: Database) -> None:
    missing = [row["relname"] for row in await db.fetch(PARTS) if row["relname"] > "audit_events_2"][:-2]
    for name in missing:
        await db.execute(f"DROP TABLE {name}")
    transaction = db.transaction()
    await transaction.start()
    await db.fetchval(ADD, "a.test", datetime.now(UTC))
    counts = await cleanup.clean_up(opened, Settings())
    await transaction.commit()
    assert counts["audit_partitions_made"] == len(missing) >= 1
    assert set(missing) <= {row["relname"] for row in await db.fetch(PARTS)}


async def test_a_row_of_a_month_without_a_partition_is_kept(db: Connection, opened: Database) -> None:
    parts = [row["relname"] for row in await db.fetch(PARTS)]
    *_, before, last = sorted(name for name in parts if name[13:14] == "2")
    await db.execute(f"DROP TABLE {before}; DROP TABLE {last}")
    await db.fetchval(ADD, "a.test", datetime.strptime(last, "audit_events_%Y_%m").replace(tzinfo=UTC))
    await db.fetchval(ADD, "a.test", datetime(2099, 1, 1, tzinfo=UTC))
    assert (await cleanup.clean_up(opened, Settings()))["audit_partitions_made"] == 1
    assert (await cleanup.clean_up(opened, Settings()))["audit_partitions_made"] == 0
    assert await numbers(db) == {"audit_events_default": [1, 2]}
    assert len(await events.list_last(opened, {"noun": "a"}, most=5)) == 2


@pytest.mark.slow
async def test_old_months_become_files(db: Connection, database_url: str, tmp_path: Path, old: dict[str, Any]) -> None:
    rows = await db.fetch("SELECT to_jsonb(e)::text AS row FROM audit_events e ORDER BY id")
    command = ("audit", "archive", "--to", str(tmp_path), "--database-url", database_url, "--before")
    done = run(*command, "2025-01")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Archived: 2 files, 4 rows.\n"
    first, second = files(tmp_path)
    assert (first.name, second.name) == ("audit_events_to_2024_11.jsonl.gz", "audit_events_2024_12.jsonl.gz")
    assert content(first) + content(second) == [json.loads(row["row"]) for row in rows[:4]]
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert await numbers(db) == {"audit_events_2025_01": old["audit_events_2025_01"]}
    (noted, _) = await db.fetch("SELECT new::text FROM audit_events WHERE action = 'audit.archive' ORDER BY id")
    assert json.loads(noted["new"]) == {
        "months": "2024_11",
        "rows": 2,
        "sha256": sha256(first.read_bytes()).hexdigest(),
    }
    page = (repository() / "docs" / "watch.md").read_text().partition("CREATE TABLE archived")
    read_back = (page[1] + page[2].partition("```")[0]).replace(
        "audit_events_2024_12", str(second).removesuffix(".jsonl.gz")
    )
    shown = psql(database_url, read_back)
    assert [int(line.partition("|")[0]) for line in shown] == old["audit_events_2024_12"]
    assert run(*command, "2025-01").stdout == "Archived: 0 files, 0 rows.\n"
    refused = run(*command, f"{datetime.now(UTC) + timedelta(days=40):%Y-%m}")
    assert (refused.returncode, "stay in the database" in refused.stderr) == (1, True)
    assert run(*command, "2025-13").returncode == 2


async def test_a_month_is_removed_only_when_its_file_is_on_the_disk(
    opened: Database, db: Connection, old: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            await archived(opened, tmp_path)
    assert await numbers(db) == old
    assert [file.suffix for file in files(tmp_path)] == [".partial"]
    assert len(await archived(opened, tmp_path)) == 2


async def test_an_interruption_before_the_month_is_dropped_loses_nothing(
    opened: Database, db: Connection, old: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object, **__: object) -> bool:
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr(archive_store, "drop", interrupted)
        with pytest.raises(KeyError):
            await archived(opened, tmp_path)
    (tmp_path / "audit_events_to_2024_11.jsonl.gz").unlink()
    assert await archived(opened, tmp_path) == [
        "audit_events_to_2024_11.jsonl.gz: 2",
        "audit_events_2024_12.jsonl.gz: 2",
    ]
    found = [row["id"] for file in files(tmp_path) for row in content(file)]
    assert sorted(found) == sorted(old["audit_events_to_2024_11"] + old["audit_events_2024_12"])


async def test_a_row_that_comes_late_is_in_the_file_too(
    opened: Database, db: Connection, old: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detach = archive_store.detach

    async def late(opened: Database, part: archive_store.Part) -> None:
        moment = datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)
        await db.fetchval(ADD, "a.test", moment if part.last_month == "2024_12" else moment - timedelta(days=60))
        await detach(opened, part)

    monkeypatch.setattr(archive_store, "detach", late)
    assert await archived(opened, tmp_path) == [
        "audit_events_to_2024_11.jsonl.gz: 3",
        "audit_events_2024_12.jsonl.gz: 3",
    ]
    assert [len(content(file)) for file in files(tmp_path)] == [3, 3]


@asynccontextmanager
async def in_use(db: Connection) -> AsyncIterator[None]:
    """Read the trail as a dump does."""
    transaction = db.transaction()
    await transaction.start()
    await db.execute("LOCK TABLE audit_events IN ACCESS SHARE MODE")
    yield
    await transaction.rollback()


async def test_a_month_in_use_is_waited_for_and_keeps_no_write_waiting(
    opened: Database, db: Connection, old: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PAUSE_SECONDS", 0.05)
    async with in_use(db):
        with monkeypatch.context() as patched:
            patched.setattr(archive, "ATTEMPTS", 2)
            with pytest.raises(errors.ServiceUnavailable):
                await archived(opened, tmp_path)
        archiving = asyncio.create_task(archived(opened, tmp_path))
        await asyncio.sleep(0.3)
        await db.fetchval(ADD, "a.test", datetime.now(UTC))
        assert not archiving.done()
    assert len(await archiving) == 2


@pytest.fixture
async def months(db: Connection) -> list[datetime]:
    """Two years of events: a first partition of several months, one for each later month, and an empty one.

    Where a month ends there is an event each second, by clocks that differ by up to 50 seconds.
    """
    await db.execute(f"DROP TABLE {await db.fetchval(FIRST)}")
    found = [datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    for _ in range(24):
        found.insert(0, (found[0] - timedelta(days=1)).replace(day=1))
    await db.execute(f"""
        CREATE TABLE audit_events_to_{found[SEVERAL - 1]:%Y_%m} PARTITION OF audit_events
           FOR VALUES FROM (MINVALUE) TO ('{found[SEVERAL]}')
    """)
    for month, end in itertools.pairwise(found[SEVERAL:]):
        await db.execute(MONTH.format(month, end))
    await db.execute(partitions.MAKE)
    await db.execute(
        "INSERT INTO audit_events (action, subject_id, client_id, actor_user_id, occurred_at)"
        " SELECT 'a.test', md5('s' || n % 500)::uuid, md5('c' || n % 50)::uuid, md5('u' || n % 50)::uuid,"
        "        moment + (n + 150) * 37 % 51 * interval '1 second'"
        "   FROM (SELECT n, $1::timestamptz + n * ($2::timestamptz - $1) / 48000 FROM generate_series(1, 48000) n"
        "          UNION ALL"
        "         SELECT n, month + n * interval '1 second'"
        "           FROM unnest($3::timestamptz[]) month, generate_series(-150, 150) n) AS made (n, moment)"
        "  WHERE NOT moment BETWEEN $4 AND $5 ORDER BY moment",
        found[0],
        datetime.now(UTC),
        found,
        found[EMPTY] - timedelta(seconds=60),
        found[EMPTY + 1],
    )
    await db.execute("VACUUM ANALYZE audit_events")
    return found


@pytest.mark.slow
async def test_two_years_of_months_are_read_by_their_indexes(db: Connection, months: list[datetime]) -> None:
    """Few rows, of the last events of all, of a subject, a client, an actor and a time."""
    (found,) = await db.fetch("SELECT * FROM audit_events ORDER BY id LIMIT 1 OFFSET 40000")
    row, ends = dict(found), await db.fetchval(events.FIRST_ENDS)
    for kept in ([], ["subject_id"], ["client_id"], ["actor_user_id"], ["since"], ["subject_id", "since", "until"]):
        values = row | {"since": row["occurred_at"], "until": row["occurred_at"] + timedelta(days=9)}
        statement = events.last(kept, most=50, first_ends=ends)
        read = await plans.rows_read(db, statement, [values[name] for name in kept])
        assert read < MOST, (kept, read)


@pytest.mark.slow
async def test_events_of_a_time_are_looked_for_in_its_partitions_alone(db: Connection, months: list[datetime]) -> None:
    """Wherever a month ends, in the first partition and in an empty one, before the first event and after the last."""
    ends, day = await db.fetchval(events.FIRST_ENDS), timedelta(days=1)
    statement = events.last(["since", "until"], most=50, first_ends=ends)
    assert ends.replace(tzinfo=UTC) == months[SEVERAL]
    rows = await db.fetch("SELECT id, occurred_at FROM audit_events ORDER BY id DESC")
    moments = [months[0] - 400 * day, months[0] - day, datetime.now(UTC) - day / 24, datetime.now(UTC) + 500 * day]
    moments += [month + timedelta(seconds=n) for month in months for n in (-90, -60, -30, 0, 30, 60, 90, 10**6)]
    for since, length in itertools.product(moments, (timedelta(seconds=60), day, 40 * day)):
        until = since + length
        expected = [row["id"] for row in rows if since <= row["occurred_at"] < until][:50]
        assert [row["id"] for row in await db.fetch(statement, since, until)] == expected, (since, until)
    for since in moments:
        values = since, since + timedelta(seconds=60)
        assert await plans.rows_read(db, statement, [*values]) < MOST_OF_A_TIME, since
        plan = "".join(row[0] for row in await db.fetch(f"EXPLAIN {statement}", *values))
        concerned = {part_of(m, months) for n in (-60, 0, 60, 120) for m in [since + timedelta(seconds=n)]}
        assert set(re.findall(r" on (audit_events_\w+)", plan)) <= concerned, since


def part_of(moment: datetime, months: list[datetime]) -> str:
    """Return the partition of a moment."""
    if moment < months[SEVERAL]:
        return f"audit_events_to_{months[SEVERAL - 1]:%Y_%m}"
    return f"audit_events_{moment:%Y_%m}" if moment < datetime.now(UTC) + timedelta(days=90) else "audit_events_default"
