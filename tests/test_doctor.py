"""The doctor: each finding is made to be true, and seen; it changes nothing, and its role may do no more than serve."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mithril.database import embedded
from mithril.database.database import Connection
from mithril.doctor import outside, service
from mithril.doctor.findings import Finding
from mithril.settings import Settings
from support import clusters
from support.clusters import Cluster
from support.poolers import installed
from support.processes import run
from support.servers import Server, url_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROLE = "doctors_role"
PACKAGED = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


async def found(url: str, **settings: Any) -> dict[str, Finding]:
    """Return the worst finding of each check."""
    connection = await asyncpg.connect(url)
    worst: dict[str, Finding] = {}
    try:
        async for each in service.examine(connection, url, Settings(**{"database_url": url} | settings)):
            levels = ("ok", "warning", "problem")
            if each.check not in worst or levels.index(each.level) > levels.index(worst[each.check].level):
                worst[each.check] = each
    finally:
        await connection.close()
    assert all(each.next_step for each in worst.values() if each.level != "ok")
    return worst


async def seen(url: str, check: str, **settings: Any) -> tuple[str, str]:
    """Return the level and the text of the worst finding of a check."""
    finding = (await found(url, **settings))[check]
    return finding.level, finding.text


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def plain(db: Connection, database_url: str) -> AsyncIterator[str]:
    """The URL for a role that may only serve."""
    await db.execute(f"CREATE ROLE {ROLE} LOGIN")
    tables = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    await db.execute(f"GRANT {tables} TO {ROLE}; REVOKE UPDATE, DELETE ON audit_events FROM {ROLE}")
    yield database_url.replace("postgres@", f"{ROLE}@")
    await db.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


async def test_a_role_that_may_only_serve_sees_everything_in_order(plain: str) -> None:
    seen_by_role = await found(plain)
    assert {name for name, finding in seen_by_role.items() if finding.level != "ok"} == {"fsync"}, "as tests have it"
    assert seen_by_role.keys() == {
        *("version", "fsync", "clock", "connections", "schema", "privileges", "indexes", "tables", "cleanup"),
        *("standbys", "slots", "archive", "pg_trgm"),
    }


async def test_a_missing_privilege_is_a_problem(db: Connection, plain: str) -> None:
    await db.execute(f"REVOKE UPDATE, DELETE ON clients FROM {ROLE}")
    assert await seen(plain, "privileges") == ("problem", f"{ROLE} lacks UPDATE, DELETE on clients")


async def test_a_schema_that_the_role_may_not_use_is_a_problem(db: Connection, plain: str) -> None:
    await db.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    level, text = await seen(plain, "schema")
    assert (level, text) == ("problem", "this role may use no schema of its search_path")


async def test_a_superuser_is_warned_of(database_url: str) -> None:
    assert (await seen(database_url, "role"))[0] == "warning"


async def test_a_database_in_which_names_cannot_be_written_or_found_is_found(
    postgres: str, db: Connection, plain: str
) -> None:
    await db.execute("CREATE DATABASE in_ascii TEMPLATE template0 ENCODING SQL_ASCII LOCALE_PROVIDER libc LOCALE 'C'")
    await db.execute("CREATE DATABASE in_c TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER libc LOCALE 'C'")
    try:
        in_ascii, in_c = (url_of(postgres, name) for name in ("in_ascii", "in_c"))
        level, text = await seen(in_ascii, "encoding")
        assert (level, text.split(",")[0]) == ("problem", "SQL_ASCII")
        assert (await seen(in_c, "locale"))[0] == "warning"
        refused = run("migrate", "--database-url", in_ascii)
        assert (refused.returncode, refused.stderr.count("\n"), "UTF8" in refused.stderr) == (1, 1, True), (
            refused.stderr
        )
    finally:
        await db.execute("DROP DATABASE in_ascii WITH (FORCE)")
        await db.execute("DROP DATABASE in_c WITH (FORCE)")
    assert not {"encoding", "locale"} & set(await found(plain))


async def test_a_missing_and_an_old_schema_are_problems(unmigrated: str, db: Connection, database_url: str) -> None:
    assert await seen(unmigrated, "schema") == ("problem", "there is none")
    await db.execute("UPDATE alembic_version SET version_num = '0001'")
    level, text = await seen(database_url, "schema")
    assert (level, text[:15]) == ("problem", "at version 0001")


async def test_a_missing_index_is_warned_of(db: Connection, database_url: str) -> None:
    await db.execute("DROP INDEX users_is_blocked_inserted_at_id_index")
    assert await seen(database_url, "indexes") == (
        "warning",
        "missing or half built: users_is_blocked_inserted_at_id_index",
    )


async def test_a_cleanup_that_does_not_come_is_warned_of(db: Connection, database_url: str) -> None:
    add = "INSERT INTO operations (id, settled_at) VALUES (gen_random_uuid(), clock_timestamp() - $1::interval)"
    await db.execute(add, timedelta(hours=1, minutes=30))
    assert (await seen(database_url, "cleanup"))[0] == "ok"
    await db.execute(add, timedelta(hours=9))
    assert await seen(database_url, "cleanup") == ("warning", "the last one was 8 hours ago, or before")
    assert (await seen(database_url, "cleanup", sweep_interval=86_400.0))[0] == "ok"


async def test_too_few_connections_are_found(db: Connection, plain: str) -> None:
    for workers, level in ((1, "ok"), (19, "warning"), (20, "problem")):
        assert (await seen(plain, "connections", workers=workers, db_pool_size=10))[0] == level
    await db.execute(f"ALTER ROLE {ROLE} CONNECTION LIMIT 9")
    assert await seen(plain, "connections") == ("problem", "PostgreSQL has 9, and 1 workers of 10 take 10")


async def test_a_commit_that_does_not_wait_for_the_disk_is_a_problem(db: Connection, plain: str) -> None:
    await db.execute(f"ALTER ROLE {ROLE} SET synchronous_commit = off")
    assert (await seen(plain, "synchronous_commit"))[0] == "problem"


@pytest.mark.parametrize(("seconds", "level"), [(0.0, "ok"), (60.0, "warning"), (-60.0, "warning")])
async def test_a_clock_that_differs_is_warned_of(
    database_url: str, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    ours = time.time
    monkeypatch.setattr(time, "time", lambda: ours() - seconds)
    finding = (await found(database_url))["clock"]
    assert finding.level == level
    assert ("ahead" in finding.text, "behind" in finding.text) == (seconds > 0, seconds < 0)


async def test_an_old_transaction_is_warned_of(
    db: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_TRANSACTION_SECONDS", 0.05)
    async with db.transaction():
        await db.execute("SELECT 1")
        await asyncio.sleep(0.1)
        assert (await seen(database_url, "transactions"))[0] == "warning"
    assert "transactions" not in await found(database_url)


async def test_rows_that_are_not_frozen_are_a_problem_in_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "freezing" not in await found(database_url)
    monkeypatch.setattr(service, "MOST_TRANSACTIONS", 0)
    assert (await seen(database_url, "freezing"))[0] == "problem"


async def test_dead_rows_and_missing_statistics_are_warned_of(
    db: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FEWEST_DEAD_ROWS", 10)
    await db.execute("ALTER TABLE attempts SET (autovacuum_enabled = off)")
    await db.execute("INSERT INTO attempts (key) SELECT n FROM generate_series(1, 100) n")
    await db.execute("SELECT pg_stat_force_next_flush()")
    level, text = await seen(database_url, "tables")
    assert (level, text.rpartition("; ")[2]) == ("warning", "never analyzed: attempts")
    await db.execute("ANALYZE attempts")
    await db.execute("DELETE FROM attempts")
    await db.execute("SELECT pg_stat_force_next_flush()")
    level, text = await seen(database_url, "tables")
    assert (level, text.rpartition("; ")[2]) == ("warning", "many dead rows: attempts")
    assert "audit_events" in text or "tokens" in text, "the largest tables are named"


async def test_it_changes_nothing(db: Connection, database_url: str) -> None:
    before = await db.fetchval("SELECT pg_current_xact_id()::text::bigint")
    await found(database_url)
    assert await db.fetchval("SELECT pg_current_xact_id()::text::bigint") == before + 1


async def test_an_old_postgresql_is_a_problem(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "OLDEST_VERSION", 990_000)
    assert (await seen(database_url, "version"))[0] == "problem"


# A PostgreSQL of its own


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One with a slot, and an archive that fails."""
    with clusters.running(archive_mode="on", archive_command="false", shared_buffers="256kB") as running:
        assert run("migrate", "--database-url", running.url).returncode == 0
        yield running


