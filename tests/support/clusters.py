"""A PostgreSQL that a test may kill, freeze, fill or promote, with its own data and options."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mithril.database import embedded
from support.processes import Process

# Small and quick to recover; a commit is on disk before it is answered, as in production.
OPTIONS = {
    "listen_addresses": "''",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "wal_level": "replica",
    "fsync": "on",
    "synchronous_commit": "on",
}
WAIT_SECONDS = 60


class Cluster:
    """One PostgreSQL. `folder` has its data in `data`, its socket and its log."""

    def __init__(self, folder: Path, *, environment: dict[str, str] | None = None, **options: str) -> None:
        """`options`: settings of postgresql.conf in addition to those of all clusters."""
        self.folder, self.data = folder, folder / "data"
        self.options = OPTIONS | options
        self.environment = {"LC_ALL": "C", "TZ": "UTC"} | (environment or {})
        # PostgreSQL does not run as root.
        self.account = embedded._system_user() if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """The URL of its database `mithril`."""
        return url_of(self)

    def initialise(self) -> None:
        """Create the data, with an empty database `mithril`."""
        self._make_folder()
        access = ("--username=postgres", "--auth=trust", "--wal-segsize=1")
        self.run("initdb", "-D", str(self.data), "--encoding=UTF8", "--locale=C", "--no-instructions", *access)
        self.run("postgres", "--single", "-D", str(self.data), "postgres", given="CREATE DATABASE mithril;\n")

    def copy_of(self, primary: "Cluster") -> None:
        """Create the data of a standby of `primary`, which must be running."""
        self._make_folder()
        source = ("-h", str(primary.folder), "-U", "postgres")
        self.run("pg_basebackup", *source, "-D", str(self.data), "--checkpoint=fast", "--write-recovery-conf")

    def start(self) -> None:
        """Start it and wait until it answers; after a kill, also until its orphaned processes have ended."""
        self._clear_stale_pid()
        given = " ".join(f"-c {name}={value}" for name, value in self.options.items())
        options = f"{given} -k {self.folder}"
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._control("start", "-t", str(WAIT_SECONDS), "-l", str(self.folder / "log"), "-o", options)
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def stop(self, mode: str = "fast") -> None:
        """Stop it in whatever state it is."""
        if self.pids():
            self.thaw()
            command = self._command("pg_ctl", "stop", "--silent", "-w", "-D", str(self.data), "-m", mode)
            subprocess.run(command, capture_output=True, check=False)

    def promote(self) -> None:
        """Promote a standby, and wait until it is the primary."""
        self._control("promote", "-t", str(WAIT_SECONDS))

    def kill(self) -> None:
        """Kill all its processes with `kill -9`."""
        self.signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop its processes, so that nothing answers and nothing is closed."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let its processes continue."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def pids(self) -> list[int]:
        """Return the postmaster, then its children; nothing when it does not run."""
        try:
            postmaster = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return []
        return [postmaster, *children(postmaster)] if Path(f"/proc/{postmaster}").exists() else []

    def run(self, program: str, *arguments: str, given: str = "") -> str:
        """Run one of PostgreSQL's programs, and return its output."""
        done = subprocess.run(
            self._command(program, *arguments),
            input=given,
            capture_output=True,
            text=True,
            cwd="/",
            env=self.environment,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, program, done.stdout, done.stderr)
        return done.stdout

    def _control(self, action: str, *options: str) -> None:
        # Not captured: the server would inherit the pipe, and keep it open.
        command = self._command("pg_ctl", action, "-w", "-D", str(self.data), *options)
        with Path(os.devnull).open("r+b") as nothing:
            subprocess.run(
                command, cwd="/", env=self.environment, check=True, stdin=nothing, stdout=nothing, stderr=nothing
            )

    def _command(self, program: str, *arguments: str) -> list[str]:
        prefix = []
        if self.account:
            ids = (f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--clear-groups")
            prefix = [shutil.which("setpriv") or "setpriv", *ids]
        return [*prefix, str(embedded.postgres_bin() / program), *arguments]

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.account:
            os.chown(self.folder, self.account.pw_uid, self.account.pw_gid)
            embedded._let_others_read_programs()
            embedded._let_account_pass(embedded._Cluster(self.folder, (self.account.pw_uid, self.account.pw_gid)))

    def _clear_stale_pid(self) -> None:
        if not self.pids():
            (self.data / "postmaster.pid").unlink(missing_ok=True)


def url_of(*clusters: Cluster) -> str:
    """Return one URL with the hosts of all clusters."""
    return "postgresql://postgres@/mithril?port=5432&host=" + ",".join(str(each.folder) for each in clusters)


@contextmanager
def running(*, environment: dict[str, str] | None = None, **options: str) -> Iterator[Cluster]:
    """Run a new cluster until the end of the block."""
    with folders() as folder:
        cluster = Cluster(folder / "one", environment=environment, **options)
        cluster.initialise()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")


@contextmanager
def folders() -> Iterator[Path]:
    """Create a folder that PostgreSQL's user may enter, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="mf-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def children(parent: int) -> list[int]:
    """Return the child processes of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


def workers_of(process: Process) -> list[int]:
    """Return the pids of a server's workers, without the helper process of multiprocessing."""
    found = []
    for pid in children(process.popen.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return sorted(found)
