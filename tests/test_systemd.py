"""The unit of systemd: a machine that systemd starts installs the package by the page, and the unit serves.

The machine is a container with the files of this one, whose changes go nowhere. `make test-image` runs this, as root.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from support import clusters, repository
from support.programs import free_port, program
from support.readme import request_of_the_readme

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

PAGE = (repository() / "docs/install.md").read_text()
# Nothing that this machine starts is started there, for the network is the same.
BOOT = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
: > /mnt/root/etc/machine-id
exec systemd-nspawn --quiet --register=no --keep-unit --directory=/mnt/root --machine=mithril-test \\
  --bind-ro="$FOLDER:/srv" --boot -- --unit=basic.target
"""
SHOW = "systemctl show --property={} --value mithril"


class Machine:
    """A running machine, on which commands are run as root, in the folder with the package and the documents."""

    def __init__(self, leader: int) -> None:
        """`leader`: the process of its systemd."""
        self.leader = leader
        # Not a Python below /root, where the unit may not look.
        path = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {**{k: v for k, v in os.environ.items() if k.startswith("PIP_")}, "PATH": path, "HOME": "/"}

    def run(self, script: str) -> str:
        """Run a script of bash, which must succeed, and return what it printed."""
        command = ["nsenter", f"--target={self.leader}", "--all", "--wd=/", "bash", "-euc", f"cd /srv\n{script}"]
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()

    def wait_for(self, script: str, *printed: str) -> None:
        """Wait until the script prints one of these texts."""
        deadline = time.monotonic() + 60
        while (now := self.run(script)) not in printed:
            assert time.monotonic() < deadline, f"{now}\n{self.run('journalctl --unit mithril --no-pager --lines 50')}"
            time.sleep(0.2)


@pytest.fixture
def machine(tmp_path: Path, database_on_loopback: str) -> Iterator[Machine]:
    """A machine whose folder has the package, the documents, and the URL of an empty database."""
    program("systemd-nspawn")
    if os.geteuid():
        pytest.skip("only root may start a machine")
    subprocess.run(["make", "wheel", f"VENV={sys.prefix}"], cwd=repository(), check=True, env=_own_environment())
    for name in ("dist", "docs"):
        shutil.copytree(repository() / name, tmp_path / name)
    shutil.copy(repository() / "src/mithril/snapshots/demo.json", tmp_path)
    (tmp_path / "database-url").write_text(database_on_loopback)
    with (tmp_path / "boot.log").open("w") as log:
        command = ["unshare", "--mount", "bash", "-euc", BOOT]
        booted = subprocess.Popen(
            command,
            env={**_own_environment(), "FOLDER": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield _started(booted, tmp_path / "boot.log")
    finally:
        for leader in clusters.children(booted.pid):
            os.kill(leader, 9)
        booted.wait()


def _own_environment() -> Mapping[str, str]:
    """Return the environment without what `make` tells those that it runs."""
    return {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}


def _started(booted: "subprocess.Popen[bytes]", log: Path) -> Machine:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and booted.poll() is None:
        with suppress(AssertionError):
            for leader in clusters.children(booted.pid):
                machine = Machine(leader)
                machine.run("systemctl is-active basic.target")
                return machine
        time.sleep(0.2)
    text = log.read_text()
    if booted.poll():
        pytest.skip(f"no machine may be started here: {text}")
    pytest.fail(text)


def blocks(heading: str) -> list[str]:
    """Return the scripts below a heading of the page."""
    below = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", below, re.DOTALL)


def test_the_unit_serves_is_reloaded_comes_back_and_stops(machine: Machine) -> None:
    machine.run(blocks("The package")[0].replace("make wheel\n", ""))
    ports = {"MITHRIL_PORT": free_port(), "MITHRIL_INTERNAL_PORT": free_port()}
    public = f"http://127.0.0.1:{ports['MITHRIL_PORT']}"
    install, start = blocks("systemd")[0].split("systemctl daemon-reload\n")
    machine.run(install)
    machine.run("\n".join(f"echo {name}={port} >> /etc/mithril/mithril.env" for name, port in ports.items()))
    machine.run("MITHRIL_DATABASE_URL_FILE=/srv/database-url /opt/mithril/bin/mithril import demo.json")
    machine.run(f"systemctl daemon-reload\n{start}")
    ready = f"curl --silent --output /dev/null --write-out '%{{http_code}}' {public}/readyz || true"
    machine.wait_for(ready, "200")
    assert request_of_the_readme(public)["redirect_uri"] == "https://example3.com"

    first = machine.run(SHOW.format("MainPID"))
    assert machine.run(f"stat --format=%U /proc/{first}") == "mithril"
    machine.run("systemctl reload mithril")
    machine.wait_for('journalctl --unit mithril --output cat | grep --count \'"event":"reloaded"\' || true', "1")
    assert machine.run(SHOW.format("MainPID")) == first
    assert httpx.get(f"{public}/readyz").status_code == 200

    for count in range(1, 8):  # more often in ten seconds than systemd allows where nothing else is said
        machine.wait_for(SHOW.format("ActiveState"), "active")
        machine.run("systemctl kill --signal=KILL mithril")
        machine.wait_for(SHOW.format("NRestarts"), str(count))
    machine.wait_for(ready, "200")
    machine.run("systemctl stop mithril")
    assert machine.run(SHOW.format("Result")) == "success"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{public}/readyz")
