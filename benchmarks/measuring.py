"""One measurement after the other, in rounds: every contender takes its turn under the same conditions."""

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
from benchmarks.contenders import EXCHANGE, PATCH, VERIFY, Contender, Operation
from benchmarks.data import Size
from benchmarks.load import Measured
from benchmarks.processes import Server

PGBENCH = "pgbench"
NUMBERS_FOR_ONE_RUN = 1_000_000
CODES_PER_SECOND = 4_000  # more than any server here redeems
MICROSECONDS = 1e6


class Cell(NamedTuple):
    """What is measured: who does what over how many connections."""

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
    """The medians of a cell over all rounds; errors are added up. Latencies are milliseconds."""

    per_second: float
    p50: float
    p99: float
    errors: int
    server_time: float
    postgres_time: float
    load_time: float
    others: float


@dataclass(frozen=True)
class Place:
    """Where everything is measured: one PostgreSQL, one database in it, one folder for files."""

    url: str
    size: Size
    folder: Path
    postgres_data: Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own account can reach, gone with the block."""
    with tempfile.TemporaryDirectory(prefix="mithril-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def new_database(url: str, name: str, size: Size) -> str:
    """Makes a database with so many rows on the PostgreSQL at `url`; returns its URL."""
    execute(url, f"CREATE DATABASE {name}")
    made = url.replace("/mithril?", f"/{name}?")
    asyncio.run(data.fill(made, size))
    return made


class Measurer:
    """Runs single measurements at one place."""

    def __init__(self, place: Place, *, seconds: int) -> None:
        """`seconds`: how long one measurement takes."""
        self._place = place
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self._next_code = 1

    def prepare(self, contender: Contender, server: Server, operations: Sequence[str]) -> None:
        """Writes the requests out and sends one of each kind. Raises Failed when the answer is not the right one."""
        for name, operation in contender.operations.items():
            if name not in operations:
                continue
            load.write_requests(self._requests(contender.name, name), operation.all(self._place.size))
            first = self._add_codes(1) if name == EXCHANGE else 1
            _check(contender, operation, server, first, self._place.size)

    def warm_up(self, contender: Contender, server: Server, operation: str, connections: int) -> None:
        """A second of load that nobody looks at: connections are made, statements prepared, caches filled."""
        self._load(contender, server, operation, connections, seconds=1)()

    def measure(self, contender: Contender, server: Server, operation: str, connections: int) -> Sample:
        """Load on a server."""
        run = self._load(contender, server, operation, connections, seconds=self._seconds)
        return self._sample(server.family, run)

    def measure_ceiling(self, operation: str, connections: int) -> Sample:
        """The same statements on PostgreSQL alone."""
        script = self._place.folder / f"{operation}.sql"
        script.write_text(load.pgbench_script(operation, self._place.size))
        seed = next(self._numbers)
        return self._sample(
            [],
            lambda: load.pgbench(self._place.url, script, connections=connections, seconds=self._seconds, seed=seed),
        )

    def log_of(self, contender: Contender) -> Path:
        """Where a server says what it says."""
        return self._place.folder / f"{contender.name}.log"

    def tidy(self) -> None:
        """What a database does by itself sooner or later is done between rounds, not in the middle of one."""
        execute(self._place.url, "VACUUM ANALYZE connections")
        execute(self._place.url, "CHECKPOINT")

    def _load(
        self, contender: Contender, server: Server, operation: str, connections: int, *, seconds: int
    ) -> Callable[[], Measured]:
        """Load on a server, made ready: whoever calls it lets it go."""
        number = next(self._numbers)
        is_exchange = operation == EXCHANGE
        return partial(
            load.wrk,
            server.ports[contender.operations[operation].port],
            self._requests(contender.name, operation),
            connections=connections,
            seconds=seconds,
            seed=number,
            first=self._add_codes(seconds * CODES_PER_SECOND) if is_exchange else number * NUMBERS_FOR_ONE_RUN,
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
        """So far: the server's, PostgreSQL's, the load generators', everybody's."""
        postgres = processes.postgres_family(self._place.postgres_data)
        ended, machine = resource.getrusage(resource.RUSAGE_CHILDREN), psutil.cpu_times()
        return (
            processes.processor_seconds(server),
            processes.processor_seconds(postgres),
            ended.ru_utime + ended.ru_stime,
            sum(machine) - machine.idle - getattr(machine, "iowait", 0.0),
        )

    def _requests(self, contender: str, operation: str) -> Path:
        return self._place.folder / f"{contender}-{operation}.requests"

    def _add_codes(self, count: int) -> int:
        first = self._next_code
        asyncio.run(data.add_codes(self._place.url, self._place.size, first=first, count=count))
        self._next_code += count
        return first


def in_turn(cells: Sequence[Cell], *, rounds: int) -> Iterator[tuple[int, Cell]]:
    """All cells in each round, each time from another place on and in the other direction."""
    for number in range(rounds):
        start = number * len(cells) // rounds
        turned = [*cells[start:], *cells[:start]]
        yield from ((number, cell) for cell in (reversed(turned) if number % 2 else turned))


def summarised(samples: Mapping[Cell, Sequence[Sample]]) -> dict[Cell, Result]:
    """The median of each figure over the rounds."""
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
    """A fast refusal must never be taken for a fast answer."""
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
    """Runs one statement on a connection of its own."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


OPERATIONS = {PATCH: "PATCH of a connection, audited", VERIFY: "verify", EXCHANGE: "code exchange"}
