"""The server process: both sockets, uvicorn, its workers, and the notice that the server is ready.

The routes are listed in `app`; the database is chosen in `cli`.
"""

import asyncio
import functools
import http.client
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import cast

import msgspec
import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from mithril import __version__, logs, metrics, streams
from mithril.app import Application, create_app
from mithril.database import connecting
from mithril.identifiers import is_loopback
from mithril.server import files, signals
from mithril.server.connection import Capacity, Limits, Protocol
from mithril.server.forwarded import ForwardedHeaders
from mithril.server.signals import Hangup
from mithril.settings import Settings, SettingsError, all_settings, reread
from mithril.web import requests

READY_POLL_SECONDS = 0.02
WORKER_SILENCE_SECONDS = 120.0
# How long a worker may take to end, beside the time for its requests.
LAST_SECONDS = 10.0
# What the log shows instead of a secret, and where a URL has user and password.
MASK = "***"
CREDENTIALS = re.compile(r"(?<=//)[^/]*(?=@)")

log = structlog.stdlib.get_logger("mithril")


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound but does not listen yet. Raises SettingsError with host, port and reason."""
    listener = socket.socket(_family(host), socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    listener.set_inheritable(True)
    return listener


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def check(settings: Settings) -> None:
    """Raise SettingsError when a network could reach demo data or, without a key, the internal listener.

    A host name that cannot be resolved, and a package that the settings need and is missing, raise it too.
    """
    if problems := [*exposures(settings), *missing_packages(settings)]:
        raise SettingsError(*problems)


def missing_packages(settings: Settings) -> Iterator[str]:
    """Yield which settings need an extra that is not installed."""
    for variable, value, package, extra in (
        ("MITHRIL_TRACES_ENDPOINT", settings.traces_endpoint, "opentelemetry", "traces"),
        ("MITHRIL_WEBHOOK_KEY", settings.webhook_key, "standardwebhooks", "webhooks"),
    ):
        if value and find_spec(package) is None:
            yield f"{variable} needs the extra `{extra}`, which is not installed: docs/install.md#the-package"


def exposures(settings: Settings) -> Iterator[str]:
    """Yield what a network could reach.

    The port of a request decides which listener answers it, so the ports must differ even on different hosts.
    """
    if settings.port == settings.internal_port != 0:
        yield "MITHRIL_PORT and MITHRIL_INTERNAL_PORT must differ, also on different addresses"
    resolved = []
    for variable, host in (("MITHRIL_HOST", settings.host), ("MITHRIL_INTERNAL_HOST", settings.internal_host)):
        try:
            socket.getaddrinfo(host, None, _family(host))
            resolved.append(host)
        except OSError as error:
            yield f"{variable}: {host} cannot be resolved ({error.strerror or error})"
    exposed = [host for host in resolved if not is_loopback(host)]
    if settings.demo and exposed and not settings.demo_exposed:
        yield (
            f"anyone could use the secrets and tokens of the demo data on {exposed[0]}, because they are published: "
            "leave out --demo, or say --demo-exposed"
        )
    if settings.internal_host in exposed and not (settings.internal_key or settings.internal_open):
        yield (
            f"the internal listener would be open to the network on {settings.internal_host}: "
            "set MITHRIL_INTERNAL_KEY, or MITHRIL_INTERNAL_OPEN=true if the network itself keeps strangers away"
        )


def serve(
    settings: Settings,
    *,
    prepare: Callable[[Settings], None],
    when_ready: Callable[[Settings], None],
    hangup: Hangup,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests.

    `prepare` is called before any request is taken, and `when_ready` once both listeners answer, with the settings
    that name the bound ports.
    Raises SettingsError when a port cannot be bound, or there is no room, and SystemExit(1) when the workers cannot
    start.
    """
    check(settings)
    logs.configure(level=settings.log_level, style=settings.log_format)
    files.allow(settings)
    public, internal = (
        bind(settings.host, settings.port),
        bind(settings.internal_host, settings.internal_port),
    )
    sockets = [public, internal]
    addresses = _shown(sockets)
    log.info(
        "starting",
        version=__version__,
        workers=settings.workers,
        database=connecting.shown(settings.database_url),
        **addresses,
        settings=changed(settings),
    )
    settings = msgspec.structs.replace(settings, port=public.getsockname()[1], internal_port=internal.getsockname()[1])
    prepare(settings)
    if settings.workers > 1:
        run = Supervisor(settings, sockets, hangup).run
    else:
        run = functools.partial(Single(settings, hangup).run, sockets)

    def announce() -> None:
        log.info("ready", **addresses)
        when_ready(settings)

    threading.Thread(target=_when_both_answer, args=(sockets, announce), daemon=True).start()
    run()


