"""Faults around the process: readers of its log, its standard streams, its temporary folder, its open files, signals.

`tests/test_streams.py` has the quick tests of the streams alone.
"""

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from mithril import metrics
from support.clusters import Cluster, workers_of
from support.disks import fill, small_disk
from support.processes import MITHRIL, Process, environment, serving
from support.writing import prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

WORKERS = ("--workers", "2")
COUNT = 'http_server_request_duration_seconds_count{listener="public",method="GET",route="none",status="404"}'
LOST = "mithril_lost_log_lines_total"
PIPE_BYTES = 65_536


def metric(process: Process, name: str) -> float:
    lines = httpx.get(process.internal + "/metrics", timeout=30).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def ask(process: Process, count: int) -> Counter[int]:
    """Send so many requests, each on a connection of its own, so that all workers get some."""
    return Counter(httpx.get(process.public + "/no/such/path", timeout=30).status_code for _ in range(count))


def replace_worker(process: Process) -> None:
    """Kill a worker, and wait until another one has taken its place."""
    before = workers_of(process)
    os.kill(before[0], signal.SIGKILL)
    while len(set(workers_of(process)) - {before[0]}) < len(before):  # until pytest's own limit
        time.sleep(0.05)


def seconds_to_stop(process: Process) -> float:
    started = time.monotonic()
    process.stop()
    assert process.popen.returncode == 0
    return time.monotonic() - started


# The streams


