"""Fixtures for all tests: a real PostgreSQL, fresh databases, and a real server over real sockets."""

import asyncio
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import argon2
import asyncpg
import httpx
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default as httpx_transports

from mithril import security
from mithril.database import database, embedded
from support import clusters, processes
from support.programs import free_port
from support.servers import DEMO_PORTS, TEMPLATE, Server, execute, fresh_database, running_server, url_of

# No test uses TLS, and a context for each client would take longer than most tests.
httpx_transports.create_ssl_context = functools.cache(httpx_transports.create_ssl_context)  # type: ignore[attr-defined]

# httpcore looks for this module, which is not installed, at each lock that it makes, in every folder of the path: with
# this entry it knows at once.
sys.modules["sniffio"] = None  # type: ignore[assignment]

# A busy machine answers late, whatever is asked; what never answers, pytest's own limit ends. Clients wait longer than
# servers (see `running_server`), so that a test sees what a server says about its own limit.
DEFAULT_TIMEOUT_CONFIG.read = DEFAULT_TIMEOUT_CONFIG.pool = 100
DEFAULT_TIMEOUT_CONFIG.connect = DEFAULT_TIMEOUT_CONFIG.write = 100


def _checked(response: httpx.Response) -> None:
    """Fail for what only a demo may tell in the answer of any other server (rule CNV-53)."""
    if b'"sandbox":{"refusal":' in response.content:
        assert response.request.url.port in DEMO_PORTS, f"{response.request.url} tells what only a demo may"


_read, _aread = httpx.Response.read, httpx.Response.aread


def _read_and_check(response: httpx.Response) -> bytes:
    content = _read(response)
    _checked(response)
    return content


async def _aread_and_check(response: httpx.Response) -> bytes:
    content = await _aread(response)
    _checked(response)
    return content


# Every answer of the suite is read.
httpx.Response.read, httpx.Response.aread = _read_and_check, _aread_and_check  # type: ignore[assignment,method-assign]

# In the background, or under nohup, these signals are ignored, and child processes would inherit that. A handler that
# does nothing has the same effect here, and is not inherited.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

# Cheap password hashes: only one test needs the real cost, and it sets it.
security._PASSWORDS = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

# A disk may take a second for the files of a new database, of which the tests create hundreds; memory is faster.
MEMORY = "/dev/shm"
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    tempfile.tempdir = os.environ["TMPDIR"] = MEMORY


def pytest_configure(config: pytest.Config) -> None:
    """Give this run a folder of its own.

    When another run begins, as root, pytest closes the folder that they share to every other user, and so to
    PostgreSQL's.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tempfile.mkdtemp(prefix="mithril-tests-")
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start processes: at the end, one of them would keep one worker busy alone."""
    items.sort(key=lambda item: item.path.parent.name != "tests")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of the embedded PostgreSQL. Its database `mithril_template` has the schema and no rows."""
    with tempfile.TemporaryDirectory(prefix="mithril-tests-") as home, embedded.running(Path(home)) as url:
        # This PostgreSQL is temporary, and no test is about a power failure.
        asyncio.run(execute(url, "ALTER SYSTEM SET fsync = off"))
        asyncio.run(execute(url, "SELECT pg_reload_conf()"))
        asyncio.run(execute(url, f"CREATE DATABASE {TEMPLATE}"))
        asyncio.run(database.migrate(url_of(url, TEMPLATE)))
        yield url


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """A fresh database with the schema and no rows."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def database_on_loopback() -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL of its own, which a container of the host's network reaches too."""
    port = free_port()
    with clusters.running(listen_addresses="127.0.0.1", port=str(port)):
        yield f"postgresql://postgres@127.0.0.1:{port}/mithril"


@pytest.fixture
def unmigrated(postgres: str) -> Iterator[str]:
    """A fresh database without a schema."""
    with fresh_database(postgres, template="template1") as url:
        yield url


@pytest.fixture(scope="session")
def demo_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home folder of a stopped server with demo data. The first test process creates it for all."""
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
    """A home folder with demo data, as a stopped server left it."""
    subprocess.run(["cp", "-a", demo_template, tmp_path / "home"], check=True)  # owners too
    return tmp_path / "home"


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server without demo rules, on a fresh database, for the tests of one file."""
    with fresh_database(postgres) as url, running_server(database_url=url) as running:
        yield running


@pytest.fixture(scope="module")
async def db(server: Server) -> AsyncIterator[database.Connection]:
    """A connection to the database of the server."""
    connection = await asyncpg.connect(server.database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the public listener."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client
