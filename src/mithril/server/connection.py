"""One HTTP connection: a limit and a time-out for each of its phases, and JSON errors for input that is not HTTP.

    connect  at the limit of the worker, the connection that has been silent since it was opened, or else idle, for
             longest is closed; when there is none, 503
    head     must be complete within `header_timeout` and within size limits, else 408, 414, 431 or 400
    body     see `web.bodies`
    answer   the caller must read it within `send_timeout`, else the connection is cut
    idle     closed after `keep_alive_timeout`

Pipelined requests are answered in the order in which they arrived, also when the last one is not HTTP. After
MAX_PIPELINED of them nothing more is read, and the connection is closed (RFC 9112 section 9.3.2).
"""

import asyncio
import re
import select
from typing import Any, NamedTuple, NoReturn

import httptools
import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mithril import errors, identifiers, metrics, refusals, security
from mithril.web.edge import LINGER
from mithril.web.envelope import JSON, error_body
from mithril.web.requests import AUTHORITY

MAX_TARGET_BYTES = 8_192
MAX_HEADER_BYTES = 32_768
MAX_PIPELINED = 32
LINGER_SECONDS = 2.0
# When the server is told to stop, a request may already be on its way to it.
LAST_REQUEST_SECONDS = 1.0
# A request target in absolute form (RFC 9112 section 3.2.2): its authority, its path and its query.
ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^?#]*)([^#]*)", re.IGNORECASE)

log = structlog.stdlib.get_logger("mithril")


class Limits(NamedTuple):
    """How many connections one worker holds on each listener, and the time-outs of each connection.

    `refusals`: how many more connections may be open while they are told that there is no room.
    """

    connections: int
    refusals: int
    header_seconds: float
    send_seconds: float


class Admissions:
    """The open connections of one listener.

    `silent` holds those that have sent nothing yet, `idle` those between two requests, each the oldest first.
    """

    def __init__(self, limits: Limits, listener: str) -> None:
        """`limits`: how many connections are admitted, and how many more are answered, at a time."""
        self.limits, self.listener = limits, listener
        metrics.CONNECTION_LIMIT.set(limits.connections, listener)
        self.admitted: set[Protocol] = set()
        self.refused: set[Protocol] = set()
        self.silent: dict[Protocol, None] = {}
        self.idle: dict[Protocol, None] = {}

    def admit(self, protocol: "Protocol") -> bool:
        """Return whether the connection is admitted. At the limit, close a silent or else an idle one first."""
        if len(self.admitted) >= self.limits.connections and (unused := self._take_unused()):
            self.remove(unused)
            unused.connection.abort()
        if len(self.admitted) >= self.limits.connections:
            self.refused.add(protocol)
            return False
        self.admitted.add(protocol)
        metrics.CONNECTIONS.set(len(self.admitted), self.listener)
        self.silent[protocol] = None
        return True

    def _take_unused(self) -> "Protocol | None":
        """Return the oldest silent connection, else the oldest idle one; none whose request only waits to be read."""
        for unused in (self.silent, self.idle):
            while unused:
                oldest = next(iter(unused))
                del unused[oldest]
                arrived = select.poll()
                arrived.register(oldest.connection.get_extra_info("socket").fileno(), select.POLLIN)
                if not arrived.poll(0):
                    return oldest
        return None

    def remove(self, protocol: "Protocol") -> None:
        """Stop counting a connection that is closed or is being closed."""
        self.admitted.discard(protocol)
        metrics.CONNECTIONS.set(len(self.admitted), self.listener)
        self.refused.discard(protocol)
        self.silent.pop(protocol, None)
        self.idle.pop(protocol, None)


class Capacity:
    """The limits and the state that all connections of a worker share."""

    def __init__(self, limits: Limits, *, internal_port: int) -> None:
        """`limits`: they hold for each listener on its own. `internal_port`: by which the listeners are told apart."""
        self.limits, self.internal_port = limits, internal_port
        self.admissions: dict[object, Admissions] = {}
        self.is_stopping = False

    def admissions_of(self, server: tuple[str, int | None] | None) -> Admissions:
        """Return the admissions of a listener. A flood on one listener takes no connection from the other."""
        port = server and server[1]
        if port not in self.admissions:
            listener = "internal" if port == self.internal_port else "public"
            self.admissions[port] = Admissions(self.limits, listener)
        return self.admissions[port]


