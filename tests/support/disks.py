"""Small disks, to be filled."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.clusters import folders


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a disk of that size, such as `96m`, in memory. Skips the test where that is not allowed."""
    with folders() as folder:
        disk = folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(disk)]
        if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("a full disk needs a small one, and this user may not mount a tmpfs")
        try:
            yield disk
        finally:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Leave no room, by the file `filling`."""
    with suppress(OSError), (disk / "filling").open("ab", buffering=0) as filling:
        while True:
            filling.write(b"\0" * 4_096)
