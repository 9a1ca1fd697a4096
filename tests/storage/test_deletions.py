"""What a deletion leaves to the cleanup: tokens whose user, client or connection is gone, which no look-up finds."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from mithril import security
from mithril.cleanup import service as cleanup
from mithril.database.database import Connection, Database
from mithril.settings import Settings
from mithril.tokens import store as tokens
from mithril.tokens import verification_store as verification
from support import factories

pytestmark = pytest.mark.anyio

NOUNS = ["user", "client", "connection"]
# Of 2501 tokens: those of a client are deleted a thousand at once with its connections, and another thousand with it.
LEFT = {"user": 1_501, "client": 501, "connection": 1_501}
ADD_MANY = """
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, expires_at, seen_user, seen_client, seen_type,
                    seen_role)
SELECT 'access_token', sha256(gen_random_uuid()::text::bytea), $1, $2, $3, now() + interval '1 hour', 0, 0, 0, 0
  FROM generate_series(1, $4)
"""
ADD_AGAIN = {
    "user": "INSERT INTO users (id, email) VALUES ($1, 'again@example.com')",
    "client": "INSERT INTO clients (id, name, user_id, client_type_id)"
    " SELECT $1, 'again', user_id, client_type_id FROM clients LIMIT 1",
    "connection": "INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail)"
    " SELECT $1, id, id, 'https://again.example.com', 'x', '' FROM clients LIMIT 1",
}


class World:
    """A client with a connection and a user who does not own it; very many tokens of the three, and one after them."""

    def __init__(self, db: Connection, ids: list[UUID], value: str) -> None:
        self.db, self.ids, self.value = db, dict(zip(NOUNS, ids, strict=True)), value

    async def count(self) -> int:
        counted: int = await self.db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", self.ids["user"])
        return counted

    async def delete(self, noun: str) -> None:
        await self.db.execute(f"DELETE FROM {noun}s WHERE id = $1", self.ids[noun])

    async def add_again(self, noun: str) -> None:
        await self.db.execute(ADD_AGAIN[noun], self.ids[noun])

    async def clean_up(self, database: Database) -> None:
        await self.db.execute("UPDATE revocations SET inserted_at = now() - interval '1 hour'")
        await cleanup.clean_up(database, Settings())


@pytest.fixture
async def world(db: Connection) -> World:
    client, user_id = await factories.client(db), await factories.user(db)
    connection = await factories.connection(db, client_id=client.id)
    ids = [user_id, client.id, connection.id]
    await factories.token(db, client=await factories.client(db))
    await factories.quietly(db, ADD_MANY, *ids, 2_500)
    value = await factories.token(db, client=client, user_id=user_id, connection_id=connection.id)
    return World(db, ids, value)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as opened:
        yield opened


async def is_good(database: Database, value: str) -> bool:
    """Whether any look-up takes the token for a good one; they must agree."""
    found = await tokens.find_token(database, value)
    presented = await verification.find_presented(database, digest=security.digest(value), api_key_digest=None)
    active = await database.look_up(verification.FIND_ACTIVE, security.digest(value))
    owner = await verification.find_owner(database, security.digest(value))
    said = {each is not None and not (each.is_revoked or each.is_expired) for each in (found, presented, owner)} | {
        active is not None
    }
    assert len(said) == 1, (found, presented, active, owner)
    return said.pop()


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_deletion_deletes_a_thousand_tokens_and_the_cleanup_the_others(
    world: World, database: Database, noun: str
) -> None:
    assert await is_good(database, world.value)
    await world.delete(noun)
    assert await world.count() == LEFT[noun]
    assert not await is_good(database, world.value)
    await world.clean_up(database)
    assert await world.count() == 0
    assert await world.db.fetchval("SELECT count(*) FROM tokens") == 1
    assert await world.db.fetchval("SELECT count(*) FROM revocations") == 0


@pytest.mark.parametrize("noun", ["user", "client"])
async def test_what_is_added_again_under_the_id_of_what_was_deleted_revives_no_token(
    world: World, database: Database, noun: str
) -> None:
    await world.delete(noun)
    await world.add_again(noun)
    if noun == "client":  # its connections were deleted with it
        await world.db.execute("UPDATE tokens SET connection_id = NULL WHERE user_id = $1", world.ids["user"])
    assert not await is_good(database, world.value)
    client = factories.Client(world.ids["client"], world.ids["user"])
    later = await factories.token(world.db, client=client)
    assert await is_good(database, later)
    await world.clean_up(database)
    assert not await is_good(database, world.value)
    assert await is_good(database, later)


async def test_the_id_of_a_connection_is_free_again_when_its_tokens_are_gone(world: World, database: Database) -> None:
    await world.delete("connection")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await world.add_again("connection")
    await world.clean_up(database)
    await world.add_again("connection")
    assert not await is_good(database, world.value)


async def test_a_user_is_deleted_with_the_clients_that_they_own_and_with_their_tokens(
    world: World, database: Database
) -> None:
    await world.db.execute("UPDATE clients SET user_id = $1 WHERE id = $2", world.ids["user"], world.ids["client"])
    other = await factories.token(
        world.db, client=factories.Client(world.ids["client"], await factories.user(world.db))
    )
    await world.delete("user")
    assert not await is_good(database, world.value)
    assert not await is_good(database, other)
    await world.clean_up(database)
    assert await world.db.fetchval("SELECT count(*) FROM tokens") == 1


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_token_of_what_does_not_exist_is_refused(world: World, noun: str) -> None:
    change = f"UPDATE tokens SET {noun}_id = $1 WHERE digest = $2"
    with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
        await world.db.execute(change, uuid4(), security.digest(world.value))
    assert refused.value.constraint_name == f"tokens_{noun}_id_fkey"
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await world.db.execute(ADD_MANY, *(world.ids | {noun: uuid4()}).values(), 1)


@pytest.mark.parametrize("noun", NOUNS)
async def test_a_token_that_is_added_during_a_deletion_is_refused_after_it(
    world: World, database_url: str, noun: str
) -> None:
    """Nothing that the deletion does not see may stay behind."""
    other = await asyncpg.connect(database_url)
    async with world.db.transaction():
        await world.delete(noun)
        adding = asyncio.create_task(other.execute(ADD_MANY, *world.ids.values(), 1))
        while not await world.db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not adding.done()
            await asyncio.sleep(0.01)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await adding
    await other.close()
