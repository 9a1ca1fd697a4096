"""An upgrade from each released version keeps the data, and ends with the schema that a new installation has."""

import asyncio
import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

import mithril
from mithril.database import database
from support import releases
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS, run
from support.servers import execute, running_server

pytestmark = pytest.mark.anyio

RELEASES = sorted(releases.FOLDER.glob("*.sql"))
TABLES = """
SELECT table_name FROM information_schema.tables
 WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'alembic_version'
"""
WAITS_FOR_TABLE = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tokens'::regclass"
Rows = list[dict[str, Any]]


@pytest.fixture(params=RELEASES, ids=lambda file: file.stem)
def released(request: pytest.FixtureRequest, unmigrated: str) -> str:
    """A database as that version has left it."""
    file = Path(request.param)
    asyncio.run(execute(unmigrated, file.read_text()))
    return unmigrated


async def content(url: str) -> dict[str, Rows]:
    """The rows of each table."""
    db = await asyncpg.connect(url)
    found = {
        name: [json.loads(row[0]) for row in await db.fetch(f"SELECT to_jsonb(t) FROM {name} t")]
        for (name,) in await db.fetch(TABLES)
    }
    await db.close()
    return found


def in_order(rows: Rows, columns: list[str]) -> list[str]:
    return sorted(json.dumps([row[column] for column in columns]) for row in rows)


def test_there_is_a_dump_of_every_version_up_to_this_one() -> None:
    changelog = (releases.FOLDER.parents[2] / "CHANGELOG.md").read_text()
    closed = {line.split()[1] for line in changelog.splitlines() if line.startswith("## ") and " - " in line}
    assert {file.stem for file in RELEASES} == closed
    assert mithril.__version__ in closed


@pytest.mark.slow
async def test_an_upgrade_waits_for_a_dump_and_keeps_no_request_waiting(released: str) -> None:
    dump, request = await asyncpg.connect(released), await asyncpg.connect(released, command_timeout=60)
    await dump.execute("BEGIN; LOCK TABLE tokens IN ACCESS SHARE MODE")
    with pytest.raises(database.SchemaError, match="tables were in use"):
        await database.migrate(released, patience_seconds=0)
    migrating = asyncio.create_task(database.migrate(released))
    while not await request.fetchval(WAITS_FOR_TABLE):
        assert not migrating.done()
    await request.fetch("SELECT FROM tokens LIMIT 1")  # it waits behind the migration, for a moment
    assert not migrating.done()
    await dump.execute("COMMIT")
    await migrating
    assert await database.schema_version(request) == database.SCHEMA_VERSION
    await dump.close()
    await request.close()


async def test_an_upgrade_keeps_every_row_and_every_value(released: str) -> None:
    before = await content(released)
    assert all(before.values()), "each table has rows"
    await database.migrate(released)
    after = await content(released)
    assert before.keys() <= after.keys()
    for table, rows in before.items():
        kept = [column for column in rows[0] if not after[table] or column in after[table][0]]
        assert in_order(after[table], kept) == in_order(rows, kept), table


async def test_an_upgrade_ends_with_the_schema_of_a_new_installation(released: str, database_url: str) -> None:
    await database.migrate(released)
    # Which months have partitions of the trail depends on the day.
    options = ("--schema-only", "--exclude-table=audit_events_*[0-9]")
    assert releases.dump(released, *options) == releases.dump(database_url, *options)


@pytest.mark.slow
async def test_the_service_works_on_an_upgraded_database(released: str) -> None:
    assert run("migrate", "--database-url", released).returncode == 0
    imported = run("import", str(releases.DEMO), "--database-url", released)
    assert imported.returncode == 0, imported.stderr
    token, api_key = DEMO_HEADERS["Authorization"].removeprefix("Bearer "), DEMO_HEADERS["API-key"]
    with running_server(database_url=released) as server:
        async with httpx.AsyncClient() as http:
            verify = f"{server.internal_url}/admin/tokens/{token}/verify"
            verified = await http.get(verify, headers={"api-key": api_key})
            assert verified.status_code == 200, verified.text
            assert verified.json()["data"]["details"]["client_id"] == DEMO_CLIENT
            change = f"{server.url}/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
            body = {"redirect_uri": "https://new.example.com/"}
            assert (await http.patch(change, json=body, headers=DEMO_HEADERS)).status_code == 200
