"""What is shown of the path of a request, in `meta.url` and in the log: the route that takes it decides.

`meta.url` repeats the path to its caller, without any token or API-key. The log has less: of the parameters
only UUIDs, and of a path that no route takes only the first segment, because the rest may be anything.
"""

import functools
import re
from string import Formatter
from typing import NamedTuple

from starlette.routing import Match, Route
from starlette.types import Scope

from mithril.identifiers import CANONICAL_UUID

MASK = "***"
# Parameters that are a token or an API-key; where a token's id belongs, a token may stand by mistake.
SECRET_PARAMETERS = frozenset({"token", "api_key"})
TOKEN = "/admin/tokens/{id}"
# In a path that no route takes: what looks like a token behind the place where one belongs.
SECRET_PLACE = re.compile(r"(?i)(?:tokens|api_key)/+[^/]")
WORD = re.compile(r"[A-Za-z0-9._-]{0,20}")  # tokens and API-keys are longer


class _Shape(NamedTuple):
    """What is known of the path of a route: as it is shown with masks only, and what its parameters are."""

    masked: str
    names: tuple[str, ...]
    is_secret: bool
    is_of_tokens: bool


def in_answer(scope: Scope) -> str:
    """Return the path as it was sent, with *** in place of a token or an API-key."""
    route, values = _routed(scope)
    raw: bytes = scope["raw_path"]
    if route is None:
        is_suspect = SECRET_PLACE.search(scope["path"])
        return f"{_first_segment(scope)}/{MASK}" if is_suspect else raw.decode("latin-1")
    shape = _shape(route.path_format)
    if shape.is_secret or (shape.is_of_tokens and not CANONICAL_UUID.fullmatch(values["id"])):
        return shape.masked
    return raw.decode("latin-1")


def in_log(scope: Scope) -> str:
    """Return the path for the log: that of the route, with those of its parameters that are UUIDs and no secrets."""
    route, values = _routed(scope)
    if route is None:
        return _first_segment(scope)
    shape = _shape(route.path_format)
    if shape.is_secret or not shape.names:
        return shape.masked
    shown = {name: values[name] if CANONICAL_UUID.fullmatch(values[name]) else MASK for name in shape.names}
    return route.path_format.format_map(shown)


@functools.cache
def _shape(path: str) -> _Shape:
    names = tuple(name for _, name, _, _ in Formatter().parse(path) if name)
    masked = path.format_map(dict.fromkeys(names, MASK))
    return _Shape(masked, names, not SECRET_PARAMETERS.isdisjoint(names), path == TOKEN)


def _routed(scope: Scope) -> tuple[Route | None, dict[str, str]]:
    """The route that takes the request, or would have, had it not been refused before; and the path's parameters."""
    if "route" in scope:
        return scope["route"], scope["path_params"]
    if "router" not in scope:  # refused before any route was looked for
        found = [(route, *route.matches(scope)) for route in scope["app"].router.routes if isinstance(route, Route)]
        for wanted in (Match.FULL, Match.PARTIAL):
            for route, match, child in found:
                if match is wanted:
                    return route, child["path_params"]
    return None, {}


def _first_segment(scope: Scope) -> str:
    """Return the first segment of a path that no route takes, where it is a short word: else it may be a token."""
    first = scope["path"].lstrip("/").partition("/")[0]
    return "/" + (first if WORD.fullmatch(first) else MASK)
