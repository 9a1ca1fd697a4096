"""The HTTP edge of a listener: request id, error envelope, fixed headers, log line and metrics of every request.

`Edge` wraps a router and sees every request of a listener, also one that no route answers. A handler returns a
response or raises an error of `errors`. The caller is identified in `access`, and bodies are read in `bodies`.
"""

import re
import time
from collections.abc import Callable, Sequence

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Message, Receive, Scope, Send

from mithril import errors, logs, metrics, security
from mithril.web import envelope, requests
from mithril.web.requests import Resources

# Bounds of a caller's own X-Request-ID (rule CNV-7); anything else is replaced.
REQUEST_ID = re.compile(rb"[\x20-\x7e]{20,200}")
# The parts of a path that are a token or an API-key; `meta.url` and the log mask them.
# Anything that is not a UUID is masked, because a caller may send a token where an identifier belongs.
SECRET_IN_PATH = re.compile(
    r"(/admin/(?:tokens|api_key)/)(?:.+(/(?:verify|user))|(?!verify$|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$).+)$"
)
# No answer may be stored, framed or sniffed, and no page may send a Referer.
FIXED_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
# Probes ask every second: they are logged at level debug only.
QUIET_PATHS = frozenset({"/healthz", "/readyz"})
# The ASGI extension that discards the rest of a request body; see `server.connection`.
LINGER = "mithril.linger"
# After an early refusal an unread body up to this size is discarded; with a larger one the connection is closed.
DISCARDED_BODY_BYTES = 65_536

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
        guard: Callable[[Request], None] = lambda _: None,
    ) -> None:
        """`listener`: its name in the log. `guard`: called with each request; it raises an error to refuse one.

        `capacity`: requests at a time. Probes are answered beyond it, or an orchestrator would kill a busy process.
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
        """Answer one request, also when its handler raises an unexpected exception."""
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
        except Exception as error:  # the caller gets an answer to every exception
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
        """Return the error that the caller sees; its detail goes to the log, under the request id."""
        refusal = self._translated(scope, error)
        if refusal.status >= errors.MithrilError.status and not isinstance(refusal, errors.AtCapacity):
            log.error(
                refusal.type,
                request_id=scope["request_id"],
                path=scope["masked_path"],
                detail=refusal.detail,
                exc_info=error if refusal.status == errors.MithrilError.status else None,
            )
        else:
            scope["refusal"] = f"{refusal.name}: {refusal.detail}" if refusal.detail else refusal.name
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
    """Return the path as it was sent, with every token and API-key masked."""
    path = scope["raw_path"].decode("latin-1")
    return SECRET_IN_PATH.sub(r"\1***\2", path)


def _render(scope: Scope, error: errors.MithrilError) -> Response:
    response: Response = scope.get(requests.REFUSAL_VIEW, _envelope)(scope, error)
    response.headers.update({**scope.get(requests.REFUSAL_HEADERS, {}), **error.headers})
    if _leaves_body_unread(scope, error):
        response.headers["connection"] = "close"
        scope.get("extensions", {}).get(LINGER, lambda: None)()
    return response


def _envelope(scope: Scope, error: errors.MithrilError) -> Response:
    body = envelope.error_body(error, url=envelope.url(scope), request_id=scope["request_id"])
    return Response(body, error.status, media_type=envelope.JSON)


def _leaves_body_unread(scope: Scope, error: errors.MithrilError) -> bool:
    """Return whether the unread body may be larger than DISCARDED_BODY_BYTES."""
    if error.status in (errors.RequestTooLarge.status, errors.RequestTimeout.status):
        return True
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not length.isdigit() or int(length) > DISCARDED_BODY_BYTES


def _request_id(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return str(given[0], "ascii")
    return security.new_request_id()


def _complete(headers: Sequence[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of the answer, the fixed headers that it does not set itself, and the request id."""
    own = {name for name, _ in headers}
    fixed = [pair for pair in FIXED_HEADERS if pair[0] not in own]
    return [*headers, *fixed, (b"x-request-id", request_id.encode())]
