"""The roles of `mithril migrate --print-grants`: one owns and migrates, the other one serves and can do no more."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from mithril.cleanup import service as cleanup
from mithril.database import embedded, grants
from support import granting, repository
from support.processes import in_shell, run
from support.processes import serving as serving_process
from support.servers import fresh_database, running_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MOVED = "https://example.com/moved"
BLOCK = {"client": {"is_blocked": True, "block_reason": "a test"}}
# Quoted in every way that SQL has, and no word of a URL.
ROLE = """a "role" of $grants$ it's 100%"""


class Urls(NamedTuple):
    """The URLs of one database, by role."""

    superuser: str
    owner: str
    server: str


def apply(url: str) -> None:
    """Run what the command prints, as docs/configure.md says."""
    printed = run("migrate", "--print-grants", "--role", ROLE)
    assert printed.returncode == 0, printed.stderr
    psql = (embedded.postgres_bin() / "psql", "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", url)
    subprocess.run(psql, input=printed.stdout, text=True, check=True)


@pytest.fixture(scope="module")
def urls(postgres: str) -> Iterator[Urls]:
    with fresh_database(postgres, template="template1") as superuser:
        owner, server = (superuser.replace("postgres@", f"{quote(name, safe='')}@") for name in (f"{ROLE}_owner", ROLE))
        apply(superuser)
        migrated = run("migrate", "--database-url", owner)
        assert migrated.returncode == 0, migrated.stderr
        apply(owner)
        yield Urls(superuser, owner, server)
        asyncio.run(drop(superuser))


async def drop(url: str, serving: str = ROLE) -> None:
    db = await asyncpg.connect(url)
    for role in (serving, f"{serving}_owner"):
        await db.execute(f"DROP OWNED BY {grants._identifier(role)}; DROP ROLE {grants._identifier(role)}")
    await db.close()


def test_the_commands_of_the_page_make_both_roles_and_the_server_serves(postgres: str, tmp_path: Path) -> None:
    page = (repository() / "docs/configure.md").read_text().partition("\n## Two roles\n")[2]
    *commands, serve = page.partition("```sh\n")[2].partition("```")[0].splitlines()
    with fresh_database(postgres, template="template1") as superuser:
        roles = {"SUPERUSER": "postgres", "OWNER": "mithril_owner", "SERVING": "mithril"}
        named = {f"{name}_URL": superuser.replace("postgres@", f"{role}@") for name, role in roles.items()}
        try:
            typed = "a password\n" * 4  # each of two, twice
            ran = in_shell("\n".join(commands), folder=tmp_path, typed=typed, **named)
            assert ran.returncode == 0, ran.stderr
            assert serve == 'mithril serve --database-url "$SERVING_URL"'
            with serving_process("--database-url", named["SERVING_URL"]) as process:
                assert httpx.get(f"{process.public}/readyz", timeout=30).status_code == 200
        finally:
            asyncio.run(drop(superuser, "mithril"))


@pytest.fixture
async def serving(urls: Urls) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(urls.server)
    yield connection
    await connection.close()


async def test_the_serving_role_can_do_all_that_a_server_does(urls: Urls) -> None:
    owner = await asyncpg.connect(urls.owner)
    last = await owner.fetchval("SELECT max(relname) FROM pg_class WHERE relname ~ '^audit_events_2[0-9_]+$'")
    await owner.execute(f"DROP TABLE {last}")
    party = await granting.party(owner)
    with running_server(database_url=urls.server) as server:
        code = await granting.code(server, party)
        async with (
            httpx.AsyncClient(base_url=server.url) as http,
            httpx.AsyncClient(base_url=server.internal_url) as admin,
        ):
            grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri}
            issued = await http.post("/oauth2/token", data=grant, auth=party.basic)
            assert issued.status_code == 200, issued.text
            token = issued.json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            changed = await http.patch(party.connection.path, json={"redirect_uri": MOVED}, headers=bearer)
            assert changed.status_code == 200, changed.text
            assert (await admin.get(f"/admin/tokens/{token}/verify")).status_code == 200
            assert (await admin.patch(f"/admin/clients/{party.client_id}", json=BLOCK)).status_code == 200
            assert (await admin.get("/admin/clients")).status_code == 200
            assert (await admin.delete(f"/admin/clients/{party.client_id}")).status_code == 204
        async with granting.database_of(server) as database:
            counts = await cleanup.clean_up(database, server.settings)
    assert counts["audit_partitions_made"] == 1
    trail = await owner.fetch("SELECT action FROM audit_events WHERE client_id = $1 ORDER BY id", party.client_id)
    assert {"connection.update", "client.update", "client.delete"} <= {row["action"] for row in trail}
    await owner.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET action = 'x'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "INSERT INTO audit_events_default (action, subject_id) VALUES ('x', gen_random_uuid())",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "ALTER TABLE audit_events DETACH PARTITION audit_events_default",
        "DROP TABLE audit_events",
        "DROP TABLE attempts",
        "TRUNCATE attempts",
        "ALTER TABLE clients ADD COLUMN x text",
        "CREATE TABLE x ()",
        "CREATE TEMPORARY TABLE x ()",
        "CREATE SCHEMA x",
        "CREATE OR REPLACE FUNCTION audit_events_only_grow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "UPDATE alembic_version SET version_num = '9999'",
        "SET session_replication_role = replica",
        "SET ROLE postgres",
    ],
)
async def test_the_serving_role_can_do_no_more(serving: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await serving.execute(statement)


async def test_whoever_can_grant_nothing_is_told_so(urls: Urls) -> None:
    stranger = await asyncpg.connect(urls.server)
    with pytest.raises(asyncpg.RaiseError, match="as a superuser"):
        await stranger.execute(grants.script(ROLE, f"{ROLE}_owner"))
    await stranger.close()


async def test_no_partition_of_the_trail_can_be_reached_by_its_name(serving: asyncpg.Connection) -> None:
    parts = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"
    for part in await serving.fetch(parts):
        for statement in ("UPDATE {} SET action = 'x'", "DELETE FROM {}", "TRUNCATE {}", "SELECT FROM {}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                await serving.execute(statement.format(part["name"]))


def test_the_owner_archives_and_the_serving_role_is_refused(urls: Urls, tmp_path: Path) -> None:
    command = ("audit", "archive", "--before", f"{datetime.now(UTC):%Y-%m}", "--to", str(tmp_path), "--database-url")
    asyncio.run(add_month(urls.owner))
    refused = run(*command, urls.server)
    assert (refused.returncode, "privilege" in refused.stderr) == (1, True), refused.stderr
    done = run(*command, urls.owner)
    assert (done.returncode, done.stdout) == (0, "Archived: 1 files, 1 rows.\n"), done.stderr


async def add_month(url: str) -> None:
    """Add a row of a past month, in a partition of that."""
    db = await asyncpg.connect(url)
    first = await db.fetchval(
        "SELECT min(relname) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'audit_events_to_%'"
    )
    await db.execute(f"ALTER TABLE audit_events DETACH PARTITION {first}; DROP TABLE {first}")
    await db.execute(
        "CREATE TABLE audit_events_to_2020_01 PARTITION OF audit_events"
        " FOR VALUES FROM (MINVALUE) TO ('2020-02-01 00:00Z');"
        "INSERT INTO audit_events (action, subject_id, occurred_at) VALUES ('a.test', gen_random_uuid(), '2020-01-01')"
    )
    await db.close()


@pytest.mark.parametrize("name", ["", "x" * 60])
def test_a_name_that_no_role_can_have_is_refused(name: str) -> None:
    assert run("migrate", "--print-grants", "--role", name).returncode == 2
