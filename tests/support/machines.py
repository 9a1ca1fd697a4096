"""Machines of a network of their own, which a test may freeze, kill or cut off.

Each is a network namespace of this machine, with a cable to a bridge. The thread of the test itself is in the network
too, and nothing of it can be seen from outside. This needs root.
"""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from mithril.database import embedded
from support.clusters import folders

CLONE_NEWNET = 0x4000_0000
BRIDGE = "bridge"


class Machine:
    """One machine. `folder` is its disk."""

    def __init__(self, name: str, ip: str, folder: Path) -> None:
        """`name`: at most ten characters. `ip`: its IP address in the network."""
        self.name, self.ip, self.folder = name, ip, folder
        account = embedded._system_user()
        folder.mkdir()
        os.chown(folder, account.pw_uid, account.pw_gid)
        self._account = (f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
        self._started: list[subprocess.Popen[bytes]] = []

    def plug_in(self) -> None:
        """Create the machine, and put its cable into the bridge."""
        self._holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
        assert self._holder.stdout
        self._holder.stdout.readline()
        ours, theirs = self._cable, ("ip", "link", "set", "eth0", "up")
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        _run("ip", "link", "set", ours, "master", BRIDGE, "up")
        for command in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "addr", "add", f"{self.ip}/24", "dev", "eth0"),
            theirs,
        ):
            _run(*self.inside, *command)

    def start(self, name: str, *command: str) -> None:
        """Start a program on the machine, as PostgreSQL's user; `name`: of its log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            full = (*self.inside, shutil.which("setpriv") or "setpriv", *self._account, *command)
            environment = {
                "PATH": f"/usr/sbin:{os.environ.get('PATH', os.defpath)}",
                "LC_ALL": "C",
                "HOME": str(self.folder),
            }
            self._started.append(
                subprocess.Popen(full, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment)
            )

    def log(self, name: str) -> str:
        """Return the end of a log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4_000:]

    def freeze(self) -> None:
        """Stop all that runs on it: nothing answers, and nothing is closed."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all go on."""
        self._signal(signal.SIGCONT)

    def crash(self, program: str) -> None:
        """Kill one of the programs that run on it, with all its processes."""
        for pid in self._pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill all that runs on it."""
        while self._pids():
            self._signal(signal.SIGKILL)
            for each in self._started:
                with suppress(subprocess.TimeoutExpired):
                    each.wait(0.05)
        for each in self._started:  # also what has ended by itself, or was not yet in the namespace
            each.kill()
            each.wait()
        self._started.clear()

    def cut(self) -> None:
        """Pull its cable out."""
        _run("ip", "link", "set", self._cable, "down")

    def heal(self) -> None:
        """Put its cable in again."""
        _run("ip", "link", "set", self._cable, "up")

    def remove(self) -> None:
        """Kill all that runs on it, and remove the machine."""
        self.kill()
        self._holder.communicate()

    @property
    def _cable(self) -> str:
        return f"to-{self.name}"

    @property
    def inside(self) -> tuple[str, ...]:
        """The beginning of a command that runs on the machine."""
        return ("nsenter", "--net", "--target", str(self._holder.pid), "--")

    def _pids(self) -> list[int]:
        """Return what runs on the machine: the processes of its namespace."""
        own, found = _namespace(self._holder.pid), []
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            with suppress(OSError, IndexError):
                is_over = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if pid != self._holder.pid and not is_over and _namespace(pid) == own:
                    found.append(pid)
        return found

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def network(ip: str, **machines: str) -> Iterator[dict[str, Machine]]:
    """Run a network with these machines, by their names and IP addresses; this thread is in it with `ip`."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter", "setpriv"))):
        pytest.skip("network namespaces need root, iproute2 and util-linux")
    kernel = ctypes.CDLL(None, use_errno=True)
    with ExitStack() as end:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        end.callback(os.close, before)
        if kernel.unshare(CLONE_NEWNET):
            pytest.skip("this machine allows no network namespaces")
        end.callback(kernel.setns, before, CLONE_NEWNET)
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{ip}/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        folder = end.enter_context(folders())
        made = {name: Machine(name, each, folder / name) for name, each in machines.items()}
        for machine in made.values():
            machine.plug_in()
            end.callback(machine.remove)
        yield made


def _namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
