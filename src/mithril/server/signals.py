"""What signals mean to a server: SIGTERM and SIGINT end it, SIGHUP lets it read its settings again.

A terminal that closes sends SIGHUP too. It ends a server that was started in it, except under nohup.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SIGUSR1 and SIGUSR2 would end the process. The others stop one in the background that uses its terminal.
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


class Hangup:
    """Handles SIGHUP: either the settings are to be read again, or the terminal was closed."""

    def __init__(self) -> None:
        """See what holds at the start of the process."""
        self.is_asked = False
        self._ends_with_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        if self._ends_with_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            self.is_asked = True

    def take(self) -> bool:
        """Return whether the settings are to be read again, once for each time that it was asked for."""
        is_asked, self.is_asked = self.is_asked, False
        return is_asked


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def exit_cleanly(_signal: int, _frame: FrameType | None) -> None:
    """Handle a signal: exit with status 0 after every `with` block has finished."""
    raise SystemExit(0)


def handle(hangup: Hangup) -> None:
    """Handle all signals, as long as uvicorn does not handle those that end a server, and when it is done."""
    signal.signal(signal.SIGTERM, exit_cleanly)
    signal.signal(signal.SIGINT, exit_cleanly)
    handle_others(hangup)


def handle_others(hangup: Hangup) -> None:
    """Handle the signals that end no server. Child processes ignore those that are ignored here."""
    signal.signal(signal.SIGHUP, hangup)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back(number: signal.Signals) -> Iterator[None]:
    """Keep that signal from this thread, and for good from the processes that it starts in the block."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
