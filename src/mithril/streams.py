"""Standard output and error of a server: writing to them never waits, never raises, and never reaches another file.

A line is written at once where the reader takes it in. Otherwise it waits, with those after it, for a thread that may
wait for the reader as long as it likes; beyond LIMIT_BYTES lines are lost. Lost lines are counted in the metrics, and
reported in one line when writing works again.
"""

import atexit
import io
import os
import queue
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import structlog

from mithril import metrics

STDIN, STDOUT, STDERR = 0, 1, 2
LIMIT_BYTES = 1_048_576
# How long the end of the process waits for a reader who is behind.
LAST_LINES_SECONDS, PAUSE_SECONDS = 1.0, 0.01

log = structlog.stdlib.get_logger("mithril")
# The standard streams, by number, that were closed when the process started.
closed: set[int] = set()


class Unwritable(OSError):
    """Standard output cannot be written."""


class _Output(io.FileIO):
    """Standard output of a command, whose errors are its own and come once: then all is lost."""

    _is_lost = False

    def write(self, data: Any, /) -> int:  # noqa: ANN401 -- bytes, or a view of them
        if self._is_lost:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._is_lost = True
            raise Unwritable(*error.args) from None


def occupy() -> None:
    """Open each standard stream that is closed, as /dev/null: else the next file or socket would get its number.

    What goes wrong with standard output is Unwritable from now on.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(descriptor, True)
        closed.add(descriptor)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(STDIN, closefd=False)
    sys.stderr = sys.stderr or os.fdopen(STDERR, "w", closefd=False)
    if sys.stdout is sys.__stdout__:
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(STDOUT, "w", closefd=False)),
            encoding=getattr(sys.stdout, "encoding", None),
            errors=getattr(sys.stdout, "errors", None),
            line_buffering=os.isatty(STDOUT),
        )


def install() -> None:
    """Write standard output and error of this process in the way of this module, until it ends."""
    streams = Stream(STDOUT), Stream(STDERR)
    sys.stdout, sys.stderr = streams
    atexit.register(_write_last_lines, streams)


def _write_last_lines(streams: Iterable["Stream"]) -> None:
    deadline = time.monotonic() + LAST_LINES_SECONDS
    while any(each.is_behind for each in streams) and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)


class Stream(io.TextIOBase):
    """A text stream to a descriptor. Its `flush` has nothing to do."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, descriptor: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """`limit_bytes`: how much may wait for the reader."""
        self._descriptor, self._limit_bytes = descriptor, limit_bytes
        self._write_at_once = _at_once(descriptor)
        self._lock = threading.RLock()  # a signal handler may write too
        self._waiting: queue.SimpleQueue[tuple[bytes, bool]] = queue.SimpleQueue()
        self._waiting_bytes = self._lost = 0
        self._is_cut = self._is_telling = False
        threading.Thread(target=self._carry, daemon=True).start()

    @property
    def is_behind(self) -> bool:
        """Return whether lines wait for the reader, or it is about to be told how many were lost."""
        return self._waiting_bytes > 0 or self._is_telling

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write the text, usually a line with its end, or leave it to the thread, or lose it."""
        line = text.encode(self.encoding, self.errors)
        with self._lock:
            is_behind = self._waiting_bytes or self._lost
            try:
                rest = line if is_behind else line[self._write_at_once(line) :]
            except OSError:  # the thread finds out whether it passes
                rest = line
            if self._waiting_bytes and self._waiting_bytes + len(rest) > self._limit_bytes:
                self._lose()
            elif rest:
                self._waiting_bytes += len(rest)
                self._waiting.put((rest, len(rest) < len(line)))
        return len(text)

    def _lose(self) -> None:
        self._lost += 1
        metrics.count_lost_line()

    def _carry(self) -> None:
        """Write the waiting lines, each as soon as the reader takes it in."""
        while True:
            rest, is_begun = self._waiting.get()
            is_written = self._write_patiently(rest, is_begun=is_begun)
            with self._lock:
                self._waiting_bytes -= len(rest)
                if not is_written:
                    self._lose()
                lost = self._lost if is_written and not self._waiting_bytes and self._may_tell() else 0
                self._lost -= lost
                self._is_telling = lost > 0
            if lost:
                log.warning("lines_lost", lines=lost, descriptor=self._descriptor)
                self._is_telling = False

    def _may_tell(self) -> bool:
        """Return whether a line of the log would not be lost itself, in standard error; else the next line tells it."""
        return sys.stderr is self or not getattr(sys.stderr, "is_behind", False)

    def _write_patiently(self, rest: bytes, *, is_begun: bool) -> bool:
        """Return whether all of it was written. A line that was cut short is ended before another one begins."""
        if self._is_cut and not is_begun:
            rest = b"\n" + rest
        size = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another holder of the file made it so
                select.select([], [self._descriptor], [])
            except OSError:
                self._is_cut = self._is_cut or is_begun or len(rest) < size
                return False
        self._is_cut = False
        return True


def _at_once(descriptor: int) -> Callable[[bytes], int]:
    """Return a function that writes what can be written without waiting, and returns how many bytes that were.

    O_NONBLOCK cannot be set: it would hold for all who have the same terminal or pipe. But opened by its path in
    /proc, a pipe is a file of its own. Where that is not allowed, nothing is written at once.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return partial(os.write, descriptor)
    if stat.S_ISSOCK(mode):
        connection = socket.socket(fileno=os.dup(descriptor))
        return lambda line: connection.send(line, socket.MSG_DONTWAIT)
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return lambda _: 0
    return partial(os.write, own)
