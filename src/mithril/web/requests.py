"""What a handler reads from a request: the resources of the process, single headers, the peer and the origin."""

import re
from typing import NamedTuple, cast

from starlette.requests import Request
from starlette.types import Scope

from mithril.database.database import Database
from mithril.settings import Settings
from mithril.sms.messenger import Messenger

HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
# The scope key under which a route without the envelope stores its error view: (scope, error) -> Response.
REFUSAL_VIEW = "mithril.refusal_view"
# The scope key of headers that are added to any refusal of the request.
REFUSAL_HEADERS = "mithril.refusal_headers"


class Resources(NamedTuple):
    """The resources of a process that every handler may use."""

    settings: Settings
    database: Database
    messenger: Messenger


def resources(request: Request) -> Resources:
    """Return the resources of the process that serves `request`."""
    return cast("Resources", request.scope["resources"])


def network_address(request: Request) -> str | None:
    """Return the IP address of the peer, or the one that a trusted proxy names."""
    return request.client.host if request.client else None


def header(request: Request, name: str) -> str | None:
    """Return the value of a header, or None when it is absent, or ambiguous because it is repeated."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None


def origin(scope: Scope) -> str:
    """Return the scheme and host by which the caller reaches this server, without a final slash; OAuth's `iss`."""
    public_url: str = scope["resources"].settings.public_url
    return public_url.rstrip("/") if public_url else f"{scope['scheme']}://{_host(scope)}"


def _host(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host" and HOST.fullmatch(value):
            return str(value, "ascii")
    address, port = scope["server"]
    return f"{address}:{port}"
