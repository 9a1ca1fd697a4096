"""The schema: migrated once, also by several processes, with constraints for its invariants."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from mithril.database import database
from support import factories
from support.servers import execute, url_of

pytestmark = pytest.mark.anyio


def test_the_code_is_written_for_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [database.SCHEMA_VERSION]


@pytest.mark.slow
async def test_simultaneous_migrations_migrate_once(postgres: str) -> None:
    await execute(postgres, "CREATE DATABASE migrated_at_once")
    url = url_of(postgres, "migrated_at_once")
    program = str(Path(sys.executable).parent / "mithril")
    runs = [await asyncio.create_subprocess_exec(program, "migrate", "--database-url", url) for _ in range(3)]
    assert [await run.wait() for run in runs] == [0, 0, 0]
    await database.migrate(url)
    db = await asyncpg.connect(url)
    assert await database.schema_version(db) == database.SCHEMA_VERSION
    assert await db.fetchval("SELECT count(*) FROM alembic_version") == 1
    await db.close()


async def test_every_foreign_key_has_an_index_on_the_referencing_side(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    bare = await db.fetch(
        """SELECT conrelid::regclass, conname FROM pg_constraint c WHERE contype = 'f' AND NOT EXISTS (
             SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1])"""
    )
    await db.close()
    assert bare == []


async def test_deleting_a_connection_deletes_its_tokens(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    await factories.token(db, client=owner, connection_id=connection.id)
    await factories.token(db, client=owner)
    await db.execute("DELETE FROM connections")
    assert await db.fetchval("SELECT count(*) FROM tokens") == 1
    await db.close()


@pytest.mark.parametrize(
    "statement",
    [
        """INSERT INTO connections (client_id, consumer_id, redirect_uri, secret_digest, secret_tail)
           SELECT client_id, consumer_id, redirect_uri, 'other', secret_tail FROM connections""",
        "UPDATE connections SET redirect_uri = ''",
        "UPDATE connections SET previous_secret_digest = 'x'",
        """UPDATE clients SET priv_settings = '{"access_type": "OTHER"}'""",
        "UPDATE users SET email = 'Upper@example.com'",
    ],
)
async def test_the_database_refuses_rows_that_break_an_invariant(database_url: str, statement: str) -> None:
    db = await asyncpg.connect(database_url)
    await factories.connection(db, client_id=(await factories.client(db)).id)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await db.execute(statement)
    await db.close()
