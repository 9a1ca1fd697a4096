"""Starlette routes without the layers that Starlette adds to plain functions."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


class Endpoint:
    """The ASGI application of one handler."""

    def __init__(self, handler: Handler) -> None:
        """`handler` gets the request and returns the response or raises a MithrilError."""
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self.handler(Request(scope, receive))
        await response(scope, receive, send)


def route(path: str, handler: Handler, *methods: str) -> Route:
    """Return a route for the path; the method is GET unless others are named."""
    return Route(path, endpoint=Endpoint(handler), methods=list(methods) or ["GET"])
