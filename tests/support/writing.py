"""A stream of writes to a real server, and the proof that each acknowledged write is stored exactly once.

A write is *Update client connection* with its own request id. It is acknowledged when 200 has arrived; then the audit
trail must have exactly one row with that id and the redirect URI that was sent. It is refused when 503 with
`Retry-After` has arrived; then the trail must have no such row. Only of a write without an answer, and of one whose
answer is that its outcome is unknown, it may have one or none.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import httpx
import pytest

from support import factories
from support.clusters import Cluster
from support.factories import bearer

WRITERS = 8
PAUSE_SECONDS = 0.02  # after a refusal
PATIENCE_SECONDS = 120


class Ack(NamedTuple):
    """A write that was answered with 200. `at`: monotonic seconds."""

    at: float
    uri: str


class Stream:
    """Several writers, each with its own connection, that continue after every error."""

    def __init__(self, url: str, connections: list[factories.Connection], token: str) -> None:
        """`url`: of the server; it may change while the stream runs."""
        self.url = url
        self.connections = connections
        self.token = token
        self.acknowledged: dict[str, Ack] = {}
        self.unanswered: Counter[str] = Counter()  # transport errors by request id
        self.refused: Counter[int] = Counter()
        self.denied: set[str] = set()  # the request ids of those
        self.unknown: dict[str, str] = {}  # operations by request id
        self.unexpected: list[str] = []
        self.slowest = 0.0
        self._going = True

    async def run(self, connection: factories.Connection) -> None:
        """Run one writer until `stop`."""
        async with httpx.AsyncClient(timeout=30) as http:
            while self._going:
                if not await self._write(http, connection):
                    await asyncio.sleep(PAUSE_SECONDS)

    async def more(self, count: int = 50) -> float:
        """Wait for so many more acknowledged writes, and return the seconds until the first of them."""
        started, before = time.monotonic(), len(self.acknowledged)
        await self.until(lambda: len(self.acknowledged) >= before + count)
        return list(self.acknowledged.values())[before].at - started

    async def refusals(self, count: int = 1) -> None:
        """Wait until so many more writes got 503 or no answer."""
        before = self.failures
        await self.until(lambda: self.failures >= before + count)

    @property
    def failures(self) -> int:
        """The writes that were not acknowledged."""
        return self.refused.total() + len(self.unanswered) + len(self.unknown)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for a condition that the writers bring about."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not reached():
                assert not self.unexpected, self.unexpected
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        """Let each writer finish its current request, and stop."""
        self._going = False

    def longest_silence(self) -> float:
        """Return the longest time between two acknowledged writes, in seconds."""
        times = sorted(ack.at for ack in self.acknowledged.values())
        return max(after - before for before, after in itertools.pairwise(times))

    async def _write(self, http: httpx.AsyncClient, connection: factories.Connection) -> bool:
        request_id = f"written-{uuid4()}"
        uri = f"https://{uuid4().hex}.example.com/callback"
        headers = bearer(self.token) | {"X-Request-ID": request_id}
        started = time.monotonic()
        try:
            response = await http.patch(self.url + connection.path, json={"redirect_uri": uri}, headers=headers)
        except httpx.TransportError:
            self.unanswered[request_id] += 1
            return False
        self.slowest = max(self.slowest, time.monotonic() - started)
        if response.status_code == 200:
            self.acknowledged[request_id] = Ack(time.monotonic(), uri)
            return True
        error = response.json()["error"]
        if error["type"] == "outcome_unknown" and "retry-after" not in response.headers:
            self.unknown[request_id] = error["operation_id"]
            return False
        self.refused[response.status_code] += 1
        self.denied.add(request_id)
        if (response.status_code, error["type"]) != (
            503,
            "service_unavailable",
        ) or "retry-after" not in response.headers:
            self.unexpected.append(response.text)
        return False


@asynccontextmanager
async def writing(server_url: str, database_url: str) -> AsyncIterator[Stream]:
    """Run a stream until the end of the block."""
    db = await asyncpg.connect(database_url)
    admin = await factories.client(db, client_type="NHS")
    connections = [await factories.connection(db, client_id=(await factories.client(db)).id) for _ in range(WRITERS)]
    stream = Stream(server_url, connections, await factories.token(db, client=admin))
    await db.close()
    writers = [asyncio.create_task(stream.run(connection)) for connection in connections]
    try:
        await stream.more()
        yield stream
    finally:
        stream.stop()
        await asyncio.gather(*writers)
    assert not stream.unexpected, stream.unexpected


async def prove_nothing_is_lost(stream: Stream, database_url: str) -> int:
    """Check that every acknowledged write has its audit row, that no request has two, no refused one has any, and that
    the rows match.

    Returns how many were acknowledged.
    """
    db = await connect_patiently(database_url)
    rows = await db.fetch(
        "SELECT request_id, subject_id, operation_id, new ->> 'redirect_uri' AS uri FROM audit_events"
        " WHERE action = 'connection.update' ORDER BY id"
    )
    states: Any = await db.fetch("SELECT id, version, redirect_uri FROM connections")
    await db.close()
    state = {row["id"]: row for row in states}
    recorded = {row["request_id"]: row["uri"] for row in rows}
    assert len(recorded) == len(rows), "a request is there twice"
    lost = {key: ack.uri for key, ack in stream.acknowledged.items() if recorded.get(key) != ack.uri}
    assert not lost, "acknowledged, and not there"
    assert not stream.denied & recorded.keys(), "refused, and there"
    for row in rows:
        assert stream.unknown.get(row["request_id"], str(row["operation_id"])) == str(row["operation_id"])
    for connection in stream.connections:
        mine = [row["uri"] for row in rows if row["subject_id"] == connection.id]
        now = state[connection.id]
        assert now["version"] == len(mine) + 1, "a change without its audit row, or the reverse"
        assert now["redirect_uri"] == mine[-1]
    return len(stream.acknowledged)


async def connect_patiently(database_url: str) -> Any:
    """Open a connection as soon as PostgreSQL allows it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            return await asyncpg.connect(database_url, timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.05)
    pytest.fail("the database does not come back")


async def replicate_synchronously(primary: Cluster) -> None:
    """Let a primary, whose standby runs, acknowledge only what the standby has, and wait until that is so."""
    db = await connect_patiently(primary.url)
    await db.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    await db.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        while not await db.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"):  # noqa: ASYNC110 -- no event for it
            await asyncio.sleep(0.05)
    await db.close()


def report(name: str, stream: Stream, **figures: float) -> None:
    """Print one line for `docs/reliability.md`; `-s` shows it, and so does the summary of `-rP`."""
    shown = ", ".join(f"{key.replace('_', ' ')} {value:.2f} s" for key, value in figures.items())
    counts = (
        f"{len(stream.acknowledged)} acknowledged, {stream.refused.total()} refused, {len(stream.unknown)} unknown,"
        f" {len(stream.unanswered)} cut"
    )
    print(f"{name}: {counts}; slowest answer {stream.slowest:.2f} s; {shown}")
