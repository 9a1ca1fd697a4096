"""Starlette routes without the layers that Starlette adds to plain functions.

A route says whether it knows query parameters. On the internal listener one that knows none refuses any (rule CNV-50):
the `?` may come from text that a gateway inserted into a path, which is then another path than the one that was meant.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from mithril.web import query_parameters

Handler = Callable[[Request], Awaitable[Response]]


class Remainder(PathConvertor):
    """What is left of a path, also where it has line breaks, at which Starlette's `path` ends."""

    regex = "(?s:.*)"


register_url_convertor("remainder", Remainder())


class Endpoint:
    """The ASGI application of one handler."""

    def __init__(self, handler: Handler, *, takes_query: bool = False) -> None:
        """`handler` gets the request and returns the response or raises a MithrilError."""
        self.handler = handler
        self.takes_query = takes_query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["query_string"] and not self.takes_query and scope["app"].refuses_queries:
            query_parameters.refuse(scope["query_string"])
        response = await self.handler(Request(scope, receive))
        await response(scope, receive, send)


def route(path: str, handler: Handler, *methods: str, takes_query: bool = False) -> Route:
    """Return a route for the path; the method is GET unless others are named."""
    return Route(path, endpoint=Endpoint(handler, takes_query=takes_query), methods=list(methods) or ["GET"])


def routers(routes: Sequence[BaseRoute]) -> Mapping[str, Router]:
    """Return a router for each first part of a path, such as `oauth2` of `/oauth2/token`.

    So a request is compared with the routes of its own part only. A route has no parameter there.
    """
    found: dict[str, list[BaseRoute]] = defaultdict(list)
    for each in routes:
        assert isinstance(each, Route), "the kind that `route` makes"
        part = each.path[1:].partition("/")[0]
        assert "{" not in part, "another part could match it too"
        found[part].append(each)
    return {part: Router(own, redirect_slashes=False) for part, own in found.items()}
