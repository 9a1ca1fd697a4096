"""The configurations of docs/deploy: each program that is installed here loads its own."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mithril import settings
from mithril.database.database import SCHEMA_VERSION
from support import repository
from support.processes import MITHRIL, environment
from support.programs import program

pytestmark = pytest.mark.slow

PAGE = (repository() / "docs/install.md").read_text()
FOLDER = repository() / "docs/deploy"
UNIT = FOLDER / "mithril.service"


def test_the_page_leads_to_every_configuration() -> None:
    assert set(re.findall(r"\]\(deploy/([^)]+)\)", PAGE)) == {path.name for path in FOLDER.iterdir()}


def test_the_unit_of_systemd_is_valid_and_gives_the_server_hardly_any_right(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = tmp_path / "mithril.service"
    unit.write_text(UNIT.read_text().replace("/opt/mithril/bin/mithril", "/bin/true"))
    checked = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    # In tenths, of at most 10; a unit without any of this has 9.6.
    command = [analyze, "security", "--offline=yes", "--threshold=30", "--no-pager", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout


# A machine of its own: /etc and /opt that nothing else sees, and a systemctl that only tells what it was asked.
MACHINE = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mount -t tmpfs tmpfs /opt
mkdir -p /opt/mithril/bin
ln -s "$MITHRIL" /opt/mithril/bin/mithril
systemctl() { echo "systemctl $*"; }
"""
LOOK = """
stat --format '%n %a %U:%G' /etc/mithril/* /etc/systemd/system/mithril.service
setpriv --reuid mithril --regid mithril --clear-groups cat /etc/mithril/database-url > seen
if setpriv --reuid nobody --regid nogroup --clear-groups cat /etc/mithril/database-url 2> /dev/null; then exit 1; fi
systemd-analyze verify /etc/systemd/system/mithril.service
"""


def test_the_commands_of_the_page_install_the_unit_its_settings_and_the_schema(tmp_path: Path, unmigrated: str) -> None:
    script, commands = re.findall(r"```sh\n(.*?)```", PAGE.partition("\n## systemd\n")[2], re.DOTALL)
    assert commands.endswith("mithril doctor\n")
    look = f"{LOOK}\n{commands.strip()} > doctor 2>&1 || true  # it may find something here"
    program("systemd-analyze")
    (tmp_path / "database-url").write_text(unmigrated)
    (tmp_path / "docs").symlink_to(repository() / "docs")
    ran = subprocess.run(
        ["unshare", "--mount", "bash", "-eu", "-o", "pipefail", "-c", MACHINE + script + look],
        cwd=tmp_path,
        env=environment(MITHRIL=str(MITHRIL), PATH=os.environ["PATH"]),
        capture_output=True,
        text=True,
        check=False,
    )
    if os.geteuid() or "mount: " in ran.stderr:
        pytest.skip("only root may give a test a machine of its own, and not everywhere")
    assert (ran.returncode, ran.stderr) == (0, "")
    migrated, *lines = ran.stdout.splitlines()
    assert migrated.startswith(f"The schema is at version {SCHEMA_VERSION}. It was at none")
    assert lines == [
        "systemctl daemon-reload",
        "systemctl enable --now mithril",
        "/etc/mithril/database-url 640 root:mithril",
        "/etc/mithril/mithril.env 644 root:root",
        "/etc/systemd/system/mithril.service 644 root:root",
        "The settings can be used.",
    ]
    assert (tmp_path / "seen").read_text() == unmigrated
    assert f"schema: at version {SCHEMA_VERSION}" in (tmp_path / "doctor").read_text()


def test_the_unit_gives_a_server_the_time_that_it_may_take_to_stop() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > settings.load({}).shutdown_timeout


def test_the_settings_of_the_unit_are_those_of_the_service(tmp_path: Path) -> None:
    (tmp_path / "database-url").write_text("postgresql://mithril@db/mithril")
    text = (FOLDER / "mithril.env").read_text().replace("/etc/mithril", str(tmp_path))
    environment = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    assert not settings.unknown_variables(environment)
    assert settings.load(environment).database_url == "postgresql://mithril@db/mithril"


def test_the_compose_file_has_settings_of_the_service_and_gives_it_no_right(tmp_path: Path) -> None:
    described = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services, secrets = described["services"], described["secrets"]
    for name in ("migrate", "mithril1", "mithril2"):
        server = services[name]
        assert (server["read_only"], server["cap_drop"], server["security_opt"]) == (
            True,
            ["ALL"],
            ["no-new-privileges"],
        )
        assert int(server["stop_grace_period"].rstrip("s")) > settings.load({}).shutdown_timeout
        assert not settings.unknown_variables(server["environment"])
        files = {path for path in server["environment"].values() if path.startswith("/run/secrets/")}
        assert {Path(path).name for path in files} == set(server["secrets"]) <= set(secrets)
    # The commands of the page make the files, which the servers take.
    part = PAGE.partition("\n### With PostgreSQL and a front\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```sh\ncd docs/deploy\n(.*?)podman-compose up", part, re.DOTALL)
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)
    assert {(tmp_path / secret["file"]).read_text() != "" for secret in secrets.values()} == {True}
    environment = {
        name: value.replace("/run/secrets", str(tmp_path / "secrets"))
        for name, value in services["mithril1"]["environment"].items()
    }
    password = (tmp_path / "secrets/database-password").read_text().strip()
    assert settings.load(environment).database_url == f"postgresql://mithril:{password}@database/mithril"


def test_the_compose_file_has_the_ip_addresses_of_the_front() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    front, *servers = (
        services[name]["networks"]["default"]["ipv4_address"] for name in ("front", "mithril1", "mithril2")
    )
    configuration = (repository() / "docs/clusters/haproxy.cfg").read_text()
    assert set(re.findall(r"server \S+ ([\d.]+):4000", configuration)) == set(servers)
    assert f"bind {front}:8081" in configuration
    assert services["mithril1"]["environment"]["MITHRIL_TRUSTED_PROXIES"] == front
