"""The server process: both sockets, uvicorn, its workers, and the notice that the server is ready.

The routes are listed in `app`; the database is chosen in `cli`.
"""

import functools
import http.client
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import msgspec
import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from mithril import logs, metrics
from mithril.app import Application, create_app
from mithril.identifiers import is_loopback
from mithril.server.connection import Capacity, Limits, Protocol
from mithril.server.forwarded import ForwardedHeaders
from mithril.settings import Settings, SettingsError

BACKLOG = 2_048
READY_POLL_SECONDS = 0.02
# Open files that a worker needs besides the connections of its callers.
OTHER_FILES = 256
WORKER_SILENCE_SECONDS = 120.0

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


def check_exposure(settings: Settings) -> None:
    """Raise SettingsError when a network could reach demo data or, without a key, the internal listener.

    A host name that cannot be resolved raises it too.
    The port of a request decides which listener answers it, so the ports must differ even on different hosts.
    """
    if settings.port == settings.internal_port != 0:
        raise SettingsError("MITHRIL_PORT and MITHRIL_INTERNAL_PORT must differ, also on different addresses")
    for variable, host in (("MITHRIL_HOST", settings.host), ("MITHRIL_INTERNAL_HOST", settings.internal_host)):
        try:
            socket.getaddrinfo(host, None, _family(host))
        except OSError as error:
            raise SettingsError(f"{variable}: {host} cannot be resolved ({error.strerror or error})") from None
    exposed = [host for host in (settings.host, settings.internal_host) if not is_loopback(host)]
    if settings.demo and exposed and not settings.demo_exposed:
        raise SettingsError(
            f"anyone could use the secrets and tokens of the demo data on {exposed[0]}, because they are published: "
            "leave out --demo, or say --demo-exposed"
        )
    if settings.internal_key or settings.internal_open or is_loopback(settings.internal_host):
        return
    raise SettingsError(
        f"the internal listener would be open to the network on {settings.internal_host}: "
        "set MITHRIL_INTERNAL_KEY, or MITHRIL_INTERNAL_OPEN=true if the network itself keeps strangers away"
    )


