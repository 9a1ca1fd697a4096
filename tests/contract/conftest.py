"""Clients of the internal listener, and the log of the edge."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril import logs
from mithril.web import edge
from support import administering, described, oauth_world
from support.factories import Db
from support.oauth_world import World
from support.servers import Server


@pytest.fixture(scope="module")
async def internal(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the internal listener. Its answers must match the API description."""
    async with described.client(server.internal_url) as client:
        yield client


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the internal listener that acts for an administrator. Its answers must match the API description."""
    async with described.client(server.internal_url, headers=administering.HEADERS) as client:
        yield client


@pytest.fixture
async def world(db: Db) -> World:
    return await oauth_world.make(db)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """The log of the edge of the servers in this process, with the line of each request."""
    capturing, line = CapturingLogger(), logs.Answered

    def note(**fields: Any) -> logs.Answered:
        capturing.info("request", **fields)
        return line(**fields)

    monkeypatch.setattr(edge, "log", capturing)
    monkeypatch.setattr(logs, "Answered", note)
    return capturing
