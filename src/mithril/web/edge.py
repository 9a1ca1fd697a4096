"""The HTTP edge of a listener: request id, error envelope, fixed headers, log line and metrics of every request.

`Edge` wraps a router and sees every request of a listener, also one that no route answers. A handler returns a
response or raises an error of `errors`. The caller is identified in `access`, and bodies are read in `bodies`.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import unquote

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Message, Receive, Scope, Send

from mithril import errors, logs, metrics, refusals, security, tracing
from mithril.sightings import service as sightings
from mithril.web import cross_origin, envelope, masking, requests, routing
from mithril.web.requests import Host, Resources

# Bounds of a caller's own X-Request-ID (rule CNV-7); anything else is replaced.
REQUEST_ID = re.compile(rb"[\x20-\x7e]{20,200}")
# The paths behind which a gateway inserts a token or an API-key.
TOKEN_PLACES = frozenset({"/admin/tokens/", "/admin/api_key/"})
# No answer may be stored, framed or sniffed, and no page may send a Referer.
FIXED_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
# Probes ask every second: they are logged at level debug only.
QUIET_PATHS = frozenset({"/healthz", "/readyz"})
PUBLIC_TREES = frozenset({"/api", "/auth", "/oauth", "/oauth2", "/sign-in"})
# The scope key of what a demo tells about a refusal.
SANDBOX = "mithril.sandbox"
# The versions of HTTP in which Host may be missing.
OLD_VERSIONS = frozenset({"0.9", "1.0"})
# The ASGI extension that discards the rest of a request body; see `server.connection`.
LINGER = "mithril.linger"
# After an early refusal an unread body up to this size is discarded; with a larger one the connection is closed.
DISCARDED_BODY_BYTES = 65_536

RefusalView = Callable[[Scope, errors.MithrilError], Response]

log = structlog.stdlib.get_logger("mithril")


class Edge:
    """The ASGI application of one listener. It gives each request an id, renders errors, logs and counts."""

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        resources: Resources,
        *,
        listener: str,
        capacity: int,
        guard: Callable[[Request], None] | None = None,
        refuses_queries: bool = False,
        cross_origin_paths: Collection[str] = (),
        refusal_views: Mapping[str, RefusalView] = MappingProxyType({}),
    ) -> None:
        """`listener`: its name in the log. `guard`: called with each request; it raises an error to refuse one.

        `capacity`: requests at a time. Probes are answered beyond it, or an orchestrator would kill a busy process.
        `refuses_queries`: whether a route that knows no query parameter refuses any; see `routing`.
        `cross_origin_paths`: whose answers a page of any origin may read, refusals included.
        `refusal_views`: for a path and all below it, what shows refusals there; the longest path counts.
        """
        self.router = Router(routes, redirect_slashes=False)
        self.routers = routing.routers(routes)
        self.resources = resources
        self.listener = listener
        self.guard = guard
        self.refuses_queries = refuses_queries
        self.capacity = capacity
        self.cross_origin_paths = cross_origin_paths
        self.refusal_views = sorted(refusal_views.items(), reverse=True)
        self.running = 0
        self.is_traced = tracing.is_on()
        settings = resources.settings
        self.write_line = logs.request_writer(level=settings.log_level, style=settings.log_format)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, also when its handler raises an unexpected exception."""
        if self.is_traced:
            with tracing.request_span(scope["method"], scope["headers"]):
                await self._answer(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        scope["app"], scope["resources"] = self, self.resources
        request_id, hosts = _read_head(scope)
        scope["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _complete(message["headers"], request_id)
                if scope["path"] in self.cross_origin_paths:
                    message["headers"] += cross_origin.HEADERS
            await send(message)

        self.running += 1
        try:
            if self.running > self.capacity and scope["path"] not in QUIET_PATHS:
                raise errors.AtCapacity  # noqa: TRY301 -- rendered as any other refusal
            scope[requests.HOSTS] = _checked_hosts(scope, hosts)
            if self.guard is not None:
                self.guard(Request(scope))
            router = self.routers.get(scope["path"][1:].partition("/")[0], self.router)
            await router(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("client_went_away", request_id=request_id, path=masking.in_log(scope))
            return
        except Exception as error:  # the caller gets an answer to every exception
            if status:
                raise
            refusal = self._refusal(scope, error)
            if self.resources.settings.demo:
                scope[SANDBOX] = await _sandbox(refusal)
            await self._render(scope, refusal)(scope, receive, send_with_headers)
        finally:
            self.running -= 1
        seconds = time.perf_counter() - started
        self._log(scope, status, seconds)
        self._note_refusal(scope)
        matched = scope.get("route")
        metrics.count_request(
            listener=self.listener,
            method=scope["method"],
            route=matched.path if matched else None,
            status=status,
            seconds=seconds,
        )

    def _refusal(self, scope: Scope, error: Exception) -> errors.MithrilError:
        """Return the error that the caller sees; its detail goes to the log, under the request id."""
        refusal = self._translated(scope, error)
        requests.note_refusal(scope, refusal)
        if refusal.status >= errors.MithrilError.status and not isinstance(refusal, errors.AtCapacity):
            log.error(
                refusal.type,
                request_id=scope["request_id"],
                path=masking.in_log(scope),
                detail=refusal.detail,
                exc_info=error if refusal.status == errors.MithrilError.status else None,
            )
        return refusal

    def _translated(self, scope: Scope, error: Exception) -> errors.MithrilError:
        if isinstance(error, errors.MithrilError):
            return error
        if isinstance(error, HTTPException) and error.status_code == errors.NotFound.status:
            return errors.NotFound(detail=self._hint(scope["path"]))
        if isinstance(error, HTTPException) and error.status_code == errors.MethodNotAllowed.status:
            return errors.MethodNotAllowed(allowed=self._allowed_methods(scope))
        return errors.MithrilError(detail=type(error).__name__)

    def _hint(self, path: str) -> str:
        """Return why a path may have no route, where a common mistake is likely (rule CNV-54)."""
        tree = "/" + path.lstrip("/").partition("/")[0]
        if self.listener == "public" and tree == "/admin":
            return "what is below /admin answers on the internal listener"
        if self.listener == "internal" and tree in PUBLIC_TREES:
            return f"what is below {tree} answers on the public listener"
        return "a slash too many at the end of the path" if path.endswith("/") and path != "/" else ""

    def _allowed_methods(self, scope: Scope) -> str:
        matching = (r for r in self.router.routes if isinstance(r, Route) and r.matches(scope)[0] != Match.NONE)
        return ", ".join(sorted({method for r in matching for method in r.methods or ()}))

    def _render(self, scope: Scope, error: errors.MithrilError) -> Response:
        path = scope["path"] + "/"
        view = next((view for tree, view in self.refusal_views if path.startswith(tree + "/")), _envelope)
        response = view(scope, error)
        response.headers.update({**scope.get(requests.REFUSAL_HEADERS, {}), **error.headers})
        if _leaves_body_unread(scope, error):
            response.headers["connection"] = "close"
            scope.get("extensions", {}).get(LINGER, lambda: None)()
        return response

    def _note_refusal(self, scope: Scope) -> None:
        """Count the refusal of a sign-in, or of tokens, for the pictures of the console."""
        if requests.ASKING in scope and requests.REFUSAL in scope:
            name = scope[requests.REFUSAL].partition(":")[0]
            sightings.refuse(self.resources.database, name, client_id=scope[requests.ASKING])

    def _trace(self, scope: Scope, status: int) -> str:
        """Tell the span of the request what has become of it, and return the id of its trace."""
        route, refusal = scope.get("route"), scope.get(requests.REFUSAL)
        told = {"http.request.method": scope["method"], "http.response.status_code": status}
        told |= {"mithril.listener": self.listener, "mithril.request_id": scope["request_id"]}
        told |= {"http.route": route.path} if route else {}
        told |= {"mithril.refusal": refusal.partition(":")[0]} if refusal else {}
        name = f"{scope['method']} {route.path}" if route else scope["method"]
        return tracing.describe(name, told, is_error=status >= errors.MithrilError.status)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        self.write_line(
            logs.Answered(
                level="debug" if scope["path"] in QUIET_PATHS else "info",
                listener=self.listener,
                request_id=scope["request_id"],
                method=scope["method"],
                path=masking.in_log(scope),
                status=status,
                milliseconds=round(seconds * 1000, 2),
                refusal=scope.get(requests.REFUSAL),
                trace_id=self._trace(scope, status) if self.is_traced else None,
                **scope.get(requests.CALLER, {}),
            )
        )


def _read_head(scope: Scope) -> tuple[str, list[bytes]]:
    """Return the request id, and the values of Host; make the path canonical."""
    hosts, request_ids = [], []
    for name, value in scope["headers"]:
        if name == b"host":
            hosts.append(value)
        elif name == b"x-request-id":
            request_ids.append(value)
    raw: bytes = scope["raw_path"]
    if raw[:2] == b"//" or (raw[-1:] == b"/" and raw != b"/"):
        _make_canonical(scope, raw)
    if len(request_ids) == 1 and REQUEST_ID.fullmatch(request_ids[0]):
        return str(request_ids[0], "ascii"), hosts
    return security.new_request_id(), hosts


def _make_canonical(scope: Scope, raw: bytes) -> None:
    """Remove extra slashes at the beginning of the path, and one at its end, before anything is decided by the path.

    Only those that were sent as slashes: an escaped one is part of a segment (rule CNV-45). Where a token belongs, a
    slash before a query stays: the `?` may be of a text that a gateway inserted there, and no list is meant.
    """
    raw = b"/" + raw.lstrip(b"/")
    if not (scope["query_string"] and unquote(raw.decode("latin-1")) in TOKEN_PLACES):
        raw = raw.removesuffix(b"/") or b"/"
    scope["raw_path"], scope["path"] = raw, unquote(raw.decode("latin-1"))


def _checked_hosts(scope: Scope, values: list[bytes]) -> list[Host]:
    """Return the host for which the request is, then others that it names. Raises HostInvalid (rule CNV-44).

    That of a target in absolute form goes before the Host header, which must be there and right all the same.
    """
    if len(values) > 1:
        raise refusals.HostInvalid("more than one Host header")
    if not values and scope.get("http_version", "1.0") not in OLD_VERSIONS:
        raise refusals.HostInvalid("no Host header")
    if requests.AUTHORITY in scope:
        values = [scope[requests.AUTHORITY], *values]
    hosts = [requests.parse_host(value) for value in values]
    if None in hosts:
        raise refusals.HostInvalid("not a valid host")
    return hosts  # type: ignore[return-value]  # there is no None among them


def _envelope(scope: Scope, error: errors.MithrilError) -> Response:
    sandbox = scope.get(SANDBOX)
    body = envelope.error_body(error, url=envelope.url(scope), request_id=scope["request_id"], sandbox=sandbox)
    return Response(body, error.status, media_type=envelope.JSON)


async def _sandbox(refusal: errors.MithrilError) -> Mapping[str, object]:
    """Return what only the caller of a demo is told (rule CNV-53)."""
    told: dict[str, object] = {"refusal": refusal.name}
    if refusal.detail:
        told["detail"] = refusal.detail
    if refusal.explain is not None:
        try:
            told |= await refusal.explain()
        except errors.MithrilError as error:  # the database may be away by now
            log.warning("refusal_not_explained", reason=error.detail)
    return told


def _leaves_body_unread(scope: Scope, error: errors.MithrilError) -> bool:
    """Return whether the unread body may be larger than DISCARDED_BODY_BYTES.

    A caller that names no host, or two, may also disagree about where the request ends.
    """
    if isinstance(error, (errors.RequestTooLarge, errors.RequestTimeout, refusals.HostInvalid)):
        return True
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length) > DISCARDED_BODY_BYTES


def _complete(headers: Sequence[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of the answer, the fixed headers that it does not set itself, and the request id."""
    own = {name for name, _ in headers}
    fixed = [pair for pair in FIXED_HEADERS if pair[0] not in own]
    return [*headers, *fixed, (b"x-request-id", request_id.encode())]