def changed(settings: Settings) -> dict[str, object]:
    """Return the settings that are not as they are by default, for the log: without secrets and passwords.

    Without the URL of the database too, whose hosts and name the log has.
    """
    values = {each: getattr(settings, each.name) for each in all_settings() if each.name != "database_url"}
    return {
        each.name: MASK if each.is_secret else CREDENTIALS.sub(MASK, value) if isinstance(value, str) else value
        for each, value in values.items()
        if value != each.default
    }


def read_again(settings: Settings) -> Settings | None:
    """Return the settings with what their files say now, or None, logged, when they cannot be used."""
    try:
        found = reread(settings)
    except SettingsError as error:
        log.warning("reload_failed", reason=str(error))
        return None
    log.info("reloaded", settings=settings.from_files)
    return found


def application(settings: Settings, *, supervisor_pid: int | None) -> Application | ForwardedHeaders:
    """Return what a worker serves: the application, behind the trusted proxies if there are any."""
    app = create_app(settings, supervisor_pid=supervisor_pid)
    return ForwardedHeaders(app, settings.trusted_proxies) if settings.trusted_proxies else app


def configuration(settings: Settings) -> uvicorn.Config:
    """Return the configuration of uvicorn. The settings must name the ports that were bound."""
    room = files.room(settings)
    limits = Limits(room.connections, room.overflow, settings.header_timeout, settings.send_timeout)
    return uvicorn.Config(
        functools.partial(application, settings, supervisor_pid=os.getpid() if settings.workers > 1 else None),
        factory=True,
        workers=settings.workers,
        http=functools.partial(Protocol, capacity=Capacity(limits, internal_port=settings.internal_port)),  # type: ignore[arg-type]
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=room.overflow,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=int(settings.shutdown_timeout),
    )


class Server(uvicorn.Server):
    """uvicorn's server; but when it stops, it also serves the connections that the kernel has already accepted.

    To close a listener resets them, though their requests may have been sent, so that no front may send them again.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, and finish those that are there."""
        listeners = sockets or []
        taken = [connection for listener in listeners for connection in _accepted(listener, self.config.backlog)]
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        for connection in taken:
            with suppress(OSError):  # its caller has gone
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """Return what serves one connection, as `startup` makes it."""
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _accepted(listener: socket.socket, most: int) -> Iterator[socket.socket]:
    """Take at most so many connections that wait in the kernel. Another worker may take some of them."""
    listener.setblocking(False)
    with suppress(OSError):
        for _ in range(most):
            yield listener.accept()[0]


class Single(Server):
    """A server without workers, which reads its settings again in place."""

    def __init__(self, settings: Settings, hangup: Hangup) -> None:
        """`hangup`: tells when to read the settings again."""
        super().__init__(configuration(settings))
        self.settings, self.hangup = settings, hangup

    async def on_tick(self, counter: int) -> bool:
        """Do what is to be done every tenth of a second."""
        if self.hangup.take() and (found := read_again(self.settings)):
            self.settings = found
            served = self.config.loaded_app
            cast("Application", served.app if isinstance(served, ForwardedHeaders) else served).change(found)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say which signal it was, and stop as every server does."""
        _tell_stopping(self._captured_signals)
        await super().shutdown(sockets)


class Worker(Process):
    """uvicorn's process of a worker, which counts in a table of its own."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], memory: metrics.SharedMemory, table: int
    ) -> None:
        """`memory`: of all workers; `table`: the number of this worker's own table in it."""
        super().__init__(config, sockets)
        self.memory, self.table = memory, table
        self.heard_at: float | None = None
        self.is_serving = False
        self.ends_at = 0.0

    @property
    def server(self) -> uvicorn.Server:
        """The server, which is made in the new process."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server

    def start(self) -> None:
        """Start the process. SIGHUP, which a closing terminal sends to all, is for the supervisor alone."""
        with signals.held_back(signal.SIGHUP):
            super().start()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run in the new process."""
        streams.install()
        signal.signal(signal.SIGTERM, signals.exit_cleanly)
        self.memory.use(self.table)
        assert self.server, "made before a second thread asks for it"
        super().target(sockets)

    def terminate(self) -> None:
        """Let it finish its requests, for as long as the settings allow, and end."""
        super().terminate()
        self.ends_at = time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + LAST_SECONDS

    def is_over(self) -> bool:
        """Return whether it has ended, as it was told to. Kill it when it should have by now."""
        if time.monotonic() > self.ends_at:
            self.process.kill()
        return not self.process.is_alive()

    def join(self) -> None:
        """Wait for its end, and no longer than it may take."""
        self.process.join(max(0.0, self.ends_at - time.monotonic()))
        self.process.kill()
        self.process.join()

    def is_heard(self) -> bool:
        """Return whether the worker lives and has answered a ping recently. When it has, send the next ping."""
        now = time.monotonic()
        try:
            if self.heard_at is None or self.parent_conn.poll(0):
                if self.heard_at is not None:
                    self.is_serving = self.parent_conn.recv()
                self.heard_at = now
                self.parent_conn.send(b"ping")
        except (OSError, EOFError):
            return False
        return self.process.is_alive() and now - self.heard_at < WORKER_SILENCE_SECONDS


