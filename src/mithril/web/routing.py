"""Routes as plain Starlette routes, without what Starlette adds for plain functions."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """A handler as the ASGI application that a route wants, without what Starlette adds for plain functions."""

    def __init__(self, handler: Handler) -> None:
        """`handler` gets the request and returns the response or raises a MithrilError."""
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        response = await self.handler(Request(scope, receive))
        await response(scope, receive, send)


def route(path: str, handler: Handler, *methods: str) -> Route:
    """One path, for GET unless other methods are named. The paths of a listener are listed in `app`."""
    return Route(path, endpoint=Endpoint(handler), methods=list(methods) or ["GET"])
