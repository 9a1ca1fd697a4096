"""What a handler may ask of a request: the process's resources, single headers, where it came from and went to."""

import re
from typing import NamedTuple, cast

from starlette.requests import Request
from starlette.types import Scope

from mithril.database.database import Database
from mithril.settings import Settings
from mithril.sms.messenger import Messenger

HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
# Where a route that does not speak the envelope puts how it shows a refusal: (scope, error) -> Response.
REFUSAL_VIEW = "mithril.refusal_view"
# Where a rule puts headers that belong to whatever refusal follows.
REFUSAL_HEADERS = "mithril.refusal_headers"


class Resources(NamedTuple):
    """What every handler may use."""

    settings: Settings
    database: Database
    messenger: Messenger


def resources(request: Request) -> Resources:
    """The resources of the process that serves `request`."""
    return cast("Resources", request.scope["resources"])


def network_address(request: Request) -> str | None:
    """The peer's address, or the one that a trusted proxy names."""
    return request.client.host if request.client else None


def header(request: Request, name: str) -> str | None:
    """The one value of a header; None when it is absent or, since nobody can tell which one counts, doubled."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None


def origin(scope: Scope) -> str:
    """Scheme and host under which the caller knows this server, without a slash at the end; OAuth's `iss`."""
    public_url: str = scope["resources"].settings.public_url
    return public_url.rstrip("/") if public_url else f"{scope['scheme']}://{_host(scope)}"


def _host(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host" and HOST.fullmatch(value):
            return str(value, "ascii")
    address, port = scope["server"]
    return f"{address}:{port}"
