"""The limits on guessing as routes apply them: who is calling, and which headers a refusal gets."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.throttling import service
from mithril.web import requests, routing


@asynccontextmanager
async def limited(request: Request, *, client_id: str | None = None) -> AsyncIterator[None]:
    """Apply `service.limited` to the IP address of the caller and to the client that it names."""
    settings, database, _ = requests.resources(request)
    address = requests.network_address(request)
    try:
        async with service.limited(database, settings, network_address=address, client_id=client_id):
            yield
    except service.COUNTED as refusal:
        request.scope[requests.REFUSAL_HEADERS] = errors.rate_limit_headers(refusal.standings)
        raise


def limiting(handler: routing.Handler) -> routing.Handler:
    """Return a handler that counts the refusals of `handler` against the IP address of the caller."""

    async def handle(request: Request) -> Response:
        async with limited(request):
            return await handler(request)

    return handle


def counting(handler: routing.Handler) -> routing.Handler:
    """Return a handler that counts each of its requests against the IP address of the caller, before anything else."""

    async def handle(request: Request) -> Response:
        settings, database, _ = requests.resources(request)
        await service.count_request(database, settings, network_address=requests.network_address(request))
        return await handler(request)

    return handle
