"""Fixtures of a user who signs in."""

from collections.abc import AsyncIterator

import httpx
import pytest

from mithril.sms import messenger
from support.cases import Case, add_factor, make_case
from support.factories import Db
from support.servers import Server, running_server


@pytest.fixture
async def case(db: Db) -> Case:
    return await make_case(db)


@pytest.fixture
async def phone(db: Db, case: Case) -> AsyncIterator[list[str]]:
    """The messages to the phone of the user, who now has an active factor."""
    received: list[str] = []

    async def send(_: messenger.ConsoleMessenger, phone: str, text: str) -> None:
        received.append(text)

    patch = pytest.MonkeyPatch()
    patch.setattr(messenger.ConsoleMessenger, "send", send)
    await add_factor(db, case, "+380501234567")
    yield received
    patch.undo()


@pytest.fixture
async def demo(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A server with --demo on the same database, which prints its messages to the console."""
    with running_server(database_url=server.database_url, demo=True) as running:
        async with httpx.AsyncClient(base_url=running.url) as client:
            yield client
