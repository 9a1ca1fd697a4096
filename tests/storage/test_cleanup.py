"""The cleanup: which rows are due, which stay, how it runs beside other work, and that the server runs it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril.cleanup import service, store
from mithril.cleanup.service import Busy
from mithril.database.database import Database
from mithril.settings import Settings
from mithril.tokens import kinds
from support import factories, granting
from support.factories import Db
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

NOTHING = {
    "audit_partitions_made": 0,
    "tokens_narrowed": 0,
    "tokens_ended": 0,
    "transitions_completed": 0,
    "secret_uses_deleted": 0,
    "tokens_deleted": 0,
    "codes_expired": 0,
    "codes_deleted": 0,
    "nonces_deleted": 0,
    "sign_in_counts_deleted": 0,
    "operations_deleted": 0,
    "counters_deleted": 0,
}
DAY = 86_400
WAITS = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
 WHERE NOT l.granted AND d.datname = current_database()
"""
LEFT_OVER = "SELECT count(*) FROM tokens WHERE expires_at < now() - interval '30 days'"


@pytest.fixture(scope="module")
def module_url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
async def db(module_url: str) -> AsyncIterator[Db]:
    """A connection to a database with no rows that are due."""
    connection = await asyncpg.connect(module_url)
    await connection.execute("TRUNCATE users, client_types, tokens, otp, attempts, operations CASCADE")
    yield connection
    await connection.close()


