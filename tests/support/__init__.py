"""What tests share: rows, servers, processes and clients. No test and no fixture lives here."""

from pathlib import Path


def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[2]
