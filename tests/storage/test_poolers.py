"""Through pgbouncer the service works, with prepared statements or without, or says at the start that it does not."""

import asyncio
import configparser
import re
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest

from mithril.database import database, poolers
from mithril.settings import SettingsError
from support import factories, repository
from support.factories import bearer
from support.poolers import KEEPS_STATEMENTS, Pgbouncer, installed
from support.processes import run
from support.servers import Server, execute, running_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

# pgbouncer refuses what it does not know, unless it is told to ignore it.
IGNORED = ",".join(
    [
        *("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout"),
        *("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
    ]
)
WRITERS, WRITES = 4, 10
REFUSED = "mithril: " + poolers.REFUSED + "\n"


@pytest.fixture(params=range(max(1, len(installed()))), ids=[each.name for each in installed()] or ["none"])
def pgbouncer(request: pytest.FixtureRequest) -> Pgbouncer:
    if not installed():
        pytest.skip("no pgbouncer on this machine: apt-get install pgbouncer")
    number: int = request.param
    return installed()[number]


@pytest.fixture
def forgetful(pgbouncer: Pgbouncer, database_url: str) -> Iterator[str]:
    """The URL of a pool of two sessions, shared by transactions, that knows nothing of prepared statements."""
    none = {"max_prepared_statements": "0"} if pgbouncer.version >= KEEPS_STATEMENTS else {}
    options = {"pool_mode": "transaction", "default_pool_size": "2", "ignore_startup_parameters": IGNORED, **none}
    with pgbouncer.pooling(database_url, **options) as url:
        yield url


async def check(url: str, *, prepares: bool = True) -> None:
    connection = await database.connect(url, prepares=prepares)
    try:
        await poolers.check(connection, url, prepares=prepares)
    finally:
        connection.terminate()


# What is noticed at the start


async def test_a_server_without_a_pooler_is_known_at_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await database.connect(database_url)
    monkeypatch.setattr(poolers, "connect", None)  # it needs no other connection
    await poolers.check(connection, database_url, prepares=True)
    await connection.close()


async def test_a_pooler_that_shares_sessions_without_keeping_statements_is_refused(forgetful: str) -> None:
    with pytest.raises(SettingsError, match="MITHRIL_DB_PREPARED_STATEMENTS=false"):
        await check(forgetful)
    await check(forgetful, prepares=False)


async def test_one_that_gives_each_client_the_next_session_is_refused_too(
    pgbouncer: Pgbouncer, database_url: str
) -> None:
    """With two sessions in turn, two clients in turn would never meet."""
    none = {"max_prepared_statements": "0"} if pgbouncer.version >= KEEPS_STATEMENTS else {}
    with pgbouncer.pooling(database_url, pool_mode="transaction", server_round_robin="1", **none) as url:
        busy = [await asyncpg.connect(url) for _ in range(2)]
        for connection in busy:
            await connection.execute("BEGIN")
        for connection in busy:  # now there are two sessions
            await connection.execute("COMMIT")
        with pytest.raises(SettingsError):
            await check(url)
        for connection in busy:
            connection.terminate()


async def test_a_pooler_with_a_session_for_each_client_is_used(pgbouncer: Pgbouncer, database_url: str) -> None:
    with pgbouncer.pooling(database_url, pool_mode="session") as url:
        await check(url)


async def test_a_pooler_that_keeps_statements_is_used(pgbouncer: Pgbouncer, database_url: str) -> None:
    pgbouncer.needs(KEEPS_STATEMENTS)
    with pgbouncer.pooling(database_url, pool_mode="transaction", max_prepared_statements="100") as url:
        await check(url)


@pytest.mark.parametrize("prepares", [True, False])
async def test_a_pooler_without_transactions_is_refused(
    pgbouncer: Pgbouncer, database_url: str, *, prepares: bool
) -> None:
    refusal = pytest.raises(asyncpg.PostgresError, match="transaction blocks not allowed")
    with pgbouncer.pooling(database_url, pool_mode="statement") as url, refusal:
        await check(url, prepares=prepares)


# Statements


async def test_two_processes_never_run_a_statement_of_each_other(
    forgetful: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg numbers the statements of each process from one, and both processes get the same session."""
    connections = []
    for number in range(3):
        monkeypatch.setattr(asyncpg.connection, "_uid", 0)
        connections.append(await database.connect(forgetful))
        assert await connections[number].fetchval(f"SELECT {number} + $1::integer", 0) == number
    for _ in range(3):
        for number, connection in enumerate(connections):
            assert await connection.fetchval(f"SELECT {number} + $1::integer", 0) == number
    for connection in connections:
        connection.terminate()


async def test_two_servers_share_a_few_sessions_without_prepared_statements(forgetful: str, database_url: str) -> None:
    await serve_together(forgetful, database_url, db_prepared_statements=False)


async def test_two_servers_share_a_few_sessions_that_keep_statements(pgbouncer: Pgbouncer, database_url: str) -> None:
    pgbouncer.needs(KEEPS_STATEMENTS)
    options = {"pool_mode": "transaction", "default_pool_size": "2", "ignore_startup_parameters": IGNORED}
    with pgbouncer.pooling(database_url, max_prepared_statements="100", **options) as url:
        await serve_together(url, database_url)


async def serve_together(pooled: str, direct: str, **settings: object) -> None:
    """Let callers of two servers write and verify at once: each must get its own answers, and nothing be lost."""
    db: factories.Db = await asyncpg.connect(direct)
    owners = [await factories.client(db) for _ in range(2 * WRITERS)]
    connections = [await factories.connection(db, client_id=owner.id) for owner in owners]
    tokens = [await factories.token(db, client=owner) for owner in owners]

    async def write(server: Server, number: int) -> None:
        owner, connection, token = owners[number], connections[number], tokens[number]
        async with httpx.AsyncClient() as http:
            for version in range(2, WRITES + 2):
                uri = f"https://{uuid4().hex}.example.com/callback"
                written, verified, unknown = await asyncio.gather(
                    http.patch(server.url + connection.path, json={"redirect_uri": uri}, headers=bearer(token)),
                    http.get(f"{server.internal_url}/admin/tokens/{token}/verify"),
                    http.get(f"{server.internal_url}/admin/tokens/{uuid4().hex}/verify"),
                )
                assert written.status_code == 200, written.text
                assert written.json()["data"]["redirect_uri"] == uri
                assert written.headers["etag"] == f'"{version}"'
                assert verified.json()["data"]["user_id"] == str(owner.user_id)
                assert unknown.status_code == 404

    with (
        running_server(database_url=pooled, **settings) as one,
        running_server(database_url=pooled, **settings) as other,
    ):
        await asyncio.gather(*(write((one, other)[number % 2], number) for number in range(2 * WRITERS)))
    assert await db.fetchval("SELECT count(*) FROM audit_events") == 2 * WRITERS * WRITES
    await db.close()


async def test_the_configuration_of_the_documentation_serves(pgbouncer: Pgbouncer, database_url: str) -> None:
    pgbouncer.needs(KEEPS_STATEMENTS)
    page = (repository() / "docs/configure.md").read_text().partition("\n## Poolers\n")[2].partition("\n## ")[0]
    (block,), (statement,) = (
        re.findall(r"```ini\n(.*?)```", page, re.DOTALL),
        re.findall(r"```sql\n(.*?)```", page, re.DOTALL),
    )
    configuration = configparser.ConfigParser()
    configuration.read_string(block)
    name = urlsplit(database_url).path.removeprefix("/")
    await execute(
        database_url, statement.replace("ROLE mithril", "ROLE postgres").replace("DATABASE mithril", f"DATABASE {name}")
    )
    with pgbouncer.pooling(database_url, **configuration["pgbouncer"]) as url:
        await serve_together(url, database_url)
        connection = await database.connect(url)
        assert await connection.fetchval("SHOW lock_timeout") == "250ms"
        connection.terminate()


# The command line


@pytest.mark.slow
async def test_a_schema_is_migrated_through_a_pooler(pgbouncer: Pgbouncer, unmigrated: str) -> None:
    """In one transaction, and with statements of names that no other process has left in the session."""
    none = {"max_prepared_statements": "0"} if pgbouncer.version >= KEEPS_STATEMENTS else {}
    with pgbouncer.pooling(
        unmigrated, pool_mode="transaction", ignore_startup_parameters=IGNORED, default_pool_size="1", **none
    ) as url:
        for _ in range(2):
            migrated = await asyncio.to_thread(run, "migrate", "--database-url", url)
            assert (migrated.returncode, migrated.stderr) == (0, "")
    connection = await asyncpg.connect(unmigrated)
    assert database.is_current(await database.schema_version(connection))
    await connection.close()


@pytest.mark.slow
async def test_a_server_and_a_command_say_in_one_line_why_they_do_not_start(forgetful: str) -> None:
    for command in (["serve", "--port", "0", "--internal-port", "0"], ["client", "list"]):
        refused = await asyncio.to_thread(run, *command, MITHRIL_DATABASE_URL=forgetful)
        assert (refused.returncode, refused.stdout, refused.stderr.splitlines(keepends=True)[-1]) == (1, "", REFUSED)
    listed = await asyncio.to_thread(
        run, "client", "list", MITHRIL_DATABASE_URL=forgetful, MITHRIL_DB_PREPARED_STATEMENTS="false"
    )
    assert (listed.returncode, listed.stderr) == (0, "none\n")


@pytest.mark.slow
async def test_without_transactions_migrate_says_why_not(pgbouncer: Pgbouncer, unmigrated: str) -> None:
    with pgbouncer.pooling(unmigrated, pool_mode="statement", ignore_startup_parameters=IGNORED) as url:
        refused = await asyncio.to_thread(run, "migrate", "--database-url", url)
    assert refused.returncode == 1
    assert "transaction blocks not allowed" in refused.stderr
    assert refused.stderr.count("\n") == 1
