"""Measurements in rounds: every server is measured in turn under the same conditions."""

import asyncio
import contextlib
import http.client
import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import asyncpg
import psutil

from benchmarks import data, load, processes
from benchmarks.contenders import EXCHANGE, INTROSPECT, PATCH, REFRESH, VERIFY, Contender, Operation
from benchmarks.data import Size
from benchmarks.load import Measured
from benchmarks.processes import Server

PGBENCH = "pgbench"
NUMBERS_FOR_ONE_RUN = 1_000_000
CODES_PER_SECOND = 4_000  # more than any server here redeems
MICROSECONDS = 1e6


class Cell(NamedTuple):
    """One figure to measure: a server, an operation, workers and connections."""

    contender: str
    operation: str
    connections: int


class Sample(NamedTuple):
    """One measurement of a cell. Processor time is in microseconds per request."""

    measured: Measured
    server_time: float
    postgres_time: float
    load_time: float
    others: float
    """What all other programs took meanwhile, as a share of the machine's processors; time stolen included."""


class Result(NamedTuple):
    """The medians of a cell over all rounds, and the sum of its errors. Latencies are in milliseconds."""

    per_second: float
    p50: float
    p99: float
    errors: int
    server_time: float
    postgres_time: float
    load_time: float
    others: float


@dataclass(frozen=True)
class Environment:
    """The environment of all measurements: one PostgreSQL, one database, one folder for files."""

    url: str
    size: Size
    folder: Path
    postgres_data: Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a folder that PostgreSQL's own account can reach, and delete it after the block."""
    with tempfile.TemporaryDirectory(prefix="mithril-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def new_database(url: str, name: str, size: Size) -> str:
    """Create a database with so many rows on the PostgreSQL at `url`, and return its URL."""
    made = empty_database(url, name)
    asyncio.run(data.fill(made, size))
    return made


def empty_database(url: str, name: str) -> str:
    """Create a database on the PostgreSQL at `url`, and return its URL."""
    execute(url, f"CREATE DATABASE {name}")
    return url.replace("/mithril?", f"/{name}?")


class Measurer:
    """Runs single measurements in one environment."""

    def __init__(self, environment: Environment, *, seconds: int) -> None:
        """`seconds`: how long one measurement takes."""
        self._environment = environment
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self._next_code = 1

    def prepare(self, contender: Contender, server: Server, operations: Sequence[str]) -> None:
        """Write the requests, and send one of each kind. Raises Failed unless the answer is the expected one."""
        for name, operation in contender.operations.items():
            if name not in operations:
                continue
            load.write_requests(self._requests(contender.name, name), operation.all(self._environment.size))
            first = self._add_codes(contender, 1) if name == EXCHANGE else 1
            _check(contender, operation, server, first, self._environment.size)

    def warm_up(self, contender: Contender, server: Server, operation: str, connections: int) -> None:
        """Load the server for a second: connections are opened, statements prepared, caches filled."""
        self._load(contender, server, operation, connections, seconds=1)()

    def measure(self, contender: Contender, server: Server, operation: str, connections: int) -> Sample:
        """Measure the load on a server."""
        run = self._load(contender, server, operation, connections, seconds=self._seconds)
        return self._sample(server.family, run)

    def measure_ceiling(self, operation: str, connections: int) -> Sample:
        """Measure the same statements on PostgreSQL alone."""
        script = self._environment.folder / f"{operation}.sql"
        script.write_text(load.pgbench_script(operation, self._environment.size))
        seed = next(self._numbers)
        return self._sample(
            [],
            lambda: load.pgbench(
                self._environment.url, script, connections=connections, seconds=self._seconds, seed=seed
            ),
        )

    def log_of(self, contender: Contender) -> Path:
        """Return the file of a server's output."""
        return self._environment.folder / f"{contender.name}.log"

    def tidy(self) -> None:
        """Vacuum and run a checkpoint between rounds, so that neither happens during a measurement."""
        execute(self._environment.url, "VACUUM ANALYZE connections")
        execute(self._environment.url, "CHECKPOINT")

    def _load(
        self, contender: Contender, server: Server, operation: str, connections: int, *, seconds: int
    ) -> Callable[[], Measured]:
        """Return a load on a server, prepared to start when it is called."""
        number = next(self._numbers)
        is_exchange = operation == EXCHANGE
        return partial(
            load.wrk,
            server.ports[contender.operations[operation].port],
            self._requests(contender.name, operation),
            connections=connections,
            seconds=seconds,
            seed=number,
            first=self._add_codes(contender, seconds * CODES_PER_SECOND)
            if is_exchange
            else number * NUMBERS_FOR_ONE_RUN,
            in_order=is_exchange,
        )

    def _sample(self, server: Sequence[psutil.Process], run: Callable[[], Measured]) -> Sample:
        before, started = self._processor_seconds(server), time.monotonic()
        measured = run()
        elapsed = time.monotonic() - started
        taken = [late - early for early, late in zip(before, self._processor_seconds(server), strict=True)]
        *ours, everybody = taken
        requests = max(measured.per_second * self._seconds, 1)
        server_time, postgres_time, load_time = (seconds / requests * MICROSECONDS for seconds in ours)
        others = max(everybody - sum(ours), 0) / (elapsed * psutil.cpu_count())
        return Sample(measured, server_time, postgres_time, load_time, others)

    def _processor_seconds(self, server: Sequence[psutil.Process]) -> tuple[float, float, float, float]:
        """Return the processor time so far of the server, PostgreSQL, the load generators, and all programs."""
        postgres = processes.postgres_family(self._environment.postgres_data)
        ended, machine = resource.getrusage(resource.RUSAGE_CHILDREN), psutil.cpu_times()
        return (
            processes.processor_seconds(server),
            processes.processor_seconds(postgres),
            ended.ru_utime + ended.ru_stime,
            sum(machine) - machine.idle - getattr(machine, "iowait", 0.0),
        )

    def _requests(self, contender: str, operation: str) -> Path:
        return self._environment.folder / f"{contender}-{operation}.requests"

    def _add_codes(self, contender: Contender, count: int) -> int:
        first = self._next_code
        contender.add_codes(self._environment.url, self._environment.size, first, count)
        self._next_code += count
        return first


def in_turn(cells: Sequence[Cell], *, rounds: int) -> Iterator[tuple[int, Cell]]:
    """Yield all cells in each round, each time with another start and in the opposite direction."""
    for number in range(rounds):
        start = number * len(cells) // rounds
        turned = [*cells[start:], *cells[:start]]
        yield from ((number, cell) for cell in (reversed(turned) if number % 2 else turned))


def summarised(samples: Mapping[Cell, Sequence[Sample]]) -> dict[Cell, Result]:
    """Return the median of each figure over the rounds."""
    return {cell: result(taken) for cell, taken in samples.items()}


def result(samples: Sequence[Sample]) -> Result:
    measured = [sample.measured for sample in samples]
    return Result(
        per_second=median(m.per_second for m in measured),
        p50=median(m.p50 for m in measured),
        p99=median(m.p99 for m in measured),
        errors=sum(m.errors for m in measured),
        server_time=median(sample.server_time for sample in samples),
        postgres_time=median(sample.postgres_time for sample in samples),
        load_time=median(sample.load_time for sample in samples),
        others=median(sample.others for sample in samples),
    )


def _check(contender: Contender, operation: Operation, server: Server, number: int, size: Size) -> None:
    """Raise Failed unless the answer is the expected one: a fast refusal must not count as a fast answer."""
    requests = itertools.islice(operation.all(size), (number - 1) % data.TARGETS, None)
    request = next(requests).replace(load.MARK, b"%010d" % number)
    head, _, body = request.partition(b"\r\n\r\n")
    method, path, _version = head.decode().splitlines()[0].split(" ")
    headers = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    connection = http.client.HTTPConnection("127.0.0.1", server.ports[operation.port], timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
    if answer.status != operation.status or operation.contains not in said:
        text = f"{contender.title}: {method} {path} gave {answer.status} {said[:500]!r}"
        raise processes.Failed(text)


def execute(url: str, statement: str) -> None:
    """Run one statement on its own connection."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


OPERATIONS = {
    PATCH: "PATCH of a connection, audited",
    VERIFY: "verify",
    INTROSPECT: "introspection",
    EXCHANGE: "code exchange",
    REFRESH: "refresh of a confidential client",
}
