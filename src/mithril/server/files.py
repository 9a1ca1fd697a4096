"""How many connections a worker may hold, by the number of files that it may have open.

A file is kept for each connection to the database and for what a worker opens otherwise. Each listener has half of the
rest, so that a flood on one takes nothing from the other. Beside its connections a listener keeps room for those that
are told that there is none, and for those that the kernel hands over in one turn of the event loop.
"""

import resource
import sys
from typing import NamedTuple

import structlog

from mithril.settings import Settings, SettingsError

BACKLOG = 2_048
# What a worker opens beside all connections: listeners, event loop, log, memory, messages to the SMS service.
OTHER_FILES = 128
FEWEST_CONNECTIONS = 32

log = structlog.stdlib.get_logger("mithril")


class Room(NamedTuple):
    """For how many connections one listener of a worker has files.

    `overflow`: how many more it may be refusing, and how many may wait to be accepted.
    """

    connections: int
    overflow: int


def room(settings: Settings, files: int | None = None) -> Room:
    """Return what one listener may hold. `files`: how many a worker may open; by default the limit of this process."""
    share = ((_allowed() if files is None else files) - settings.db_pool_size - OTHER_FILES) // 2
    overflow = min(BACKLOG, max((share - settings.max_connections) // 2, share // 8))
    return Room(min(settings.max_connections, share - 2 * overflow), overflow)


def allowable(settings: Settings) -> tuple[int, int]:
    """Return how many files a worker may be allowed to open, as far as they are of use, and how many are of use."""
    wanted = 2 * (settings.max_connections + 2 * BACKLOG) + settings.db_pool_size + OTHER_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), wanted


def allow(settings: Settings) -> None:
    """Raise the limit of open files of this process and its workers as far as that is of use, and allowed.

    Raises SettingsError when so few are allowed that no server can work with them.
    """
    allowed, wanted = allowable(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    found = room(settings)
    if found.connections < min(FEWEST_CONNECTIONS, settings.max_connections):
        needed = 3 * FEWEST_CONNECTIONS + settings.db_pool_size + OTHER_FILES
        raise SettingsError(f"{allowed} files may be open, and {needed} are needed: raise the limit (ulimit -n)")
    if found.connections < settings.max_connections:
        log.warning(
            "few_files",
            allowed=allowed,
            wanted=wanted,
            connections=found.connections,
        )


def _allowed() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
