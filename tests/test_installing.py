"""Installing heals itself, and what goes wrong at the first start is said in one line."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from support import repository
from support.disks import small_disk
from support.processes import MITHRIL, environment, run

pytestmark = pytest.mark.slow

# Stands in for Python: its pip makes what counts, or fails as often as the file `failures` says.
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv .venv") echo venv >>log; mkdir -p .venv/bin; touch .venv/pyvenv.cfg; cp "$0" .venv/bin/python ;;
  *"-m pip install"*) test -s failures && { : >failures; exit 130; }; cp "$0" .venv/bin/uv ;;
  *ensurepip*) test ! -e no-venv ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, and a program in place of Python."""
    shutil.copy(repository() / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml", "failures"):
        (tmp_path / name).touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def install(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "install", f"PYTHON={checkout}/python"]
    # Not the variables of a `make` that runs this test: its VENV is an environment that is in use.
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, env=own)


def test_an_interrupted_installation_begins_again(checkout: Path) -> None:
    (checkout / "failures").write_text("once")
    assert install(checkout).returncode
    assert not (checkout / ".venv/bin/uv").exists()
    assert install(checkout).returncode == 0
    (checkout / ".venv/installed").unlink()
    assert install(checkout).returncode == 0
    assert (checkout / "log").read_text().split() == ["venv"] * 3
    (checkout / "requirements.lock").touch()
    os.utime(checkout / ".venv/installed", (1, 1))
    assert install(checkout).returncode == 0
    assert (checkout / "log").read_text().split() == ["venv"] * 3, "only what is incomplete is removed"


def test_what_is_no_environment_is_not_removed(checkout: Path) -> None:
    kept = checkout / ".venv" / "thesis.txt"
    kept.parent.mkdir()
    kept.touch()
    assert install(checkout).returncode == 0
    assert kept.exists()


def test_python_without_venv_is_named(checkout: Path) -> None:
    (checkout / "no-venv").touch()
    failed = install(checkout)
    assert failed.returncode
    assert "apt install python3-venv" in failed.stderr.splitlines()[0]
    assert not (checkout / ".venv").exists()


def test_a_user_without_home_is_told_to_name_one(tmp_path: Path) -> None:
    script = "import os, pathlib; os.environ.clear(); os.getuid = lambda: 54321; from mithril.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", script, "migrate"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "MITHRIL_HOME" in ran.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_a_newer_schema_is_not_migrated(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    ran = run("migrate", MITHRIL_DATABASE_URL=database_url)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith("mithril: the schema is at version 9999, and this release knows ")


def test_an_export_into_nowhere_names_the_file(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "data.json"
    ran = run("export", "-o", str(file), MITHRIL_DATABASE_URL=database_url)
    assert (ran.returncode, ran.stderr) == (1, f"mithril: {file} cannot be written: No such file or directory\n")


@pytest.mark.parametrize("size", ["100k", "20m"])
def test_a_full_disk_at_the_first_start_is_one_line(size: str) -> None:
    with small_disk(size) as disk:
        ran = run("serve", "--home", str(disk / "home"), "--port", "0", "--internal-port", "0")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1), ran.stderr
    assert ran.stderr.endswith("No space left on device\n")
    assert len(ran.stderr) < 300


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3, 0.5, 1.0])
def test_ctrl_c_while_it_starts_shows_no_traceback(database_url: str, seconds: float) -> None:
    arguments = ["serve", "--database-url", database_url, "--port", "0", "--internal-port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", STARTED, *sys.path, "--", MITHRIL, *arguments],
        env=environment(MITHRIL_LOG_LEVEL="error"),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode in (0, 130)
    # How far it came by then depends on the machine: it may answer already.
    assert re.fullmatch(r"(Mithril answers on .*\n)?(mithril: interrupted\n)?", said), said


# The first milliseconds, in which Python itself starts, belong to no program.
STARTED = """
import sys
at = sys.argv.index("--")
sys.path, sys.argv = sys.argv[1:at], sys.argv[at + 1:]
from mithril.__main__ import main, _end
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
print("begun", flush=True)
main()
"""
