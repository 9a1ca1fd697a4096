"""Server processes: start, wait, measure memory and processor time, and stop."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

BIN = Path(sys.executable).parent
START_SECONDS = 120.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.002
MEBIBYTE = 1024 * 1024


class Failed(Exception):
    """A program ended or did not answer; the message has the end of its output."""


class Ready(NamedTuple):
    """The request and status by which a server shows that it is ready."""

    port: str
    path: str
    status: int = 200


class Server(NamedTuple):
    """A running server; `ports` by name."""

    process: psutil.Process
    ports: Mapping[str, int]

    @property
    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants."""
        return [self.process, *self.process.children(recursive=True)]

    @property
    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer requests: the children, or the process itself when it has none."""
        return [child for child in self.family[1:] if not _is_tracker(child)] or [self.process]

    def worker_mebibytes(self) -> float:
        """Return the resident set of the largest worker in MiB; shared pages count in full."""
        largest: int = max(worker.memory_info().rss for worker in self.workers)
        return largest / MEBIBYTE


def listeners(ports: Mapping[str, int]) -> list[str]:
    """Return the options that make the service listen on the ports `public` and `internal`."""
    return ["--port", str(ports["public"]), "--internal-port", str(ports["internal"])]


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str], *, ports: Mapping[str, int], ready: Ready, cwd: Path, log: Path, **variables: str
) -> Iterator[Server]:
    """Run a server until the block ends. Raises Failed when it does not get ready."""
    with log.open("wb") as said:
        started = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(**variables),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(psutil.Process(started.pid), ports)
    try:
        _await_answer(started, ports[ready.port], ready, log)
        yield server
    finally:
        _stop(started, server.family if started.poll() is None else [])


def run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run a program to its end. Raises Failed."""
    ran = subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Failed(f"{Path(command[0]).name} failed: {(ran.stderr or ran.stdout).strip()[-500:]}")


def install_python(folder: Path) -> None:
    """Bring the Python environment to the state of the lock file. Raises Failed."""
    lock, mark = folder / "requirements.lock", folder / ".venv" / "installed"
    if mark.exists() and mark.stat().st_mtime >= lock.stat().st_mtime:
        return
    uv, environment = str(BIN / "uv"), str(folder / ".venv")
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], folder, {})
    interpreter = ["--python", f"{environment}/bin/python"]
    run([uv, "pip", "install", "--quiet", *interpreter, "--require-hashes", "-r", str(lock)], folder, {})
    mark.touch()


def environment(**variables: str) -> dict[str, str]:
    """Return the environment without the variables of the measuring program, and with the given ones."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Return the processor time so far of these processes and their ended children."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def postgres_family(data: Path) -> list[psutil.Process]:
    """Return all processes of the PostgreSQL whose data is in the folder."""
    postmaster = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
    return [postmaster, *postmaster.children(recursive=True)]


def _await_answer(started: subprocess.Popen[bytes], port: int, ready: Ready, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _status(port, ready.path) != ready.status:
        if started.poll() is not None or time.monotonic() > deadline:
            raise Failed(log.read_text(errors="replace")[-2000:])
        time.sleep(POLL_SECONDS)


def _stop(started: subprocess.Popen[bytes], family: Sequence[psutil.Process]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(started.pid, signal.SIGTERM)
    try:
        started.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    _gone, left = psutil.wait_procs(list(family), timeout=STOP_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _is_tracker(process: psutil.Process) -> bool:
    """Return whether this is the process of Python's multiprocessing that only cleans up after the workers."""
    with contextlib.suppress(psutil.Error):
        return "resource_tracker" in " ".join(process.cmdline())
    return True


def _status(port: int, path: str) -> int | None:
    """Return the status with which the port answers, or None when it does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()
