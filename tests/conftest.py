"""A real PostgreSQL, a fresh database for whoever asks, and a real server over real sockets."""

import asyncio
import fcntl
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import argon2
import asyncpg
import httpx
import msgspec
import pytest
import uvicorn
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default as httpx_transports
from structlog.testing import CapturingLogger

from mithril import logs, security
from mithril.database import database, embedded
from mithril.server import supervisor
from mithril.settings import Settings
from mithril.web import edge
from support import described, processes

# Nothing here speaks TLS, and a context for each client would take longer than most tests.
httpx_transports.create_ssl_context = functools.cache(httpx_transports.create_ssl_context)  # type: ignore[attr-defined]

# A machine with other work answers late; what never answers, pytest's own limit ends.
DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.pool = 30

# In the background, or under nohup, these are ignored, and would be by every process that a test starts. A handler
# that does nothing is as good, and is not handed down.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# Hashes that cost next to nothing: what a good one costs is no subject, but for the test that asks for it.
security._PASSWORDS = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

# A disk may take a second for the files of a new database, of which the tests make hundreds; memory takes none.
MEMORY = "/dev/shm"
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    tempfile.tempdir = os.environ["TMPDIR"] = MEMORY

TEMPLATE = "mithril_template"
_names = (f"test_{number}" for number in itertools.count(1))


@dataclass(frozen=True)
class Server:
    """Where a running server answers, and where its data is."""

    url: str
    internal_url: str
    database_url: str
    settings: Settings


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of the embedded PostgreSQL; `mithril_template` in it has the schema and no rows."""
    # Not below pytest's own folder: that is closed to PostgreSQL's user when another run begins as root.
    with tempfile.TemporaryDirectory(prefix="mithril-tests-") as home, embedded.running(Path(home)) as url:
        # This PostgreSQL is thrown away; a power cut is no subject of the tests.
        asyncio.run(_execute(url, "ALTER SYSTEM SET fsync = off"))
        asyncio.run(_execute(url, "SELECT pg_reload_conf()"))
        asyncio.run(_execute(url, f"CREATE DATABASE {TEMPLATE}"))
        asyncio.run(database.migrate(url_of(url, TEMPLATE)))
        yield url


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """A fresh database with the schema and no rows."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def unmigrated(postgres: str) -> Iterator[str]:
    """A fresh database without a schema."""
    with fresh_database(postgres, template="template1") as url:
        yield url


@pytest.fixture(scope="session")
def demo_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a server with demo data that has been stopped; the first test process to ask makes it for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    home = shared / "demo"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            with processes.serving("--demo", "--home", str(home)):
                pass
    return home


@pytest.fixture
def demo_home(demo_template: Path, tmp_path: Path) -> Path:
    """A home of its own, with demo data, as a stopped server left it."""
    subprocess.run(["cp", "-a", demo_template, tmp_path / "home"], check=True)  # owners too
    return tmp_path / "home"


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server for the tests of one file, on a fresh database, without demo rules."""
    with fresh_database(postgres) as url, running_server(database_url=url) as running:
        yield running


@pytest.fixture(scope="module")
async def db(server: Server) -> AsyncIterator[database.Connection]:
    """A connection to the server's database."""
    connection = await asyncpg.connect(server.database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the public listener."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
async def internal(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the internal listener; what it is answered must be described."""
    async with described.client(server.internal_url) as client:
        yield client


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What the edge of the servers of this process logs, the line for each request included."""
    capturing, line = CapturingLogger(), logs.Answered

    def note(**fields: Any) -> logs.Answered:
        capturing.info("request", **fields)
        return line(**fields)

    monkeypatch.setattr(edge, "log", capturing)
    monkeypatch.setattr(logs, "Answered", note)
    return capturing


@contextmanager
def fresh_database(postgres: str, *, template: str = TEMPLATE) -> Iterator[str]:
    name = next(_names)
    asyncio.run(_execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield url_of(postgres, name)
    asyncio.run(_execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def running_server(**changes: object) -> Iterator[Server]:
    """A server in a thread of this process, on free ports; `changes` are settings."""
    settings = msgspec.convert({"log_level": "error", "log_format": "json", **changes}, Settings)
    sockets = [supervisor.bind("127.0.0.1", 0), supervisor.bind("127.0.0.1", 0)]
    public, internal = (listener.getsockname()[1] for listener in sockets)
    settings = msgspec.structs.replace(settings, port=public, internal_port=internal)
    running = uvicorn.Server(supervisor.configuration(settings))
    thread = threading.Thread(target=running.run, args=(sockets,))
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.01)
        yield Server(f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}", settings.database_url, settings)
    finally:
        running.should_exit = True
        thread.join()


def url_of(postgres: str, name: str) -> str:
    """The URL of another database of the same server."""
    return postgres.replace("/mithril?", f"/{name}?")


def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()