@pytest.fixture
async def database(module_url: str) -> AsyncIterator[Database]:
    async with Database(module_url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        yield opened


async def token(
    db: Db,
    client: factories.Client,
    *,
    name: str = "access_token",
    over_for: int,
    is_used: bool = False,
    family_id: UUID | None = None,
    user_id: UUID | None = None,
) -> UUID:
    """Add a token that expired so many seconds ago; with a negative number, an active one."""
    made: UUID = await db.fetchval(
        "INSERT INTO tokens (name, digest, user_id, client_id, family_id, expires_at, used_at)"
        " VALUES ($1, $2, $3, $4, $5, now() - make_interval(secs => $6), CASE WHEN $7 THEN now() END) RETURNING id",
        name,
        uuid4().bytes,
        user_id or client.user_id,
        client.id,
        family_id,
        float(over_for),
        is_used,
    )
    return made


async def ids(db: Db, table: str = "tokens") -> set[UUID]:
    return {row["id"] for row in await db.fetch(f"SELECT id FROM {table}")}


async def living(db: Db) -> set[UUID]:
    return {row["id"] for row in await db.fetch("SELECT id FROM tokens WHERE expires_at > now()")}


async def test_expired_tokens_are_deleted_after_the_configured_days(db: Db, database: Database) -> None:
    client = await factories.client(db)
    kept = {await token(db, client, over_for=30 * DAY - 60), await token(db, client, over_for=-60)}
    await token(db, client, over_for=30 * DAY + 1)
    assert await service.clean_up(database, Settings()) == NOTHING | {"tokens_deleted": 1}
    assert await ids(db) == kept
    assert await service.clean_up(database, Settings(token_ttl_after_expiration_days=29)) == NOTHING | {
        "tokens_deleted": 1
    }


async def test_a_used_token_stays_as_long_as_its_family(db: Db, database: Database) -> None:
    client = await factories.client(db)
    code = await token(db, client, name="authorization_code", over_for=40 * DAY, is_used=True)
    rotated = await token(db, client, name="refresh_token", over_for=35 * DAY, is_used=True, family_id=code)
    present = await token(db, client, name="refresh_token", over_for=-60, family_id=code)
    over = await token(db, client, name="authorization_code", over_for=40 * DAY, is_used=True)
    for kind in ("access_token", "refresh_token"):
        await token(db, client, name=kind, over_for=31 * DAY, family_id=over)
    await token(db, client, over_for=31 * DAY, family_id=code)
    assert await service.clean_up(database, Settings()) == NOTHING | {"tokens_deleted": 4}
    assert await ids(db) == {code, rotated, present}

    await db.execute("UPDATE tokens SET expires_at = now() - interval '30 days 1 s' WHERE id = $1", present)
    assert await service.clean_up(database, Settings()) == NOTHING | {"tokens_deleted": 3}


async def test_tokens_expire_when_the_password_of_their_user_has_expired(db: Db, database: Database) -> None:
    """Source: rule TOK-22. Tokens with which a new password is set stay active, and those of users without one."""
    client = await factories.client(db)
    other = await factories.client(db)
    signer = await factories.client(db)
    await db.execute("UPDATE users SET password_hash = 'any' WHERE id <> $1", signer.user_id)
    age = "UPDATE users SET password_set_at = now() - make_interval(days => 90, secs => $2) WHERE id = $1"
    await db.execute(age, client.user_id, 1.0)
    await db.execute(age, other.user_id, -60.0)
    await db.execute(age, signer.user_id, 1.0)
    for name in ("access_token", "refresh_token", "authorization_code"):
        await token(db, client, name=name, over_for=-600)
    kept = {
        *[await token(db, client, name=name, over_for=-600) for name in kinds.OUTLIVE_A_PASSWORD],
        await token(db, other, over_for=-600),
        await token(db, signer, over_for=-600),
        await token(db, client, over_for=-600, user_id=other.user_id),
    }
    assert await service.clean_up(database, Settings()) == NOTHING | {"tokens_ended": 3}
    assert await living(db) == kept
    assert len(await ids(db)) == len(kept) + 3
    assert await service.clean_up(database, Settings()) == NOTHING


async def test_one_time_passwords_are_marked_as_expired_and_deleted_later(db: Db, database: Database) -> None:
    add = (
        "INSERT INTO otp (key, code_digest, status, active, code_expired_at, inserted_at)"
        " VALUES ($1, '', $2, $3, now() - make_interval(secs => $4), now() - make_interval(secs => $4 + 300))"
    )
    for key, status, active, over_for in (
        ("open", "NEW", True, -60),
        ("over", "NEW", True, 1),
        ("used", "VERIFIED", False, 1),
        ("old and used", "VERIFIED", False, 30 * DAY + 1),
        ("old and over", "NEW", True, 31 * DAY),
    ):
        await db.execute(add, key, status, active, float(over_for))
    assert await service.clean_up(database, Settings()) == NOTHING | {"codes_expired": 2, "codes_deleted": 2}
    rows = await db.fetch("SELECT key, status, active FROM otp ORDER BY key")
    assert [tuple(row) for row in rows] == [
        ("open", "NEW", True),
        ("over", "EXPIRED", False),
        ("used", "VERIFIED", False),
    ]


async def test_operations_are_deleted_after_an_hour(db: Db, database: Database) -> None:
    add = "INSERT INTO operations (id, is_done, settled_at) VALUES ($1, $2, now() - make_interval(secs => $3))"
    kept, old, given_up = uuid4(), uuid4(), uuid4()
    await db.executemany(add, [(kept, True, 3590.0), (old, True, 3601.0), (given_up, False, 3601.0)])
    assert await service.clean_up(database, Settings()) == NOTHING | {"operations_deleted": 2}
    assert await ids(db, "operations") & {kept, old, given_up} == {kept}


async def test_expired_nonces_and_counters_are_deleted(db: Db, database: Database) -> None:
    client = await factories.client(db)
    nonce = "INSERT INTO nonces (client_id, expires_at) VALUES ($1, now() + make_interval(secs => $2)) RETURNING id"
    kept = await db.fetchval(nonce, client.id, 60.0)
    await db.fetchval(nonce, client.id, -1.0)
    counter = "INSERT INTO attempts (key, started_at) VALUES ($1, now() - make_interval(secs => $2))"
    for key, age in (("link:new", 3590.0), ("login:old", 3601.0), ("otp-send:new", 30.0)):
        await db.execute(counter, key, age)
    settings = Settings(max_failed_logins_period=10, otp_send_timeout=1)
    assert await service.clean_up(database, settings) == NOTHING | {"nonces_deleted": 1, "counters_deleted": 1}
    assert await ids(db, "nonces") == {kept}
    assert {row["key"] for row in await db.fetch("SELECT key FROM attempts")} == {"link:new", "otp-send:new"}


async def test_a_cleanup_runs_in_small_batches_and_skips_rows_that_must_be_kept(
    db: Db, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH_ROWS", 3)
    client = await factories.client(db)
    living_one = await token(db, client, name="refresh_token", over_for=-60)
    await db.execute("UPDATE tokens SET family_id = id")
    kept = {living_one}
    for number in range(20):
        used = number % 2 == 0
        made = await token(db, client, over_for=40 * DAY, is_used=used, family_id=living_one if used else None)
        kept |= {made} if used else set()
    batches: list[int] = []

    def listen(name: str, rows: int) -> None:
        if name == "tokens_deleted":
            batches.append(rows)

    assert await service.clean_up(database, Settings(), listener=listen) == NOTHING | {"tokens_deleted": 10}
    assert await ids(db) == kept
    assert (len(batches), sum(batches), max(batches) <= 3) == (7, 10, True)


async def test_a_locked_row_is_left_for_the_next_cleanup(db: Db, database: Database) -> None:
    client = await factories.client(db)
    held = await token(db, client, over_for=31 * DAY)
    await token(db, client, over_for=31 * DAY)
    async with db.transaction():
        await db.execute("SELECT FROM tokens WHERE id = $1 FOR UPDATE", held)
        assert await service.clean_up(database, Settings()) == NOTHING | {"tokens_deleted": 1}
    assert await service.clean_up(database, Settings()) == NOTHING | {"tokens_deleted": 1}


async def test_one_process_cleans_up_at_a_time(db: Db, database: Database) -> None:
    await token(db, await factories.client(db), over_for=31 * DAY)
    transaction = db.transaction()
    await transaction.start()
    await db.execute("SELECT pg_advisory_xact_lock($1)", store.CLEANUP_LOCK)
    with pytest.raises(Busy):
        await service.clean_up(database, Settings(), gives_way=True)
    waiting = asyncio.create_task(service.clean_up(database, Settings()))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()
    assert len(await ids(db)) == 1
    await transaction.rollback()
    assert await waiting == NOTHING | {"tokens_deleted": 1}


async def test_every_batch_uses_an_index(db: Db) -> None:
    client = await factories.client(db)
    await db.execute(
        "INSERT INTO tokens (name, digest, user_id, client_id, family_id, used_at, expires_at)"
        " SELECT 'access_token', sha256(n::text::bytea), $1, $2, gen_random_uuid(), now(),"
        " now() - interval '50 days' + n * interval '10 min' FROM generate_series(1, 5000) n",
        client.user_id,
        client.id,
    )
    await db.execute(
        "INSERT INTO users (email, password_set_at)"
        " SELECT 'n' || n, now() - n * interval '1 h' FROM generate_series(1, 5000) n"
    )
    await db.execute(
        "INSERT INTO otp (key, code_digest, status, active, code_expired_at, inserted_at)"
        " SELECT 'n' || n, '', 'NEW', n % 100 = 0, now() - n * interval '1 h', now() - n * interval '1 h'"
        " FROM generate_series(1, 5000) n"
    )
    await db.execute(
        "INSERT INTO nonces (client_id, expires_at)"
        " SELECT $1, now() - 50 * interval '1 h' + n * interval '1 h' FROM generate_series(1, 5000) n",
        client.id,
    )
    await db.execute(
        "INSERT INTO attempts (key, started_at) SELECT 'n' || n, now() - n * interval '1 s'"
        " FROM generate_series(1, 5000) n"
    )
    await db.execute(
        "INSERT INTO operations (id, settled_at) SELECT gen_random_uuid(), now() - n * interval '1 s'"
        " FROM generate_series(1, 5000) n"
    )
    await factories.quietly(
        db,
        "INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail)"
        " SELECT md5('k' || n)::uuid, $1, md5('c' || n)::uuid, 'https://example.com/' || n, sha256(n::text::bytea), ''"
        " FROM generate_series(1, 5000) n",
        client.id,
    )
    await db.execute(
        "INSERT INTO transitions_due (connection_id, ends_at) SELECT md5('k' || n)::uuid, now() - n * interval '1 s'"
        " FROM generate_series(1, 5000) n"
    )
    await db.execute(
        "INSERT INTO secret_uses (digest, last_used_at) SELECT sha256(n::text::bytea), now() - n * interval '1 s'"
        " FROM generate_series(1, 5000) n"
    )
    await db.execute(
        "INSERT INTO sign_in_counts (hour, subject_id, outcome, times)"
        " SELECT now() - n * interval '1 s', gen_random_uuid(), '', 1 FROM generate_series(1, 5000) n"
    )
    await db.execute("ANALYZE")
    for task in service.tasks(Settings()):
        arguments = (*store.BEGINNING, 10, task.age_seconds)
        plan = "\n".join(row[0] for row in await db.fetch("EXPLAIN " + store._statement(task.target), *arguments))
        assert "Seq Scan" not in plan, plan


async def test_a_canceled_cleanup_stops_at_once(db: Db, database: Database) -> None:
    async with db.transaction():
        await db.execute("LOCK TABLE users")
        sweeping = asyncio.create_task(service.clean_up_regularly(database, Settings(sweep_interval=0.001)))
        while not await db.fetchval(WAITS):  # noqa: ASYNC110 -- a lock, no event
            await asyncio.sleep(0.02)
        sweeping.cancel()
        async with asyncio.timeout(30):  # half of what the statement could take
            await asyncio.wait([sweeping])
            await database.fetchrow("SELECT 1")


# The server


@pytest.fixture(scope="module")
def sweeping_server(postgres: str) -> Iterator[Server]:
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, sweep_interval=0.02, auth_refresh_token_lifetime=100 * DAY) as running,
    ):
        yield running


