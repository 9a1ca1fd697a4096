"""Opening connections to PostgreSQL: to which host of the URL, in which time, and how an abandoned one ends.

A host that lost its power refuses nothing, it is silent. So the hosts are asked side by side, the one that worked
last first, and each attempt has its own limit.
"""

import asyncio
import copy
import inspect
import logging
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import asyncpg
from asyncpg import connect_utils

from mithril import tracing

# One attempt at one host: its name, TLS and password, also with round trips of a quarter of a second and a slow DNS.
HOST_SECONDS = 10.0
# The next host is asked as soon as one has failed, or has been silent for so long.
STAGGER_SECONDS = 0.25
RETRY_SECONDS = 0.5
# The kernels of both sides end a connection on which nothing is confirmed for so long, and PostgreSQL a transaction in
# which nothing is asked: its locks would stay for two hours when a machine is lost.
SILENCE_SECONDS = 10
COMMAND_SILENCE_SECONDS = 60
KEEPALIVE = {"KEEPIDLE": 5, "KEEPINTVL": 2, "KEEPCNT": 3, "USER_TIMEOUT": 1_000 * SILENCE_SECONDS}
CACHED_STATEMENTS = 100  # prepared ones of one connection
NAME = {"application_name": "mithril"}
SETTINGS = NAME | {
    "idle_in_transaction_session_timeout": f"{SILENCE_SECONDS}s",
    "tcp_keepalives_idle": str(KEEPALIVE["KEEPIDLE"]),
    "tcp_keepalives_interval": str(KEEPALIVE["KEEPINTVL"]),
    "tcp_keepalives_count": str(KEEPALIVE["KEEPCNT"]),
    "tcp_user_timeout": str(KEEPALIVE["USER_TIMEOUT"]),
}
# What a pooler, or an old PostgreSQL, says to settings that it does not take from a client.
REFUSED_SETTINGS = (
    asyncpg.ProtocolViolationError,
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
)

TLS_FILES = {"sslrootcert", "sslcert", "sslkey", "sslcrl"}  # parameters of a URL

CLOCK = "extract(epoch FROM clock_timestamp())::double precision"
# A primary that was replaced may wake up, and take writes until it is stopped; its timeline is older.
STATE = f"""
SELECT {CLOCK} AS clock,
       current_setting('transaction_read_only')::boolean AS is_read_only, system_identifier,
       CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline
  FROM pg_control_system()
"""

# Not structlog's: in a command nothing has configured that one, and it would print to standard output.
log = logging.getLogger("mithril")

# Strings, because asyncpg's classes are generic only for the type checker.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class _Connection(asyncpg.Connection):
    """A connection whose prepared statements have names that no other connection uses.

    Behind a pooler the statement of that name in a session may be another client's (see `poolers`).
    """

    def _get_unique_id(self, prefix: str) -> str:
        return f"{prefix}_{uuid4().hex}"


def _traced(name: str) -> Callable[..., Awaitable[Any]]:
    """Return a method of a connection that runs its statement in a span. No argument of it is shown."""
    method = getattr(asyncpg.Connection, name)

    async def run(self: _Connection, query: str, *args: object, **options: object) -> object:
        with tracing.span("statement", {"db.system.name": "postgresql", "db.query.text": query}):
            return await method(self, query, *args, **options)

    return run


class _TracedConnection(_Connection):
    """A connection whose statements are spans."""


for statement in ("execute", "fetch", "fetchrow", "fetchval"):
    setattr(_TracedConnection, statement, _traced(statement))


class Unreachable(OSError):
    """No host of the URL gave a connection. The message says why, host by host."""


class Unfit(ConnectionError):
    """A server that answers is not the one that takes writes."""


class Host(NamedTuple):
    """A host of the URL: a name or IP address, or the path of a socket."""

    name: str
    port: int

    def __str__(self) -> str:
        """Return the host as messages show it."""
        return self.name if self.name.startswith("/") else f"{self.name}:{self.port}"


class Opened(NamedTuple):
    """A new connection, and its host."""

    connection: Connection
    host: Host


Deliver: TypeAlias = Callable[[Opened], None]


