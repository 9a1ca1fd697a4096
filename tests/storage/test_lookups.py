"""Simultaneous look-ups share a statement, but not their answers or failures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from mithril import errors, security
from mithril.database import lookups
from mithril.database.database import Database, PooledConnection, find_one
from mithril.database.lookups import Lookup
from mithril.tokens import verification_store as store
from mithril.tokens.verification_store import Presented
from support import factories
from support.factories import Db

pytestmark = pytest.mark.anyio

MANY = 40
PLANS = Lookup("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1", "text")
NAME_OF_USER = Lookup("SELECT id, email FROM users WHERE id = $1 OR email = $2", "uuid", "text")


class Counted(NamedTuple):
    id: UUID
    times: int


@asynccontextmanager
async def pool_of(database_url: str, *, size: int = 5) -> AsyncIterator[Database]:
    async with Database(database_url, size=size, wait_seconds=60, statement_seconds=60) as database:
        yield database


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with pool_of(database_url) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of look-ups that are run."""
    statements: list[str] = []
    fetch = lookups._fetch

    async def noted(connection: PooledConnection, lookup: Lookup, asked: list[Any]) -> Any:
        statements.append(lookup.alone if len(asked) == 1 else lookup.together)
        return await fetch(connection, lookup, asked)

    monkeypatch.setattr(lookups, "_fetch", noted)
    return statements


async def presented(database: Database, value: str, api_key: str | None) -> Presented | None:
    key_digest = security.digest(api_key) if api_key else None
    return await store.find_presented(database, digest=security.digest(value), api_key_digest=key_digest)


async def various(db: Db) -> list[tuple[str, str | None]]:
    """Tokens and API-keys of many kinds, some of them unknown."""
    kinds: list[tuple[str, str | None]] = []
    for number in range(MANY // 4):
        mis = await factories.client(db, client_type="MIS", broker_scope=f"scope:{number}", is_blocked=number % 3 == 0)
        key = await factories.connection(db, client_id=mis.id)
        clinic = await factories.client(db, access_type="BROKER", is_blocked=number % 4 == 0)
        connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
        value = await factories.token(db, client=clinic, connection_id=connection.id, expires_in=(number - 5) * 60)
        kinds += [(value, key.secret), (value, None), (f"unknown-{number}", key.secret), (value, f"unknown-{number}")]
    return kinds


async def test_simultaneous_lookups_share_a_statement_and_get_their_own_answers(
    db: Db, database: Database, asked: list[str]
) -> None:
    kinds = await various(db)
    alone = [await presented(database, *kind) for kind in kinds]
    assert set(asked) == {store.FIND_PRESENTED.alone}
    asked.clear()

    together = await asyncio.gather(*(presented(database, *kind) for kind in kinds))
    assert asked == [store.FIND_PRESENTED.together]
    assert together == alone
    assert len({found.id for found in together if found}) == MANY // 4
    assert together.count(None) == MANY // 4


async def test_two_simultaneous_equal_lookups_get_two_answers(db: Db, database: Database) -> None:
    value = await factories.token(db, client=await factories.client(db))
    first, second = await asyncio.gather(*(presented(database, value, None) for _ in range(2)))
    assert first is not None
    assert first == second


async def test_a_lookup_with_several_matching_rows_returns_one(db: Db, database: Database) -> None:
    ids = [await factories.user(db) for _ in range(2)]
    emails = [await db.fetchval("SELECT email FROM users WHERE id = $1", user_id) for user_id in ids]
    questions = [(ids[0], emails[1]), (ids[1], None), (None, "nobody@example.com")]
    either, second, nobody = await asyncio.gather(*(database.look_up(NAME_OF_USER, *each) for each in questions))
    assert either is not None
    assert either["id"] in ids
    assert second == {"id": ids[1], "email": emails[1]}
    assert nobody is None


async def test_an_answer_is_never_older_than_its_lookup(db: Db, database: Database) -> None:
    """Also when another statement about the same token is still running."""
    value = await factories.token(db, client=await factories.client(db))
    assert await presented(database, value, None)  # now there is a connection, so the earlier statements are sent
    earlier = [asyncio.create_task(presented(database, value, None)) for _ in range(2)]
    await asyncio.sleep(0)
    await db.execute("UPDATE tokens SET expires_at = now() WHERE digest = $1", security.digest(value))
    found = await presented(database, value, None)
    assert found is not None
    assert found.is_expired
    assert all(await asyncio.gather(*earlier))


async def test_lookups_that_wait_for_a_connection_share_the_next_statement(
    database_url: str, db: Db, asked: list[str]
) -> None:
    """However many come in the meantime, and at however many moments: a far database is not asked once for each."""
    value = await factories.token(db, client=await factories.client(db))
    async with pool_of(database_url, size=2) as database:  # one connection for look-ups
        async with db.transaction():
            await db.execute("LOCK TABLE tokens")
            waiting = [asyncio.create_task(presented(database, value, None))]
            while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for _ in range(MANY):
                waiting.append(asyncio.create_task(presented(database, value, None)))
                await asyncio.sleep(0)
            await db.execute("UPDATE tokens SET scope = 'changed' WHERE digest = $1", security.digest(value))
        found = await asyncio.gather(*waiting)
    assert asked == [store.FIND_PRESENTED.alone, store.FIND_PRESENTED.together]
    assert {each.scope for each in found if each} == {"changed"}
    assert all(found)


async def test_a_canceled_lookup_does_not_cancel_the_others(db: Db, database: Database) -> None:
    value = await factories.token(db, client=await factories.client(db))
    waiting = [asyncio.create_task(presented(database, value, None)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    waiting[3].cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False, False, True, False]
    assert all(isinstance(found[number], Presented) for number in (1, 2, 4))


async def test_an_unavailable_database_raises_for_each_lookup() -> None:
    async with pool_of("postgresql://postgres@127.0.0.1:1/nothing") as database:
        asking = [presented(database, f"token-{number}", None) for number in range(5)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(each, errors.ServiceUnavailable) for each in found)
        with pytest.raises(errors.ServiceUnavailable):
            await presented(database, "alone", None)


async def test_the_shared_statement_is_planned_once_for_any_number_of_lookups(database_url: str) -> None:
    """Planning takes ten times as long as execution, and PostgreSQL plans again while that seems to pay off."""
    async with pool_of(database_url, size=2) as database:
        for number in range(2, 22):
            await asyncio.gather(*(presented(database, f"token-{n}", None) for n in range(number)))
        row = await database.look_up(PLANS, store.FIND_PRESENTED.together)
        assert row is not None
        assert row["custom_plans"] <= 5  # as many as PostgreSQL tries at first
        assert row["generic_plans"] >= 15


async def test_one_row_is_found_in_a_pool_in_a_transaction_and_on_a_plain_connection(
    database: Database, db: Db
) -> None:
    await factories.client(db)
    client_id = (await factories.client(db)).id
    async with database.transaction() as transaction:
        for source in (database, transaction, db):
            found = await find_one(source, partial(Counted, times=1), "SELECT id FROM clients WHERE id = $1", client_id)
            assert found == Counted(id=client_id, times=1)
            assert await find_one(source, Counted, "SELECT id, 1 AS times FROM clients WHERE name = $1", "?") is None
