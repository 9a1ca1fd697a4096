"""A cluster of Patroni and etcd on three machines, with the configurations of docs/clusters."""

import asyncio
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from mithril.database import embedded
from support.machines import Machine, network
from support.processes import run
from support.programs import EXAMPLES, program

OWN_IP = "10.0.0.10"  # of the test and of the service
IPS = {"db1": "10.0.0.1", "db2": "10.0.0.2", "db3": "10.0.0.3"}
PASSWORD = quote("change this one")  # of the superuser, in patroni.yml
ETCD_PORT = 2379
# Before it, a primary that was cut off takes the lock from its successor when it is back.
KEEPS_LOCK = (3, 0, 3)
PATIENCE_SECONDS = 180
FAULTS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# A busy machine answers late; etcd's own limits are for an idle one.
PATIENT_ETCD = ("--heartbeat-interval", "250", "--election-timeout", "2500")


class Patroni:
    """The cluster. Every commit is on both standbys before it is answered."""

    def __init__(self, machines: dict[str, Machine]) -> None:
        """`machines`: those of IPS."""
        self.machines = machines

    @property
    def url(self) -> str:
        """The URL that names all hosts, for the service."""
        return f"postgresql://mithril:mithril@{','.join(IPS.values())}/mithril"

    def url_of(self, name: str, database: str = "mithril") -> str:
        """Return the URL of one host, for the superuser."""
        return f"postgresql://postgres:{PASSWORD}@{IPS[name]}/{database}?sslmode=disable"

    def needs(self, version: tuple[int, ...]) -> None:
        """Skip the test with an older Patroni."""
        said = subprocess.run([program("patroni"), "--version"], capture_output=True, text=True, check=True).stdout
        found = tuple(map(int, re.findall(r"\d+", said)))
        if found < version:
            pytest.skip(f"Patroni {found} is older than {version}")

    def start_node(self, name: str) -> None:
        """Start etcd and Patroni on one machine."""
        machine = self.machines[name]
        start_etcd(machine)
        machine.start("patroni", program("patroni"), str(write_configuration(machine)))

    async def primary(self) -> str:
        """Return the name of the primary, as soon as both standbys confirm its commits."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for name in IPS:
                if await self._is_whole(name):
                    return name
            await asyncio.sleep(0.2)
        pytest.fail("\n".join(f"{each.name}:\n{each.log('patroni')}" for each in self.machines.values()))

    async def successor(self, old: str) -> str:
        """Return the name of the node that has replaced this primary, by what Patroni says."""
        return await self._any_primary(IPS.keys() - {old})

    async def _any_primary(self, names: Iterable[str] = tuple(IPS)) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for name in names:
                    if await is_primary(name):
                        return name
                await asyncio.sleep(0.1)

    async def goes_on_without(self, standby: str) -> None:
        """Wait until commits wait for this standby no more."""
        db = await asyncpg.connect(self.url_of(await self._any_primary(), "postgres"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while standby in await db.fetchval("SHOW synchronous_standby_names"):  # noqa: ASYNC110 -- no event for it
                await asyncio.sleep(0.1)
        await db.close()

    async def _is_whole(self, name: str) -> bool:
        with suppress(*FAULTS):
            if not await is_primary(name):
                return False
            db = await asyncpg.connect(self.url_of(name, "postgres"), timeout=2)
            try:
                standbys = await db.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
                return bool(standbys == len(IPS) - 1)
            finally:
                db.terminate()
        return False

    async def prepare(self) -> None:
        """Create the role and the database of the service, with its schema."""
        first = await self.primary()
        db = await asyncpg.connect(self.url_of(first, "postgres"))
        await db.execute("CREATE DATABASE mithril")
        await db.close()
        db = await asyncpg.connect(self.url_of(first))
        await db.execute("CREATE TABLE probes (at timestamptz DEFAULT now())")
        await make_roles(db)
        await db.execute("ALTER ROLE mithril PASSWORD 'mithril'; ALTER ROLE mithril_owner PASSWORD 'mithril'")
        owner = self.url.replace("//mithril:", "//mithril_owner:")
        migrated = await asyncio.to_thread(run, "migrate", MITHRIL_DATABASE_URL=owner)
        assert migrated.returncode == 0, migrated.stderr
        await give_rights(db)
        await db.close()


async def give_rights(superuser: asyncpg.Connection) -> None:
    """Run what `mithril migrate --print-grants` prints: it makes the two roles, and gives rights on what is there."""
    printed = await asyncio.to_thread(run, "migrate", "--print-grants")
    assert printed.returncode == 0, printed.stderr
    await superuser.execute(printed.stdout)


async def make_roles(superuser: asyncpg.Connection) -> None:
    """Make the roles `mithril` and `mithril_owner` as docs/clusters.md says."""
    await give_rights(superuser)
    await superuser.execute((EXAMPLES / "role.sql").read_text())


async def is_primary(name: str) -> bool:
    """Return whether Patroni says that this node is the primary."""
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient(timeout=1) as http:
            return (await http.get(f"http://{IPS[name]}:8008/primary")).status_code == 200
    return False


def start_etcd(machine: Machine) -> None:
    """Start one of the three members."""
    members = ",".join(f"{each}=http://{ip}:2380" for each, ip in IPS.items())
    client, peer = f"http://{machine.ip}:{ETCD_PORT}", f"http://{machine.ip}:2380"
    urls = ("--listen-client-urls", client, "--advertise-client-urls", client)
    peers = ("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", members)
    own = ("--name", machine.name, "--data-dir", str(machine.folder / "etcd"))
    machine.start("etcd", program("etcd"), *own, *urls, *peers, *PATIENT_ETCD)


def write_configuration(machine: Machine) -> Path:
    """Write that of the documents, with the name, the IP address and the folders of a machine; return the file."""
    text = (EXAMPLES / "patroni.yml").read_text()
    # Debian's newest PostgreSQL or, without one, the embedded one.
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=embedded.postgres_bin())
    changes = {
        r"(?m)^name: db1": f"name: {machine.name}",
        r"10\.0\.0\.1:(5432|8008)": rf"{machine.ip}:\1",
        r"data_dir: .*": f"data_dir: {machine.folder}/data",
        r"bin_dir: .*": f"bin_dir: {programs}",
        r"pgpass: .*": f"pgpass: {machine.folder}/pgpass",
        r"unix_socket_directories: .*": f"unix_socket_directories: {machine.folder}",
        r"local all all peer": "local all all trust",  # the account has another name here
    }
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    file = machine.folder / "patroni.yml"
    file.write_text(text)
    return file


@contextmanager
def running() -> Iterator[Patroni]:
    """Run a cluster, with the database of the service, until the end of the block."""
    for name in ("etcd", "patroni"):
        program(name)
    with network(OWN_IP, **IPS) as machines:
        cluster = Patroni(machines)
        for name in IPS:
            cluster.start_node(name)
        asyncio.run(cluster.prepare())
        yield cluster
