"""What a process counts about the requests that it answers, for Prometheus.

Several workers count in files that they share, so that whichever is asked answers for all; `share` must then have
run in their parent. No label has a value that a caller chose: the route stands for the path, and a method that
nobody knows for all of them.
"""

import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Histogram, exposition
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "_OTHER"
NO_ROUTE = "none"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Name and unit as OpenTelemetry's conventions have them; how many requests there were is its `_count`.
REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "How long requests took, from their head to the last byte of the answer.",
    ["listener", "method", "route", "status"],
    buckets=SECONDS,
)


class Exposition(NamedTuple):
    """All metrics as text, and its media type."""

    text: bytes
    media_type: str


@contextmanager
def share() -> Iterator[None]:
    """Lets the processes that are started within the block count together."""
    with tempfile.TemporaryDirectory(prefix="mithril-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


def count_request(*, listener: str, method: str, route: str | None, status: int, seconds: float) -> None:
    """Counts one request that was answered; `route`: the pattern that matched, if any."""
    _durations(listener, method if method in METHODS else OTHER_METHOD, route or NO_ROUTE, status).observe(seconds)


@functools.cache  # as many as there are routes, methods and statuses
def _durations(listener: str, method: str, route: str, status: int) -> Histogram:
    return REQUESTS.labels(listener, method, route, status)


def expose(accept: str) -> Exposition:
    """What was counted so far, in the format that `accept` (a header's value) asks for. Reads files: it may block."""
    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    encode, media_type = exposition.choose_encoder(accept)
    return Exposition(encode(registry), media_type)
