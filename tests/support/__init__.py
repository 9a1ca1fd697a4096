"""What the tests share: rows, servers, processes and clients. This package has no tests and no fixtures."""

from pathlib import Path


def repository() -> Path:
    """Return the root of the checkout."""
    return Path(__file__).parents[2]
