"""A network between a service and PostgreSQL that a test may slow down or cut, without a word to either side."""

import asyncio
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

SSL_REQUEST = struct.pack("!ll", 8, 80877103)


class Proxy:
    """A port of this machine that leads to the socket of a PostgreSQL. It runs in a thread of its own.

    While `is_silent`, it takes connections and bytes and passes nothing on; what it took then is delivered later, as
    a network may do. It falls silent by itself when `cut_at` is sent. `delay_seconds`: of a piece, each way.
    """

    def __init__(
        self, url: str, *, delay_seconds: float = 0.0, refuses: Callable[[bytes], str | None] | None = None
    ) -> None:
        """`refuses`: gets the first message of a connection, and may return an error, with its class, to answer."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        self._path = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._database = parts.path
        self.delay_seconds = delay_seconds
        self.refuses = refuses
        self.cut_at: bytes | None = None
        self.connections = 0
        self.resets = 0  # connections that the service cut instead of closing
        self._passing = threading.Event()
        self._passing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def is_silent(self) -> bool:
        """Whether nothing is passed on."""
        return not self._passing.is_set()

    @is_silent.setter
    def is_silent(self, value: bool) -> None:
        if value:
            self._passing.clear()
        else:
            self._passing.set()

    @property
    def host(self) -> str:
        """The host and port, as a URL names them."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the database through this proxy."""
        return url_of(self)

    @property
    def database(self) -> str:
        """The path of the URL."""
        return self._database

    def start(self) -> None:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        onward: asyncio.StreamWriter | None = None
        try:
            first = await reader.read(65_536)
            if first == SSL_REQUEST:
                await self._pass()
                writer.write(b"N")
                first = await reader.read(65_536)
            await self._pass()
            if self.refuses is not None and (error := self.refuses(first)):
                writer.write(error_response(error))
                await writer.drain()
                return
            back, onward = await asyncio.open_unix_connection(self._path)
            onward.write(first)
            sending = asyncio.create_task(self._copy(reader, onward))
            answering = asyncio.create_task(self._copy(back, writer))
            await asyncio.wait([sending, answering], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():  # how the service ends its side is seen too: PostgreSQL may end first
                writer.write_eof()
                await sending
        except ConnectionError:  # reset, or a broken pipe
            self.resets += 1
        except asyncio.CancelledError:
            return  # the end of the proxy, of which asyncio's streams would make an error
        finally:
            for each in (writer, onward):
                if each is not None:
                    each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                if self.cut_at is not None and self.cut_at in piece:
                    self.cut_at, self.is_silent = None, True
                await self._pass()
                writer.write(piece)
                await writer.drain()
        except ConnectionError:  # reset, or a broken pipe
            self.resets += 1

    async def _pass(self) -> None:
        """Wait until the network lets something pass."""
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        while not self._passing.is_set():  # noqa: ASYNC110 -- another thread sets it
            await asyncio.sleep(0.01)


def error_response(text: str) -> bytes:
    """Return PostgreSQL's message for a fatal error, from its class and its text: `08P01 unsupported parameter`."""
    code, _, message = text.partition(" ")
    fields = f"SFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + struct.pack("!l", 4 + len(fields)) + fields


def url_of(*proxies: Proxy) -> str:
    """Return one URL with all hosts."""
    return f"postgresql://postgres@{','.join(each.host for each in proxies)}{proxies[0].database}"


@contextmanager
def through(url: str, **options: Any) -> Iterator[Proxy]:
    """Run a proxy to the PostgreSQL of a URL until the end of the block."""
    proxy = Proxy(url, **options)
    proxy.start()
    try:
        yield proxy
    finally:
        with suppress(RuntimeError):
            proxy.stop()
