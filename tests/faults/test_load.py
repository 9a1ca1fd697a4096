"""A thousand callers at once, most of them slow: others are served, memory is bounded, and the server recovers."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from support.clusters import Cluster, workers_of
from support.processes import Process, serving
from support.writing import prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

CALLERS = 1_000
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
BODY = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
MOST_MEGABYTES = 300  # of one worker; each of its connections may hold a body of 64 KiB
MEASURED_SECONDS = 4


def megabytes(process: Process) -> float:
    """Return the memory of the largest worker."""
    sizes = []
    for pid in workers_of(process):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sizes += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")]
    return max(sizes)


async def slow_caller(url: str, number: int, statuses: Counter[str]) -> None:
    """Send a head or a body a byte at a time, keep a connection open, or pipeline without reading the answers."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    kind = ("head", "body", "idle", "pipeline")[number % 4]
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(MEASURED_SECONDS * 3):
            if kind == "idle":
                writer.write(HEAD + b"\r\n")
            elif kind == "pipeline":
                writer.write((HEAD + b"\r\n") * 200)
                await asyncio.sleep(MEASURED_SECONDS)
            else:
                writer.write(BODY if kind == "body" else HEAD)
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(b" " if kind == "body" else b"x")
                    await asyncio.sleep(0.2)
            answer = await reader.read(65_536)
            statuses[f"{kind} {answer[9:12].decode() or 'closed'}"] += 1
            await reader.read()
    writer.transport.abort()


async def test_a_thousand_slow_callers_do_not_stop_other_requests(cluster: Cluster) -> None:
    quick = {"MITHRIL_HEADER_TIMEOUT": "4", "MITHRIL_BODY_TIMEOUT": "4"}
    with serving("--workers", "2", "--database-url", cluster.url, **quick) as process:
        async with writing(process.public, cluster.url) as stream:
            before = await _rate(stream.acknowledged)
            statuses: Counter[str] = Counter()
            callers = [asyncio.create_task(slow_caller(process.public, n, statuses)) for n in range(CALLERS)]
            during = await _rate(stream.acknowledged)
            memory = megabytes(process)
            await asyncio.gather(*callers)
            after = await _rate(stream.acknowledged)
        assert not stream.refused
        assert not stream.unanswered
        await prove_nothing_is_lost(stream, cluster.url)
    print(f"{CALLERS} slow callers: {before:.0f} writes/s before, {during:.0f} beside them, {after:.0f} after;")
    print(f"  {memory:.0f} MB in the largest worker; {dict(sorted(statuses.items()))}")
    assert during > 0
    assert after > before / 2
    assert memory < MOST_MEGABYTES


async def _rate(acknowledged: Mapping[str, object]) -> float:
    count, started = len(acknowledged), time.monotonic()
    await asyncio.sleep(MEASURED_SECONDS)
    return (len(acknowledged) - count) / (time.monotonic() - started)


async def test_beyond_capacity_a_thousand_callers_get_an_answer_at_once(cluster: Cluster) -> None:
    limits = {"MITHRIL_MAX_REQUESTS": "50", "MITHRIL_MAX_CONNECTIONS": "300"}
    with serving("--workers", "2", "--database-url", cluster.url, **limits) as process:
        async with writing(process.public, cluster.url) as stream:
            waits: list[float] = []
            statuses: Counter[int | str] = Counter()
            await asyncio.gather(*(_ask(process.public, waits, statuses) for _ in range(CALLERS)))
            memory = megabytes(process)
            passed = await stream.more(200)
        await prove_nothing_is_lost(stream, cluster.url)
    waits.sort()
    print(f"{CALLERS} at once, room for 2 x 300: {dict(statuses)}; half within {waits[CALLERS // 2]:.2f} s, all within")
    print(f"  {waits[-1]:.2f} s; {memory:.0f} MB in the largest worker")
    assert set(statuses) <= {401, 503, "reset"}
    assert statuses[401] > 0
    assert statuses[503] + statuses["reset"] > 0
    assert memory < MOST_MEGABYTES
    report("beyond capacity", stream, first_write_after=passed)


async def _ask(url: str, waits: list[float], statuses: Counter[int | str]) -> None:
    started = time.monotonic()
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            response = await http.get("/api/user/roles", headers={"Authorization": "Bearer unknown"})
            statuses[response.status_code] += 1
    except httpx.TransportError:
        statuses["reset"] += 1
    waits.append(time.monotonic() - started)
