"""The edge towards HTTP: request id, envelope, errors, log line. One place for all of them.

`Edge` stands around a router and sees every request of a listener, also those that no route answers. Handlers
return `answer(...)` or raise something of `errors`; nothing below this module knows status codes or headers.
Who is calling is not decided here (`access`), nor what a body must look like (`bodies`).
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Message, Receive, Scope, Send

from mithril import errors, logs, metrics, security
from mithril.database import Database, Listed
from mithril.messages import Messenger
from mithril.settings import Settings

# Bounds of a caller's own X-Request-ID (contract.md 2.1); anything else is replaced.
REQUEST_ID = re.compile(rb"[\x20-\x7e]{20,200}")
HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
# Our own entity tags in a list (RFC 9110 section 13.1.1): whole, and compared letter by letter, so "01" is no "1".
OWN_TAG = re.compile(r'(?:\A|,)[ \t]*"([1-9][0-9]{0,17})"(?=[ \t]*(?:,|\Z))')
# The parts of a path that are a token or an API key, for `meta.url` and the log.
# A token where an identifier belongs is as secret as one in its own place.
SECRET_IN_PATH = re.compile(
    r"(/admin/(?:tokens|api_key)/)(?:.+(/(?:verify|user))|(?!verify$|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$).+)$"
)
JSON = "application/json; charset=utf-8"
# Everything here is answered anew; nothing may be stored, framed, sniffed or tell where it came from.
FIXED_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
# Asked every second by every probe; not worth a line.
QUIET_PATHS = frozenset({"/healthz", "/readyz"})
# The server's promise to throw away the rest of a body; see `protocol`.
LINGER = "mithril.linger"
# Where a route that does not speak the envelope puts how it shows a refusal: (scope, error) -> Response.
REFUSAL_VIEW = "mithril.refusal_view"
# Where a rule puts headers that belong to whatever refusal follows.
REFUSAL_HEADERS = "mithril.refusal_headers"
# An early refusal leaves a body of at most this size to be read and thrown away; beyond it the connection ends.
DISCARDED_BODY_BYTES = 65_536

log = structlog.stdlib.get_logger("mithril")
Handler = Callable[[Request], Awaitable[Response]]


class Resources(NamedTuple):
    """What every handler may use."""

    settings: Settings
    database: Database
    messenger: Messenger


def resources(request: Request) -> Resources:
    """The resources of the process that serves `request`."""
    return cast("Resources", request.scope["resources"])


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


def answer_page(request: Request, listed: Listed[Any], view: Callable[[Any], Mapping[str, object]]) -> Response:
    """One page of a list in the envelope (contract.md 2.1), each row through `view`.

    Where counting stopped, `paging` says so: `total_entries` is then the least number that it can be.
    """
    pages = -(-listed.total_entries // listed.page.size)
    paging: dict[str, object] = {
        "page_number": listed.page.number,
        "page_size": listed.page.size,
        "total_entries": listed.total_entries,
        "total_pages": max(pages, 1),
    }
    if listed.is_bounded:
        paging["total_is_at_least"] = True
    data = [view(row) for row in listed.rows]
    content = {"meta": _meta(request.scope, HTTPStatus.OK, "list"), "data": data, "paging": paging}
    return Response(msgspec.json.encode(content), HTTPStatus.OK, None, JSON)


def answer_without_data(request: Request) -> Response:
    """Only `meta`: there is nothing left to show."""
    content = {"meta": _meta(request.scope, HTTPStatus.OK, "object")}
    return Response(msgspec.json.encode(content), HTTPStatus.OK, None, JSON)


def answer(
    request: Request,
    data: object,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    urgent: Mapping[str, object] | bool | None = None,
) -> Response:
    """`data` in the envelope (contract.md 2.1). Its dates must be aware UTC; keys are wire names.

    `urgent`: what the caller is to do next, beside the data.
    """
    kind = "list" if isinstance(data, list) else "object"
    content = {"meta": _meta(request.scope, status, kind), "data": data}
    if urgent is not None:
        content["urgent"] = urgent
    return Response(msgspec.json.encode(content), status, headers, JSON)


class Edge:
    """One listener: gives each request its id, turns whatever goes wrong into the envelope, logs and counts it."""

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        resources: Resources,
        *,
        listener: str,
        capacity: int,
        guard: Callable[[Request], None] = lambda _: None,
    ) -> None:
        """`listener`: the name under which the log knows it. `guard` may refuse any request of the listener.

        `capacity`: how many requests at a time; a probe is answered beyond it too, or a busy process would be ended.
        """
        self.router = Router(routes, redirect_slashes=False)
        self.resources = resources
        self.listener = listener
        self.guard = guard
        self.capacity = capacity
        self.running = 0
        settings = resources.settings
        self.write_line = logs.request_writer(level=settings.log_level, style=settings.log_format)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, whatever happens."""
        started = time.perf_counter()
        scope["app"], scope["resources"] = self, self.resources
        scope["request_id"] = request_id = _request_id(scope)
        scope["masked_path"] = _masked_path(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _complete(message["headers"], request_id)
            await send(message)

        self.running += 1
        try:
            if self.running > self.capacity and scope["path"] not in QUIET_PATHS:
                raise errors.AtCapacity  # noqa: TRY301 -- rendered as any other refusal
            self.guard(Request(scope))
            await self.router(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("client went away", request_id=request_id, path=scope["masked_path"])
            return
        except Exception as error:  # the last resort: whatever it is, the caller gets an answer
            if status:
                raise
            refusal = self._refusal(scope, error)
            await _render(scope, refusal)(scope, receive, send_with_headers)
        finally:
            self.running -= 1
        seconds = time.perf_counter() - started
        self._log(scope, status, seconds)
        matched = scope.get("route")
        metrics.count_request(
            listener=self.listener,
            method=scope["method"],
            route=matched.path if matched else None,
            status=status,
            seconds=seconds,
        )

    def _refusal(self, scope: Scope, error: Exception) -> errors.MithrilError:
        """What to tell the caller; the rest goes to the log, under the request id."""
        refusal = self._translated(scope, error)
        if refusal.status >= errors.MithrilError.status and not isinstance(refusal, errors.AtCapacity):
            log.error(
                refusal.type,
                request_id=scope["request_id"],
                path=scope["masked_path"],
                detail=refusal.detail,
                exc_info=error if refusal.status == errors.MithrilError.status else None,
            )
        elif refusal.detail:
            scope["refusal"] = refusal.detail
        return refusal

    def _translated(self, scope: Scope, error: Exception) -> errors.MithrilError:
        if isinstance(error, errors.MithrilError):
            return error
        if isinstance(error, HTTPException) and error.status_code == errors.NotFound.status:
            return errors.NotFound()
        if isinstance(error, HTTPException) and error.status_code == errors.MethodNotAllowed.status:
            return errors.MethodNotAllowed(allowed=self._allowed_methods(scope))
        return errors.MithrilError(detail=type(error).__name__)

    def _allowed_methods(self, scope: Scope) -> str:
        matching = (r for r in self.router.routes if isinstance(r, Route) and r.matches(scope)[0] != Match.NONE)
        return ", ".join(sorted({method for r in matching for method in r.methods or ()}))

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        self.write_line(
            logs.Answered(
                level="debug" if scope["path"] in QUIET_PATHS else "info",
                listener=self.listener,
                request_id=scope["request_id"],
                method=scope["method"],
                path=scope["masked_path"],
                status=status,
                milliseconds=round(seconds * 1000, 2),
                refusal=scope.get("refusal"),
                **scope.get("caller_log", {}),
            )
        )


def _masked_path(scope: Scope) -> str:
    """The path as it was sent, without any token or API key in it."""
    path = scope["raw_path"].decode("latin-1")
    return SECRET_IN_PATH.sub(r"\1***\2", path)


def network_address(request: Request) -> str | None:
    """The peer's address, or the one that a trusted proxy names."""
    return request.client.host if request.client else None


def header(request: Request, name: str) -> str | None:
    """The one value of a header; None when it is absent or, since nobody can tell which one counts, doubled."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None


def entity_tag(version: int) -> str:
    """The strong validator of a resource that counts its versions (RFC 9110 section 8.8.3)."""
    return f'"{version}"'


def expected_versions(request: Request) -> list[int] | None:
    """The versions that `If-Match` names; None where any will do. Other tags, weak ones and nonsense name none.

    Source: RFC 9110 section 13.1.1, strong comparison.
    """
    values = request.headers.getlist("if-match")
    if not values or "*" in (value.strip() for value in values):
        return None
    return [int(version) for version in OWN_TAG.findall(",".join(values))]


def is_known(request: Request, entity_tag: str) -> bool:
    """Whether the caller has that representation already (If-None-Match, RFC 9110 section 13.1.2)."""
    known = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in {entity_tag, "*"} for tag in known)


def error_body(error: errors.MithrilError, *, url: str, request_id: str | None) -> bytes:
    """An error in the envelope (contract.md 2.2)."""
    content: dict[str, Any] = {"type": error.type}
    if error.message is not None:
        content["message"] = error.message
    if error.invalid:
        content["invalid"] = error.invalid
    meta = {"code": error.status, "url": url, "type": "object", "request_id": request_id}
    return msgspec.json.encode({"meta": meta, "error": content})


def _render(scope: Scope, error: errors.MithrilError) -> Response:
    response: Response = scope.get(REFUSAL_VIEW, _envelope)(scope, error)
    response.headers.update({**scope.get(REFUSAL_HEADERS, {}), **error.headers})
    if _leaves_body_unread(scope, error):
        response.headers["connection"] = "close"
        scope.get("extensions", {}).get(LINGER, lambda: None)()
    return response


def _envelope(scope: Scope, error: errors.MithrilError) -> Response:
    body = error_body(error, url=_url(scope), request_id=scope["request_id"])
    return Response(body, error.status, media_type=JSON)


def _leaves_body_unread(scope: Scope, error: errors.MithrilError) -> bool:
    """Whether more of a body may follow than is worth reading just to keep the connection."""
    if error.status in (errors.RequestTooLarge.status, errors.RequestTimeout.status):
        return True
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length) > DISCARDED_BODY_BYTES


def _meta(scope: Scope, status: int, kind: str) -> dict[str, object]:
    return {"code": status, "url": _url(scope), "type": kind, "request_id": scope["request_id"]}


def origin(scope: Scope) -> str:
    """Scheme and host under which the caller knows this server, without a slash at the end; OAuth's `iss`."""
    public_url: str = scope["resources"].settings.public_url
    return public_url.rstrip("/") if public_url else f"{scope['scheme']}://{_host(scope)}"


def _url(scope: Scope) -> str:
    """The address of the resource, without the query and without secrets (design: envelope)."""
    return origin(scope) + str(scope["masked_path"])


def _host(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host" and HOST.fullmatch(value):
            return str(value, "ascii")
    address, port = scope["server"]
    return f"{address}:{port}"


def _request_id(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return str(given[0], "ascii")
    return security.new_request_id()


def _complete(headers: Sequence[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The fixed headers, then those of the answer, which may replace them."""
    own = {name for name, _ in headers}
    fixed = [pair for pair in FIXED_HEADERS if pair[0] not in own]
    return [*headers, *fixed, (b"x-request-id", request_id.encode())]
