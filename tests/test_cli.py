"""The commands on data, as processes: exit statuses and output."""

import asyncio
import importlib.metadata
import json
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest
import typer

import mithril
from mithril import settings
from mithril.cli import app
from support.processes import DEMO_CLIENT, DEMO_HEADERS, run, running_postgres, serving


@pytest.mark.slow
def test_migrating_twice_succeeds(unmigrated: str) -> None:
    first, second = (run("migrate", "--database-url", unmigrated) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.slow
def test_import_requires_a_current_schema(unmigrated: str, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text("{}")
    refused = run("import", str(file), "--database-url", unmigrated)
    assert refused.returncode == 1
    assert "mithril migrate" in refused.stderr


@pytest.mark.slow
def test_import_names_each_refused_entry(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"roles": [{"name": "A", "scope": "a"}, {"name": "B", "scope": 1}]}')
    refused = run("import", str(file), "--database-url", database_url)
    assert refused.returncode == 1
    assert "$.roles[1].scope" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_import_works_while_a_server_runs(demo_home: Path, tmp_path: Path) -> None:
    home, file = demo_home, tmp_path / "data.json"
    with serving("--home", str(home), "--demo") as process:
        exported = run("export", "--home", str(home))
        assert exported.returncode == 0
        data = json.loads(exported.stdout)
        assert '"secret' not in exported.stdout, "no key is one of a secret"
        data["connections"][0]["redirect_uri"] = "http://localhost:3000/"
        file.write_text(json.dumps(data))
        assert run("import", str(file), "--home", str(home), "--demo").returncode == 0
        assert httpx.get(process.public + "/readyz").status_code == 200
        again = json.loads(run("export", MITHRIL_HOME=str(home)).stdout)
        assert again["connections"][0]["redirect_uri"] == "http://localhost:3000/"
    assert not running_postgres(home)


@pytest.mark.slow
def test_a_change_of_a_command_is_seen_by_the_next_request_to_a_running_server(demo_home: Path) -> None:
    at_home = ("--home", str(demo_home))
    token = DEMO_HEADERS["Authorization"].removeprefix("Bearer ")
    with serving(*at_home, "--demo") as process:
        verify = f"{process.internal}/admin/tokens/{token}/verify"
        headers = {"API-key": DEMO_HEADERS["API-key"]}
        assert httpx.get(verify, headers=headers).status_code == 200
        blocked = run("client", "block", DEMO_CLIENT, "--reason", "an incident", "--json", *at_home)
        assert (blocked.returncode, json.loads(blocked.stdout)["is_blocked"]) == (0, True)
        assert httpx.get(verify, headers=headers).status_code == 401
        (line,) = run("audit", "--action", "client.update", "--json", *at_home).stdout.splitlines()
        assert json.loads(line)["new"] == {"is_blocked": True, "block_reason": "an incident"}
    assert not running_postgres(demo_home)


@pytest.mark.slow
def test_bytes_that_are_not_text_are_checked_too() -> None:
    address = "https://mis.example.com/\udcff"  # how Python passes the byte on
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    plain, as_json = (run("check-redirect-uri", *option, address, **strict) for option in ([], ["--json"]))
    assert (plain.returncode, plain.stderr) == (as_json.returncode, as_json.stderr) == (1, "")
    assert plain.stdout.startswith("refused   https://mis.example.com/\ufffd\n    non_ascii: ")
    (verdict,) = json.loads(as_json.stdout)
    assert (verdict["redirect_uri"], verdict["reasons"]) == ("https://mis.example.com/\ufffd", ["non_ascii"])


def test_each_option_of_serve_is_a_setting_of_the_list() -> None:
    options = typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
    made = {option.opts[0]: option.help for option in options}
    listed = {f"--{row.name.replace('_', '-')}": row.variable for row in settings.all_settings() if row.option}
    assert made.keys() == listed.keys()
    assert all(made[name].endswith(f" ({variable}).") for name, variable in listed.items())
    assert made.keys() == {
        *("--host", "--port", "--internal-host", "--internal-port", "--workers"),
        *("--demo", "--demo-exposed", "--database-url", "--home"),
    }


@pytest.mark.parametrize("command", ["migrate", "import", "export", "sweep", "audit"])
def test_a_command_that_works_on_a_database_takes_the_options_that_say_which(command: str) -> None:
    options = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    assert {"--database-url", "--home"} <= {option.opts[0] for option in options}


@pytest.mark.slow
def test_the_version_is_that_of_the_package() -> None:
    printed = {run(command).stdout for command in ("version", "--version")}
    assert printed == {f"{mithril.__version__}\n"} == {f"{importlib.metadata.version('mithril')}\n"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["settings", "--version", "--help", "export", "audit export --to - --state {}/at"])
def test_output_that_cannot_be_written_is_told_in_one_line(command: str, tmp_path: Path, database_url: str) -> None:
    asyncio.run(add_event(database_url))
    given, variables = command.format(tmp_path).split(), {"MITHRIL_DATABASE_URL": database_url}
    full = run(*given, through='exec "$@" >/dev/full', **variables)
    message = "mithril: standard output cannot be written: No space left on device\n"
    assert (full.returncode, full.stderr) == (1, message)
    gone = run(*given, through='{ sleep 0.1; "$@"; echo $? >&2; } | true', **variables)
    assert gone.stderr.splitlines()[-1] == "1"
    assert "Exception" not in gone.stderr
    closed = run(*given, through='exec "$@" >&-', **variables)
    assert closed.returncode == 0


@pytest.mark.slow
def test_a_command_prints_no_line_of_the_log() -> None:
    script = "import atexit, logging, sys; from mithril import cli; sys.argv[1:] = ['--version']"
    script += "; atexit.register(logging.getLogger('mithril').warning, 'database_away'); cli.main()"
    assert run("-c", script, program=sys.executable).stderr == ""


async def add_event(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO audit_events (action, subject_id) VALUES ('test', gen_random_uuid())")
    await connection.close()


@pytest.mark.slow
def test_an_exported_file_is_for_no_one_else(database_url: str, tmp_path: Path) -> None:
    assert run("export", "-o", str(tmp_path / "new"), "--database-url", database_url).returncode == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("command", "variable", "expected"),
    [
        ("migrate", "MITHRIL_WORKERS", "a whole number from 1 to 256"),
        ("serve", "MITHRIL_WORKERS", "a whole number from 1 to 256"),
        pytest.param("serve", "MITHRIL_PORT", "a whole number from 0 to 65535", marks=pytest.mark.slow),
        pytest.param("serve", "MITHRIL_DEMO", "true or false", marks=pytest.mark.slow),
        pytest.param("serve", "MITHRIL_JWT_SECRET", "a key of at least 64 bytes", marks=pytest.mark.slow),
    ],
)
def test_an_invalid_environment_variable_is_named_in_one_line(command: str, variable: str, expected: str) -> None:
    refused = run(command, **{variable: "many"})
    assert (refused.returncode, refused.stderr) == (1, f"mithril: {variable}: expected {expected}\n")
