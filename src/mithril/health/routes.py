"""`/healthz`: the process lives. `/readyz`: it can serve, because the database answers and has our schema."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors, http


async def live(request: Request) -> Response:
    """200 as long as the process answers at all; restart it when it does not."""
    return http.answer(request, {"status": "alive"})


async def ready(request: Request) -> Response:
    """200 when requests can be served, else 503: send them elsewhere for now."""
    if not await http.resources(request).database.is_current():
        raise errors.ServiceUnavailable("The database has an older schema: run `mithril migrate`.")
    return http.answer(request, {"status": "ready"})


ROUTES = [http.route("/healthz", live), http.route("/readyz", ready)]
