"""The container image, as `make image` builds it, and podman."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import repository

IMAGE = "localhost/mithril"
NEEDED = ("podman", "mmdebstrap", "strip")


def needed() -> None:
    """Skip where the programs are missing."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)} on this machine: apt-get install podman runc mmdebstrap binutils")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment in which podman works here too: inside a sandbox that may raise no limit."""
    limits = {"nofile": (resource.RLIMIT_NOFILE, 16_384), "nproc": (resource.RLIMIT_NPROC, 4_096)}
    allowed = {name: _allowed(*limit) for name, limit in limits.items()}
    ulimits = [f"{name}={value}:{value}" for name, value in allowed.items()]
    engine = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
    file = folder / "containers.conf"
    file.write_text(f"[containers]\ndefault_ulimits = {json.dumps(ulimits)}\n{engine}")
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    return {**own, "CONTAINERS_CONF": str(file), "BUILDAH_ISOLATION": "chroot"}


def _allowed(limit: int, wanted: int) -> int:
    _, hard = resource.getrlimit(limit)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


class Podman:
    """Podman, with that environment."""

    def __init__(self, folder: Path) -> None:
        self.environment = environment(folder)

    def run(self, *arguments: str, status: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Run a command of podman, which must end with this status, if one is given."""
        ran = subprocess.run(
            ["podman", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert status in (None, ran.returncode), ran.stdout + ran.stderr
        return ran

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what podman knows of an image or a container."""
        found: dict[str, Any] = json.loads(self.run("inspect", name).stdout)[0]
        return found

    def build(self) -> None:
        """Run `make image`."""
        command = ["make", "image", f"VENV={sys.prefix}"]
        ran = subprocess.run(
            command, cwd=repository(), env=self.environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    @contextmanager
    def running(self, *arguments: str) -> Iterator[str]:
        """Run a container in the background, and remove it at the end; yield its id."""
        name = self.run("run", "--detach", *arguments).stdout.strip()
        try:
            yield name
        finally:
            self.run("rm", "--force", "--time", "0", name)
