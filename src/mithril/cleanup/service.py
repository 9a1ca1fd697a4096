"""The rules of the cleanup: which rows are due at which age, how fast they are processed, and by which process.

A server cleans up at a regular interval; the command `mithril sweep` cleans up at once. Only one process cleans up at
a time. The pause after each batch is at least as long as the batch took, so that a cleanup takes at most half of the
capacity of one connection.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

import structlog

from mithril import errors, metrics
from mithril.cleanup import store
from mithril.cleanup.store import BEGINNING, Target
from mithril.connections import transition_store
from mithril.database.database import Database
from mithril.oauth import password_link
from mithril.settings import Settings
from mithril.sightings import sign_in_store

BATCH_ROWS = 500
PAUSE_SECONDS = 0.02
REVOCATION_SECONDS = 60.0  # longer than any request takes
OPERATION_SECONDS = 3_600.0  # much longer than any request or command asks for its operation
NARROWED = "tokens_narrowed"
PARTITIONS = "audit_partitions_made"
SECONDS_PER_MINUTE, SECONDS_PER_DAY = 60.0, 86_400.0
log = structlog.stdlib.get_logger("mithril")

# Called after each batch with the target's name and the number of rows.
Listener = Callable[[str, int], None]
Counts = dict[str, int]


class Task(NamedTuple):
    """Rows to clean up, and the age at which they are due."""

    target: Target
    age_seconds: float


class Busy(Exception):
    """Another process is cleaning up."""


def tasks(settings: Settings) -> Iterator[Task]:
    """Yield the tasks of a cleanup, in order. Source: rules TOK-22 to TOK-24; nonces and counters are our own."""
    kept_seconds = settings.token_ttl_after_expiration_days * SECONDS_PER_DAY
    window_minutes = max(
        settings.max_failed_logins_period, settings.otp_send_timeout, -(-settings.max_failures_period // 60)
    )
    yield Task(store.TRANSITIONS, 0.0)
    yield Task(store.OLD_PASSWORDS, settings.password_expiration_days * SECONDS_PER_DAY)
    yield Task(store.TOKENS, kept_seconds)
    yield Task(store.OPEN_CODES, 0.0)
    yield Task(store.CODES, kept_seconds)
    yield Task(store.NONCES, 0.0)
    yield Task(store.SECRET_USES, SECONDS_PER_DAY)
    yield Task(store.SIGN_IN_COUNTS, sign_in_store.KEPT_SECONDS)
    yield Task(store.OPERATIONS, OPERATION_SECONDS)
    window_seconds = max(window_minutes * SECONDS_PER_MINUTE, password_link.WINDOW_SECONDS)
    yield Task(store.COUNTERS, window_seconds)


async def clean_up(
    database: Database, settings: Settings, *, gives_way: bool = False, listener: Listener = lambda *_: None
) -> Counts:
    """Clean up everything that is due, and return the number of rows by the target's name.

    `gives_way`: raise Busy when another process is cleaning up; otherwise alternate with it, batch by batch.
    Batches before an error are kept. Raises Busy, ServiceUnavailable.
    """
    counts: Counts = {NARROWED: await _follow_revocations(database, gives_way=gives_way, listener=listener)}
    for task in tasks(settings):
        counts[task.target.name] = await _run(database, task, gives_way=gives_way, listener=listener)
    counts[PARTITIONS] = await store.make_partitions(database) or 0
    return counts


async def clean_up_regularly(database: Database, settings: Settings) -> NoReturn:
    """Clean up every `sweep_interval` seconds until canceled. An error is logged, and the next interval tries again."""
    while True:
        await asyncio.sleep(settings.sweep_interval)
        began, outcome = time.monotonic(), "failed"
        try:
            counts = await clean_up(database, settings, gives_way=True, listener=_count)
        except Busy:
            outcome = "left_to_another"
            log.debug("sweep_left_to_another")
        except (errors.ServiceUnavailable, errors.OutcomeUnknown) as error:
            outcome = "postponed"
            log.warning("sweep_postponed", detail=error.detail)
        except Exception:
            log.exception("sweep_failed")
        else:
            outcome = metrics.OK
            metrics.CLEANUP_SUCCESS.set(time.time())
            report = log.info if any(counts.values()) else log.debug
            report("swept", **counts)
        metrics.CLEANUPS.add(outcome)
        metrics.CLEANUP_SECONDS.add(by=time.monotonic() - began)


def _count(name: str, rows: int) -> None:
    metrics.CLEANUP_ROWS.add(name, by=rows)
    if name == store.TRANSITIONS.name:
        transition_store.count_changes(transition_store.COMPLETED, rows)


async def _follow_revocations(database: Database, *, gives_way: bool, listener: Listener) -> int:
    """Store what revocations left of the tokens that they concern, and drop the revocations; return the count.

    What a token is good for does not depend on it: the look-up takes revocations into account at once.
    """
    revocations, total = await store.list_due_revocations(database, age_seconds=REVOCATION_SECONDS), 0
    if not revocations:
        return 0
    for statement in store.FOLLOW:
        after, is_done = store.FIRST_ID, False
        while not is_done:
            began = time.monotonic()
            batch = await store.follow(database, statement, revocations, after=after, most_rows=BATCH_ROWS)
            if batch is None and gives_way:
                raise Busy
            if batch is not None:
                total, after, is_done = total + len(batch), max(batch, default=after), not batch
                listener(NARROWED, len(batch))
            await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - began))
    await store.delete_revocations(database, revocations)
    return total


async def _run(database: Database, task: Task, *, gives_way: bool, listener: Listener) -> int:
    after, total = BEGINNING, 0
    while True:
        began = time.monotonic()
        batch = await store.run_batch(database, task.target, after, age_seconds=task.age_seconds, most_rows=BATCH_ROWS)
        if batch is None and gives_way:
            raise Busy
        if batch is not None:
            after, total = batch.end, total + batch.changed
            listener(task.target.name, batch.changed)
            if batch.seen < BATCH_ROWS:
                return total
        await asyncio.sleep(max(PAUSE_SECONDS, time.monotonic() - began))
