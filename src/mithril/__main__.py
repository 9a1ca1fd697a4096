"""The command `mithril`, also as `python -m mithril`: what holds before the first of the large modules is loaded."""

import os
import signal
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command line. Ctrl-C while its modules load ends the process with one line: there is nothing to undo."""
    is_ours = signal.getsignal(signal.SIGINT) == signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _end)
    from mithril import cli  # noqa: PLC0415 -- only now

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main()
    except KeyboardInterrupt:
        _end(signal.SIGINT, None)


def _end(_signal: int, _frame: FrameType | None) -> None:
    os.write(2, b"mithril: interrupted\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
