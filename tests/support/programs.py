"""Programs of clusters that may be installed, run with the configurations of docs/clusters."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from mithril.database import embedded
from support import repository
from support.clusters import folders

EXAMPLES = repository() / "docs/clusters"
WAIT_SECONDS = 60


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.skip(f"no {name} on this machine: apt-get install haproxy nginx patroni etcd-server")
    return found


def example(name: str, changes: Mapping[str, str]) -> str:
    """Return a configuration, with each of these texts, which it must have, replaced."""
    text = (EXAMPLES / name).read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def free_port() -> int:
    """Return a port of this machine that nothing uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def folder_of_account() -> Iterator[Path]:
    """Create a folder of the user as which `started` runs programs."""
    with folders() as folder:
        if os.geteuid() == 0:
            account = embedded._system_user()
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder


@contextmanager
def started(*command: str, port: int) -> Iterator[None]:
    """Run a program, not as root, until the end of the block, which begins when it listens at this port."""
    account = embedded._system_user() if os.geteuid() == 0 else None
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": os.defpath},
            user=account and account.pw_uid,
            group=account and account.pw_gid,
        )
        try:
            wait_for("127.0.0.1", port, process, log)
            yield
        finally:
            process.kill()
            process.wait()


def wait_for(
    ip: str, port: int, process: "subprocess.Popen[bytes] | None" = None, log: IO[bytes] | None = None
) -> None:
    """Wait until something listens there, as long as the process runs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        if log and process and process.poll() is not None:
            log.seek(0)
            pytest.fail(log.read().decode(errors="replace"))
        assert time.monotonic() < deadline
        with suppress(ConnectionRefusedError), socket.create_connection((ip, port)):
            return
        time.sleep(0.01)


def nginx_configuration(folder: Path, configuration: str) -> Path:
    """Write what nginx needs, as any user, around an example of the `http` block; return the file."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{configuration}}}\n"
    )
    return file