@pytest.fixture
async def swept(sweeping_server: Server) -> AsyncIterator[Db]:
    """A connection to the database of a server that cleans up all the time."""
    connection = await asyncpg.connect(sweeping_server.database_url)
    yield connection
    await connection.close()


async def until_swept(db: Db, *, left: int) -> None:
    while await db.fetchval(LEFT_OVER) > left:  # noqa: ASYNC110 -- rows, no events
        await asyncio.sleep(0.02)


FAIL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a mistake'; END $$;
CREATE TRIGGER fail BEFORE DELETE ON tokens EXECUTE FUNCTION fail()
"""


async def test_the_server_cleans_up_regularly_and_again_after_a_failure(
    sweeping_server: Server, swept: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = CapturingLogger()
    client = await factories.client(swept)
    await token(swept, client, over_for=31 * DAY)
    await until_swept(swept, left=0)
    monkeypatch.setattr(service, "log", failures)
    await swept.execute(FAIL)
    while not any(call.method_name == "exception" for call in failures.calls):  # noqa: ASYNC110 -- a log
        await asyncio.sleep(0.02)
    async with httpx.AsyncClient(base_url=sweeping_server.url) as http:
        assert (await http.get("/readyz")).status_code == 200
    await swept.execute("DROP FUNCTION fail CASCADE")
    await token(swept, client, over_for=31 * DAY)
    await until_swept(swept, left=0)


async def test_reuse_of_a_code_after_a_cleanup_revokes_its_tokens(sweeping_server: Server, swept: Db) -> None:
    party = await granting.party(swept)
    code = await granting.code(sweeping_server, party)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **party.body}
    async with httpx.AsyncClient(base_url=sweeping_server.url) as http:
        first = await http.post("/oauth2/token", data=form)
        assert first.status_code == 200
        await swept.execute("UPDATE tokens SET expires_at = expires_at - interval '50 days'")
        await until_swept(swept, left=1)  # the access token goes, the code stays
        assert (await http.post("/oauth2/token", data=form)).status_code == 400
        again = {"grant_type": "refresh_token", "refresh_token": first.json()["refresh_token"], **party.body}
        assert (await http.post("/oauth2/token", data=again)).status_code == 400
    assert not await living(swept)
