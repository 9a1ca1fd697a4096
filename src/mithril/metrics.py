"""Metrics of the answered requests and of the log, for Prometheus.

Each process counts in a table of its own. The tables of several workers are in one piece of memory that all of them
map, so that any of them can report for all; a worker that replaces another one counts on in its table. The memory is
reserved before a worker starts, and no disk is involved: a page that cannot be had would end the process that counts.
No label has a value that a caller chose: the route replaces the path, and OTHER_METHOD replaces unknown methods.
"""

import mmap
import os
import struct
import tempfile
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple, Self

from prometheus_client import REGISTRY, CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "_OTHER"
NO_ROUTE = "none"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LIMITS = [*map(floatToGoString, SECONDS), "+Inf"]

# A table is a list of records. A record is its labels, then a number for each bucket, and the sum of the seconds. The
# first record is the head of the table: its first two numbers are those of the records and of the lost log lines.
RECORDS = 2_048
LABEL_BYTES = 136
NUMBERS = len(LIMITS) + 1
NUMBER_BYTES = struct.calcsize("d")
RECORD_BYTES = LABEL_BYTES + NUMBERS * NUMBER_BYTES
TABLE_BYTES = RECORDS * RECORD_BYTES
FIRST_NUMBER, RECORD_NUMBERS = LABEL_BYTES // NUMBER_BYTES, RECORD_BYTES // NUMBER_BYTES
USED, LOST_LINES = FIRST_NUMBER, FIRST_NUMBER + 1

Labels = tuple[str, ...]  # listener, method, status, route


class Exposition(NamedTuple):
    """All metrics as text, and the media type of the text."""

    text: bytes
    media_type: str


class Table:
    """The counts of one process. Only that process writes; others may read at any time."""

    def __init__(self, memory: "memoryview | bytearray") -> None:
        """`memory`: of TABLE_BYTES, zero or as another process left it."""
        self._bytes = memoryview(memory)
        self.numbers: memoryview[float] = self._bytes.cast("d")
        self._places = dict(self._records())
        self._adding = threading.Lock()

    def count(self, labels: Labels, seconds: float) -> None:
        """Count one request."""
        place = self._places.get(labels) or self._add(labels)
        self.numbers[place + bisect_left(SECONDS, seconds)] += 1
        self.numbers[place + NUMBERS - 1] += seconds

    def read(self) -> Iterator[tuple[Labels, list[float]]]:
        """Yield the labels of each record, and its numbers: those of the buckets, then the sum of the seconds."""
        for labels, place in self._records():
            yield labels, list(self.numbers[place : place + NUMBERS])

    def _records(self) -> Iterator[tuple[Labels, int]]:
        for record in range(1, int(self.numbers[USED]) + 1):
            start = record * RECORD_BYTES
            text = self._bytes[start : start + LABEL_BYTES].tobytes().rstrip(b"\0").decode(errors="replace")
            yield tuple(text.split("\n", 3)), record * RECORD_NUMBERS + FIRST_NUMBER

    def _add(self, labels: Labels) -> int:
        """Return the place of a new record. The last record of a table stands for all that find no room."""
        with self._adding:
            return self._places.get(labels) or self._place(labels)

    def _place(self, labels: Labels) -> int:
        record = min(int(self.numbers[USED]) + 1, RECORDS - 1)
        text = "\n".join(labels if record < RECORDS - 1 else (labels[0], OTHER_METHOD, "0", NO_ROUTE)).encode()
        start = record * RECORD_BYTES
        self._bytes[start : start + LABEL_BYTES] = text[:LABEL_BYTES].ljust(LABEL_BYTES, b"\0")
        # Now that the labels are there, others may read the record.
        self.numbers[USED] = record
        place = self._places[labels] = record * RECORD_NUMBERS + FIRST_NUMBER
        return place


class SharedMemory:
    """The tables of several processes, in memory that a child process gets with the arguments of its start."""

    def __init__(self, tables: int, descriptor: Any = None) -> None:  # noqa: ANN401 -- see below
        """Reserve the memory. Raises OSError, which says how much was needed and where, when there is no room.

        `descriptor`: what `__reduce__` hands on.
        """
        self._tables = tables
        self._descriptor = _reserve(tables) if descriptor is None else descriptor.detach()

    def __reduce__(self) -> tuple[type[Self], tuple[int, Any]]:
        """Hand the memory on to a process that is being started."""
        return type(self), (self._tables, DupFd(self._descriptor))

    def use(self, number: int) -> None:
        """Let this process count in the table of that number, and report what is in all of them."""
        mapped = memoryview(mmap.mmap(self._descriptor, self._tables * TABLE_BYTES))
        tables = [Table(mapped[n * TABLE_BYTES : (n + 1) * TABLE_BYTES]) for n in range(self._tables)]
        _tables[:] = [tables.pop(number), *tables]


class _Collector(Collector):
    """What the tables say, as prometheus_client shows it."""

    def collect(self) -> Iterable[Metric]:
        # Name and unit follow the conventions of OpenTelemetry; `_count` is the number of requests.
        requests = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "How long requests took, from their head to the last byte of the answer.",
            labels=["listener", "method", "status", "route"],
        )
        totals: dict[Labels, list[float]] = {}
        for table in _tables:
            for labels, numbers in table.read():
                totals[labels] = [a + b for a, b in zip(totals.get(labels, [0.0] * NUMBERS), numbers, strict=True)]
        for labels, (*buckets, seconds) in totals.items():
            requests.add_metric(labels, list(zip(LIMITS, accumulate(buckets), strict=True)), seconds)
        lost = sum(table.numbers[LOST_LINES] for table in _tables)
        yield requests
        yield CounterMetricFamily("mithril_lost_log_lines", "Lines of the log that could not be written.", value=lost)


# The table of this process, and then those of the others.
_tables = [Table(bytearray(TABLE_BYTES))]
# What a single process tells of itself, such as its memory, would be of any one of several.
_SHARED = CollectorRegistry()
for _registry in (REGISTRY, _SHARED):
    _registry.register(_Collector())


def count_request(*, listener: str, method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. `route`: the pattern that matched, if any."""
    _tables[0].count((listener, method if method in METHODS else OTHER_METHOD, str(status), route or NO_ROUTE), seconds)


def count_lost_line() -> None:
    """Count one line of the log that could not be written."""
    _tables[0].numbers[LOST_LINES] += 1


def expose(accept: str) -> Exposition:
    """Return the metrics in the format that an Accept header asks for."""
    encode, media_type = exposition.choose_encoder(accept)
    return Exposition(encode(REGISTRY if len(_tables) == 1 else _SHARED), media_type)


def _reserve(tables: int) -> int:
    """Return the descriptor of memory for so many tables, or else of a nameless file, all of it zero."""
    place = "memory"
    try:
        try:
            descriptor = os.memfd_create("mithril-metrics")
        except (AttributeError, OSError):  # not every system has it, or allows it
            place = tempfile.gettempdir()
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        with open(descriptor, "r+b", buffering=TABLE_BYTES, closefd=False) as memory:
            memory.writelines(bytes(TABLE_BYTES) for _ in range(tables))
    except OSError as error:
        needed = tables * TABLE_BYTES
        raise OSError(error.errno, f"the metrics need {needed} bytes of {place}: {error.strerror}") from None
    return descriptor
