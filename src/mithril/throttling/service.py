"""What keeps a caller from guessing on and on: refusals are counted, and beyond a limit nothing is tried any more.

A caller is a network address, and a client at that address. Only refusals count, so a good request costs no statement
and brings nobody nearer to a limit; and only those of callers who have not proved who they are: what comes with the
right secret of a client is no guess. The counters are in PostgreSQL, the same for all
workers and nodes; a worker remembers who is over a limit until the window ends, and refuses them without asking.

The pause of one person after wrong passwords is another thing, and older: see `users.service`.
"""

import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.throttling import store
from mithril.throttling.store import Counted
from mithril.web import requests, routing

IPV6_PREFIX = 64  # what one subscriber gets: the rest of the address is theirs to choose
MOST_REMEMBERED = 10_000


class Quota(NamedTuple):
    """How many refusals of one kind of caller are answered as what they are."""

    name: str
    limit: int


class Over(NamedTuple):
    """A caller who has used up a quota, until then (monotonic seconds)."""

    until: float
    quota: Quota


_over: WeakKeyDictionary[Database, dict[str, Over]] = WeakKeyDictionary()


@asynccontextmanager
async def limited(request: Request, *, client_id: str | None = None) -> AsyncIterator[None]:
    """Counts it against the caller when what is done inside is refused as `Unauthorized`.

    `client_id`: who the caller says to be. Raises TooManyFailures, before anything
    is done for a caller who has used up a quota, and in place of a refusal that goes beyond it.
    """
    settings, database, _ = requests.resources(request)
    quotas = _quotas(settings, requests.network_address(request), client_id)
    window = settings.max_failures_period
    _check(_over.get(database, {}), quotas, window)
    try:
        yield
    except errors.Unauthorized:
        counted = await store.count(database, list(quotas), within_seconds=window)
        _remember(_over.setdefault(database, {}), quotas, counted)
        standings = [_standing(quota, window, counted[key]) for key, quota in quotas.items()]
        if any(counted[key].times > quota.limit for key, quota in quotas.items()):
            raise errors.TooManyFailures(standings) from None
        request.scope[requests.REFUSAL_HEADERS] = errors.rate_limit_headers(standings)
        raise


def limiting(handler: routing.Handler) -> routing.Handler:
    """A handler whose refusals count against the network address."""

    async def handle(request: Request) -> Response:
        async with limited(request):
            return await handler(request)

    return handle


def place_of(network_address: str | None) -> str:
    """The address, or for IPv6 the network of one subscriber."""
    try:
        address = ipaddress.ip_address(network_address or "")
    except ValueError:
        return str(network_address)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def _quotas(settings: Settings, network_address: str | None, client_id: str | None) -> dict[str, Quota]:
    place, known = place_of(network_address), parse_uuid(client_id or "")
    of_client = {f"refused:{place} {known}": Quota("client", settings.max_failures)} if known else {}
    return of_client | {f"refused:{place}": Quota("address", settings.max_failures_per_address)}


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
