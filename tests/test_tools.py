"""Linters and generators of code take the descriptions as they are served, and what is generated updates a connection.

`make test-tools` runs these; a program that is missing is a failure there, not a skip.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import repository
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS
from support.servers import Server, demo_server

pytestmark = [pytest.mark.tools, pytest.mark.timeout(900)]

OWN = repository() / "tests" / "tools"
INSTALLED = repository() / ".tools"
SITE, NPM = INSTALLED / "site", INSTALLED / "node_modules"
REDIRECT_URI = "https://mis.example.com/generated"
LISTENERS = ("public", "internal")


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server with demo data."""
    with demo_server(postgres) as running:
        yield running


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> Path:
    """A folder with both descriptions and the packages of Node."""
    for listener, url in zip(LISTENERS, (server.url, server.internal_url), strict=True):
        (tmp_path / f"{listener}.json").write_bytes(httpx.get(f"{url}/openapi.json").content)
    (tmp_path / "node_modules").symlink_to(NPM)
    return tmp_path


def run(folder: Path, *command: str | Path, **variables: str) -> str:
    """Run a program to its end, and return its output. It must succeed, and reaches no registry."""
    assert shutil.which(command[0]), f"no {command[0]}: see .ci/run for the packages of Debian, and `make test-tools`"
    quiet = {
        "REDOCLY_TELEMETRY": "off",
        "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
        "GOPROXY": "off",
        "GOFLAGS": "-mod=mod",
    }
    environment = {**os.environ, **quiet, "PYTHONPATH": str(SITE), **variables}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return ran.stdout


def updated(server: Server, folder: Path, *command: str | Path) -> None:
    """Run a program that updates the connection of the demo, and see that it did."""
    path = f"{server.url}/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
    assert httpx.patch(path, json={"redirect_uri": "https://example2.com"}, headers=DEMO_HEADERS).status_code == 200
    printed = run(
        folder,
        *command,
        SERVER=server.url,
        TOKEN=DEMO_HEADERS["Authorization"].removeprefix("Bearer "),
        API_KEY=DEMO_HEADERS["API-key"],
        CLIENT=DEMO_CLIENT,
        CONNECTION=DEMO_CONNECTION,
        REDIRECT_URI=REDIRECT_URI,
    )
    assert printed.strip() == REDIRECT_URI
    assert httpx.get(path, headers=DEMO_HEADERS).json()["data"]["redirect_uri"] == REDIRECT_URI


@pytest.mark.parametrize("listener", LISTENERS)
def test_redocly_finds_no_error_and_under_our_rules_no_warning(folder: Path, listener: str) -> None:
    redocly, described = NPM / ".bin" / "redocly", f"{listener}.json"
    run(folder, redocly, "lint", "--extends=recommended", described)
    found = run(folder, redocly, "lint", f"--config={OWN / 'redocly.yaml'}", "--format=json", described)
    assert json.loads(found)["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}


@pytest.mark.parametrize("listener", LISTENERS)
def test_spectral_finds_no_error_and_under_our_rules_no_warning(folder: Path, listener: str) -> None:
    spectral = NPM / ".bin" / "spectral"
    (folder / "oas.yaml").write_text('extends: ["spectral:oas"]\n')
    run(folder, spectral, "lint", f"{listener}.json", "--ruleset=oas.yaml")
    run(folder, spectral, "lint", f"{listener}.json", f"--ruleset={OWN / 'spectral.yaml'}", "--fail-severity=hint")


@pytest.mark.parametrize("listener", LISTENERS)
def test_openapi_python_client_makes_a_client_that_updates(server: Server, folder: Path, listener: str) -> None:
    (folder / "config.yaml").write_text("post_hooks: []\npackage_name_override: mithril_client\n")
    generate = ("generate", "--path", f"{listener}.json", "--config=config.yaml", "--meta=none", "--fail-on-warning")
    run(folder, sys.executable, "-m", "openapi_python_client", *generate)
    run(folder, sys.executable, "-m", "compileall", "-q", "mithril_client")
    if listener == "public":
        shutil.copy(OWN / "update.py", folder)
        updated(server, folder, sys.executable, "update.py")


@pytest.mark.parametrize("listener", LISTENERS)
def test_openapi_typescript_makes_types_for_a_strict_program_that_updates(
    server: Server, folder: Path, listener: str
) -> None:
    run(folder, NPM / ".bin" / "openapi-typescript", f"{listener}.json", "--output=mithril.d.ts")
    for name in ("update.ts", "tsconfig.json", "package.json"):
        shutil.copy(OWN / name, folder)
    if listener == "public":
        run(folder, NPM / ".bin" / "tsc")
        updated(server, folder, "node", "update.js")
    else:
        run(folder, NPM / ".bin" / "tsc", "--strict", "--noEmit", "mithril.d.ts")


@pytest.mark.parametrize("listener", LISTENERS)
def test_openapi_generator_makes_a_client_in_go_that_updates(server: Server, folder: Path, listener: str) -> None:
    options = ("--generator-name=go", "--output=mithril", "--additional-properties=packageName=mithril,withGoMod=false")
    generator = SITE / "openapi_generator_cli" / "openapi-generator.jar"
    run(folder, "java", "-jar", generator, "generate", f"--input-spec={listener}.json", *options)
    shutil.rmtree(folder / "mithril" / "test")  # of a library that is not here
    (folder / "go.mod").write_text("module tools\n\ngo 1.19\n")
    run(folder, "go", "build", "./mithril")
    if listener == "public":
        shutil.copy(OWN / "update.go", folder / "main.go")
        run(folder, "go", "build", "-o", "update", ".")
        updated(server, folder, folder / "update")
