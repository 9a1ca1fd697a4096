"""Each alert of docs/monitoring is raised: a Prometheus scrapes a server while something is broken on purpose."""

import asyncio
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from mithril.database import database
from support import factories, oauth_world, repository
from support.clusters import Cluster, running
from support.factories import bearer
from support.oauth_world import World
from support.processes import Process, run, serving
from support.programs import free_port
from support.receiving import receiving

pytestmark = [
    pytest.mark.faults,
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("prometheus"), reason="there is no prometheus"),
]

RULES = (repository() / "docs" / "monitoring" / "alerts.yml").read_text()
SETTINGS = {
    "MITHRIL_SWEEP_INTERVAL": "1",
    "MITHRIL_MAX_CONNECTIONS": "20",
    "MITHRIL_DB_POOL_SIZE": "4",
    "MITHRIL_LOCK_TIMEOUT": "3",
    "MITHRIL_WEBHOOK_KEY": "key of the tests, of 32 characters and more",
    "MITHRIL_WEBHOOK_TARGETS": "any",
    "MITHRIL_OTP_ENDPOINT": "http://127.0.0.1:9",  # where nothing listens
    **dict.fromkeys(
        (
            "MITHRIL_MAX_FAILURES",
            "MITHRIL_MAX_FAILURES_PER_ADDRESS",
            "MITHRIL_MAX_FAILED_LOGINS_PER_ADDRESS",
            "MITHRIL_USER_OTP_ERROR_MAX",
        ),
        "1000000",
    ),
}
raised: set[str] = set()


class Watched(NamedTuple):
    """A server, and the Prometheus that scrapes it. Its log cannot be written."""

    cluster: Cluster
    process: Process
    prometheus: str

    def firing(self) -> set[str]:
        found = httpx.get(f"{self.prometheus}/api/v1/alerts", timeout=30).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    async def raises(self, *alerts: str, during: Callable[[], Awaitable[object]]) -> None:
        """Repeat the fault until these alerts are raised, and until the test's own limit."""
        while not set(alerts) <= self.firing():
            with suppress(httpx.HTTPError):
                await during()
            await asyncio.sleep(0.2)
        raised.update(alerts)


@contextmanager
def scraping(process: Process, folder: Path) -> Iterator[str]:
    """Run a Prometheus with our rules, in which minutes are seconds."""
    rules = re.sub(r"\[\d+m\]", "[10s]", re.sub(r"for: \d+m", "for: 1s", RULES))
    (folder / "alerts.yml").write_text(rules)
    target = process.internal.removeprefix("http://")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "mithril", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    options = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=error",
    ]
    with subprocess.Popen(["prometheus", *options], start_new_session=True) as prometheus:
        try:
            while True:
                with suppress(httpx.TransportError):
                    answer = httpx.get(f"{url}/api/v1/query?query=up")
                    # While it starts it says so, in words.
                    if answer.is_success and answer.json()["data"]["result"]:
                        break
            yield url
        finally:
            prometheus.terminate()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with running() as cluster:
        assert run("migrate", "--database-url", cluster.url).returncode == 0
        with (
            serving("--database-url", cluster.url, through='exec "$@" 2>/dev/full', **SETTINGS) as process,
            scraping(process, tmp_path_factory.mktemp("prometheus")) as prometheus,
        ):
            yield Watched(cluster, process, prometheus)


@pytest.fixture
async def http(watched: Watched) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=watched.process.public, timeout=30) as client:
        yield client


@pytest.fixture
async def internal(watched: Watched) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=watched.process.internal, timeout=30) as client:
        yield client


@asynccontextmanager
async def connected(watched: Watched) -> AsyncIterator[database.Connection]:
    connection = await database.connect(watched.cluster.url)
    yield connection
    await connection.close()


@pytest.fixture
async def world(watched: Watched) -> World:
    async with connected(watched) as db:
        return await oauth_world.make(db)


async def test_without_a_fault_no_alert_is_raised(watched: Watched, http: httpx.AsyncClient, world: World) -> None:
    for _ in range(20):
        await oauth_world.login(http, world)
        await asyncio.sleep(0.5)
    assert watched.firing() <= {"MithrilLogLinesLost"}


