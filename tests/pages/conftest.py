"""Fixtures of a user who signs in."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from playwright.async_api import Browser

from mithril.sms import messenger
from support import chromium
from support.cases import Case, add_factor, make_case
from support.console import Owner, make_owner, sign_in
from support.factories import Db
from support.servers import Server, running_server


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The backend of a whole file, so that its tests can share one browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, which the tests of a file share."""
    async with chromium.launched() as browser:
        yield browser


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
    await add_factor(db, case.user_id, "+380501234567")
    yield received
    patch.undo()


@pytest.fixture(scope="module")
def demo_rules(server: Server) -> Iterator[Server]:
    """A server with --demo on the same database, which prints its messages to the console."""
    with running_server(database_url=server.database_url, demo=True) as running:
        yield running


@pytest.fixture
async def demo(demo_rules: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A new browser at the server with --demo."""
    async with httpx.AsyncClient(base_url=demo_rules.url) as client:
        yield client


@pytest.fixture
async def owner(db: Db) -> Owner:
    return await make_owner(db)


@pytest.fixture
async def inside(http: httpx.AsyncClient, owner: Owner) -> httpx.AsyncClient:
    """A browser in which the owner has signed in."""
    response = await sign_in(http, owner.email)
    assert response.status_code == 303, response.text
    return http


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The messages that servers have sent, each with its number."""
    received: list[tuple[str, str]] = []

    async def send(_: messenger.Messenger, phone: str, text: str) -> None:
        received.append((phone, text))

    for kind in (messenger.ConsoleMessenger, messenger.NoMessenger):
        monkeypatch.setattr(kind, "send", send)
    return received


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that servers have sent, of which none has a service for that."""
    received: list[str] = []

    async def send(_: messenger.Messenger, phone: str, text: str) -> None:
        assert phone == "+380501234567"
        received.append(text)

    monkeypatch.setattr(messenger.NoMessenger, "send", send)
    return received