def serve(settings: Settings, *, when_ready: Callable[[Settings], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests.

    `when_ready` is called once both listeners answer, with the settings that name the bound ports.
    Raises SettingsError when a port cannot be bound, and SystemExit(1) when the workers cannot start.
    """
    check_exposure(settings)
    logs.configure(level=settings.log_level, style=settings.log_format)
    allow_files(2 * settings.max_connections + settings.db_pool_size + OTHER_FILES)
    public, internal = (
        bind(settings.host, settings.port),
        bind(settings.internal_host, settings.internal_port),
    )
    settings = msgspec.structs.replace(settings, port=public.getsockname()[1], internal_port=internal.getsockname()[1])
    sockets = [public, internal]
    threading.Thread(target=_announce, args=(sockets, settings, when_ready), daemon=True).start()
    config = configuration(settings)
    if settings.workers > 1:
        Supervisor(config, sockets).run()
    else:
        uvicorn.Server(config).run(sockets)


def allow_files(wanted: int) -> None:
    """Raise the limit of open files of this process and its workers to `wanted`, or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed < wanted:
        log.warning("fewer files than connections: raise the limit (ulimit -n)", allowed=allowed, wanted=wanted)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def application(settings: Settings, *, supervisor_pid: int | None) -> Application | ForwardedHeaders:
    """Return what a worker serves: the application, behind the trusted proxies if there are any."""
    app = create_app(settings, supervisor_pid=supervisor_pid)
    return ForwardedHeaders(app, settings.trusted_proxies) if settings.trusted_proxies else app


def configuration(settings: Settings) -> uvicorn.Config:
    """Return the configuration of uvicorn. The settings must name the ports that were bound."""
    limits = Limits(settings.max_connections, settings.header_timeout, settings.send_timeout)
    return uvicorn.Config(
        functools.partial(application, settings, supervisor_pid=os.getpid() if settings.workers > 1 else None),
        factory=True,
        workers=settings.workers,
        http=functools.partial(Protocol, capacity=Capacity(limits)),  # type: ignore[arg-type]
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=int(settings.shutdown_timeout),
    )


def exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    """Handle a signal: exit with status 0 after every `with` block has finished."""
    raise SystemExit(0)


def handle_signals() -> None:
    """Exit cleanly on a signal that arrives before uvicorn handles signals, or that uvicorn raises again at its end."""
    signal.signal(signal.SIGTERM, exit_cleanly)
    signal.signal(signal.SIGINT, exit_cleanly)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # sent by a terminal that closes; nohup ignores it
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


class Worker(Process):
    """uvicorn's process of a worker, which counts in a table of its own."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], memory: metrics.SharedMemory, table: int
    ) -> None:
        """`memory`: of all workers; `table`: the number of this worker's own table in it."""
        super().__init__(config, sockets)
        self.memory, self.table = memory, table

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run in the new process."""
        self.memory.use(self.table)
        super().target(sockets)


class Supervisor(Multiprocess):
    """uvicorn's supervisor, with three differences.

    It closes its own copies of the sockets when it stops: as long as it held them, the kernel would accept
    connections that no worker serves. It never waits for an answer of a worker, so it replaces a dead worker and
    obeys a signal at once. And it waits WORKER_SILENCE_SECONDS for a silent worker: on an overloaded machine a
    worker that was killed for a slow start would only start slowly again.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        """Take the arguments of uvicorn's supervisor. Raises SettingsError when there is no room for the metrics."""
        super().__init__(config, sockets)
        self.heard_at: dict[Process, float] = {}
        try:
            self.memory = metrics.SharedMemory(config.workers)
        except OSError as error:
            raise SettingsError(str(error.strerror)) from None

    def init_processes(self) -> None:
        """Start all workers."""
        for table in range(self.config.workers):
            self.processes.append(self._started(table))

    def _started(self, table: int) -> Worker:
        worker = Worker(self.config, self.sockets, self.memory, table)
        worker.start()
        return worker

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that are dead or have been silent for too long."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.process.is_alive() and self._is_heard(worker):
                continue
            worker.kill()
            worker.join()
            self.heard_at.pop(worker, None)
            if worker.exitcode == STARTUP_FAILURE:
                log.error("a worker cannot start", pid=worker.pid)
                self.should_exit.set()
                return
            log.warning("a worker ended, another takes its place", pid=worker.pid, exit_status=worker.exitcode)
            self.processes[index] = self._started(index)

    def _is_heard(self, worker: Process) -> bool:
        """Return whether the worker has answered a ping recently. When it has, send the next ping."""
        now = time.monotonic()
        is_new = worker not in self.heard_at
        try:
            if is_new or worker.parent_conn.poll(0):
                if not is_new:
                    worker.parent_conn.recv()
                self.heard_at[worker] = now
                worker.parent_conn.send(b"ping")
        except (OSError, EOFError):
            return False
        return now - self.heard_at[worker] < WORKER_SILENCE_SECONDS

    def terminate_all(self) -> None:
        """Stop the workers after they have finished their requests."""
        failed = any(process.exitcode for process in self.processes)
        for listener in self.sockets:
            listener.close()
        super().terminate_all()
        if failed:
            self.join_all()
            raise SystemExit(1)


def _announce(sockets: list[socket.socket], settings: Settings, when_ready: Callable[[Settings], None]) -> None:
    addresses = [listener.getsockname()[:2] for listener in sockets]
    while not all(_answers(*address) for address in addresses):
        time.sleep(READY_POLL_SECONDS)
    when_ready(settings)


def _answers(host: str, port: int) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- to connect, not to bind
    connection = http.client.HTTPConnection(reachable, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
