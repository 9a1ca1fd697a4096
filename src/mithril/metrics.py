"""What is counted and measured, for Prometheus; docs/metrics.md has the list of it.

Each process counts in a table of its own. The tables of several workers are in one piece of memory that all of them
map, so that any of them can report for all; a worker that replaces another one counts on in its table. The memory is
reserved before a worker starts, and no disk is involved: a page that cannot be had would end the process that counts.
No label has a value that a caller chose: the route replaces the path, OTHER_METHOD replaces unknown methods, and a
refusal is named by its class.
"""

import mmap
import os
import struct
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple, Self

from prometheus_client import REGISTRY, CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "_OTHER"
NO_ROUTE = "none"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Sizes: as many limits as there are of seconds.
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)
OK = "ok"
# The names of what may be refused, by class; `errors` adds each class. Any other exception is an error of our own.
NAMES: dict[type[BaseException], str] = {}
OWN_ERROR = "mithril_error"
# For so long the gauges of a process count after it has set them: one that has ended left them behind.
GAUGES_LAST_SECONDS = 10.0

# A table is a list of records. A record is its labels, then a number for each bucket, and the sum of what was measured;
# a counter or a gauge has only the first number. The first record is the head of the table: its numbers are that of the
# records, that of the lost log lines, and the moment at which the process has last set its gauges.
RECORDS = 3_072
# Of them, those that are kept from requests: their labels have the most values.
OTHER_RECORDS = 1_280
LABEL_BYTES = 136
NUMBERS = len(SECONDS) + 2
NUMBER_BYTES = struct.calcsize("d")
RECORD_BYTES = LABEL_BYTES + NUMBERS * NUMBER_BYTES
TABLE_BYTES = RECORDS * RECORD_BYTES
FIRST_NUMBER, RECORD_NUMBERS = LABEL_BYTES // NUMBER_BYTES, RECORD_BYTES // NUMBER_BYTES
USED, LOST_LINES, GAUGES_SET_AT = FIRST_NUMBER, FIRST_NUMBER + 1, FIRST_NUMBER + 2

# The name of a family and the values of its labels; of requests only listener, method, status and route.
Labels = tuple[str, ...]


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
        self.places = _Places(self)
        """Where the numbers begin, by the labels. For others it makes a record."""
        self.places.update(self._records())
        self._adding = threading.Lock()

    def read(self) -> Iterator[tuple[Labels, list[float]]]:
        """Yield the labels of each record, and its numbers: those of the buckets, then the sum of what was measured."""
        for labels, place in self._records():
            yield labels, list(self.numbers[place : place + NUMBERS])

    def forget_gauges(self) -> None:
        """Set to zero what a process that has ended left behind."""
        for labels, place in self.places.items():
            if FAMILIES.get(labels[0], REQUESTS).is_passing:
                self.numbers[place] = 0

    def _records(self) -> Iterator[tuple[Labels, int]]:
        for record in range(1, int(self.numbers[USED]) + 1):
            start = record * RECORD_BYTES
            text = self._bytes[start : start + LABEL_BYTES].tobytes().rstrip(b"\0").decode(errors="replace")
            yield tuple(text.split("\n", 3)), record * RECORD_NUMBERS + FIRST_NUMBER

    def add(self, labels: Labels) -> int:
        """Return the place of a new record. One record of each listener stands for all requests that find no room."""
        with self._adding:
            if labels[0] not in FAMILIES and self.numbers[USED] >= RECORDS - 1 - OTHER_RECORDS:
                labels = (labels[0], OTHER_METHOD, "0", NO_ROUTE)
            return self.places.get(labels) or self._place(labels)

    def _place(self, labels: Labels) -> int:
        # There is room: a test counts all labels that are no request's.
        record = min(int(self.numbers[USED]) + 1, RECORDS - 1)
        text = "\n".join(labels).encode()
        start = record * RECORD_BYTES
        self._bytes[start : start + LABEL_BYTES] = text[:LABEL_BYTES].ljust(LABEL_BYTES, b"\0")
        # Now that the labels are there, others may read the record.
        self.numbers[USED] = record
        place = self.places[labels] = record * RECORD_NUMBERS + FIRST_NUMBER
        return place


