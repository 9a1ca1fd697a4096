"""`/healthz`: the process lives. `/readyz`: it can serve, because the database answers and has our schema.
`/metrics`, on the internal listener: what was answered, for Prometheus.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from mithril import metrics, refusals
from mithril.web import envelope, requests, routing


async def live(request: Request) -> Response:
    """200 as long as the process answers at all; restart it when it does not."""
    return envelope.answer(request, {"status": "alive"})


async def ready(request: Request) -> Response:
    """200 when requests can be served, else 503: send them elsewhere for now."""
    if not await requests.resources(request).database.is_current():
        raise refusals.SchemaOutdated
    return envelope.answer(request, {"status": "ready"})


async def measure(request: Request) -> Response:
    """The metrics of all workers of this server, as Prometheus or OpenMetrics text."""
    found = await asyncio.to_thread(metrics.expose, request.headers.get("accept", ""))
    return Response(found.text, headers={"content-type": found.media_type})


ROUTES = [routing.route("/healthz", live), routing.route("/readyz", ready)]
INTERNAL_ROUTES = [*ROUTES, routing.route("/metrics", measure)]