class LingeringTransport:
    """The transport of a response when the rest of the request will not be read.

    A socket that is closed while data still arrives resets the connection, and the caller may never see the answer.
    So it is closed in two steps: send EOF, then discard what arrives until the caller closes or LINGER_SECONDS
    have passed (RFC 9112 section 9.6).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """`transport`: the transport of the connection."""
        self._transport = transport
        self._loop = loop

    def write(self, data: bytes) -> None:
        """Write to the transport of the connection."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether the transport of the connection is closing."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send EOF now, and close the connection after LINGER_SECONDS."""
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, self._transport.close)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with the limits and time-outs of this module."""

    refusal: errors.MithrilError | None = None
    header_bytes = 0
    is_in_head = False
    is_lingering = False
    is_last = False
    admissions: Admissions
    connection: asyncio.Transport
    # uvicorn's `cycle` is the newest request, which may still wait in the pipeline.
    running: RequestResponseCycle | None = None
    head_timer: asyncio.TimerHandle | None = None
    send_timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, capacity: Capacity, **named: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        """`capacity`: shared by all connections of the worker."""
        super().__init__(*arguments, **named)
        self.capacity = capacity

    # Opening and closing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit the connection, or refuse it when the listener is at its limit."""
        super().connection_made(transport)
        self.connection = transport
        if self.client is not None:
            self.client = (identifiers.plain_ip(self.client[0]), self.client[1])
        if self.server is not None:
            self.server = (identifiers.plain_ip(self.server[0]), self.server[1])
        self.admissions = self.capacity.admissions_of(self.server)
        if not self.admissions.admit(self):
            if len(self.admissions.refused) > self.capacity.limits.refusals:
                transport.abort()
            else:
                self._answer(errors.AtCapacity())
        elif self.capacity.is_stopping:
            self.shutdown()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection, cancel its timers, and drop the answers that are still to be sent.

        uvicorn marks only the newest request as disconnected.
        """
        self.admissions.remove(self)
        self._stop_timers()
        self.pipeline.clear()
        if self.running is not None:
            self.running.disconnected = True
            self.running.message_event.set()
        super().connection_lost(exc)

    def close(self) -> None:
        """Close the connection; cut it after `send_seconds` if the caller has not read the rest of the answer."""
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(self.capacity.limits.send_seconds, self.connection.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no further request arrived."""
        self.close()

    def shutdown(self) -> None:
        """Answer the requests that were sent before the server was told to stop, with `Connection: close`."""
        self.capacity.is_stopping = self.is_last = True
        if self._is_waiting():
            self.loop.call_later(LAST_REQUEST_SECONDS, self._close_if_waiting)
        else:
            super().shutdown()

    def _close_if_waiting(self) -> None:
        if self._is_waiting():
            self.close()

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    # Time-outs

    def _expect_head(self) -> None:
        self.head_timer = self.loop.call_later(self.capacity.limits.header_seconds, self._give_up_on_head)

    def _give_up_on_head(self) -> None:
        self.head_timer = None
        if self.is_in_head and self._is_waiting():
            self._answer(errors.RequestTimeout("The head of the request did not arrive in time."))
        else:
            self.close()

    def pause_writing(self) -> None:
        """Start the send time-out: the caller reads more slowly than the server writes."""
        super().pause_writing()
        self.send_timer = self.loop.call_later(self.capacity.limits.send_seconds, self.connection.abort)

    def resume_writing(self) -> None:
        """Cancel the send time-out: the caller has read most of the buffer."""
        super().resume_writing()
        if self.send_timer is not None:
            self.send_timer.cancel()
            self.send_timer = None

    def _stop_timers(self) -> None:
        for timer in (self.head_timer, self.send_timer):
            if timer is not None:
                timer.cancel()
        self.head_timer = self.send_timer = None

    # Requests

    def data_received(self, data: bytes) -> None:
        """Parse the data, or discard it when the last answer was already written."""
        if self.is_lingering:
            return
        self.admissions.silent.pop(self, None)
        self.admissions.idle.pop(self, None)
        self._unset_keepalive_if_required()
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                self._parse_without_upgrade(data[stop.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        # The data was not a complete head. The timer runs from the first byte; later bytes do not restart it.
        if self.head_timer is None and self._is_waiting() and not self.is_lingering:
            self._expect_head()

    def _parse_without_upgrade(self, data: bytes) -> None:
        """Continue after a head with an offer to change the protocol, which is ignored (RFC 9110 section 7.8).

        httptools stops there, and would take the body for the other protocol. So the head is parsed a second time,
        without the offer.
        """
        while True:
            data = self._head_without_upgrade() + data
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                data = data[stop.args[0] :]
            else:
                return

    def _should_upgrade(self) -> bool:
        """Return True, so that uvicorn does not act on a head with such an offer before it is parsed again."""
        return True

    def _head_without_upgrade(self) -> bytes:
        line = b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        fields = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([line, *fields, b"", b""])

    def on_message_begin(self) -> None:
        """Start counting the bytes of the head."""
        self.header_bytes = 0
        self.is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Collect the request target. httptools reports an exception that is raised here as a parser error."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            self.refusal = errors.UriTooLong()
            raise self.refusal
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header field without the white space after its value (RFC 9112 section 5.1)."""
        self.header_bytes += len(name) + len(value)
        if self.header_bytes > MAX_HEADER_BYTES:
            self.refusal = errors.HeadersTooLarge()
            raise self.refusal
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the request. Its handler may call `linger` before it answers."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse_target()
            return
        self.is_in_head = False
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_reading(self.cycle)
            raise errors.AtCapacity
        if self.url[:1] != b"/" or b"#" in self.url:
            self._take_apart_target()
        self.scope["extensions"] = {LINGER: self.linger}  # type: ignore[dict-item]
        super().on_headers_complete()
        if self.is_last:
            self.cycle.keep_alive = False

    def _take_apart_target(self) -> None:
        """Refuse a malformed target, and turn one in absolute form into origin form."""
        absolute = ABSOLUTE.fullmatch(self.url)
        if absolute is not None:
            authority, path, query = absolute.groups()
            self.scope[AUTHORITY] = authority  # type: ignore[literal-required]
            self.url = (path or b"/") + query
        elif self.url != b"*" or self.parser.get_method() != b"OPTIONS":
            self._refuse_target()

    def _refuse_target(self) -> NoReturn:
        """Refuse the target; httptools reports the exception as a parser error."""
        self.refusal = refusals.NotHttp("not a valid request target")
        raise self.refusal

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 -- uvicorn's own type
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Start the next request, or wait for one."""
        super().on_response_complete()
        if self._is_waiting() and not self.transport.is_closing():
            self.admissions.idle[self] = None

    def linger(self) -> None:
        """Stop reading the request, and close the connection in two steps after the answer."""
        self._stop_reading(self.cycle)
        self.transport = self.cycle.transport

    def _stop_reading(self, last: RequestResponseCycle) -> None:
        """Make the answer of `last` the last one of this connection."""
        self.is_lingering = True
        last.keep_alive = False
        last.transport = LingeringTransport(self.connection, self.loop)  # type: ignore[assignment]

    # Input that is not HTTP

    def _refuse(self) -> None:
        """Refuse input that could not be parsed, after the answers to earlier requests, and close the connection."""
        if self.is_lingering:
            return
        refusal = self.refusal or refusals.NotHttp("not a valid HTTP request")
        request_id = security.new_request_id()
        log.info("not_http", request_id=request_id, refusal=f"{refusal.name}: {refusal.detail}")
        if self._is_waiting():
            self._answer(refusal, request_id)
        elif not self.cycle.more_body:
            self.cycle = self._refused_cycle()
            self._stop_reading(self.cycle)
            self.pipeline.appendleft((self.cycle, _refusing(refusal, request_id)))
        elif self.pipeline:
            self._stop_reading(self.cycle)
            self.pipeline[0] = (self.cycle, _refusing(refusal, request_id))
        else:
            # Its handler may be waiting for the body, which can no longer be read.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer(refusal, request_id)

    def _refused_cycle(self) -> RequestResponseCycle:
        return RequestResponseCycle(
            scope={"method": "GET"},  # type: ignore[typeddict-item]  # nothing is known of what is no HTTP
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )

    def _answer(self, refusal: errors.MithrilError, request_id: str | None = None) -> None:
        """Write a refusal at once, ahead of any other answer, and close the connection."""
        headers, body = _rendered(refusal, request_id or security.new_request_id())
        head = [name + b": " + value + b"\r\n" for name, value in headers]
        self.is_lingering = True
        self._stop_timers()
        transport = LingeringTransport(self.connection, self.loop)
        transport.write(b"".join([STATUS_LINE[refusal.status], *head, b"connection: close\r\n\r\n", body]))
        transport.close()


def _rendered(refusal: errors.MithrilError, request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body of a refusal for which there is no request."""
    body = error_body(refusal, url="", request_id=request_id)
    headers = {
        "content-type": JSON,
        "x-request-id": request_id,
        "content-length": str(len(body)),
        **refusal.headers,
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()], body


def _refusing(refusal: errors.MithrilError, request_id: str) -> Any:  # noqa: ANN401 -- uvicorn has types of its own
    """Return an ASGI application that answers with the refusal."""
    headers, body = _rendered(refusal, request_id)

    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return refuse
