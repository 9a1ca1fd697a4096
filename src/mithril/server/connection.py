"""One connection of a caller: limits and time-outs on every phase of it, and our envelope for what is no HTTP.

    connect  503 when the worker holds as many as it may, after the one that has idled longest was closed
    head     in full within `header_timeout`, within bounds, else 408, 414, 431 or 400
    body     see `web.bodies`
    answer   read by the caller within `send_timeout`, else the connection is cut
    idle     `keep_alive_timeout`, then it is closed

Requests that come before the ones before them are answered (pipelining) are answered in their order, also where the
last of them is no HTTP; what comes after the first few is not read, and the connection closed (RFC 9112 section 9.3.2).
"""

import asyncio
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mithril import errors, security
from mithril.web.edge import LINGER
from mithril.web.envelope import JSON, error_body

MAX_TARGET_BYTES = 8_192
MAX_HEADER_BYTES = 32_768
MAX_PIPELINED = 32
LINGER_SECONDS = 2.0
# After the order to stop, a caller may have sent a request that has not arrived yet.
LAST_REQUEST_SECONDS = 1.0


class Limits(NamedTuple):
    """What one connection may cost, and how many of them one worker holds on each listener."""

    connections: int
    header_seconds: float
    send_seconds: float


class Place:
    """The connections of one listener; `idle` has those that wait for their next request, the longest first."""

    def __init__(self, limit: int) -> None:
        """`limit`: how many there may be."""
        self.limit = limit
        self.taken: set[Protocol] = set()
        self.turned_away: set[Protocol] = set()
        self.idle: dict[Protocol, None] = {}

    def take(self, protocol: "Protocol") -> bool:
        """Whether there is room, after an idle one has made room if need be."""
        if len(self.taken) >= self.limit and self.idle:
            longest = next(iter(self.idle))
            self.leave(longest)
            longest.close()
        has_room = len(self.taken) < self.limit
        (self.taken if has_room else self.turned_away).add(protocol)
        return has_room

    def leave(self, protocol: "Protocol") -> None:
        """It is gone, or as good as."""
        self.taken.discard(protocol)
        self.turned_away.discard(protocol)
        self.idle.pop(protocol, None)


class Capacity:
    """What all connections of a worker share."""

    def __init__(self, limits: Limits) -> None:
        """`limits`: those of each listener."""
        self.limits = limits
        self.places: dict[object, Place] = {}
        self.is_stopping = False

    def place(self, server: tuple[str, int | None] | None) -> Place:
        """That of the listener; a flood on one takes nothing from the other."""
        return self.places.setdefault(server and server[1], Place(self.limits.connections))


