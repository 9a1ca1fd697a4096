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

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

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


def test_the_settings_are_those_of_the_service(tmp_path: Path) -> None:
    for name in ("database-url", "internal-key"):
        (tmp_path / name).write_text("postgresql://mithril@10.0.0.1,10.0.0.2,10.0.0.3/mithril")
    lines = example("mithril.env", {"/etc/mithril": str(tmp_path)}).splitlines()
    environment = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert not settings.unknown_variables(environment)
    assert settings.load(environment).trusted_proxies == "10.0.0.10"


# The role and the pooler


@pytest.mark.slow
async def test_the_role_that_serves_has_its_time_limits_and_creates_nothing(unmigrated: str) -> None:
    superuser = await asyncpg.connect(unmigrated)
    try:
        await patroni.make_roles(superuser)
        migrated = await asyncio.to_thread(run, "migrate", "--database-url", of_role(unmigrated, "mithril_owner"))
        assert migrated.returncode == 0, migrated.stderr
        await patroni.give_rights(superuser)
        service = await asyncpg.connect(of_role(unmigrated, "mithril"))
        assert await service.fetchval("SHOW idle_in_transaction_session_timeout") == "10s"
        assert await service.fetchval("SHOW lock_timeout") == "250ms"
        assert await service.fetchval("SELECT count(*) FROM connections") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute("CREATE TABLE more ()")
        await service.close()
    finally:
        await superuser.execute("DROP OWNED BY mithril, mithril_owner; DROP ROLE mithril, mithril_owner")
        await superuser.close()


def of_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@")


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
