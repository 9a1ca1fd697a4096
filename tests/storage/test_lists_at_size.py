"""How many rows each list reads in large tables, with every combination of its filters, on both kinds of PostgreSQL.

The plans are those for the given values and those for any values: PostgreSQL takes either for a prepared statement.
"""

import asyncio
import importlib
import itertools
import pkgutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import mithril
from mithril import refusals
from mithril.audit import events
from mithril.clients import store
from mithril.database import database, embedded, indexes, lists
from mithril.database.lists import LAST_BY_NUMBER, LOOK_LIMIT, Cursor, Listing, Page, Search
from support import clusters, plans

pytestmark = [pytest.mark.anyio, pytest.mark.size, pytest.mark.timeout(1800)]

ROWS = 1_000_000
# Of a list the rows up to the last page by number, and as many that are counted. It may be some times as many where a
# third of all rows are one client's, which are then read in the order of all, or near the end of a list, where all that
# is left is read by a bitmap of the index, which counts twice. In a larger table it is no more.
MOST_OF_A_LIST, MOST_OF_THE_TRAIL = 6 * LOOK_LIMIT, 2_000
PACKAGED = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
# Some clients have very many tokens, few are blocked, and those are the last.
SKEWED = f"""
UPDATE tokens SET client_id = (SELECT id FROM clients LIMIT 1) WHERE get_byte(digest, 0) < 90;
UPDATE tokens SET name = 'authorization_code' WHERE get_byte(digest, 1) < 40;
UPDATE clients SET is_blocked = true, name = 'Rare ' || name WHERE name LIKE 'Clinic 99999%';
UPDATE users SET is_blocked = true WHERE email LIKE '99999%';
INSERT INTO audit_events (occurred_at, action, subject_id, client_id)
SELECT '{BEGINNING}'::timestamptz - interval '1 day', 'client.update', md5('h')::uuid, md5('h')::uuid
  FROM generate_series(1, 1000) n;
INSERT INTO audit_events (occurred_at, action, subject_id, client_id, actor_user_id)
SELECT '{BEGINNING}'::timestamptz + n * interval '1 second', 'client.update', md5('k' || n % 5)::uuid,
       md5('c' || n % 5)::uuid, md5('u' || n % 2)::uuid FROM generate_series(1, {ROWS}) n;
"""
# Each row would be written into each of them; afterwards they are sorted, which is much faster.
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
  FROM pg_index JOIN pg_class ON pg_class.oid = indrelid JOIN pg_stat_user_tables ON relid = indrelid
 WHERE relkind = 'r' AND NOT relispartition AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
# A row of each table, where a column has many of the rows.
OF_MANY = {
    "tokens": "client_id = (SELECT client_id FROM tokens GROUP BY client_id ORDER BY count(*) DESC LIMIT 1)",
    "audit_events": "subject_id = md5('h')::uuid",
}
TABLES = (
    "clients",
    "connections",
    "users",
    "user_roles",
    "global_user_roles",
    "apps",
    "tokens",
    "otp",
    "authentication_factors",
)
# The lists of one client, user or subject.
ALWAYS = {
    "connections": "client_id",
    "apps": "user_id",
    "global_user_roles": "user_id",
    "authentication_factors": "user_id",
    "audit_events": "subject_id",
}
OTHERS: dict[str, Any] = {
    "clients": ["client-x", "client_name-x"],
    "scope": ["zzzz"],
    "role_name": "ROLE 1",
    "noun": "client",
    "after_id": 1,
    "is_blocked": True,
    "not is_blocked": False,
}


