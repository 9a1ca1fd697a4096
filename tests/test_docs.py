"""The documentation is correct: commands run, links resolve, tables match the code."""

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mithril import settings
from mithril.connections import redirect_uris
from support import processes, repository
from support.programs import free_port

README = (repository() / "README.md").read_text()
OTHERS = {".venv", ".venvs", ".site", ".tools", "node_modules"}  # what is installed here has documents too
DOCUMENTS = [p for p in repository().rglob("*.md") if not OTHERS & set(p.parts)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def joined(
    page: str, *, public: str, internal: str, folder: Path, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run the shell blocks of a page as one script, without a terminal; end what it leaves running.

    `public`, `internal`: the URLs that take the place of those in the page.
    """
    script = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    script = script.replace("http://127.0.0.1:4000", public).replace("http://127.0.0.1:4001", internal)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=processes.environment(PATH=path, **variables),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            process.wait(timeout=200)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    printed = [(folder / name).read_text() for name in ("out", "err")]
    return subprocess.CompletedProcess(script, process.returncode, *printed)


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 120


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository() / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"\bmake ([a-z-]+)\b(?=[`\s]*(?:#|`|\n))", document.read_text())) <= targets, document


def test_the_request_in_the_readme_is_the_printed_one() -> None:
    from mithril.cli import serve  # noqa: PLC0415 -- only here

    (request,) = (block for block in blocks("sh") if block.startswith("curl"))
    printed = serve.DEMO_REQUEST.format(public="http://127.0.0.1:4000", sign_in="")
    assert shlex.split(request.replace("\\\n", "")) == shlex.split(
        printed[printed.index("curl") : printed.index("Then sign in")].replace("\\\n", "")
    )


def test_the_answer_in_the_readme_has_the_fields_of_the_method() -> None:
    (answer,) = (json.loads(block) for block in blocks("json"))
    assert list(answer["data"]) == ["id", "client_id", "consumer_id", "redirect_uri", "inserted_at", "updated_at"]


@pytest.mark.slow
@pytest.mark.parametrize("command", re.findall(r"^\.venv/bin/(mithril .*?)(?:\s+#.*)?$", README, re.MULTILINE))
def test_the_commands_in_the_readme_run(command: str, demo_home: Path, tmp_path: Path) -> None:
    _, *arguments = shlex.split(command)
    (tmp_path / "data.json").write_text("{}")
    program = str(Path(sys.executable).parent / "mithril")
    home = {"MITHRIL_HOME": str(demo_home), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    ran = subprocess.run([program, *arguments], cwd=tmp_path, env=home, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_the_commands_for_operators_lead_from_an_empty_database_to_a_verified_token(
    unmigrated: str, tmp_path: Path
) -> None:
    page = (repository() / "docs/first-sign-in.md").read_text()
    ports = {"MITHRIL_PORT": str(free_port()), "MITHRIL_INTERNAL_PORT": str(free_port())}
    public, internal = (f"http://127.0.0.1:{port}" for port in ports.values())
    ran = joined(page, public=public, internal=internal, folder=tmp_path, MITHRIL_DATABASE_URL=unmigrated, **ports)
    assert ran.returncode == 0, ran.stderr
    assert '"name":"access_token"' in ran.stdout
    assert '"redirect_uri":"https://mis.example.com/clinic"' in ran.stdout
    assert not re.search("refused|Traceback", ran.stderr)


@pytest.mark.slow
def test_the_commands_for_integrators_lead_from_a_demo_to_a_refreshed_token(demo_home: Path, tmp_path: Path) -> None:
    page = (repository() / "docs/integrate.md").read_text()
    with processes.serving("--demo", "--home", str(demo_home), **processes.PATIENT) as server:
        ran = joined(page, public=server.public, internal=server.internal, folder=tmp_path)
    assert ran.returncode == 0, ran.stderr
    moved, user, verified, refreshed, standard = (json.loads(part) for part in re.split(r"(?<=\})(?=\{)", ran.stdout))
    assert moved["data"]["redirect_uri"] == "http://localhost:3000/callback"
    assert user["data"]["email"] == "owner@clinic.example"
    assert verified["data"]["details"]["scope"] == standard["scope"] == "employee:read connection:read"
    assert refreshed["data"]["details"]["grant_type"] == "refresh_token"


TROUBLES = (repository() / "docs/troubleshooting.md").read_text()


@pytest.mark.slow
def test_the_commands_of_each_trouble_run(demo_home: Path, tmp_path: Path) -> None:
    """None is refused for how it is written. The doctor may find something here, which is its exit status 1."""
    commands = set(re.findall(r"(?:\| `)?(?:^|(?<=\| `))((?:mithril|curl) [^`\n]+)(?:` \|)?$", TROUBLES, re.MULTILINE))
    assert len(commands) > 12
    with processes.serving("--demo", "--home", str(demo_home)) as running:
        for command in commands:
            script = command.replace("http://127.0.0.1:4001", running.internal)
            ran = processes.in_shell(script, folder=tmp_path, MITHRIL_HOME=str(demo_home))
            assert ran.returncode <= (1 if command == "mithril doctor" else 0), (command, ran.stdout, ran.stderr)
            assert ran.stdout, command


# What words of these pages stand for.
STANDS_FOR = {
    "CLIENT": processes.DEMO_CLIENT,
    "CONNECTION": processes.DEMO_CONNECTION,
    "/var/": "./",
    "demo reset": "demo reset --yes",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "count"), [("upgrade", 3), ("watch", 12), ("import", 3), ("configure", 3), ("demo", 1)]
)
def test_the_commands_of_the_pages_for_operators_run(demo_home: Path, tmp_path: Path, page: str, count: int) -> None:
    """Those that go on for ever are ended after some seconds. The doctor may find something here."""
    text = (repository() / f"docs/{page}.md").read_text()
    commands = [
        command
        for command in re.findall(r"^ *(mithril [a-z][^`\n#]*?)(?: +#.*)?$", text, re.MULTILINE)
        if "_URL" not in command  # two roles have a test of their own
    ]
    assert len(commands) == count
    (tmp_path / "data.json").write_text("{}")
    for folder in ("lib/mithril", "archive/mithril"):
        (tmp_path / folder).mkdir(parents=True)
    with processes.serving("--demo", "--home", str(demo_home)):
        for command in commands:
            goes_on = "timeout 5 " if "--follow" in command else ""
            script = functools.reduce(lambda made, word: made.replace(*word), STANDS_FOR.items(), goes_on + command)
            ran = processes.in_shell(script, folder=tmp_path, MITHRIL_HOME=str(demo_home))
            expected = {124} if goes_on else {0, 1} if command == "mithril doctor" else {0}
            assert ran.returncode in expected, (command, ran.stdout, ran.stderr)
            assert "Traceback" not in ran.stderr, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_an_existing_file(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_setting_in_the_readme_exists() -> None:
    known = {row.variable for row in settings.all_settings()}
    named = set(re.findall(r"`(MITHRIL_[A-Z_]+)`", README)) - {"MITHRIL_DATABASE_URL_FILE"}
    assert named <= known


def test_the_readmes_defaults_are_those_of_the_settings() -> None:
    defaults = {row.variable: row.default for row in settings.all_settings()}
    rows = re.findall(r"^\| (`MITHRIL_.*?) \| (.*?) \|", README, re.MULTILINE)
    assert rows
    for names, shown in rows:
        values = [defaults[name] for name in re.findall(r"`(.*?)`", names)]
        listed = [str(each) for value in values for each in (value if isinstance(value, tuple) else [value]) if each]
        assert re.findall(r"`(.*?)`", shown) == listed, names


def test_every_reason_code_is_explained() -> None:
    page = (repository() / "docs/redirect-uris.md").read_text()
    explained = re.findall(r"^\| `([a-z_0-9]+)` \|", page, re.MULTILINE)
    assert set(explained) == set(redirect_uris.DESCRIPTIONS)


def test_no_file_mentions_paths_or_registries_of_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=repository(), capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        text = (repository() / name).read_text(errors="replace")
        assert "/work" + "/" not in text, name
        assert "pypi" + ".org" not in text, name
        assert "npmjs" + ".org" not in text, name
