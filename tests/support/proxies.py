"""A TCP proxy in front of a PostgreSQL, which loses the answers that a test names."""

import enum
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

PATIENCE_SECONDS = 60
PIECE_BYTES = 65_536


class Loss(enum.Enum):
    """How an answer is lost."""

    CUT = "the request arrives, and the connection breaks when it is answered"
    SILENCE = "the request arrives, and no answer comes"
    HELD = "the connection breaks before the request arrives; `deliver` lets it arrive later"


class Line:
    """One connection: its two ends, and which loss it has had."""

    def __init__(self, client: socket.socket) -> None:
        self.client, self.server = client, socket.socket(socket.AF_UNIX)
        self.loss: Loss | None = None
        self.held = b""
        self.late: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def answer(self) -> None:
        """Pass on what the server says, until an answer is lost."""
        with suppress(OSError):
            while said := self.server.recv(PIECE_BYTES):
                if self.loss is None:
                    self.client.sendall(said)
                elif self.loss is Loss.CUT:
                    break
                else:
                    self.late.put(said)
        if self.loss is not Loss.SILENCE:
            _break(self.client)

    def close(self) -> None:
        _break(self.client)
        _break(self.server)


class Proxy:
    """Passes everything on, but for the answer to what `lose` names."""

    def __init__(self, database_url: str) -> None:
        """`database_url`: of a PostgreSQL that listens on a socket file."""
        parts = urlsplit(database_url)
        query = parse_qs(parts.query)
        self.socket_file = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://postgres@127.0.0.1:{self.listener.getsockname()[1]}{parts.path}?sslmode=disable"
        self.open = threading.Event()  # whether new connections are passed on; else they wait
        self.open.set()
        self.losses = 0
        self._doomed: dict[bytes, list[tuple[Loss, bool]]] = {}
        self._lines: list[Line] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def lose(self, sent: bytes, loss: Loss, *, times: int = 1, is_last: bool = False) -> None:
        """Lose the answer to each of the next requests that have these bytes.

        `is_last`: then break all connections, and pass on no new ones before `open` is set.
        """
        self._doomed[sent] = [(loss, is_last)] * times

    @property
    def has_lost(self) -> bool:
        """Whether every answer that was to be lost is lost."""
        return not any(self._doomed.values())

    def deliver(self) -> bytes:
        """Let the request that was held last arrive, and return what the server answers."""
        line = next(each for each in reversed(self._lines) if each.held)
        request, line.held = line.held, b""
        line.server.sendall(request)
        return line.late.get(timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """Take no more connections, and break those that are there."""
        self.open.set()
        self.listener.close()
        for line in self._lines:
            line.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                line = Line(self.listener.accept()[0])
                self._lines.append(line)
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: Line) -> None:
        self.open.wait(PATIENCE_SECONDS)
        with suppress(OSError):
            line.server.connect(self.socket_file)
            threading.Thread(target=line.answer, daemon=True).start()
            while sent := line.client.recv(PIECE_BYTES):
                self._lose(line, sent)
                if line.held:
                    _break(line.client)
                    return
                line.server.sendall(sent)
        if line.loss is not Loss.SILENCE:
            _break(line.server)

    def _lose(self, line: Line, sent: bytes) -> None:
        for named in list(self._doomed):
            if named in sent and self._doomed[named] and line.loss is None:
                line.loss, is_last = self._doomed[named].pop()
                line.held = sent if line.loss is Loss.HELD else b""
                self.losses += 1
                if is_last:
                    self.open.clear()
                    for other in self._lines:
                        if other is not line:
                            _break(other.client)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def losing(database_url: str) -> Iterator[Proxy]:
    """Run a proxy until the end of the block."""
    proxy = Proxy(database_url)
    try:
        yield proxy
    finally:
        proxy.close()
