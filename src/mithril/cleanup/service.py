"""The rules of housekeeping: what goes when, how fast, and who does it.

The server does it by itself, every so often; `mithril sweep` does it now. Of several processes that begin, one
goes on. Between two batches there is a pause at least as long as the batch took, so that a sweep never has more
than half of what one connection can do, however much there is to sweep.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

import structlog

from mithril import errors
from mithril.cleanup import store
from mithril.cleanup.store import BEGINNING, Kind
from mithril.database.database import Database
from mithril.settings import Settings

BATCH_ROWS = 500
PAUSE_SECONDS = 0.02
SECONDS_PER_MINUTE, SECONDS_PER_DAY = 60.0, 86_400.0
log = structlog.stdlib.get_logger("mithril")

# Who is told of each batch: the kind's name, and how many rows it was.
Listener = Callable[[str, int], None]
Swept = dict[str, int]


class Task(NamedTuple):
    """A kind of rows, and the age at which they are swept."""

    kind: Kind
    age_seconds: float


class Busy(Exception):
    """Another process is sweeping."""


def tasks(settings: Settings) -> Iterator[Task]:
    """What there is to do, in order. Source: contract.md 5.5; nonces and counters serve nobody once they are over."""
    kept_seconds = settings.token_ttl_after_expiration_days * SECONDS_PER_DAY
    window_minutes = max(
        settings.max_failed_logins_period, settings.otp_send_timeout, -(-settings.max_failures_period // 60)
    )
    yield Task(store.OLD_PASSWORDS, settings.password_expiration_days * SECONDS_PER_DAY)
    yield Task(store.TOKENS, kept_seconds)
    yield Task(store.OPEN_CODES, 0.0)
    yield Task(store.CODES, kept_seconds)
    yield Task(store.NONCES, 0.0)
    yield Task(store.COUNTERS, window_minutes * SECONDS_PER_MINUTE)


async def sweep(
    database: Database, settings: Settings, *, gives_way: bool = False, listener: Listener = lambda *_: None
) -> Swept:
    """One sweep of everything that is due; how many rows of each kind it was.

    `gives_way`: leave the work to another process that is found at it, by Busy; else take turns with it.
    What was swept until an error stays swept. Raises Busy, ServiceUnavailable.
    """
    swept: Swept = {}
    for task in tasks(settings):
        swept[task.kind.name] = await _sweep(database, task, gives_way=gives_way, listener=listener)
    return swept


async def keep_sweeping(database: Database, settings: Settings) -> NoReturn:
    """Sweeps every `sweep_interval` seconds, until it is canceled; what goes wrong is logged, and tried again then."""
    while True:
        await asyncio.sleep(settings.sweep_interval)
        try:
            swept = await sweep(database, settings, gives_way=True)
        except Busy:
            log.debug("sweep_left_to_another")
        except errors.ServiceUnavailable as error:
            log.warning("sweep_postponed", detail=error.detail)
        except Exception:
            log.exception("sweep_failed")
        else:
            report = log.info if any(swept.values()) else log.debug
            report("swept", **swept)


async def _sweep(database: Database, task: Task, *, gives_way: bool, listener: Listener) -> int:
    place, total = BEGINNING, 0
    while True:
        began = time.monotonic()
        batch = await store.sweep_batch(database, task.kind, place, age_seconds=task.age_seconds, most_rows=BATCH_ROWS)
        if batch is None and gives_way:
            raise Busy
        if batch is not None:
            place, total = batch.end, total + batch.swept
            listener(task.kind.name, batch.swept)
            if batch.seen < BATCH_ROWS:
                return total
        await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - began))