class _Search:
    """The search of one connection: whom to ask, who wants it, and why there is none yet."""

    def __init__(
        self,
        servers: "Servers",
        deliver: Deliver,
        *,
        report: Callable[[Exception], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self.hosts = tuple(servers.order)
        self.failed = [asyncio.Event() for _ in self.hosts]
        self.deliver, self._report, self._is_wanted = deliver, report, is_wanted
        self._failures: dict[Host, Exception] = {}
        self._known = dict(servers.silent)

    def note(self, place: int, error: Exception) -> bool:
        """Note why a host gave no connection, and report it when no other one is better.

        Return whether to go on: until each host has failed, and then as long as the connection is wanted.
        """
        self._failures[self.hosts[place]] = error
        self.failed[place].set()
        reasons = self._known | self._failures
        if len(reasons) == len(self.hosts):
            self._report(Unreachable("; ".join(f"{host}: {reason_of(reasons[host])}" for host in self.hosts)))
        return len(self._failures) < len(self.hosts) or self._is_wanted()


class Servers:
    """The hosts of one URL. Of several, the one that takes writes is meant, unless the URL says otherwise."""

    def __init__(
        self,
        url: str,
        *,
        statement_seconds: float | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        prepares: bool = True,
        reread: Callable[[], str] | None = None,
    ) -> None:
        """`statement_seconds`: the limit of each statement; None for a command, which may take its time.

        `settings`: of each session, unless the URL says otherwise. `prepares`: whether statements are prepared (see
        `poolers`). `reread`: says which URL to use now, when the password is refused. Raises asyncpg's InterfaceError
        for a URL with a fault.
        """
        if statement_seconds is None:
            limits = {"idle_in_transaction_session_timeout": f"{COMMAND_SILENCE_SECONDS}s"}
        else:
            limits = {"statement_timeout": f"{1_000 * (statement_seconds + 1):.0f}"}  # for one whose caller is gone
        self._own_settings = {**SETTINGS, **limits, **settings}
        self.url = ""
        self.silent: dict[Host, Exception] = {}
        self.change_url(url)
        self._statement_seconds = statement_seconds
        self._cached_statements = CACHED_STATEMENTS if prepares else 0
        self._reread = reread or (lambda: self.url)
        self._clock_ahead: float | None = None  # of PostgreSQL, before this process's monotonic clock
        self._newest: dict[int, str] = {}  # the newest timeline of a cluster that was seen to take writes
        self._is_for_reading = False
        self._away_since: float | None = None

    def for_reading(self) -> "Servers":
        """Return the same hosts for statements that each of them may answer, but for a primary that was replaced."""
        servers = copy.copy(self)  # what is known of the timelines is shared
        servers.order, servers.silent, servers._is_for_reading = [*self.order], {}, True  # noqa: SLF001 -- its own
        return servers

    def change_url(self, url: str) -> bool:
        """Connect by another URL from now on; return whether it differs. Raises as the constructor."""
        if url == self.url:
            return False
        # The one that worked last first, one that was left last.
        self.order, given, _ = _parsed(url)
        self.silent = {}
        self.url, self._settings, self._given = url, self._own_settings | given, NAME | given
        return True

    async def open(
        self, deliver: Deliver, *, report: Callable[[Exception], None], is_wanted: Callable[[], bool]
    ) -> None:
        """Ask all hosts, again and again, until one gives a connection or it is no longer wanted.

        `report` gets an Unreachable whenever a host fails and no other one is known to be better. A host that is
        known to be silent delays that no more.
        """
        search = _Search(self, deliver, report=report, is_wanted=is_wanted)
        asking = [asyncio.create_task(self._ask(search, place)) for place in range(len(search.hosts))]
        try:
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def open_one(self) -> Connection:
        """Return a connection, after each host was asked once. Raises Unreachable."""
        opened: list[Opened] = []
        failures: list[Exception] = []
        await self.open(opened.append, report=failures.append, is_wanted=lambda: False)
        if not opened:
            raise failures[-1]
        for another in opened[1:]:  # at the same moment
            another.connection.terminate()
        return opened[0].connection

    async def check(self, connection: Connection) -> None:
        """Raise Unfit when the server of a connection is not one to work with."""
        state = await connection.fetchrow(STATE)
        assert state is not None, "one row"
        if state["is_read_only"] and not self._is_for_reading and "target_session_attrs=" not in self.url:
            raise Unfit("it takes no writes")
        cluster, timeline = state["system_identifier"], state["timeline"]
        if timeline is not None:
            if timeline < (newest := self._newest.get(cluster, timeline)):
                raise Unfit(f"it was replaced: its timeline is {timeline}, the newest is {newest}")
            self._newest[cluster] = timeline
            self._note_clock(state["clock"])

    async def read_clock(self, connection: Connection) -> None:
        """Read PostgreSQL's clock again, which `deadline` goes by."""
        self._note_clock(await connection.fetchval(f"SELECT {CLOCK}"))

    def _note_clock(self, clock: float) -> None:
        """Note what PostgreSQL's clock has just shown, in seconds since 1970."""
        self._clock_ahead = clock - time.monotonic()

    def deadline(self) -> float | None:
        """Return until when, by PostgreSQL's clock, a caller waits for a statement that is sent now; None: unknown."""
        if self._clock_ahead is None or self._statement_seconds is None:
            return None
        return time.monotonic() + self._clock_ahead + self._statement_seconds

    def note_state(self, error: Exception | None) -> None:
        """Note that no host gives a connection, and why, or that one does. The log has it when that changes."""
        if error is not None and self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("database_away", extra={"reason": reason_of(error)})
        elif error is None and self._away_since is not None:
            log.warning("database_back", extra={"seconds": round(time.monotonic() - self._away_since, 1)})
            self._away_since = None

    def leave(self, host: Host) -> None:
        """Ask this host last from now on."""
        self.order.sort(key=lambda each: each == host)

    async def _ask(self, search: _Search, place: int) -> None:
        """Ask one host until it gives a connection, or the search ends."""
        host = search.hosts[place]
        if place:
            with suppress(TimeoutError):
                async with asyncio.timeout(STAGGER_SECONDS):
                    await search.failed[place - 1].wait()
        while True:
            try:
                opened = await self._attempt(host)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is this host's
                if not search.note(place, error):
                    return
            else:
                search.deliver(opened)
                return
            await asyncio.sleep(RETRY_SECONDS)

    async def _attempt(self, host: Host) -> Opened:
        """Return a connection to this host. Raises TimeoutError, Unfit and asyncpg's errors."""
        try:
            async with asyncio.timeout(HOST_SECONDS):
                connection = await self._authenticate(host)
                try:
                    _reset_when_abandoned(connection)
                    await self.check(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except TimeoutError as error:
            self.silent[host] = error
            raise
        except Exception:
            self.silent.pop(host, None)
            raise
        self.silent.pop(host, None)
        self.order.sort(key=lambda each: each != host)
        return Opened(connection, host)

    async def _authenticate(self, host: Host) -> Connection:
        """Connect, and where the password is refused see whether there is another one by now."""
        refused = self.url
        try:
            return await self._connect(host)
        except asyncpg.InvalidAuthorizationSpecificationError:
            url = self._reread()
            if url == refused:
                raise
            if url != self.url:  # unless another attempt was faster
                self.change_url(url)
            return await self._connect(host)

    async def _connect(self, host: Host) -> Connection:
        """Connect with the settings of the session or, where they are refused, for good without them."""
        connect: Callable[..., Awaitable[Connection]] = partial(
            asyncpg.connect,
            self.url,
            host=host.name,
            port=host.port,
            command_timeout=self._statement_seconds,
            connection_class=_TracedConnection if tracing.is_on() else _Connection,
            statement_cache_size=self._cached_statements,
            target_session_attrs="any" if self._is_for_reading else None,
        )
        try:
            return await connect(server_settings=self._settings)
        except REFUSED_SETTINGS as error:
            if self._settings == self._given:
                raise
            connection = await connect(server_settings=self._given)
            self._settings = self._given
            log.warning("session_settings_refused", extra={"host": str(host), "reason": str(error)})
            return connection


def _parsed(url: str) -> tuple[list[Host], dict[str, str], str]:
    """Return the hosts that asyncpg would ask, also from libpq's variables, the server settings, and the database.

    Raises asyncpg's ClientConfigurationError for a URL with a fault.
    """
    parse: Any = connect_utils._parse_connect_dsn_and_args  # type: ignore[attr-defined] # noqa: SLF001 -- no public one
    try:
        addresses, parameters = parse(**dict.fromkeys(inspect.signature(parse).parameters) | {"dsn": url})
    except asyncpg.InterfaceError:
        raise
    except OSError as error:  # of TLS, which does not say what it has read
        files = [f"{name}={path}" for name, path in parse_qsl(urlsplit(url).query) if name in TLS_FILES]
        text = error.filename or ", ".join(files) or "a file of certificates"
        raise asyncpg.ClientConfigurationError(f"{text} cannot be used: {error.strerror}") from error
    except (ValueError, OverflowError) as error:
        raise asyncpg.ClientConfigurationError("the URL is malformed") from error
    hosts = dict.fromkeys(Host(each, 0) if isinstance(each, str) else Host(*each) for each in addresses)
    return [*hosts], parameters.server_settings or {}, parameters.database


def shown(url: str) -> str:
    """Return the hosts and the database of a URL, without user, password and parameters."""
    hosts, _, name = _parsed(url)
    return f"{','.join(map(str, hosts))}/{name}"


def reason_of(error: Exception) -> str:
    """Return why a server is of no use, in words: the text of a time-out is empty."""
    return "it does not answer" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _reset_when_abandoned(connection: Connection) -> None:
    """Let the kernel drop, and never deliver later, what a closed connection has not sent, and notice a dead peer."""
    kernel: Any = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined] # noqa: SLF001 -- asyncpg has no other way to it
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if kernel.family == socket.AF_UNIX:
        return
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, f"TCP_{option}"):  # some exist on Linux only
            kernel.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{option}"), value)
