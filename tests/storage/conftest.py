"""A database without a server."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from mithril.database.database import Connection


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Connection]:
    """A connection to a fresh database with the schema and no rows."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
