"""The time from the start of the process to the first 200, with an initialised embedded PostgreSQL that is stopped."""

import time
from pathlib import Path
from statistics import median

from benchmarks import processes
from benchmarks.processes import BIN, Ready
from mithril.database import embedded


def seconds_to_first_answer(folder: Path, *, workers: int, tries: int) -> float:
    """Return the median time from the start of `mithril serve` to the first 200 of /readyz, in seconds.

    The home folder is initialised and its schema current. PostgreSQL is not running, so the time includes its start.
    """
    home = folder / f"home-{workers}"
    with embedded.running(home):
        pass
    processes.run([str(BIN / "mithril"), "migrate", "--home", str(home)], folder, {})
    return median(_once(home, folder, workers) for _ in range(tries))


def _once(home: Path, folder: Path, workers: int) -> float:
    ports = {"public": processes.free_port(), "internal": processes.free_port()}
    serve = [str(BIN / "mithril"), "serve", "--home", str(home), "--workers", str(workers)]
    command = [*serve, *processes.listeners(ports)]
    started = time.perf_counter()
    with processes.running(
        command, ports=ports, ready=Ready("public", "/readyz"), cwd=folder, log=folder / "startup.log"
    ):
        return time.perf_counter() - started
