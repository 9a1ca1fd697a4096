"""Limits on guessing: refused attempts are counted, and beyond a limit every further attempt gets 429.

A caller is a place (`callers`), and a client at that place. Only refusals of callers who have not authenticated count,
so a good request costs no statement; except where anyone may have something stored: there each request counts. The
counters are in PostgreSQL, shared by all workers and nodes. A worker remembers which callers are over a limit until
the window ends, and refuses them without a statement.

The pause of one user after wrong passwords is a rule of its own: see `users.service`.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

from mithril import errors, refusals
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.throttling import callers, store
from mithril.throttling.store import Counted

MOST_REMEMBERED = 10_000
# A signature that is refused is what a wrong password is.
COUNTED = (errors.Unauthorized, refusals.SignatureRefused)


class Quota(NamedTuple):
    """The number of refusals in a window before a caller gets 429."""

    name: str
    limit: int


class Over(NamedTuple):
    """A caller has used up a quota. `until`: the end of the window, in monotonic seconds."""

    until: float
    quota: Quota


_over: WeakKeyDictionary[Database, dict[str, Over]] = WeakKeyDictionary()


@asynccontextmanager
async def limited(
    database: Database, settings: Settings, *, network_address: str | None, client_id: str | None
) -> AsyncIterator[None]:
    """Count one of COUNTED that is raised in the block against the caller, and note there what is left to try.

    `client_id`: the client that the caller names. Raises TooManyFailures before the block when the caller has used
    up a quota, and in place of the refusal that exceeds the quota.
    """
    if over := _over.get(database):
        _check(over, _quotas(settings, network_address, client_id), settings.max_failures_period)
    try:
        yield
    except COUNTED as refusal:
        quotas = _quotas(settings, network_address, client_id)
        refusal.standings, is_over = await _count(database, settings, quotas)
        if is_over:
            raise errors.TooManyFailures(refusal.standings) from None
        raise


async def count_request(database: Database, settings: Settings, *, network_address: str | None) -> None:
    """Count a request against the place of the caller, whatever its answer will be, as if it were a refusal.

    Raises TooManyFailures for a request beyond the quota.
    """
    quotas = _quotas(settings, network_address, None)
    _check(_over.get(database, {}), quotas, settings.max_failures_period)
    standings, is_over = await _count(database, settings, quotas)
    if is_over:
        raise errors.TooManyFailures(standings)


def _quotas(settings: Settings, network_address: str | None, client_id: str | None) -> dict[str, Quota]:
    place, known = callers.place_of(network_address), parse_uuid(client_id or "")
    of_client = {f"refused:{place} {known}": Quota("client", settings.max_failures)} if known else {}
    return of_client | {f"refused:{place}": Quota("address", settings.max_failures_per_address)}


async def _count(
    database: Database, settings: Settings, quotas: dict[str, Quota]
) -> tuple[list[errors.Standing], bool]:
    """Count once for each quota; return what is left of them, and whether one is exceeded."""
    window = settings.max_failures_period
    counted = await store.count(database, list(quotas), within_seconds=window)
    _remember(_over.setdefault(database, {}), quotas, counted)
    standings = [_standing(quota, window, counted[key]) for key, quota in quotas.items()]
    return standings, any(counted[key].times > quota.limit for key, quota in quotas.items())


def _check(over: dict[str, Over], quotas: dict[str, Quota], window: int) -> None:
    now = time.monotonic()
    found = [over[key] for key in quotas if key in over and over[key].until > now]
    if found:
        standings = [
            _standing(each.quota, window, Counted(each.quota.limit, int(each.until - now) + 1)) for each in found
        ]
        raise errors.TooManyFailures(standings)


def _remember(over: dict[str, Over], quotas: dict[str, Quota], counted: dict[str, Counted]) -> None:
    now = time.monotonic()
    if len(over) >= MOST_REMEMBERED:
        ended = [key for key, each in over.items() if each.until <= now]
        for key in ended or list(over)[: MOST_REMEMBERED // 2]:
            del over[key]
    for key, quota in quotas.items():
        if counted[key].times >= quota.limit:
            over[key] = Over(now + counted[key].seconds_left, quota)


def _standing(quota: Quota, window: int, counted: Counted) -> errors.Standing:
    remaining = max(quota.limit - counted.times, 0)
    return errors.Standing(quota.name, quota.limit, window, remaining, counted.seconds_left)
