"""The probes `/healthz` (the process answers) and `/readyz` (the database answers and its schema is new enough).

`/metrics`, on the internal listener, is for Prometheus.
"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from mithril import metrics, refusals
from mithril.web import envelope, requests, routing


async def live(request: Request) -> Response:
    """Answer 200 as long as the process answers at all. When it fails, the process should be restarted."""
    return envelope.answer(request, {"status": "alive"})


async def ready(request: Request) -> Response:
    """Answer 200 when the process can serve requests, else raise ServiceUnavailable."""
    if not await requests.resources(request).database.is_current():
        raise refusals.SchemaOutdated
    return envelope.answer(request, {"status": "ready"})


async def measure(request: Request) -> Response:
    """Answer with the metrics of all workers of this server, as Prometheus or OpenMetrics text."""
    found = await asyncio.to_thread(metrics.expose, request.headers.get("accept", ""))
    return Response(found.text, headers={"content-type": found.media_type})


ROUTES = [routing.route("/healthz", live, takes_query=True), routing.route("/readyz", ready, takes_query=True)]
INTERNAL_ROUTES = [*ROUTES, routing.route("/metrics", measure)]
