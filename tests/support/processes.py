"""The command `mithril` as a process: run to its end, or serving until a test stops it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mithril.database import embedded
from support.servers import DEMO_PORTS

MITHRIL = str(Path(sys.executable).parent / "mithril")
READY = re.compile(r"(http://\S+:\d+) \(public\) and (http://\S+:\d+) \(internal\)")

DEMO_CLIENT = "1380df72-275a-11e7-93ae-92361f002671"
DEMO_CONNECTION = "e5372365-d47a-467f-81d0-f35117864352"
DEMO_HEADERS = {
    "Authorization": "Bearer c2778f3064753ea70de870a53795f5c9",
    "API-key": "uXhEczJ56adsfh3Ri9SUkc4en",
}

# Long time limits, for servers of which a test asks something else: on a busy machine everything takes longer.
PATIENT = {"MITHRIL_POOL_TIMEOUT": "60", "MITHRIL_STATEMENT_TIMEOUT": "60", "MITHRIL_LOCK_TIMEOUT": "60"}


def environment(**variables: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MITHRIL_")}
    return inherited | variables


def run(
    *arguments: str, through: str = "", program: str = MITHRIL, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. `through`: what a shell does with it, such as `ulimit -n 300; exec "$@"`."""
    return subprocess.run(
        [*_shell(through), program, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def in_shell(script: str, *, folder: Path, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run commands as a page has them, up to the first that fails. `typed`: lines for what asks, without a terminal."""
    path = f"{Path(MITHRIL).parent}:{os.environ['PATH']}:{embedded.postgres_bin()}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(PATH=path, **variables),
        input=typed,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )


def _shell(script: str) -> list[str]:
    return ["sh", "-c", script, "sh"] if script else []


class Process:
    """A process of `mithril serve` on free ports."""

    def __init__(self, *arguments: str, through: str = "", program: str = MITHRIL, **variables: str) -> None:
        """`through`: as for `run`. `program`: of which release."""
        # A file, because an unread pipe would stop the server when it is full of log lines.
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed in end()
        self.popen = subprocess.Popen(
            [*_shell(through), program, "serve", "--port", "0", "--internal-port", "0", *arguments],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self.popen.stdout
        self.line = self.popen.stdout.readline()
        found = READY.search(self.line)
        if not found:
            self.popen.kill()
            pytest.fail(self.line + self.end())
        self.public, self.internal = found.groups()
        ports = {int(url.rpartition(":")[2]) for url in found.groups()}
        (DEMO_PORTS.update if "--demo" in arguments else DEMO_PORTS.difference_update)(ports)

    def end(self) -> str:
        """Wait for the end, and return the log."""
        assert self.popen.stdout
        with self.popen.stdout:
            self.printed = self.popen.stdout.read()
        self.popen.wait(timeout=120)
        with self.log:
            self.log.seek(0)
            return self.log.read()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """Stop the process with a signal, and return the log."""
        self.popen.send_signal(number)
        return self.end()

    def kill(self) -> None:
        """Kill the process and its workers with SIGKILL."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.end()


@contextmanager
def serving(*arguments: str, through: str = "", program: str = MITHRIL, **variables: str) -> Iterator[Process]:
    process = Process(*arguments, through=through, program=program, **variables)
    try:
        yield process
    finally:
        if process.popen.returncode is None:
            process.stop()


def running_postgres(home: Path) -> bool:
    """Return whether an embedded PostgreSQL of that home folder runs, also one that was left behind."""
    return (home / "postgres" / "postmaster.pid").exists()