class _Places(dict[Labels, int]):
    """The places of a table. What is there is found without a call of Python."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._add = table.add

    def __missing__(self, labels: Labels) -> int:
        return self._add(labels)


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
        _tables[0].forget_gauges()


class Family:
    """The numbers of one name. Their labels have few values, and none that names a client, a user or a request."""

    shape: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    is_passing = False
    """Whether the numbers of a process mean nothing once it has ended."""

    def __init__(self, name: str, description: str, *labels: str, known: Sequence[Labels] = ()) -> None:
        """`known`: labels that are shown from the start, with zero; where there are no labels, there is one number."""
        self.name, self.description, self.labels = name, description, labels
        self.known = known if labels else ((),)
        FAMILIES[name] = self

    def together(self, numbers: list[float], more: list[float]) -> list[float]:
        """Return the numbers of two processes together."""
        return [a + b for a, b in zip(numbers, more, strict=True)]

    def shown(self, numbers: list[float]) -> tuple[Any, ...]:
        """Return the numbers of one record as `shape` takes them."""
        return (numbers[0],)


class Counter(Family):
    """What only grows. The name is shown with `_total`."""

    shape = CounterMetricFamily

    def add(self, *values: str, by: float = 1) -> None:
        """Add to the number with these values of the labels."""
        table, labels = _tables[0], (self.name, *values)
        table.numbers[table.places[labels]] += by


class Gauge(Family):
    """What grows and shrinks: the sum of what the running processes have set."""

    shape = GaugeMetricFamily
    is_passing = True

    def set(self, value: float, *values: str) -> None:
        """Set the number with these values of the labels."""
        table, labels = _tables[0], (self.name, *values)
        table.numbers[table.places[labels]] = value


class Greatest(Gauge):
    """What every process measures of the same thing: the greatest of what the running processes have set."""

    def together(self, numbers: list[float], more: list[float]) -> list[float]:
        """Return the greater one."""
        return max(numbers, more)


class Moment(Greatest):
    """When something was last so, in Unix time; it stays true when its process ends. Not shown before."""

    is_passing = False


class Histogram(Family):
    """How often a value was up to each limit, and the sum of the values."""

    shape = HistogramMetricFamily

    def __init__(
        self, name: str, description: str, *labels: str, known: Sequence[Labels] = (), limits: Sequence[float] = SECONDS
    ) -> None:
        """`limits`: of the buckets, as many as SECONDS has."""
        super().__init__(name, description, *labels, known=known)
        self.limits = limits
        self.bounds = [*map(floatToGoString, limits), "+Inf"]

    def observe(self, value: float, *values: str) -> None:
        """Count a value."""
        table, labels = _tables[0], (self.name, *values)
        place = table.places[labels]
        table.numbers[place + bisect_left(self.limits, value)] += 1
        table.numbers[place + NUMBERS - 1] += value

    def shown(self, numbers: list[float]) -> tuple[Any, ...]:
        """Return the cumulative buckets, and the sum."""
        *buckets, total = numbers
        return list(zip(self.bounds, accumulate(buckets), strict=True)), total


class Outcomes:
    """Counts how a block ends: well, or by which refusal, whose name is looked up by its class.

    A caller who went away, and so ended the block, is not counted.
    """

    def __init__(self, counter: Counter, *values: str) -> None:
        """`values`: of the labels before the last one, which is `outcome`."""
        self._first = (counter.name, *values)

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Count."""
        if kind is None or issubclass(kind, Exception):
            table, labels = _tables[0], (*self._first, OK if kind is None else NAMES.get(kind, OWN_ERROR))
            table.numbers[table.places[labels]] += 1


def _outcomes(name: str, description: str) -> Outcomes:
    return Outcomes(Counter(name, description, "outcome", known=[(OK,)]))


def _each(*values: str) -> list[Labels]:
    return [(value,) for value in values]


FAMILIES: dict[str, Family] = {}
LISTENERS, POOLS = _each("public", "internal"), _each("lookups", "statements")

# Name and unit follow the conventions of OpenTelemetry; `_count` is the number of requests.
REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "How long requests took, from their head to the last byte of the answer.",
    "listener",
    "method",
    "status",
    "route",
)
CONNECTIONS = Gauge("mithril_open_connections", "Open connections of callers.", "listener", known=LISTENERS)
CONNECTION_LIMIT = Gauge("mithril_connection_limit", "Connections that are admitted.", "listener")
LOOP_LAG = Histogram(
    "mithril_event_loop_lag_seconds", "How late a task ran that each worker wants to run twice a second."
)

POOL_LIMIT = Gauge("mithril_database_pool_limit", "Connections to the database that may be open.", "pool")
POOL_OPEN = Gauge("mithril_database_pool_open_connections", "Connections to the database that are open.", "pool")
POOL_USED = Gauge("mithril_database_pool_used_connections", "Connections to the database that are in use.", "pool")
POOL_WAITING = Gauge("mithril_database_pool_waiting", "Statements that wait for a connection.", "pool")
POOL_WAITS = Histogram(
    "mithril_database_pool_wait_seconds",
    "How long statements waited that found no free connection.",
    "pool",
    known=POOLS,
)
POOL_TIMEOUTS = Counter(
    "mithril_database_pool_timeouts", "Statements that got no connection in time.", "pool", known=POOLS
)
CONNECT_FAILURES = Counter(
    "mithril_database_connect_failures",
    "Attempts to connect after which no host gave a connection.",
    "pool",
    known=POOLS,
)
UNKNOWN_OUTCOMES = Counter(
    "mithril_unknown_outcomes", "Changes of which it could not be found out whether they are done."
)
LOOKUP_CALLS = Histogram("mithril_lookup_calls", "How many look-ups shared a statement.", limits=SIZES)
LOOKUP_SECONDS = Histogram("mithril_lookup_duration_seconds", "How long statements of look-ups took.")

