"""Metrics of the answered requests, for Prometheus.

Several workers count in shared files, so that any of them can report for all; their parent must have called `share`.
No label has a value that a caller chose: the route replaces the path, and OTHER_METHOD replaces unknown methods.
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

# Name and unit follow the conventions of OpenTelemetry; `_count` is the number of requests.
REQUESTS = Histogram(
    "http_server_request_duration_seconds",
    "How long requests took, from their head to the last byte of the answer.",
    ["listener", "method", "route", "status"],
    buckets=SECONDS,
)


class Exposition(NamedTuple):
    """All metrics as text, and the media type of the text."""

    text: bytes
    media_type: str


@contextmanager
def share() -> Iterator[None]:
    """Let the processes that are started within the block share their metrics."""
    with tempfile.TemporaryDirectory(prefix="mithril-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


def count_request(*, listener: str, method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. `route`: the pattern that matched, if any."""
    _durations(listener, method if method in METHODS else OTHER_METHOD, route or NO_ROUTE, status).observe(seconds)


@functools.cache  # bounded by the number of routes, methods and statuses
def _durations(listener: str, method: str, route: str, status: int) -> Histogram:
    return REQUESTS.labels(listener, method, route, status)


def expose(accept: str) -> Exposition:
    """Return the metrics in the format that an Accept header asks for. This reads files, so it may block."""
    registry = REGISTRY
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    encode, media_type = exposition.choose_encoder(accept)
    return Exposition(encode(registry), media_type)
