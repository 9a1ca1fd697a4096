"""Fresh databases, and a real server over real sockets in this process."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg
import msgspec
import uvicorn

from mithril.audit.events import Actor
from mithril.connections.redirect_uris import Policy
from mithril.server import supervisor
from mithril.settings import Settings
from mithril.snapshots import demo

TEMPLATE = "mithril_template"
# A busy machine takes long for everything, and most tests ask about something else.
LIMITS = ("pool_timeout", "statement_timeout", "lock_timeout", "header_timeout", "body_timeout")
PATIENT: dict[str, object] = dict.fromkeys(LIMITS, 60)
# Of the servers with demo data: only their answers may have `sandbox`.
DEMO_PORTS: set[int] = set()
_names = (f"test_{number}" for number in itertools.count(1))


@dataclass(frozen=True)
class Server:
    """The URLs of a running server and its database."""

    url: str
    internal_url: str
    database_url: str
    settings: Settings


@contextmanager
def fresh_database(postgres: str, *, template: str = TEMPLATE) -> Iterator[str]:
    name = next(_names)
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY"))
    yield url_of(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def running_server(**changes: object) -> Iterator[Server]:
    """Run a server in a thread of this process, on free ports. `changes`: settings."""
    settings = msgspec.convert({"log_level": "error", "log_format": "json", **PATIENT, **changes}, Settings)
    sockets = [supervisor.bind("127.0.0.1", 0), supervisor.bind("127.0.0.1", 0)]
    public, internal = (listener.getsockname()[1] for listener in sockets)
    settings = msgspec.structs.replace(settings, port=public, internal_port=internal)
    running = uvicorn.Server(supervisor.configuration(settings))
    thread = threading.Thread(target=running.run, args=(sockets,))
    (DEMO_PORTS.update if settings.demo else DEMO_PORTS.difference_update)({public, internal})
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.01)
        yield Server(f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}", settings.database_url, settings)
    finally:
        running.should_exit = True
        thread.join()


@contextmanager
def demo_server(postgres: str, **changes: object) -> Iterator[Server]:
    """Run a server as `serve --demo` starts it, on a fresh database. `changes`: settings."""
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, demo=True, **changes) as running,
    ):
        asyncio.run(_start_demo(url, running.url))
        yield running


async def _start_demo(url: str, origin: str) -> None:
    connection = await asyncpg.connect(url)
    policy = Policy(allow_loopback=True)
    await demo.start(connection, actor=Actor(request_id="a test"), policy=policy, origin=origin)
    await connection.close()


def url_of(postgres: str, name: str) -> str:
    """Return the URL of another database of the same PostgreSQL."""
    return postgres.replace("/mithril?", f"/{name}?")


async def execute(url: str, statement: str, *arguments: object) -> None:
    """Run one statement on its own connection."""
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *arguments)
    await connection.close()