SIGN_INS = _outcomes("mithril_sign_ins", "Sign-ins by password or signature.")
SECOND_FACTORS = _outcomes("mithril_second_factors", "One-time passwords that were tried.")
EXCHANGES = _outcomes("mithril_exchanges", "Exchanges of a code for tokens.")
REFRESHES = _outcomes("mithril_refreshes", "Exchanges of a refresh token.")
VERIFICATIONS = _outcomes("mithril_verifications", "Verifications of a token for a gateway.")
_MESSAGES = Counter("mithril_messages", "Messages to users.", "channel", "outcome", known=[("sms", OK), ("email", OK)])
SMS, EMAIL = Outcomes(_MESSAGES, "sms"), Outcomes(_MESSAGES, "email")
NOTIFICATIONS = Counter(
    "mithril_notifications",
    "Notifications of changes, by what became of an attempt to deliver one.",
    "channel",
    "outcome",
    known=[(channel, each) for channel in ("webhook", "email") for each in (OK, "retried", "refused", "given_up")],
)
NOTIFICATION_DELAY = Greatest(
    "mithril_notification_delay_seconds", "How old the oldest change is that a target of notifications has not got."
)

REDIRECT_URI_CHANGES = Counter(
    "mithril_redirect_uri_changes",
    "Changes of redirect URIs, as the audit trail calls them.",
    "change",
    known=_each("update"),
)
SECRET_ROTATIONS = Counter("mithril_secret_rotations", "New secrets of connections.")
_KINDS = _each("access_token", "refresh_token", "authorization_code")
TOKENS_ISSUED = Counter("mithril_tokens_issued", "Tokens that were issued.", "kind", known=_KINDS)
TOKENS_ENDED = Counter(
    "mithril_tokens_ended", "Tokens that were used up or revoked before they expired.", "kind", known=_KINDS
)
AUDIT_ROWS = Counter("mithril_audit_rows", "Rows that were written to the audit trail.")

CLEANUPS = Counter("mithril_cleanups", "Cleanups.", "outcome", known=_each(OK, "postponed", "failed"))
CLEANUP_ROWS = Counter("mithril_cleanup_rows", "Rows that cleanups have changed or deleted.", "rows")
CLEANUP_SECONDS = Counter("mithril_cleanup_seconds", "How long all cleanups took together.")
CLEANUP_SUCCESS = Moment("mithril_cleanup_last_success_timestamp_seconds", "When a cleanup last came to its end.")


class _Collector(Collector):
    """What the tables say, as prometheus_client shows it."""

    def collect(self) -> Iterable[Metric]:
        totals: dict[Family, dict[Labels, list[float]]] = {family: {} for family in FAMILIES.values()}
        latest = time.monotonic() - GAUGES_LAST_SECONDS
        for table in _tables:
            is_set = table is _tables[0] or table.numbers[GAUGES_SET_AT] > latest
            for labels, numbers in table.read():
                family = FAMILIES.get(labels[0], REQUESTS)
                values = labels if family is REQUESTS else labels[1:]
                if len(values) != len(family.labels) or (family.is_passing and not is_set):
                    continue  # of another release, whose processes may still be there; or of a process that is not
                known = totals[family].get(values)
                totals[family][values] = family.together(known, numbers) if known else numbers
        for family, found in totals.items():
            shown: Any = family.shape(family.name, family.description, labels=family.labels)
            known_values = () if isinstance(family, Moment) else family.known
            for values in [*found, *(values for values in known_values if values not in found)]:
                shown.add_metric(values, *family.shown(found.get(values, [0.0] * NUMBERS)))
            yield shown
        lost = sum(table.numbers[LOST_LINES] for table in _tables)
        yield CounterMetricFamily("mithril_lost_log_lines", "Lines of the log that could not be written.", value=lost)
        build = GaugeMetricFamily("mithril_build_info", "The version and its schema.", labels=list(_build))
        build.add_metric(list(_build.values()), 1)
        yield build


# What is said of the program itself.
_build: dict[str, str] = {}
# The table of this process, and then those of the others.
_tables = [Table(bytearray(TABLE_BYTES))]
# What a single process tells of itself, such as its memory, would be of any one of several.
_SHARED = CollectorRegistry()
for _registry in (REGISTRY, _SHARED):
    _registry.register(_Collector())


def count_request(*, listener: str, method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. `route`: the pattern that matched, if any."""
    table = _tables[0]
    labels = (listener, method if method in METHODS else OTHER_METHOD, str(status), route or NO_ROUTE)
    place = table.places[labels]
    table.numbers[place + bisect_left(SECONDS, seconds)] += 1
    table.numbers[place + NUMBERS - 1] += seconds


def describe_build(**labels: str) -> None:
    """Say which release this is."""
    _build.update(labels)


def gauges_are_set() -> None:
    """Say that this process runs, and that its gauges are right at this moment."""
    _tables[0].numbers[GAUGES_SET_AT] = time.monotonic()


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