@contextmanager
def full_pipe() -> Iterator[tuple[Path, int]]:
    """A named pipe without room, and the end of it that reads."""
    fifo = Path(f"/tmp/mf-{uuid4()}")
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(end, b"." * 4_096)
    try:
        yield fifo, end
    finally:
        os.close(end)
        fifo.unlink()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_reader_of_the_log_stalls(cluster: Cluster, workers: str) -> None:
    arguments = ("--workers", workers, "--database-url", cluster.url)
    with full_pipe() as (fifo, end), serving(*arguments, through=f'exec "$@" 2>{fifo}') as process:
        async with writing(process.public, cluster.url) as stream:
            while metric(process, LOST) < 100:
                await stream.more(500)
            lost = metric(process, LOST)
            if workers == "2":
                await asyncio.to_thread(replace_worker, process)
            while metric(process, LOST) < lost + 100:  # of a worker that is alive, and so reports them
                await stream.more(500)
            received = b""
            while b"lines_lost" not in received:  # until pytest's own limit
                with suppress(BlockingIOError):
                    received += os.read(end, PIPE_BYTES)
                await asyncio.sleep(0.001)
            os.set_blocking(end, False)
        assert not stream.failures or workers == "2", "only what the killed worker was at"
        assert not stream.refused
        await prove_nothing_is_lost(stream, cluster.url)
        lines = received.lstrip(b".").split(b"\n")[:-1]
        assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines), "each is whole"
        took = seconds_to_stop(process)
    assert took < 10
    report(f"a reader of the log stalls, {workers} workers, {lost:.0f} lines lost", stream, stopped_in=took)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_reader_of_the_log_is_gone_during_an_outage(cluster: Cluster, workers: str) -> None:
    arguments = ("--workers", workers, "--database-url", cluster.url)
    with full_pipe() as (fifo, end), serving(*arguments, through=f'exec "$@" 2>{fifo}') as process:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, end)
        os.close(null)
        async with writing(process.public, cluster.url) as stream:
            cluster.kill()
            await stream.refusals(20)
            if workers == "2":
                await asyncio.to_thread(replace_worker, process)
            await asyncio.to_thread(cluster.start)
            resumed = await stream.more(200)
        assert set(stream.refused) == {503}, "and no bare 500"
        await prove_nothing_is_lost(stream, cluster.url)
        assert metric(process, LOST) > 0
        took = seconds_to_stop(process)
    assert took < 10
    report(f"a reader of the log is gone, {workers} workers", stream, resumed_after=resumed, stopped_in=took)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_are_closed(cluster: Cluster, closed: str, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [str(each.getsockname()[1]) for each in (one, two)]
    arguments = ["--port", ports[0], "--internal-port", ports[1], "--workers", workers, "--database-url", cluster.url]
    server = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {closed}', "sh", MITHRIL, "serve", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with httpx.Client(transport=httpx.HTTPTransport(retries=100)) as http:
        for _ in range(20):
            assert http.get(f"http://127.0.0.1:{ports[0]}/readyz").status_code == 200
    server.send_signal(signal.SIGTERM)
    said, log = server.communicate(timeout=60)
    assert server.returncode == 0
    assert (">&-" in closed.split()) == (not said)
    assert not [line for line in log.splitlines() if '"level":"info"' not in line]


@pytest.mark.parametrize(("closed", "stream"), [("2>&-", "stdout"), (">&-", "stderr")])
def test_the_reason_of_a_refused_start_is_on_the_stream_that_is_open(closed: str, stream: str) -> None:
    refused = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", MITHRIL, "serve", "--internal-host", "0.0.0.0"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert "MITHRIL_INTERNAL_KEY" in getattr(refused, stream)


# The temporary folder


@pytest.mark.parametrize("when", ["before the start", "while it serves"])
async def test_the_temporary_folder_is_full(cluster: Cluster, when: str) -> None:
    with small_disk("256k") as disk:
        if when == "before the start":
            fill(disk)
        with serving(*WORKERS, "--database-url", cluster.url, TMPDIR=str(disk)) as process:
            assert ask(process, 20) == {404: 20}
            fill(disk)
            async with writing(process.public, cluster.url) as stream:
                await stream.more(200)
            assert not stream.failures
            assert ask(process, 20) == {404: 20}
            assert metric(process, COUNT) == 40
            replace_worker(process)
            assert ask(process, 20) == {404: 20}
            assert metric(process, COUNT) == 60
            log = process.stop()
    assert log.count("worker_ended") == 1, "the one that was killed"


def test_where_only_a_file_can_be_shared_a_full_folder_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with small_disk("1m") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        with pytest.raises(OSError, match=f"the metrics need 3145728 bytes of {disk}: No space left"):
            metrics.SharedMemory(4)


# Open files


async def test_few_files_and_many_silent_callers(cluster: Cluster) -> None:
    """The other listener and the database have their share, and callers with a request push the silent ones out."""
    arguments = ("--workers", "1", "--database-url", cluster.url)
    with serving(*arguments, through='ulimit -n 300; exec "$@"') as process:
        async with writing(process.public, cluster.url) as stream:
            with ExitStack() as stack:
                parts = urlsplit(process.public)
                for _ in range(10):
                    for _ in range(100):
                        silent = stack.enter_context(socket.socket())
                        silent.setblocking(False)
                        with suppress(BlockingIOError):
                            silent.connect((parts.hostname, parts.port))
                    await stream.more(20)
                    assert httpx.get(process.internal + "/readyz", timeout=30).status_code == 200
                    files = len(list(Path(f"/proc/{process.popen.pid}/fd").iterdir()))
                    assert files < 280, files
        assert not stream.refused
        await prove_nothing_is_lost(stream, cluster.url)
        log = process.stop()
    assert "few_files" in log
    assert "Too many open files" not in log
    report("300 files and 1000 silent callers", stream)


async def test_too_few_files_end_the_start(cluster: Cluster) -> None:
    command = [MITHRIL, "serve", "--database-url", cluster.url]
    refused = subprocess.run(
        ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr == "mithril: 200 files may be open, and 234 are needed: raise the limit (ulimit -n)\n"


# Signals


async def test_sighup_replaces_the_workers_without_a_refused_request(cluster: Cluster, tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_text(cluster.url)
    with serving(*WORKERS, MITHRIL_DATABASE_URL_FILE=str(url)) as process:
        async with writing(process.public, cluster.url) as stream:
            for _ in range(2):
                before = set(workers_of(process))
                process.popen.send_signal(signal.SIGHUP)
                process.popen.send_signal(signal.SIGUSR1)
                await stream.until(lambda old=before: not old & set(workers_of(process)))  # type: ignore[misc]
                assert len(workers_of(process)) == 2
            await stream.more(200)
        assert not stream.failures
        await prove_nothing_is_lost(stream, cluster.url)
        assert metric(process, "http_server_request_duration_seconds_count") > len(stream.acknowledged)
        took = seconds_to_stop(process)
    assert took < 10
    report("SIGHUP, twice", stream, longest_silence=stream.longest_silence())
