"""Pictures of the last 24 hours: sign-ins and refusals by the hour, of all clients, of one, through each connection.

They come from the counts of `sightings`. A bar is told from another one by its pattern, and everything that a picture
shows is in a table too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors
from mithril.clients import service as clients
from mithril.connections import store as connections
from mithril.console import client_routes, gate, rendering
from mithril.console.sessions import Session
from mithril.sightings import sign_in_store
from mithril.sightings.sign_in_store import ALL, SIGN_IN, Count
from mithril.web import requests
from mithril.web.forms import Parameters

ACTIVITY = "/console/activity"
OF_CLIENT = f"{client_routes.CLIENT}/activity"
HOURS, HEIGHT = 24, 60
ON_A_PAGE = 10


class Bar(NamedTuple):
    """One hour: how often there was what, and how high that is in the picture."""

    hour: datetime
    sign_ins: int
    refusals: int
    sign_ins_height: float
    refusals_height: float


class Picture(NamedTuple):
    """The bars of the last hours, the oldest first, and their sums."""

    name: str
    bars: list[Bar]
    sign_ins: int
    refusals: int
    highest: int

    @property
    def has_gaps(self) -> bool:
        """Whether in some hour there was nothing."""
        return not all(bar.sign_ins or bar.refusals for bar in self.bars)


def picture(name: str, counts: Iterable[Count], *, now: datetime) -> Picture:
    """Return the picture of these counts. `name`: what tells it from others of its page."""
    sign_ins, refusals = Counter[datetime](), Counter[datetime]()
    for count in counts:
        (refusals if count.outcome != SIGN_IN else sign_ins)[count.hour] += count.times
    last = now.replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=ago) for ago in reversed(range(HOURS))]
    highest = max(sign_ins[hour] + refusals[hour] for hour in hours)
    scale = HEIGHT / max(highest, 1)
    bars = [
        Bar(hour, sign_ins[hour], refusals[hour], round(sign_ins[hour] * scale, 2), round(refusals[hour] * scale, 2))
        for hour in hours
    ]
    return Picture(name, bars, sum(bar.sign_ins for bar in bars), sum(bar.refusals for bar in bars), highest)


def reasons(counts: Iterable[Count]) -> list[tuple[str, int]]:
    """Return how often there was which refusal, the most frequent first."""
    found = Counter[str]()
    for count in counts:
        if count.outcome != SIGN_IN:
            found[count.outcome] += count.times
    return found.most_common()


async def show_all(request: Request, session: Session, _: Parameters) -> Response:
    """Show an administrator what goes on: in all, by reason, and the clients with the most refusals."""
    if not session.caller.is_administrative:
        raise errors.Forbidden(detail="the client is of no administrative type")
    database = requests.resources(request).database
    refused = await sign_in_store.list_refused(database)
    counts = await _counts(request, [ALL, *(client.id for client in refused)])
    sign_ins = {client.id: sum(c.times for c in counts[client.id] if c.outcome == SIGN_IN) for client in refused}
    return rendering.page(
        request,
        session,
        "activity.html",
        client=None,
        whole=picture("all", counts[ALL], now=datetime.now(UTC)),
        reasons=reasons(counts[ALL]),
        parts=(),
        refused=refused,
        sign_ins=sign_ins,
    )


async def show_client(request: Request, session: Session, _: Parameters) -> Response:
    """Show the sign-ins of a client through each connection, and its refusals by reason."""
    database, client_id = requests.resources(request).database, client_routes.named(request, "client_id")
    client = await clients.get_client(database, client_id)
    page = client_routes.page_of(request, ON_A_PAGE)
    found = await connections.list_connections(database, {}, client_id=client_id, page=page)
    names = await client_routes.consumer_names(database, found.rows)
    counts, now = await _counts(request, [client_id, *(each.id for each in found.rows)]), datetime.now(UTC)
    return rendering.page(
        request,
        session,
        "activity.html",
        client=client,
        whole=picture("all", counts[client_id], now=now),
        reasons=reasons(counts[client_id]),
        parts=[(names[each.consumer_id], picture(str(each.id), counts[each.id], now=now)) for each in found.rows],
        next_page=found.next,
        refused=(),
    )


async def _counts(request: Request, subject_ids: Sequence[UUID]) -> dict[UUID, list[Count]]:
    counts: dict[UUID, list[Count]] = {subject_id: [] for subject_id in subject_ids}
    for count in await sign_in_store.list_counts(requests.resources(request).database, subject_ids):
        counts[count.subject_id].append(count)
    return counts


ROUTES: list[Route] = [
    gate.page(ACTIVITY, show_all, scope="client:read"),
    gate.page(OF_CLIENT, show_client, scope="connection:read"),
]