@pytest.fixture(scope="module", params=["embedded", "packaged"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with many rows in each table that grows, on the disk: it is too large for memory."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", "/var/tmp")
        if request.param == "packaged":
            if PACKAGED is None or not list(PACKAGED.parents[3].glob("share/postgresql/*/extension/pg_trgm.control")):
                pytest.skip("there is no packaged PostgreSQL with pg_trgm")
            patched.setattr(embedded, "postgres_bin", lambda: PACKAGED)
            patched.setattr(embedded, "_let_others_read_programs", lambda: None)
        with clusters.running(fsync="off", shared_buffers="'256MB'") as cluster:
            asyncio.run(fill(cluster.url))
            yield cluster.url


async def fill(url: str) -> None:
    await database.migrate(url)
    db = await asyncpg.connect(url)
    await db.execute("SET session_replication_role = replica")
    for table in TABLES:
        await db.execute(f"ALTER TABLE {table} ALTER inserted_at SET DEFAULT clock_timestamp()")
    indexes_later = await db.fetch(INDEXES)
    await db.execute(f"DROP INDEX {', '.join(row['name'] for row in indexes_later)}")
    await plans.fill_tables(db, rows=ROWS)
    await db.execute("TRUNCATE audit_events")
    await db.execute(SKEWED)
    for row in indexes_later:
        await db.execute(row["definition"])
    await db.execute(plans.PLAN)
    await db.execute("VACUUM ANALYZE")
    await db.close()


@pytest.fixture
async def db(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    await connection.execute("SET max_parallel_workers_per_gather = 0")  # several read ahead, which is no cost
    yield connection
    await connection.close()


def all_lists() -> dict[str, Listing[Any]]:
    """Every list of the stores."""
    names = [name for _, name, _ in pkgutil.walk_packages(mithril.__path__, "mithril.") if name.endswith("store")]
    values = [(f"{name}.{key}", value) for name in names for key, value in vars(importlib.import_module(name)).items()]
    return {name: value for name, value in values if isinstance(value, Listing)} | {"trail": events.LIST}


async def values_of(db: Any, listing: Listing[Any]) -> dict[str, Any]:
    """A value for each filter: of a row that has many like it, and a text that is in none."""
    table = listing.table.split()[0]
    row = dict(await db.fetchrow(f"SELECT * FROM {table} WHERE {OF_MANY.get(table, 'true')} LIMIT 1"))
    moments = {"since": BEGINNING, "until": BEGINNING + timedelta(seconds=5)}
    known = {**row, **OTHERS, **moments, "only_id": row["id"], "ids": [row["id"]], "user_ids": [row.get("user_id")]}
    known["client"] = row.get("client_id")
    return {
        name: each.value("zzzz") if isinstance(each, Search) and "ILIKE" in each.fragment else known.get(name, "x")
        for name, each in listing.filters.items()
    }


def combinations(names: list[str], always: str | None = None) -> Iterator[tuple[str, ...]]:
    for number in range(len(names) + 1):
        for chosen in itertools.combinations(names, number):
            if always in (None, *chosen) and not any(f"not {name}" in chosen for name in chosen):
                yield chosen


@pytest.mark.parametrize("name", all_lists())
async def test_no_page_of_any_list_reads_more_than_so_many_rows(db: Any, name: str) -> None:
    listing = all_lists()[name]
    given = await values_of(db, listing)
    names = list(listing.filters)
    row = await db.fetchrow(f"SELECT * FROM {listing.table} OFFSET (SELECT count(*) / 2 FROM {listing.table}) LIMIT 1")
    cursor = Cursor(b"", 10**6, None if name == "trail" else row["inserted_at"], row["id"])
    pages = [Page(1, 50), Page(LAST_BY_NUMBER // 50, 50), Page(1, 500, cursor)]
    read = {}
    for chosen, page in itertools.product(combinations(names, ALWAYS.get(listing.table.split()[0])), pages):
        values = [*(given[each] for each in chosen), *(page.after.place if page.after else ())]
        by_index = [each for each in map(listing.filters.get, chosen) if isinstance(each, Search) and each.index_name]
        for by in (None, *by_index):
            if by is None or await db.fetchval(lists.HAS_INDEX, by.index_name):
                read[chosen, page, by and by.index_name] = await plans.rows_read(
                    db, lists._places(listing, chosen, page, by=by), values
                )
    assert {key: rows for key, rows in read.items() if rows > MOST_OF_A_LIST} == {}


async def test_no_statement_of_any_store_reads_a_whole_table(db: Any) -> None:
    """As it is planned for any values: in tables of this size, as in the smaller ones of `test_indexes`."""
    if db.get_server_version() < (16,):
        pytest.skip("this PostgreSQL plans for given values only")
    assert await plans.judge(db, plans.written()) == []


@pytest.mark.parametrize("kept", list(combinations(["subject_id", "client_id", "actor_user_id", "since", "until"])))
async def test_the_last_events_of_anything_are_read_by_an_index(db: Any, kept: tuple[str, ...]) -> None:
    row = await db.fetchrow("SELECT * FROM audit_events ORDER BY id LIMIT 1 OFFSET 5000")
    statement = events.last(kept, most=50, first_ends=await db.fetchval(events.FIRST_ENDS))
    for since, until in ((1, 5), (ROWS - 9, ROWS - 2), (ROWS + 10**6, ROWS + 10**6), (-(10**6), -(10**5))):
        moments = {"since": BEGINNING + timedelta(seconds=since), "until": BEGINNING + timedelta(seconds=until)}
        values = [{**row, **moments}[name] for name in kept]
        assert await plans.rows_read(db, statement, values) <= MOST_OF_THE_TRAIL, since


async def test_events_are_found_by_time_whichever_way(db: Any) -> None:
    """Halving the numbers finds what reading the whole trail finds."""
    statement = events.last(["since", "until"], most=ROWS, first_ends=await db.fetchval(events.FIRST_ENDS))
    for since, until in ((1, 5), (70, 71), (ROWS - 9, ROWS + 2), (-5, 1), (500, 500), (ROWS, 2 * ROWS), (-9, -5)):
        moments = [BEGINNING + timedelta(seconds=since), BEGINNING + timedelta(seconds=until)]
        found = [row["id"] for row in await db.fetch(statement, *moments)]
        whole = "SELECT id FROM audit_events WHERE occurred_at >= $1 AND occurred_at < $2 ORDER BY id DESC"
        assert found == [row["id"] for row in await db.fetch(whole, *moments)]


async def test_trigrams_find_what_the_first_rows_do_not_have(db: Any, url: str) -> None:
    is_packaged = await db.fetchval(lists.HAS_INDEX, indexes.CLIENT_NAMES)
    async with database.Database(url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        for text, number in (("rare", 11), ("E CLINIC 999991", 1), ("zzzz", 0)):
            page = lists.page_of("clients", {"name": text}, size=5)
            if not is_packaged:
                with pytest.raises(refusals.SearchTooWide):
                    await store.list_full_clients(opened, {"name": text}, page=page)
                continue
            found: list[str] = []
            while True:
                listed = await store.list_full_clients(opened, {"name": text}, page=page)
                assert listed.total_entries == number
                found += [client.name for client in listed.rows]
                if listed.next is None:
                    break
                page = lists.page_of("clients", {"name": text}, size=5, after=Cursor.decode(listed.next))
            assert len(set(found)) == len(found) == number
        # No trigram is in it, or more is found than is looked at: some of it could come before what is shown.
        for text, size in (("zz", 5), ("🏥🏥🏥", 5), ("clinic 98", 500)):
            with pytest.raises(refusals.SearchTooWide):
                await store.list_full_clients(opened, {"name": text}, page=Page(1, size))
