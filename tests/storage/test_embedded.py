"""The embedded PostgreSQL: which process starts it, which one stops it, and which failures it survives."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from mithril.database import embedded
from mithril.database.embedded import EmbeddedError, postgres_bin, running

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another account")

pytestmark = pytest.mark.slow

# A process that uses the database: prints the URL, and leaves when its standard input ends.
USER = """
import subprocess, sys
from pathlib import Path
from mithril.database.embedded import running

with running(Path(sys.argv[1])) as url:
    try:
        print(url, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.stdin.read()
"""


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a home folder with a short path: the paths of pytest are long, and it removes the access of other users."""
    path = Path(tempfile.mkdtemp(prefix="mithril-test-")).resolve()
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.kill(server_pid(path), signal.SIGQUIT)
        shutil.rmtree(path)


@pytest.fixture
def fresh() -> Iterator[Path]:
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with folder() as path:
        yield path


@contextlib.contextmanager
def moved(home: Path, target: Path) -> Iterator[Path]:
    """Move the data of one home folder to another, because creating new data would take a second."""
    target.mkdir(parents=True)
    (home / "postgres").rename(target / "postgres")
    try:
        yield target
    finally:
        (target / "postgres").rename(home / "postgres")


@contextlib.contextmanager
def user(home: Path, *, script: str = USER) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def arrive(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def leave(*processes: subprocess.Popen[str]) -> list[int]:
    for process in processes:
        assert process.stdin
        process.stdin.close()
    return [process.wait() for process in processes]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def ask(url: str, sql: str) -> str:
    command = [str(postgres_bin() / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def server_pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().split("\n")[0])


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, also before its exit status is read."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ps = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if not ps.stdout.strip() or ps.stdout.startswith("Z"):
            return True
        time.sleep(0.02)
    return False


def socket_folder(url: str) -> Path:
    found = re.search(r"host=([^&]+)", url)
    assert found
    return Path(found[1])


# Join and leave


def test_postgresql_runs_inside_the_block_and_is_stopped_afterwards(home: Path) -> None:
    with running(home) as url:
        pid = server_pid(home)
        assert ask(url, "SELECT current_database()") == "mithril"
    assert is_gone(pid)
    assert not (home / "postgres" / "postmaster.pid").exists()


def test_data_survives_a_restart(home: Path) -> None:
    with running(home) as url:
        ask(url, "CREATE TABLE survivor AS SELECT 42 AS answer")
    with running(home) as url:
        assert ask(url, "SELECT answer FROM survivor") == "42"


def test_an_exception_stops_postgresql_too(home: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), running(home):
        pid = server_pid(home)
        raise ZeroDivisionError
    assert is_gone(pid)


def test_two_callers_in_one_process_share_one_postgresql(home: Path) -> None:
    with running(home) as outer:
        with running(home) as inner:
            assert inner == outer
        assert ask(outer, "SELECT 1") == "1"


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["starter first", "starter last"])
def test_only_the_last_user_stops_postgresql(home: Path, order: tuple[int, int]) -> None:
    with user(home) as starter, user(home) as other:
        url = arrive(starter)
        assert arrive(other) == url
        users = (starter, other)
        pid = server_pid(home)
        assert leave(users[order[0]]) == [0]
        assert ask(url, "SELECT 1") == "1"
        assert leave(users[order[1]]) == [0]
    assert is_gone(pid)


@pytest.mark.slow
def test_users_that_leave_simultaneously_all_succeed(home: Path) -> None:
    with user(home) as one, user(home) as two, user(home) as three:
        users = (one, two, three)
        assert len({arrive(each) for each in users}) == 1
        pid = server_pid(home)
        assert leave(*users) == [0, 0, 0]
    assert is_gone(pid)


def test_postgresql_of_a_killed_user_is_used_and_stopped_by_the_next(home: Path) -> None:
    with user(home) as victim:
        arrive(victim)
        pid = server_pid(home)
        kill(victim)
    with running(home) as url:
        assert server_pid(home) == pid
        assert ask(url, "SELECT 1") == "1"
    assert is_gone(pid)


def test_a_killed_user_does_not_count(home: Path) -> None:
    with user(home) as victim:
        arrive(victim)
        with running(home):
            pid = server_pid(home)
            kill(victim)
        assert is_gone(pid)


def test_a_program_started_by_a_user_does_not_count(home: Path) -> None:
    script = USER.replace("    try:", "    subprocess.Popen(['sleep', '9'], close_fds=False)\n    try:")
    with user(home, script=script) as victim:
        arrive(victim)
        pid = server_pid(home)
        kill(victim)
        with running(home):
            pass
        assert is_gone(pid)
        os.killpg(victim.pid, signal.SIGKILL)


def test_an_interrupt_from_the_terminal_does_not_reach_postgresql(home: Path) -> None:
    with user(home) as process:
        url = arrive(process)
        os.killpg(process.pid, signal.SIGINT)
        assert arrive(process) == "interrupted"
        assert ask(url, "SELECT 1") == "1"
        assert leave(process) == [0]


# The first start


@pytest.mark.slow
def test_two_simultaneous_first_starts_both_succeed(fresh: Path) -> None:
    with user(fresh) as one, user(fresh) as two:
        url = arrive(one)
        assert arrive(two) == url
        assert ask(url, "SELECT 1") == "1"
        assert leave(one, two) == [0, 0]


@pytest.mark.slow
def test_a_first_start_that_was_killed_does_not_harm_the_next(fresh: Path) -> None:
    with user(fresh) as victim:
        while not list(fresh.glob("postgres.new-*/global/pg_control")):
            time.sleep(0.005)
        kill(victim)
    assert not (fresh / "postgres").exists()
    with running(fresh) as url:
        assert ask(url, "SELECT 1") == "1"


def test_leftovers_of_a_killed_first_start_are_deleted(home: Path) -> None:
    leftover = home / "postgres.new-leftover"
    leftover.mkdir()
    (leftover / "PG_VERSION").write_text("18\n")
    with running(home):
        assert not leftover.exists()


def test_a_folder_with_other_files_is_not_touched(fresh: Path) -> None:
    (fresh / "postgres").mkdir()
    (diary := fresh / "postgres" / "diary").touch()
    with pytest.raises(EmbeddedError, match="holds something else"), running(fresh):
        pass
    assert (list(diary.parent.iterdir()), diary.stat().st_uid) == ([diary], os.geteuid())


# Failures that it survives


@pytest.mark.slow
def test_postgresql_recovers_after_it_was_killed(home: Path) -> None:
    with running(home) as url:
        ask(url, "CREATE TABLE crash AS SELECT 7 AS answer")
        os.kill(server_pid(home), signal.SIGKILL)
    with running(home) as url:
        assert ask(url, "SELECT answer FROM crash") == "7"


@pytest.mark.slow
def test_a_pid_of_another_program_is_not_a_server(home: Path) -> None:
    with running(home):
        lines = (home / "postgres" / "postmaster.pid").read_text().split("\n")
    uid = (home / "postgres").stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=uid if os.geteuid() == 0 else None) as stranger:
        text = "\n".join([str(stranger.pid), *lines[1:]])
        (home / "postgres" / "postmaster.pid").write_text(text)
        (home / "postgres" / ".s.PGSQL.5432.lock").write_text(text)
        with running(home) as url:
            assert ask(url, "SELECT 1") == "1"
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.slow
def test_an_empty_pid_file_is_not_a_server(home: Path) -> None:
    (home / "postgres" / "postmaster.pid").touch()
    with running(home) as url:
        assert ask(url, "SELECT 1") == "1"


def test_a_postgresql_that_others_stopped_is_started_again_while_it_has_users(home: Path) -> None:
    with running(home) as url:
        pid = server_pid(home)
        os.kill(pid, signal.SIGINT)
        assert is_gone(pid)
        with running(home) as again:
            assert again == url
        assert ask(url, "SELECT 1") == "1"


@pytest.mark.slow
def test_no_second_server_is_started_while_another_process_uses_an_unreachable_one(home: Path) -> None:
    with running(home):
        os.kill(server_pid(home), signal.SIGKILL)
        with pytest.raises(EmbeddedError, match="Another process uses"), running(home):
            pass


def test_an_error_quotes_the_log_of_postgresql(home: Path) -> None:
    settings = home / "postgres" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text(before + "no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match='unrecognized configuration parameter "no_such_setting"'), running(home):
        pass
    settings.write_text(before)


def test_a_large_log_is_emptied(home: Path) -> None:
    log = home / "postgres.log"
    with log.open("ab") as stream:
        stream.truncate(9 * 1024 * 1024)
    with running(home):
        assert 0 < log.stat().st_size < 64 * 1024


# The socket and the URL


def test_durability_settings_are_on_and_there_is_no_network_listener(home: Path) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "listen_addresses")
    columns = ", ".join(f"current_setting('{name}')" for name in names)
    with running(home) as url:
        assert ask(url, f"SELECT {columns}") == "on|on|on|on|"


def test_the_socket_is_accessible_for_its_owner_only(home: Path) -> None:
    with running(home) as url:
        path = socket_folder(url)
        owner = (home / "postgres").stat().st_uid
        for each in (path, path / ".s.PGSQL.5432"):
            assert (each.stat().st_uid, stat.S_IMODE(each.stat().st_mode)) == (owner, 0o700)


@pytest.mark.parametrize("name", ["d" * 120, "one,two"], ids=["deep", "comma"])
def test_a_home_path_unfit_for_a_socket_gets_a_private_folder(home: Path, fresh: Path, name: str) -> None:
    with moved(home, fresh / name) as unfit, running(unfit) as url:
        path = socket_folder(url)
        assert ask(url, "SELECT 1") == "1"
        assert path.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not path.exists()


def test_a_socket_folder_that_others_can_write_to_is_refused(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_SOCKET_FOLDER_LIMIT_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(fresh))
    cluster = embedded._Cluster(fresh, account=None)
    (path := embedded._socket_folder(cluster)).chmod(0o777)
    with pytest.raises(EmbeddedError, match=path.name):
        embedded._socket_folder(cluster)


def test_asyncpg_accepts_the_url_whatever_the_environment_and_the_path(
    home: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")

    async def connect(url: str) -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT lower('Ї')")
        finally:
            await connection.close()

    with moved(home, fresh / "моя тека") as other, running(other) as url:
        assert asyncio.run(connect(url)) == "ї"


def test_a_home_that_a_shell_would_read_differently_is_refused(fresh: Path) -> None:
    with pytest.raises(EmbeddedError, match="may hold no"), running(fresh / "$HOME"):
        pass


# Accounts


def test_data_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        embedded._locate(home)


@as_root
def test_as_root_postgresql_runs_as_the_owner_of_the_data(home: Path) -> None:
    with running(home):
        assert Path(f"/proc/{server_pid(home)}").stat().st_uid == (home / "postgres").stat().st_uid != 0


@as_root
def test_data_that_root_has_copied_is_usable(home: Path) -> None:
    for path in (home / "postgres", *(home / "postgres").rglob("*")):
        os.chown(path, 0, 0)
    with running(home) as url:
        assert ask(url, "SELECT 1") == "1"


@as_root
def test_parents_become_traversable_and_no_more(fresh: Path) -> None:
    (home := fresh / "closed" / "home").mkdir(parents=True)
    for path in (fresh, fresh / "closed", home):
        path.chmod(0o700)
    embedded._let_account_pass(embedded._Cluster(home, account=(54321, 54321)), home / "postgres")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (fresh, fresh / "closed", home)]
    assert modes == [0o701, 0o701, 0o701]


def test_programs_become_readable_and_keep_their_other_permissions(tmp_path: Path) -> None:
    for name, mode in (("program", 0o700), ("data", 0o600), ("open", 0o755)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    embedded._let_others_read(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"program": 0o705, "data": 0o604, "open": 0o755}


def test_a_system_user_that_cannot_be_created_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError("useradd")

    monkeypatch.setattr(embedded, "_SYSTEM_USER", "no-such-user")
    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(EmbeddedError, match=r"no-such-user cannot be created: .*useradd"):
        embedded._system_user()


def test_a_system_user_that_several_processes_need_is_created_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Like the real useradd, this one fails while another one runs."""
    made = tmp_path / "made"
    program = tmp_path / "useradd"
    program.write_text(f"#!/bin/sh\ncd {tmp_path} && mkdir busy || exit 1\nsleep 0.2\necho x >> {made}\nrmdir busy\n")
    program.chmod(0o755)

    def look_up(name: str) -> object:
        if not made.exists():
            raise KeyError(name)
        return name

    monkeypatch.setattr(embedded, "_USERADD", program)
    monkeypatch.setattr(embedded.pwd, "getpwnam", look_up)  # type: ignore[attr-defined]
    with ThreadPoolExecutor() as pool:
        found: list[object] = [each.result() for each in [pool.submit(embedded._system_user) for _ in range(4)]]
    assert found == [embedded._SYSTEM_USER] * 4
    assert made.read_text() == "x\n"
