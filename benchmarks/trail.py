"""How long `mithril audit` looks for the last events in a trail of many months, and how much it reads for them."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console

from benchmarks import data, growth, measuring, report
from benchmarks.report import Trail
from mithril.audit import events
from mithril.database import database, embedded
from mithril.database.database import Database

MONTHS, SUBJECTS, ACTORS = 26, 1_000_000, 10_000
TIMES, LAST = 21, 50
# Filling is faster without what a crash would need.
FILLING = ("fsync = off", "max_wal_size = '8GB'", "autovacuum = off")
FIRST = "SELECT min(relname) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'audit_events_to_%'"
# A month has its rows before its indexes, which are sorted then. Attached, they become parts of those of the trail.
MONTH = """
SET maintenance_work_mem = '1GB';
CREATE TABLE {part} (LIKE audit_events);
INSERT INTO {part} (id, occurred_at, action, subject_id, client_id, actor_user_id, request_id, old, new)
SELECT {first} + n, '{begins}'::timestamptz + n * ('{ends}'::timestamptz - '{begins}') / {rows}, 'connection.update',
       md5('subject ' || {scattered})::uuid, md5('client ' || {scattered})::uuid, md5('actor ' || n % {actors})::uuid,
       md5('request ' || n), jsonb_build_object('redirect_uri', 'https://mis.example.com/callback/' || n),
       jsonb_build_object('redirect_uri', 'https://mis.example.com/callback/' || n + 1)
  FROM generate_series(0, {rows} - 1) n;
ALTER TABLE {part} ADD PRIMARY KEY (id, occurred_at);
CREATE INDEX ON {part} (subject_id, id);
CREATE INDEX ON {part} (client_id, id) WHERE client_id IS NOT NULL;
CREATE INDEX ON {part} (actor_user_id, id) WHERE actor_user_id IS NOT NULL;
VACUUM ANALYZE {part};
"""
SCATTERED = "({first} + n)::bigint * 7919 % {subjects}"
ATTACH = "ALTER TABLE audit_events ATTACH PARTITION {part} FOR VALUES FROM ('{begins}') TO ('{ends}')"
SIZE = (
    "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"
)


def measure(console: Console, *, count: int) -> Trail:
    """Fill a trail with about so many events of 26 months, and ask it what operators ask."""
    rows = count // MONTHS
    with measuring.scratch_folder() as folder:
        growth.give_memory(folder / "home")
        with embedded.running(folder / "home") as postgres:
            for setting in FILLING:
                measuring.execute(postgres, f"ALTER SYSTEM SET {setting}")
            measuring.execute(postgres, "SELECT pg_reload_conf()")
            url = measuring.empty_database(postgres, "trail")
            asyncio.run(_fill(url, rows, console))
        with embedded.running(folder / "home"):  # started again, it has nothing in its memory
            return asyncio.run(_ask(url, rows, console))


def _months() -> Sequence[tuple[datetime, datetime]]:
    """Return the beginnings and ends of the months up to the present one."""
    present = datetime.now(UTC)
    numbers = [present.year * 12 + present.month - 1 - ago for ago in range(MONTHS - 1, -2, -1)]
    starts = [datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in numbers]
    return list(itertools.pairwise(starts))


async def _fill(url: str, rows: int, console: Console) -> None:
    await database.migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP TABLE {await connection.fetchval(FIRST)}")
    waiting = list(enumerate(_months()))
    attaching, began = asyncio.Lock(), time.monotonic()

    async def fill_some() -> None:
        own = await asyncpg.connect(url)
        while waiting:
            number, (begins, ends) = waiting.pop(0)
            words = {"part": f"audit_events_{begins:%Y_%m}", "begins": begins, "ends": ends, "rows": rows}
            words |= {"first": number * rows + 1, "subjects": SUBJECTS, "actors": ACTORS}
            for statement in MONTH.format(scattered=SCATTERED.format(**words), **words).split(";\n")[:-1]:
                await own.execute(statement)
            async with attaching:
                await connection.execute(ATTACH.format(**words))
            console.print(f"{begins:%Y-%m}  {rows:,} events  {time.monotonic() - began:.0f} s")
        await own.close()

    await asyncio.gather(fill_some(), fill_some())
    await connection.execute("ANALYZE audit_events")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def _ask(url: str, rows: int, console: Console) -> Trail:
    chosen = random.Random(1)  # noqa: S311 -- the same questions each time
    begins, ends = _months()[0][0], datetime.now(UTC)

    def some(noun: str, most: int) -> UUID:
        return data.identifier(f"{noun} {chosen.randrange(most)}")

    def moment() -> datetime:
        return begins + chosen.random() * (ends - begins)

    def hour() -> Mapping[str, Any]:
        since = moment()
        return {"since": since, "until": since + timedelta(hours=1)}

    questions: dict[str, Callable[[], Mapping[str, Any]]] = {
        "of a subject": lambda: {"subject_id": some("subject", SUBJECTS)},
        "of a client": lambda: {"client_id": some("client", SUBJECTS)},
        "of an actor": lambda: {"actor_user_id": some("actor", ACTORS)},
        "of all": dict,
        "since a time": lambda: {"since": moment()},
        "of an hour": hour,
    }
    connection = await asyncpg.connect(url)
    size = await connection.fetchval(SIZE)
    first_ends = await connection.fetchval(events.FIRST_ENDS)
    found = {}
    async with Database(url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        for title, question in questions.items():
            asked = [await _time(opened, connection, question(), first_ends) for _ in range(TIMES)]
            found[title] = tuple(median(column) for column in zip(*asked, strict=True))
            console.print(f"{title:<14}" + "  ".join(f"{value:.2f}" for value in found[title]))
    await connection.close()
    return Trail(
        date=report.today(), machine=report.machine(), events=MONTHS * rows, months=MONTHS, size=size, asked=found
    )


async def _time(
    opened: Database,
    connection: "asyncpg.Connection[asyncpg.Record]",
    filters: Mapping[str, Any],
    first_ends: datetime | None,
) -> tuple[float, float, float, float]:
    """Return the milliseconds of a question alone, those of its plan and of its run, and the pages that it reads."""
    began = time.perf_counter()
    await events.list_last(opened, filters, most=LAST)
    whole = (time.perf_counter() - began) * 1000
    statement = events.last(filters, most=LAST, first_ends=first_ends)
    plan = json.loads(
        await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *filters.values())
    )[0]
    pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    return whole, plan["Planning Time"], plan["Execution Time"], pages