class Supervisor(Multiprocess):
    """uvicorn's supervisor, with four differences.

    It closes its own copies of the sockets when it stops: as long as it held them, the kernel would accept
    connections that no worker serves. It never waits for a worker, so it replaces a dead one and obeys a signal at
    once. It waits WORKER_SILENCE_SECONDS for a silent worker: on an overloaded machine a worker that was killed for a
    slow start would only start slowly again. And on SIGHUP it reads the settings again and replaces the workers one
    after the other: the next one is started when the last one serves, and the one before has finished its requests.
    """

    processes: list[Worker]  # type: ignore[assignment]

    def __init__(self, settings: Settings, sockets: list[socket.socket], hangup: Hangup) -> None:
        """`hangup`: tells when to read the settings again. Raises SettingsError when there is no room for metrics."""
        super().__init__(configuration(settings), sockets)
        signals.handle_others(hangup)
        self.settings, self.hangup = settings, hangup
        self.successor: Worker | None = None
        self.leaving: Worker | None = None
        self.is_replacing = False
        # One for each worker, for a successor, and for this process.
        self.spare_table = settings.workers
        try:
            self.memory = metrics.SharedMemory(settings.workers + 2)
        except OSError as error:
            raise SettingsError(str(error.strerror)) from None
        self.memory.use(settings.workers + 1)

    def init_processes(self) -> None:
        """Start all workers."""
        self.processes = [self._started(table) for table in range(self.processes_num)]

    def _started(self, table: int) -> Worker:
        worker = Worker(self.config, self.sockets, self.memory, table)
        worker.start()
        return worker

    def handle_signals(self) -> None:
        """Say which signal it is, and obey it."""
        _tell_stopping(self.signal_queue)
        super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that are dead or have been silent for too long, and on SIGHUP all, one at a time."""
        if self.hangup.take() and (found := read_again(self.settings)):
            self.settings, self.config, self.is_replacing = found, configuration(found), True
        try:
            self._replace_dead()
            if self.is_replacing:
                self._replace_next()
        except OSError as error:
            log.warning("worker_not_started", reason=str(error))

    def _replace_dead(self) -> None:
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.is_heard():
                continue
            worker.kill()
            worker.join()
            if worker.exitcode == STARTUP_FAILURE:
                log.error("worker_failed", pid=worker.pid, exit_status=worker.exitcode)
                self.should_exit.set()
                return
            log.warning("worker_ended", pid=worker.pid, exit_status=worker.exitcode)
            self.processes[index] = self._started(worker.table)

    def _replace_next(self) -> None:
        """Take the next step in replacing the workers that have other settings."""
        if self.leaving is not None:
            if not self.leaving.is_over():
                return
            self.spare_table = self.leaving.table
            self.leaving = None
        outdated = next((n for n, worker in enumerate(self.processes) if worker.config is not self.config), None)
        if outdated is None:
            self.is_replacing = False
            log.info("workers_replaced", workers=len(self.processes))
        elif self.successor is None:
            self.successor = self._started(self.spare_table)
        elif not self.successor.is_heard():
            self.successor.kill()
            self.successor.join()
            log.error("worker_failed", pid=self.successor.pid, exit_status=self.successor.exitcode)
            self.successor, self.is_replacing = None, False
        elif self.successor.is_serving:
            self.leaving = self.processes[outdated]
            self.processes[outdated], self.successor = self.successor, None
            self.leaving.terminate()

    def terminate_all(self) -> None:
        """Stop the workers after they have finished their requests."""
        failed = any(process.exitcode for process in self.processes)
        for listener in self.sockets:
            listener.close()
        self.processes += [worker for worker in (self.successor, self.leaving) if worker]
        super().terminate_all()
        if failed:
            self.join_all()
            raise SystemExit(1)


def _tell_stopping(received: Iterable[int]) -> None:
    for number in received:
        log.info("stopping", signal=signal.Signals(number).name)


def _shown(sockets: list[socket.socket]) -> dict[str, str]:
    """Return IP address and port of both listeners, as the log has them."""
    public, internal = (requests.authority(*listener.getsockname()[:2]) for listener in sockets)
    return {"public": public, "internal": internal}


def _when_both_answer(sockets: list[socket.socket], announce: Callable[[], None]) -> None:
    addresses = [listener.getsockname()[:2] for listener in sockets]
    while not all(answers(*address) for address in addresses):
        time.sleep(READY_POLL_SECONDS)
    announce()


def answers(host: str, port: int) -> bool:
    """Return whether a server of this kind answers on that port."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- to connect, not to bind
    connection = http.client.HTTPConnection(reachable, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK and b'"alive"' in answer.read()
    except (OSError, http.client.HTTPException):  # or another program
        return False
    finally:
        connection.close()