async def test_refusals_that_become_many(
    watched: Watched, http: httpx.AsyncClient, internal: httpx.AsyncClient, world: World
) -> None:
    async with connected(watched) as db:
        waiting = await factories.token(db, client=world.front, user_id=world.user_id, name="2fa_access_token")
        await db.execute(
            "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234567')",
            world.user_id,
        )
    body = {"token": {"grant_type": "authorize_2fa_access_token", "otp": 1}}

    async def refused() -> None:
        await oauth_world.login(http, world, password="Wrong-Password-1")
        await oauth_world.exchange(http, world, "nothing")
        await http.post("/auth/login", json=body, headers=bearer(waiting))
        for _ in range(20):
            await internal.get("/admin/tokens/nothing/verify")

    alerts = ("SignIns", "SecondFactors", "Exchanges", "Verifications")
    await watched.raises(*(f"Mithril{name}Refused" for name in alerts), during=refused)
    await watched.raises("MithrilLogLinesLost", during=refused)


async def test_a_message_service_that_is_away(watched: Watched, http: httpx.AsyncClient, world: World) -> None:
    async with connected(watched) as db:
        statement = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234568')"
        await db.execute(statement, world.user_id)
    await watched.raises("MithrilMessagesFailing", during=lambda: oauth_world.login(http, world))


async def test_a_webhook_that_takes_nothing_and_then_says_that_it_is_gone(
    watched: Watched, internal: httpx.AsyncClient
) -> None:
    alert = "MithrilNotificationsNotDelivered"
    async with receiving() as receiver, connected(watched) as db:
        receiver.answer = "500 Internal Server Error"
        made = await internal.post("/admin/webhooks", json={"webhook": {"url": receiver.url}})
        path = f"/admin/webhooks/{made.json()['data']['id']}"
        await db.execute(
            "INSERT INTO audit_events (action, subject_id, occurred_at)"
            " VALUES ('connection.delete', gen_random_uuid(), now() - interval '1 hour')"
        )
        await watched.raises(alert, during=lambda: asyncio.sleep(1))
        receiver.answer = "204 No Content"
        await internal.patch(path, json={"webhook": {}})
        while alert in watched.firing():
            await asyncio.sleep(1)

        receiver.answer = "410 Gone"
        await db.execute(
            "INSERT INTO audit_events (action, subject_id) VALUES ('connection.delete', gen_random_uuid())"
        )
        await watched.raises(alert, during=lambda: asyncio.sleep(0.2))


async def test_a_locked_table_exhausts_the_pool(watched: Watched, http: httpx.AsyncClient, world: World) -> None:
    async with connected(watched) as db, db.transaction():
        await db.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        await watched.raises(
            "MithrilDatabasePoolExhausted",
            during=lambda: asyncio.gather(*(oauth_world.login(http, world) for _ in range(15))),
        )


async def test_a_standby_that_is_missing(watched: Watched, http: httpx.AsyncClient, world: World) -> None:
    async with connected(watched) as db:
        await db.execute("SET synchronous_commit = local")
        await db.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await db.execute("SELECT pg_reload_conf()")
        try:
            await watched.raises("MithrilOutcomeUnknown", during=lambda: oauth_world.login(http, world))
        finally:
            await db.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await db.execute("SELECT pg_reload_conf()")


async def test_a_process_that_stands_still(watched: Watched, internal: httpx.AsyncClient) -> None:
    async def still() -> None:
        asked = asyncio.gather(*(internal.get("/admin/tokens/nothing/verify") for _ in range(5)))
        await asyncio.sleep(0.05)
        watched.process.popen.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.9)
        watched.process.popen.send_signal(signal.SIGCONT)
        await asked

    await watched.raises("MithrilEventLoopBlocked", "MithrilVerificationSlow", during=still)


async def test_a_listener_that_is_full(watched: Watched) -> None:
    host, port = watched.process.public.removeprefix("http://").split(":")
    writers = []
    for _ in range(int(SETTINGS["MITHRIL_MAX_CONNECTIONS"])):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: mithril\r\n\r\n")
        await reader.readline()
        writers.append(writer)
    await watched.raises("MithrilConnectionsNearLimit", during=lambda: asyncio.sleep(0))
    for writer in writers:
        writer.close()


async def test_a_database_that_is_stopped(watched: Watched, internal: httpx.AsyncClient) -> None:
    watched.cluster.stop("immediate")
    try:
        await watched.raises(
            "MithrilErrors",
            "MithrilDatabaseUnreachable",
            "MithrilCleanupFailing",
            during=lambda: internal.get("/admin/tokens/nothing/verify"),
        )
    finally:
        watched.cluster.start()


async def test_a_server_that_is_gone(watched: Watched) -> None:
    watched.process.stop()
    await watched.raises("MithrilDown", during=lambda: asyncio.sleep(0))
    assert raised == {*re.findall(r"alert: (\w+)", RULES)}, "no alert is left out above"