@contextlib.asynccontextmanager
async def having(url: str, **values: str) -> AsyncIterator[Connection]:
    """Run PostgreSQL with these values until the end of the block."""
    connection = await asyncpg.connect(url)
    for name, value in values.items():
        await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await connection.execute("SELECT pg_reload_conf()")
    await asyncio.sleep(0.5)
    yield connection
    for name in values:
        await connection.execute(f"ALTER SYSTEM RESET {name}")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


async def test_what_a_server_must_have_on_is_a_problem_where_it_is_off(cluster: Cluster) -> None:
    cluster.options = {name: value for name, value in cluster.options.items() if name != "fsync"}
    cluster.stop()
    cluster.start()
    assert (await seen(cluster.url, "durability"))[0] == "ok"
    for name in ("fsync", "full_page_writes"):
        async with having(cluster.url, **{name: "off"}):
            assert (await seen(cluster.url, name))[0] == "problem"


async def test_a_small_cache_is_warned_of(cluster: Cluster) -> None:
    level, text = await seen(cluster.url, "tables")
    assert (level, text.rpartition("; ")[2]) == ("warning", "shared_buffers has 0.2 MiB")


async def test_an_archive_that_fails_is_a_problem(cluster: Cluster) -> None:
    connection = await asyncpg.connect(cluster.url)
    await connection.execute("CREATE TABLE something (); SELECT pg_switch_wal()")
    for _ in range(300):
        if await connection.fetchval("SELECT failed_count FROM pg_stat_archiver"):
            break
        await asyncio.sleep(0.2)
    await connection.close()
    level, text = await seen(cluster.url, "archive")
    assert level == "problem"
    assert "archive_command fails since 0000" in text


