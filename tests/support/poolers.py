"""pgbouncer between the service and the PostgreSQL of the tests: each one that is on the PATH."""

import functools
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from mithril.database import embedded
from support import clusters

# Debian's has its place there, a newer one that was built beside it in /usr/local/bin (.ci/pgbouncer).
FOLDERS = ["/usr/local/bin", "/usr/sbin", *os.environ.get("PATH", os.defpath).split(os.pathsep)]
KEEPS_STATEMENTS = (1, 21)
PORT = 6432
WAIT_SECONDS = 60


class Pgbouncer(NamedTuple):
    """A pgbouncer that is installed."""

    path: str
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return "pgbouncer " + ".".join(map(str, self.version))

    def needs(self, version: tuple[int, ...]) -> None:
        """Skip the test with an older one."""
        if self.version < version:
            pytest.skip(f"{self.name} is older than {version}")

    @contextmanager
    def pooling(self, database_url: str, **settings: str) -> Iterator[str]:
        """Run it in front of the PostgreSQL of that URL; yield the URL of the same database through it.

        `settings`: of pgbouncer.ini.
        """
        parts = urlsplit(database_url)
        server = parse_qs(parts.query)["host"][0]
        with clusters.folders() as folder:
            own = {"listen_addr": "", "listen_port": str(PORT), "unix_socket_dir": str(folder), "auth_type": "any"}
            lines = "".join(f"{name} = {value}\n" for name, value in (settings | own).items())
            (folder / "pgbouncer.ini").write_text(f"[databases]\n* = host={server} user=postgres\n[pgbouncer]\n{lines}")
            command = [self.path, "--quiet", str(folder / "pgbouncer.ini")]
            if os.geteuid() == 0:  # it does not run as root
                account = embedded._system_user()
                os.chown(folder, account.pw_uid, account.pw_gid)
                ids = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
                command = [shutil.which("setpriv") or "setpriv", *ids, *command]
            log = (folder / "log").open("w")
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                _wait_for(folder / f".s.PGSQL.{PORT}", process, folder / "log")
                yield f"postgresql://postgres@{parts.path}?host={folder}&port={PORT}"
            finally:
                process.kill()
                process.wait()
                log.close()


@functools.cache
def installed() -> list[Pgbouncer]:
    """Find one of each version."""
    found: dict[tuple[int, ...], Pgbouncer] = {}
    for folder in FOLDERS:
        if path := shutil.which("pgbouncer", path=folder):
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            version = tuple(map(int, re.findall(r"\d+", said.splitlines()[0])))
            found.setdefault(version, Pgbouncer(path, version))
    return list(found.values())


def _wait_for(path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until connections are taken: the file is there a moment earlier."""
    deadline = time.monotonic() + WAIT_SECONDS
    with socket.socket(socket.AF_UNIX) as probe:
        while probe.connect_ex(str(path)) != 0:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
