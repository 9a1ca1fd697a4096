"""The public performance test of the original system, run by locust against a server with the demo data."""

import subprocess
from pathlib import Path

from benchmarks import processes
from benchmarks.processes import BIN, Failed, Ready

HERE = Path(__file__).parent
STOP_SECONDS = 10


def run(folder: Path, *, users: int, seconds: int) -> None:
    """Start a server in `folder`, and let that many users sign in again and again; locust prints its table.

    Raises Failed when an answer was not the expected one.
    """
    processes.install_python(HERE)
    ports = {"public": processes.free_port(), "internal": processes.free_port()}
    serve = [str(BIN / "mithril"), "serve", "--demo", "--home", str(folder / "home"), "--workers", "2"]
    command = [*serve, *processes.listeners(ports)]
    ready, log = Ready("public", "/readyz"), folder / "server.log"
    with processes.running(command, ports=ports, ready=ready, cwd=folder, log=log):
        addresses = [f"http://127.0.0.1:{ports['public']}", "--internal", f"http://127.0.0.1:{ports['internal']}"]
        load = ["--users", str(users), "--spawn-rate", str(users), "--run-time", str(seconds)]
        calm = ["--headless", "--only-summary", "--loglevel", "WARNING", "--stop-timeout", str(STOP_SECONDS)]
        locust = [str(HERE / ".venv/bin/locust"), "--locustfile", str(HERE / "locustfile.py"), *calm, *load]
        if subprocess.run([*locust, "--host", *addresses], cwd=folder, check=False).returncode:
            raise Failed("Not every answer was the expected one.")
