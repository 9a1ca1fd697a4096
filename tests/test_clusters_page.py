"""The configurations of docs/clusters.md: each program that is installed here loads its own."""

import asyncio
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from mithril import settings
from mithril.database import database, poolers
from support import patroni, programs, repository
from support.machines import network
from support.poolers import KEEPS_STATEMENTS, Pgbouncer, installed
from support.processes import run
from support.programs import EXAMPLES, example, program

pytestmark = pytest.mark.anyio

PAGE = (repository() / "docs/clusters.md").read_text()


def accepted(*command: str) -> None:
    """Run a program that checks a configuration."""
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_page_leads_to_every_configuration() -> None:
    assert set(re.findall(r"\]\(clusters/([^)]+)\)", PAGE)) == {path.name for path in EXAMPLES.iterdir()}


@pytest.mark.parametrize("name", ["haproxy.cfg", "haproxy-postgresql.cfg"])
def test_haproxy_loads_its_configurations(name: str) -> None:
    accepted(program("haproxy"), "-c", "-f", str(EXAMPLES / name))


def test_nginx_loads_its_configuration(tmp_path: Path) -> None:
    file = programs.nginx_configuration(tmp_path, (EXAMPLES / "nginx.conf").read_text())
    accepted(program("nginx"), "-t", "-p", str(tmp_path), "-c", str(file), "-e", "stderr")


def test_patroni_accepts_its_configuration() -> None:
    """It asks whether etcd answers and its own ports are free, so it needs the IP addresses."""
    command = program("patroni")
    with network(patroni.OWN_IP, **patroni.IPS) as machines:
        for machine in machines.values():
            patroni.start_etcd(machine)
            programs.wait_for(machine.ip, patroni.ETCD_PORT)
        first = machines["db1"]
        accepted(*first.inside, command, "--validate-config", str(patroni.write_configuration(first)))


def test_the_unit_of_systemd_is_valid(tmp_path: Path) -> None:
    unit = tmp_path / "mithril.service"
    unit.write_text(example("mithril.service", {"/opt/mithril/bin/mithril": "/bin/true"}))
    accepted(program("systemd-analyze"), "verify", str(unit))


def test_the_unit_gives_a_server_the_time_that_it_may_take_to_stop() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", (EXAMPLES / "mithril.service").read_text(), re.MULTILINE)
    assert int(seconds) > settings.load({}).shutdown_timeout


def test_the_settings_are_those_of_the_service(tmp_path: Path) -> None:
    for name in ("database-url", "internal-key"):
        (tmp_path / name).write_text("postgresql://mithril@10.0.0.1,10.0.0.2,10.0.0.3/mithril")
    lines = example("mithril.env", {"/etc/mithril": str(tmp_path)}).splitlines()
    environment = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert not settings.unknown_variables(environment)
    assert settings.load(environment).trusted_proxies == "10.0.0.10"


# The role and the pooler


@pytest.mark.slow
async def test_the_role_can_migrate_and_has_its_time_limits(unmigrated: str) -> None:
    owner = await asyncpg.connect(unmigrated)
    try:
        await owner.execute((EXAMPLES / "role.sql").read_text())
        url = unmigrated.replace("postgres@", "mithril@")
        migrated = await asyncio.to_thread(run, "migrate", "--database-url", url)
        assert migrated.returncode == 0, migrated.stderr
        service = await asyncpg.connect(url)
        assert await service.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        assert await service.fetchval("SHOW lock_timeout") == "250ms"
        await service.close()
    finally:
        await owner.execute("DROP OWNED BY mithril; DROP ROLE mithril")
        await owner.close()


@pytest.mark.parametrize("pgbouncer", installed() or [None], ids=lambda found: found.name if found else "none")
async def test_pgbouncer_serves_with_its_configuration(pgbouncer: Pgbouncer | None, database_url: str) -> None:
    if pgbouncer is None:
        pytest.skip("no pgbouncer on this machine: apt-get install pgbouncer")
    pgbouncer.needs(KEEPS_STATEMENTS)
    server = re.findall(r"host=([^&]*)", database_url)[0]
    port = programs.free_port()
    with programs.folder_of_account() as folder:
        (folder / "users").write_text('"postgres" "a password"\n')
        changes = {
            "host=127.0.0.1 port=5000 dbname=mithril": f"host={server} dbname={name_in(database_url)}",
            "/etc/pgbouncer/userlist.txt": str(folder / "users"),
            "listen_port = 6432": f"listen_port = {port}\nunix_socket_dir =",
        }
        (folder / "pgbouncer.ini").write_text(example("pgbouncer.ini", changes))
        with programs.started(pgbouncer.path, str(folder / "pgbouncer.ini"), port=port):
            url = f"postgresql://postgres:a%20password@127.0.0.1:{port}/mithril"
            connection = await database.connect(url)
            await poolers.check(connection, url, prepares=True)
            assert database.is_current(await database.schema_version(connection))
            await connection.close()


def name_in(url: str) -> str:
    """Return the name of the database of a URL."""
    return url.partition("?")[0].rpartition("/")[2]
