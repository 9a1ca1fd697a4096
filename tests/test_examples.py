"""The programs of `examples`, unchanged, against a server with demo data: from the printed link to a refreshed token.

The test is the browser. `make test-examples` runs these; a language that is missing is a failure there, not a skip.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from support import repository
from support.browsing import sign_in
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS
from support.programs import free_port
from support.servers import Server, demo_server

pytestmark = pytest.mark.examples

EXAMPLES = repository() / "examples"
# Each program, what runs it, and the packages of Debian that have it.
PROGRAMS = {
    "authlib_client.py": ([sys.executable], ""),
    "openid-client.mjs": (["node"], "nodejs npm"),
    "simple-oauth2.mjs": (["node"], "nodejs npm"),
    "SignIn.java": (["java"], "default-jdk-headless"),
    "sign_in.php": (["php"], "php-cli php-curl"),
}


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server with demo data."""
    with demo_server(postgres) as running:
        yield running


def test_every_example_is_run() -> None:
    listed = subprocess.run(["git", "ls-files", EXAMPLES], cwd=EXAMPLES, capture_output=True, text=True, check=True)
    assert {name for name in listed.stdout.split() if not name.endswith((".json", ".md"))} == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_signs_a_user_in_and_refreshes_the_token(server: Server, program: str) -> None:
    command, packages = PROGRAMS[program]
    assert shutil.which(command[0]), f"no {command[0]} on this machine: apt-get install {packages}"
    port = free_port()
    move = {"redirect_uri": f"http://localhost:{port}/callback"}
    path = f"{server.url}/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
    assert httpx.patch(path, json=move, headers=DEMO_HEADERS).status_code == 200
    running = subprocess.Popen(
        [*command, program],
        cwd=EXAMPLES,
        env={**os.environ, "SERVER": server.url, "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert running.stdout
    try:
        opened = re.fullmatch(r"Open (\S+)\n", running.stdout.readline())
        assert opened, running.communicate(timeout=60)
        back = sign_in(opened[1], email="owner@clinic.example", password="Demo-Password-1")
        assert "Signed in" in httpx.get(back).text
        printed, _ = running.communicate(timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)

    assert running.returncode == 0, printed
    refreshed = re.fullmatch(r"Signed in as owner@clinic\.example\nRefreshed: (\S+)\n", printed)
    assert refreshed, printed
    key = {"API-key": DEMO_HEADERS["API-key"]}
    verified = httpx.get(f"{server.internal_url}/admin/tokens/{refreshed[1]}/verify", headers=key)
    assert verified.status_code == 200
    assert verified.json()["data"]["details"]["grant_type"] == "refresh_token"