class LingeringTransport:
    """What a response is written to when the rest of the request will not be read.

    A socket that is closed while data is still coming in resets the connection, and the caller may never see the
    answer. So the closing is done in two steps: say that nothing more will be sent, then throw away what comes
    until the caller closes or a short time is over (RFC 9112 section 9.6).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """`transport`: the real one."""
        self._transport = transport
        self._loop = loop

    def write(self, data: bytes) -> None:
        """As the real transport does."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """As the real transport does."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Ends our side now, and the connection a little later."""
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(LINGER_SECONDS, self._transport.close)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with those limits."""

    refusal: errors.MithrilError | None = None
    header_bytes = 0
    is_in_head = False
    is_lingering = False
    is_last = False
    place: Place
    connection: asyncio.Transport
    head_timer: asyncio.TimerHandle | None = None
    send_timer: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, capacity: Capacity, **named: Any) -> None:  # noqa: ANN401 -- uvicorn's own
        """`capacity`: that of the worker."""
        super().__init__(*arguments, **named)
        self.capacity = capacity

    # Coming and going

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets a caller in, or says that there is no room."""
        super().connection_made(transport)
        self.connection = transport
        self.place = self.capacity.place(self.server)
        if not self.place.take(self):
            if len(self.place.turned_away) > self.place.limit:
                transport.abort()
            else:
                self._answer(errors.AtCapacity())
        elif self.capacity.is_stopping:
            self.shutdown()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        self.place.leave(self)
        self._stop_timers()
        super().connection_lost(exc)

    def close(self) -> None:
        """Ends the connection, also when the caller does not read what is still on its way."""
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(self.capacity.limits.send_seconds, self.connection.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more came."""
        self.close()

    def shutdown(self) -> None:
        """The server stops: whatever is asked, or on its way already, is answered, with `Connection: close`."""
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
        """The caller does not read as fast as we write."""
        super().pause_writing()
        self.send_timer = self.loop.call_later(self.capacity.limits.send_seconds, self.connection.abort)

    def resume_writing(self) -> None:
        """The caller has read most of it."""
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
        """Parses what comes, or throws it away when the answer is already given."""
        if self.is_lingering:
            return
        self.place.idle.pop(self, None)
        super().data_received(data)
        # Whatever came, it was no whole head. The timer of the first byte is not started anew by the next.
        if self.head_timer is None and self._is_waiting() and not self.is_lingering:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Starts counting."""
        self.header_bytes = 0
        self.is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Collects the request target; httptools reports whatever is raised here as a parser error."""
        if len(self.url) + len(url) > MAX_TARGET_BYTES:
            self.refusal = errors.UriTooLong()
            raise self.refusal
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collects one header field; the space behind a value is none of it (RFC 9112 section 5.1)."""
        self.header_bytes += len(name) + len(value)
        if self.header_bytes > MAX_HEADER_BYTES:
            self.refusal = errors.HeadersTooLarge()
            raise self.refusal
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Starts the request, which may call `linger` before it answers."""
        self.is_in_head = False
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_reading(self.cycle)
            raise errors.AtCapacity
        self.scope["extensions"] = {LINGER: self.linger}  # type: ignore[dict-item]
        super().on_headers_complete()
        if self.is_last:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Goes on with the next request, or waits for one."""
        super().on_response_complete()
        if self._is_waiting() and not self.transport.is_closing():
            self.place.idle[self] = None

    def linger(self) -> None:
        """From now on nothing more of the request is read, and closing takes two steps."""
        self._stop_reading(self.cycle)
        self.transport = self.cycle.transport

    def _stop_reading(self, last: RequestResponseCycle) -> None:
        """The answer of `last` will be the last one."""
        self.is_lingering = True
        last.keep_alive = False
        last.transport = LingeringTransport(self.connection, self.loop)  # type: ignore[assignment]

    # What is no HTTP

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Answers what could not be parsed, after whatever came before it, and ends the connection."""
        if self.is_lingering:
            return
        refusal = self.refusal or errors.RequestMalformed("not a valid HTTP request")
        if self._is_waiting():
            self._answer(refusal)
        elif not self.cycle.more_body:
            self.cycle = self._refused_cycle()
            self._stop_reading(self.cycle)
            self.pipeline.appendleft((self.cycle, _refusing(refusal)))
        elif self.pipeline:
            self._stop_reading(self.cycle)
            self.pipeline[0] = (self.cycle, _refusing(refusal))
        else:
            # Its handler may be waiting for the body, which nobody can read any more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._answer(refusal)

    def _refused_cycle(self) -> RequestResponseCycle:
        return RequestResponseCycle(
            scope=self.scope,
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

    def _answer(self, refusal: errors.MithrilError) -> None:
        """Writes a refusal past everything else, and closes."""
        headers, body = _rendered(refusal)
        head = [name + b": " + value + b"\r\n" for name, value in headers]
        self.is_lingering = True
        self._stop_timers()
        transport = LingeringTransport(self.connection, self.loop)
        transport.write(b"".join([STATUS_LINE[refusal.status], *head, b"connection: close\r\n\r\n", body]))
        transport.close()


def _rendered(refusal: errors.MithrilError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal of which no request is known."""
    request_id = security.new_request_id()
    body = error_body(refusal, url="", request_id=request_id)
    headers = {
        "content-type": JSON,
        "x-request-id": request_id,
        "content-length": str(len(body)),
        **refusal.headers,
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()], body


def _refusing(refusal: errors.MithrilError) -> Any:  # noqa: ANN401 -- uvicorn has types of its own for the same
    """An ASGI application that refuses."""
    headers, body = _rendered(refusal)

    async def refuse(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return refuse
