"""A release is replaced under load: the old program and the new one serve side by side, before, during and after the
migration, and the old one can come back on the new schema. No request fails.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from mithril.database import database
from support import factories, oauth_world, repository
from support.clusters import Cluster, running
from support.factories import bearer
from support.oauth_world import World
from support.processes import Process, run, serving

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(1_800)]

# The commit of each release, whose program is built and run here.
RELEASES = {"0.1.0": "eb0c6acd75c65b49d2d1dab11f2b68e229e72814"}
CALLERS = 8
PATIENT = {"MITHRIL_POOL_TIMEOUT": "60", "MITHRIL_STATEMENT_TIMEOUT": "60", "MITHRIL_LOCK_TIMEOUT": "60"}
# As many rows of each kind as an installation of a country has, without the triggers that a request would run.
FILL = """
SET session_replication_role = replica;
INSERT INTO users (id, email) SELECT md5('u' || n)::uuid, n || '@example.com' FROM generate_series(1, {rows}) n;
INSERT INTO clients (id, name, user_id, client_type_id)
SELECT md5('c' || n)::uuid, 'Clinic ' || n, md5('u' || n)::uuid, (SELECT min(id::text)::uuid FROM client_types)
  FROM generate_series(1, {rows}) n;
INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail)
SELECT md5('k' || n)::uuid, md5('c' || n)::uuid, md5('c' || n % 100 + 1)::uuid, 'https://example.com/' || n,
       sha256(n::text::bytea), '' FROM generate_series(1, {rows}) n;
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, scope, expires_at)
SELECT 'access_token', sha256(('t' || n)::bytea), md5('u' || n)::uuid, md5('c' || n)::uuid, md5('k' || n)::uuid,
       'scope', now() + interval '1 day' FROM generate_series(1, {rows}) n;
INSERT INTO audit_events (action, subject_id, client_id, actor_user_id)
SELECT 'connection.create', md5('k' || n)::uuid, md5('c' || n)::uuid, md5('u' || n)::uuid
  FROM generate_series(1, {rows}) n;
