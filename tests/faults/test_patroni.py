"""Failovers of a real cluster: three nodes with Patroni and etcd, each on a machine of its own, under writes.

`make test-clusters` runs these tests, in fifteen minutes: Patroni takes 20 seconds to see that a primary is lost.
With `-k` one fault or one way to the primary is enough. The figures are in docs/reliability.md.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress

import asyncpg
import httpx
import pytest

from support import factories, patroni
from support.patroni import FAULTS, IPS, Patroni
from support.poolers import KEEPS_STATEMENTS, installed
from support.processes import Process, serving
from support.programs import EXAMPLES, example, folder_of_account, program, started
from support.writing import Stream, prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.clusters, pytest.mark.anyio, pytest.mark.timeout(600)]

PAUSE_SECONDS = 0.02
PROBE_SECONDS = 1.0
# After the new primary has confirmed its first commit; the first write of the service may be a second older.
LATEST_SECONDS = 5.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Patroni]:
    with patroni.running() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(cluster: Patroni) -> Iterator[str]:
    """HAProxy in front of the nodes; the URL of the database through it."""
    assert cluster
    with started(program("haproxy"), "-db", "-f", str(EXAMPLES / "haproxy-postgresql.cfg"), port=5000):
        yield "postgresql://mithril:mithril@127.0.0.1:5000/mithril"


@pytest.fixture(scope="module")
def pooler(proxy: str) -> Iterator[str]:
    """pgbouncer in front of HAProxy; the URL of the database through both."""
    new = [each for each in installed() if each.version >= KEEPS_STATEMENTS]
    if not new:
        pytest.skip("no pgbouncer of 1.21 or newer on this machine")
    with folder_of_account() as folder:
        (folder / "users").write_text('"mithril" "mithril"\n')
        (folder / "ini").write_text(example("pgbouncer.ini", {"/etc/pgbouncer/userlist.txt": str(folder / "users")}))
        with started(new[0].path, str(folder / "ini"), port=6432):
            yield proxy.replace(":5000", ":6432")


@pytest.fixture(params=["hosts", "haproxy", "pgbouncer"])
def url(cluster: Patroni, request: pytest.FixtureRequest) -> str:
    """The URL of the database: with all hosts, through HAProxy, or through pgbouncer and HAProxy."""
    if request.param == "hosts":
        return cluster.url
    through: str = request.getfixturevalue({"haproxy": "proxy", "pgbouncer": "pooler"}[request.param])
    return through


class Probes:
    """When each node confirmed a commit, asked on a connection of the superuser, without the service."""

    def __init__(self, cluster: Patroni) -> None:
        self._cluster = cluster
        self.confirmed: dict[str, list[float]] = {name: [] for name in IPS}
        self.is_over = False

    async def run(self, name: str) -> None:
        """Ask one node until it is over."""
        while not self.is_over:
            with suppress(*FAULTS):
                db = await asyncpg.connect(self._cluster.url_of(name), timeout=PROBE_SECONDS)
                try:
                    while not self.is_over:
                        await db.execute("INSERT INTO probes DEFAULT VALUES", timeout=PROBE_SECONDS)
                        self.confirmed[name].append(time.monotonic())
                        await asyncio.sleep(PAUSE_SECONDS)
                finally:
                    with suppress(*FAULTS):
                        await db.close(timeout=PROBE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)

    def longest_silence(self) -> tuple[float, float]:
        """Return when the longest time without any confirmed commit began, and when it ended."""
        return longest_gap(sorted(itertools.chain(*self.confirmed.values())))


class Verifications:
    """A token that is verified all the time, by the internal listener."""

    def __init__(self, process: Process, token: str) -> None:
        self._url, self._token = process.internal + "/admin/tokens/verify", token
        self.statuses: Counter[int] = Counter()
        self.is_over = False
        self.answered: list[float] = []

    async def run(self) -> None:
        """Ask until it is over."""
        async with httpx.AsyncClient(timeout=30) as http:
            while not self.is_over:
                response = await http.post(self._url, json={"token": self._token})
                self.statuses[response.status_code] += 1
                if response.status_code == 200:
                    self.answered.append(time.monotonic())
                await asyncio.sleep(PAUSE_SECONDS)


class Watch:
    """What is seen of one fault."""

    def __init__(self, stream: Stream, probes: Probes, verifications: Verifications, primary: str) -> None:
        self.stream, self.probes, self.verifications, self.primary = stream, probes, verifications, primary

    def report(self, name: str) -> None:
        """Print a line, and check that the service is there soon after the database."""
        lost_at, back_at = self.probes.longest_silence()
        written = sorted(each.at for each in self.stream.acknowledged.values())
        first = next(at for at in written if at > back_at - PROBE_SECONDS)
        before, after = longest_gap(self.verifications.answered)
        without = longest_gap(written)
        report(
            name,
            self.stream,
            no_writes_in_the_database=back_at - lost_at,
            no_writes=without[1] - without[0],
            no_verify=after - before,
            first_200_after_the_database=max(0, first - back_at),
        )
        print(f"  verify: {dict(self.verifications.statuses)}")
        assert first - back_at < LATEST_SECONDS


def longest_gap(times: list[float]) -> tuple[float, float]:
    return max(itertools.pairwise(times), key=lambda pair: pair[1] - pair[0])


@asynccontextmanager
async def watching(cluster: Patroni, process: Process, primary: str) -> AsyncIterator[Watch]:
    """Write, verify and probe until the end of the block; then nothing may be lost."""
    db = await asyncpg.connect(cluster.url_of(primary))
    token = await factories.token(db, client=await factories.client(db))
    await db.close()
    probes, verifications = Probes(cluster), Verifications(process, token)
    async with writing(process.public, cluster.url_of(primary)) as stream:
        tasks = [asyncio.create_task(probes.run(name)) for name in IPS] + [asyncio.create_task(verifications.run())]
        await stream.more(200)
        yield Watch(stream, probes, verifications, primary)
        await stream.more(200)
        probes.is_over = verifications.is_over = True
        await asyncio.gather(*tasks)
    await prove_nothing_is_lost(stream, cluster.url_of(await cluster.primary()))


@contextmanager
def frozen(cluster: Patroni, name: str) -> Iterator[None]:
    machine = cluster.machines[name]
    machine.freeze()
    try:
        yield
    finally:
        machine.thaw()


@contextmanager
def killed(cluster: Patroni, name: str) -> Iterator[None]:
    cluster.machines[name].kill()
    try:
        yield
    finally:
        cluster.start_node(name)


@contextmanager
def crashed(cluster: Patroni, name: str) -> Iterator[None]:
    """PostgreSQL alone; Patroni goes on, and starts it again as a standby."""
    cluster.machines[name].crash("postgres")
    yield


@contextmanager
def cut_off(cluster: Patroni, name: str) -> Iterator[None]:
    machine = cluster.machines[name]
    machine.cut()
    try:
        yield
    finally:
        machine.heal()


Fault = Callable[[Patroni, str], AbstractContextManager[None]]


@pytest.mark.parametrize("fault", [frozen, killed, crashed, cut_off], ids=lambda fault: fault.__name__)
async def test_the_primary_is_lost(cluster: Patroni, url: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    """Writes go on soon after another node takes them, and also when the old one is back."""
    if fault is cut_off:
        cluster.needs(patroni.KEEPS_LOCK)
    primary = await cluster.primary()
    with serving("--workers", "2", MITHRIL_DATABASE_URL=url) as process:
        async with watching(cluster, process, primary) as watch:
            with fault(cluster, primary):
                await cluster.successor(primary)
                await watch.stream.more(200)
            await cluster.primary()
    watch.report(request.node.name)


@pytest.mark.parametrize("fault", [frozen, killed], ids=lambda fault: fault.__name__)
async def test_a_standby_is_lost(cluster: Patroni, fault: Fault, request: pytest.FixtureRequest) -> None:
    """Writes go on when Patroni has taken it from the list of those that must confirm."""
    primary = await cluster.primary()
    standby = next(iter(IPS.keys() - {primary}))
    with serving("--workers", "2", MITHRIL_DATABASE_URL=cluster.url) as process:
        async with watching(cluster, process, primary) as watch:
            with fault(cluster, standby):
                await cluster.goes_on_without(standby)
                await watch.stream.more(200)
            assert await cluster.primary() == primary
    watch.report(request.node.name)


async def test_the_primary_is_changed_on_purpose(cluster: Patroni, url: str, request: pytest.FixtureRequest) -> None:
    """As a rolling restart of the database does it: `patronictl switchover`."""
    primary = await cluster.primary()
    with serving("--workers", "2", MITHRIL_DATABASE_URL=url) as process:
        async with watching(cluster, process, primary) as watch:
            async with httpx.AsyncClient(timeout=60) as http:
                done = await http.post(f"http://{IPS[primary]}:8008/switchover", json={"leader": primary})
            assert done.status_code == 200, done.text
            await cluster.successor(primary)
            await cluster.primary()
    watch.report(request.node.name)