async def test_a_slot_that_nobody_reads_is_warned_of(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await asyncpg.connect(cluster.url)
    await connection.execute("SELECT pg_create_physical_replication_slot('left_behind', true)")
    assert (await seen(cluster.url, "slots"))[0] == "ok"
    monkeypatch.setattr(service, "MOST_KEPT_BYTES", -1)
    level, text = await seen(cluster.url, "slots")
    assert (level, "left_behind" in text) == ("warning", True)
    await connection.close()


async def test_standbys_that_are_missing_or_behind_are_found(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async with having(cluster.url, synchronous_standby_names="one"):
        level, text = await seen(cluster.url, "standbys")
        assert (level, "outcome_unknown" in text) == ("problem", True)
    assert (await seen(cluster.url, "standbys"))[1].startswith("there is none")
    level, text = await seen(cluster.url, "standbys", verify_from_standbys=True)
    assert (level, "MITHRIL_VERIFY_FROM_STANDBYS" in text) == ("problem", True)
    with clusters.folders() as folder:
        standby = Cluster(folder / "two")
        standby.copy_of(cluster)
        standby.start()
        try:
            assert (await seen(cluster.url, "standbys"))[1] == "1 follow, 0 of them synchronously"
            async with having(cluster.url, synchronous_standby_names="*"):
                assert (await seen(cluster.url, "standbys"))[1] == "1 follow, 1 of them synchronously"
            connection = await asyncpg.connect(cluster.url)
            await connection.execute(f"CREATE ROLE {ROLE} LOGIN")
            as_role = cluster.url.replace("postgres@", f"{ROLE}@")
            assert await seen(as_role, "schema") == ("problem", "this role may not read the tables")
            await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}")
            assert (await seen(as_role, "standbys"))[1].startswith("1, whose lag this role may not see")
            monkeypatch.setattr(service, "MOST_LAG_BYTES", 0)
            standby.freeze()
            await connection.execute("CREATE TABLE something_else ()")
            level, text = await seen(cluster.url, "standbys")
            assert (level, text.startswith("behind: ")) == ("warning", True)
            await connection.close()
        finally:
            standby.stop("immediate")


async def test_searches_that_could_be_better_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    if PACKAGED is None or not list(PACKAGED.parents[3].glob("share/postgresql/*/extension/pg_trgm.control")):
        pytest.skip("there is no packaged PostgreSQL with pg_trgm")
    monkeypatch.setattr(embedded, "postgres_bin", lambda: PACKAGED)
    monkeypatch.setattr(embedded, "_let_others_read_programs", lambda: None)
    monkeypatch.setattr(service, "LAST_BY_NUMBER", 1)
    with clusters.running(fsync="off") as cluster:
        await asyncio.to_thread(run, "migrate", "--database-url", cluster.url)
        assert (await seen(cluster.url, "pg_trgm"))[0] == "ok"
        connection = await asyncpg.connect(cluster.url)
        await connection.execute("DROP EXTENSION pg_trgm CASCADE")
        assert (await seen(cluster.url, "pg_trgm"))[0] == "ok", "there are no clients"
        monkeypatch.setattr(service, "LAST_BY_NUMBER", 0)
        assert (await seen(cluster.url, "pg_trgm"))[0] == "warning"
        await connection.close()


@pytest.mark.parametrize("pgbouncer", installed() or [None], ids=lambda found: found.name if found else "none")
async def test_a_pooler_is_judged(pgbouncer: Any, database_url: str) -> None:
    if pgbouncer is None:
        pytest.skip("no pgbouncer on this machine: apt-get install pgbouncer")
    with pgbouncer.pooling(database_url, pool_mode="session", ignore_startup_parameters="extra_float_digits") as url:
        pooled = await found(url)
        assert pooled["pooler"].level == "ok"
        assert "connections" not in pooled
    with pgbouncer.pooling(database_url, pool_mode="statement", ignore_startup_parameters="extra_float_digits") as url:
        ran = await asyncio.to_thread(run, "doctor", "--database-url", url)
    assert ran.returncode == 1
    assert "problem  database: " in ran.stdout


# Around a server


def names(port: int, internal: int) -> list[str]:
    return ["--port", str(port), "--internal-port", str(internal)]


async def test_ports_are_free_or_answered_by_mithril_or_taken(server: Server) -> None:
    internal = int(server.internal_url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        options = [*names(taken, internal), "--database-url", server.database_url, "--json"]
        ran = await asyncio.to_thread(run, "doctor", *options)
    assert ran.returncode == 1
    ports = {each["check"]: each for each in json.loads(ran.stdout) if each["check"].endswith("port")}
    assert ports["public port"]["level"] == "problem"
    assert ports["internal port"]["text"] == f"127.0.0.1 port {internal} is answered by a Mithril"


def test_few_files_and_what_is_wrong_in_the_settings_are_found(tmp_path: Path) -> None:
    options = ["--home", str(tmp_path / "home"), "--internal-host", "0.0.0.0", "--json"]
    ran = run("doctor", *options, through='ulimit -n 500; exec "$@"')
    by_check = {each["check"]: each for each in json.loads(ran.stdout)}
    assert by_check["files"]["level"] == "warning"
    assert by_check["settings"]["level"] == "problem"
    assert by_check["database"]["level"] == "ok", "the first start will make it"
    assert not (tmp_path / "home").exists()


def test_each_finding_is_a_line_with_a_next_step(demo_home: Path) -> None:
    ran = run("doctor", "--home", str(demo_home), "--port", "0", "--internal-port", "0")
    assert ran.returncode == 0, ran.stdout
    assert {line.split()[0] for line in ran.stdout.splitlines()} == {"ok"}
    assert ran.stderr == "problems: 0, warnings: 0\n"
    many = run("doctor", "--home", str(demo_home), "--workers", "100")
    assert many.returncode == 1
    assert "problem  connections: PostgreSQL has 197, and 100 workers of 10 take 1000. Raise" in many.stdout


def test_a_database_that_does_not_answer_is_a_problem() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ran = run("doctor", "--database-url", f"postgresql://postgres@127.0.0.1:{port}/mithril")
    assert ran.returncode == 1
    assert f"problem  database: 127.0.0.1:{port}: " in ran.stdout


def test_the_advice_fits_the_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    none = run("doctor", "--home", str(tmp_path / "file" / "home"), "--host", "192.0.2.1")
    assert f"and this user cannot write to {tmp_path / 'file'}. Correct that, or name another folder" in none.stdout
    assert "Cannot assign requested address. Set a host that is one of this machine." in none.stdout
    lost = run("doctor", "--database-url", "postgresql://localhost/?sslmode=verify-ca&sslrootcert=/no/such/file")
    assert "sslrootcert=/no/such/file cannot be used: No such file or directory. Correct MITHRIL_DA" in lost.stdout


# Services


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what makes a certificate of `localhost` that is good for so many days, and whom to trust for it."""
    folder = tmp_path_factory.mktemp("authority")
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")

    def make(days: float) -> Path:
        ends = datetime.now(UTC) + timedelta(days=days)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(ends - timedelta(days=400)).not_valid_after(ends)
        signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        (path := folder / f"{days}.pem").write_bytes(secret + signed.public_bytes(encoding))
        return path

    return make


@contextlib.asynccontextmanager
async def service_with(certificate: Path | None, *, says: bytes = b"") -> AsyncIterator[int]:
    """Run a service on `localhost`; yield its port. `says`: what it says first."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                writer.write(b"250-localhost\r\n250 HELP\r\n" if line.startswith(b"ehlo") else b"221 ok\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0, family=socket.AF_INET, ssl=context) as listener:
        yield listener.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("days", "level", "text"),
    [
        (100, "ok", "answers; its certificate is good for 100 days"),
        (9, "warning", "answers; its certificate is good for 9 days"),
        (-1, "problem", "certificate has expired"),
    ],
)
async def test_a_certificate_that_ends_is_found(
    authority: Any, monkeypatch: pytest.MonkeyPatch, days: int, level: str, text: str
) -> None:
    trusted = ssl.create_default_context(cafile=(certificate := authority(days)))
    monkeypatch.setattr(outside, "_trusted", lambda _: trusted)
    async with service_with(certificate) as port:
        sms, mail = f"https://localhost:{port}/sms", f"smtps://user:secret@localhost:{port}"
        findings = await outside.examine(Settings(otp_endpoint=sms, smtp_url=mail))
    assert [(each.check, each.level) for each in findings] == [("SMS service", level), ("mail server", level)]
    assert {each.text for each in findings} == {f"localhost port {port}{' ' if days > 0 else ': '}{text}"}


async def test_a_certificate_that_is_not_trusted_is_a_problem(authority: Any) -> None:
    async with service_with(authority(100)) as port:
        (finding,) = await outside.examine(Settings(mpi_endpoint=f"https://localhost:{port}/"))
    assert (finding.check, finding.level) == ("register of patients", "problem")
    assert "self-signed certificate" in finding.text


async def test_a_service_without_tls_or_that_does_not_answer_is_found() -> None:
    async with service_with(None, says=b"220 hello\r\n") as port:
        url = f"://localhost:{port}"
        answering = await outside.examine(Settings(digital_signature_endpoint="http" + url, smtp_url="smtp" + url))
    assert [each.level for each in answering] == ["ok", "ok"]
    assert {each.text for each in answering} == {f"localhost port {port} answers, without TLS"}
    silent = await outside.examine(Settings(otp_endpoint="http" + url, smtp_url="smtp" + url))
    assert [each.level for each in silent] == ["problem", "problem"]
    assert await outside.examine(Settings(otp_endpoint="http" + url, sms_enabled=False)) == []