RESET session_replication_role;
ANALYZE;
"""


@pytest.fixture(scope="module", params=RELEASES)
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of an earlier release, in an environment of its own."""
    commit, folder = RELEASES[request.param], tmp_path_factory.mktemp("release")
    git = ["git", "-C", str(repository())]
    if subprocess.run([*git, "cat-file", "-e", commit], check=False, capture_output=True).returncode:
        pytest.skip(f"the history of this checkout does not reach back to {request.param}")
    archive = subprocess.run([*git, "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    uv, python = Path(sys.executable).with_name("uv"), folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    install = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "--require-hashes", "-r", str(folder / "requirements.lock")], check=True)
    subprocess.run([*install, "--no-deps", "--no-build-isolation", str(folder)], check=True)
    return str(python.with_name("mithril"))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


class Load:
    """Callers that go on until they are told to stop: verifications, changes, sign-ins, refreshes and lists."""

    def __init__(self, worlds: list[World], tokens: list[str], sessions: list[str]) -> None:
        """`tokens`: of the callers who change the connection of their own world. `sessions`: of those who sign in."""
        self.worlds, self.tokens, self.sessions = worlds, tokens, sessions
        self.callers: list[asyncio.Task[None]] = []
        self.servers: list[Process] = []
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self.slowest = 0.0
        self.moved: dict[object, str] = {}
        self._going = True
        self._under_way: Counter[Process] = Counter()

    def start(self) -> None:
        """Let the callers begin."""
        self.callers = [asyncio.create_task(self._call(number)) for number in range(len(self.worlds))]

    async def _call(self, number: int) -> None:
        world, token, session = self.worlds[number], self.tokens[number], self.sessions[number]
        async with httpx.AsyncClient(timeout=120) as http:
            while self._going:
                kind = random.choices(("verify", "change", "list", "sign in"), (60, 20, 5, 2))[0]
                if kind == "verify":
                    await self._ask(http, kind, 200, "GET", f"/admin/tokens/{token}/verify", is_internal=True)
                elif kind == "change":
                    uri = f"https://{uuid4().hex}.example.com/callback"
                    changed: dict[str, Any] = {"json": {"redirect_uri": uri}, "headers": bearer(token)}
                    if await self._ask(http, kind, 200, "PATCH", world.link.path, **changed):
                        self.moved[world.link.id] = uri
                elif kind == "list":
                    await self._ask(http, kind, 200, "GET", "/admin/clients?page_size=5", is_internal=True)
                else:
                    await self._sign_in(http, world, session)

    async def _sign_in(self, http: httpx.AsyncClient, world: World, session: str) -> None:
        """Get a code, exchange it and refresh the token, each at any of the servers."""
        asked = {"client_id": str(world.clinic.id), "redirect_uri": self.moved.get(world.link.id, oauth_world.ADDRESS)}
        app = asked | {"scope": oauth_world.ASKED}
        authorized: dict[str, Any] = {"json": {"app": app}, "headers": bearer(session)}
        code = await self._ask(http, "authorize", 201, "POST", "/oauth/apps/authorize", **authorized)
        client = {"client_id": str(world.clinic.id), "client_secret": world.link.secret}
        given = client | {"grant_type": "authorization_code", "code": code and code["data"]["value"]} | asked
        issued = await self._ask(http, "exchange", 201, "POST", "/oauth/tokens", json={"token": given})
        if issued:
            given = client | {
                "grant_type": "refresh_token",
                "refresh_token": issued["data"]["details"]["refresh_token"],
            }
            await self._ask(http, "refresh", 201, "POST", "/oauth/tokens", json={"token": given})

    async def _ask(
        self,
        http: httpx.AsyncClient,
        kind: str,
        status: int,
        method: str,
        path: str,
        *,
        is_internal: bool = False,
        **sent: Any,
    ) -> Any:
        server = random.choice(self.servers)
        self._under_way[server] += 1
        started = time.monotonic()
        try:
            answer = await http.request(method, (server.internal if is_internal else server.public) + path, **sent)
        except httpx.TransportError as error:
            self.failed.append(f"{kind}: {error!r}")
            return None
        finally:
            self._under_way[server] -= 1
            self.slowest = max(self.slowest, time.monotonic() - started)
        self.done[kind] += 1
        if answer.status_code != status:
            self.failed.append(f"{kind}: {answer.status_code} {answer.text}")
            return None
        return answer.json()

    async def more(self, count: int) -> None:
        """Wait for so many more requests."""
        until = self.done.total() + count
        while self.done.total() < until:
            assert not self.failed, self.failed[:5]
            assert not any(caller.done() for caller in self.callers), self.callers
            await asyncio.sleep(0.05)

    async def leave(self, server: Process) -> None:
        """Send no more requests to a server, wait for those under way, as a proxy does, and stop it."""
        self.servers = [each for each in self.servers if each is not server]
        while self._under_way[server]:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop)

    async def stop(self) -> None:
        """Let each caller finish the request under way."""
        self._going = False
        await asyncio.gather(*self.callers)


@pytest.mark.parametrize(
    ("rows", "requests"), [(20_000, 5_000), pytest.param(1_000_000, 50_000, marks=pytest.mark.size)]
)
async def test_a_release_is_replaced_and_comes_back_without_a_failed_request(
    released: str, cluster: Cluster, rows: int, requests: int
) -> None:
    url = ("--database-url", cluster.url)
    assert run("migrate", *url, program=released).returncode == 0
    db = await asyncpg.connect(cluster.url)
    worlds = [await oauth_world.make(db, is_brokered=False) for _ in range(CALLERS)]
    tokens = [await factories.token(db, client=world.clinic) for world in worlds]
    await db.execute(FILL.format(rows=rows))
    sessions = [await oauth_world.session_of(db, world) for world in worlds]
    load, step = Load(worlds, tokens, sessions), requests // 6
    with serving(*url, program=released, **PATIENT) as old:
        load.servers = [old]
        load.start()
        await load.more(step)
        began = time.monotonic()
        migrated = await asyncio.to_thread(run, "migrate", *url)
        took = time.monotonic() - began
        assert migrated.returncode == 0, migrated.stderr
        await load.more(step)
        with serving(*url, **PATIENT) as new:
            load.servers = [old, new]
            await load.more(step)
            await load.leave(old)
            await load.more(step)
            with serving(*url, program=released, **PATIENT) as again:
                load.servers = [new, again]
                await load.more(step)
                await load.leave(new)
                await load.more(requests - 5 * step)
                await load.stop()
    assert not load.failed
    assert await database.schema_version(db) == database.SCHEMA_VERSION
    for world in worlds:
        kept = await db.fetchval("SELECT redirect_uri FROM connections WHERE id = $1", world.link.id)
        assert kept == load.moved[world.link.id], "an acknowledged change is lost"
    await db.close()
    print(f"{rows} rows of each kind, migrated in {took:.1f} s under load; {dict(load.done)}, no failure;")
    print(f"  the slowest answer took {load.slowest:.2f} s")
