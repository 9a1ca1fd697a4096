"""Standard output and error of a server: a reader that stalls, leaves or comes back stops nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from mithril import metrics, streams
from mithril.streams import Stream

LINE = "x" * 99 + "\n"
PIPE_BYTES = 65_536


class Pipe:
    """A pipe, or a pair of sockets, with the stream that writes to it."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer
        self.stream = Stream(writer, limit_bytes=10_000)

    def fill(self) -> None:
        """Leave no room in the pipe."""
        os.set_blocking(self.writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"." * 4096)
        os.set_blocking(self.writer, True)

    def read(self, end: str) -> str:
        """Read until a text has arrived."""
        received = b""
        while end.encode() not in received:  # until pytest's own limit
            received += os.read(self.reader, PIPE_BYTES)
        return received.decode().lstrip(".")


@pytest.fixture(params=["pipe", "socket", "a pipe that cannot be opened again"])
def pipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    if request.param == "socket":
        ours, theirs = socket.socketpair()
        made = Pipe(ours.detach(), theirs.detach())
    else:
        if request.param != "pipe":
            monkeypatch.setattr(streams, "_at_once", lambda _: lambda _: 0)
        made = Pipe(*os.pipe())
    yield made
    with suppress(OSError):
        os.close(made.reader)


def lost_lines() -> float:
    return metrics._tables[0].numbers[metrics.LOST_LINES]


def until_nothing_waits(stream: Stream) -> None:
    while stream.is_behind:  # until pytest's own limit
        time.sleep(0.001)


def test_lines_arrive_whole_and_in_their_order(pipe: Pipe) -> None:
    lines = [f"{number}\n" for number in range(1_000)]
    for line in lines:
        pipe.stream.write(line)
    assert pipe.read("999\n") == "".join(lines)


def test_a_reader_that_stalls_delays_no_one_and_its_lost_lines_are_counted_and_told(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, float]] = []
    monkeypatch.setattr(streams, "log", SimpleNamespace(warning=lambda _, **fields: told.append(fields)))
    before = lost_lines()
    pipe.fill()
    started = time.monotonic()
    for _ in range(1_000):
        pipe.stream.write(LINE)
    assert time.monotonic() - started < 5
    lost = lost_lines() - before
    assert 800 < lost < 1_000, "what is beyond the limit"
    pipe.read(LINE * int(1_000 - lost))
    until_nothing_waits(pipe.stream)
    pipe.stream.write("again\n")
    assert pipe.read("again\n") == "again\n"
    assert told == [{"lines": lost, "descriptor": pipe.writer}]


BOTH = """
import sys, time
from mithril import logs, metrics, streams
streams.LAST_LINES_SECONDS = 60
streams.Stream.__init__.__kwdefaults__["limit_bytes"] = 10_000
streams.install()
logs.configure(level="info", style="json")
started = time.monotonic()
for _ in range(2_000):
    sys.stdout.write("x" * 99 + "\\n")
    sys.stderr.write("x" * 99 + "\\n")
took = time.monotonic() - started
lost = metrics._tables[0].numbers[metrics.LOST_LINES]
with open(sys.argv[1], "w") as file:
    file.write(f"{took} {lost}")
while sys.stdout.is_behind or sys.stderr.is_behind: time.sleep(0.01)
sys.stdout.write("again\\n")
"""


def test_nobody_reads_the_output_and_then_the_log_tells_how_much_each_stream_has_lost(tmp_path: Path) -> None:
    """Nothing waits meanwhile, and each lost line is counted once."""
    script = [sys.executable, "-c", BOTH, str(tmp_path / "told")]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not (tmp_path / "told").exists() or not (tmp_path / "told").read_text():  # until pytest's own limit
            time.sleep(0.01)
        out, err = process.communicate()
    took, lost = map(float, (tmp_path / "told").read_text().split())
    lines = out.splitlines() + err.splitlines()
    told = {line["descriptor"]: line["lines"] for line in map(json.loads, (x for x in lines if x.startswith(b"{")))}
    assert took < 10
    assert lost > 0
    assert sum(told.values()) == lost == 4_000 - lines.count(b"x" * 99)
    assert set(told) == {streams.STDOUT, streams.STDERR}


def test_a_reader_that_is_gone_raises_nothing(pipe: Pipe) -> None:
    before = lost_lines()
    os.close(pipe.reader)
    for _ in range(10):
        pipe.stream.write(LINE)
    until_nothing_waits(pipe.stream)
    assert lost_lines() - before == 10


def test_a_line_that_a_full_disk_cut_short_is_ended_before_the_next_one(tmp_path: Path) -> None:
    """The limit of a file's size stands for the disk: it too takes the beginning of a line."""
    script = """
import os, resource, signal, sys, time
from mithril import streams
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
stream = streams.Stream(2)
def write(line):
    stream.write(line)
    while stream.is_behind: time.sleep(0.001)
write("first\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
write("second\\n")
write("third\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
write("fourth\\n")
"""
    file = tmp_path / "log"
    with file.open("w") as log:
        subprocess.run([sys.executable, "-c", script], stderr=log, stdout=subprocess.DEVNULL, check=True)
    assert file.read_text() == "first\nseco\nfourth\n"


def test_text_that_is_no_unicode_is_written_all_the_same(pipe: Pipe) -> None:
    pipe.stream.write("half a pair: \ud800\n")
    assert pipe.read("\n") == "half a pair: \\ud800\n"


def test_a_stream_that_others_made_non_blocking_is_waited_for(pipe: Pipe) -> None:
    pipe.fill()
    os.set_blocking(pipe.writer, False)
    pipe.stream.write(LINE)
    assert pipe.read(LINE) == LINE


def test_a_closed_stream_is_like_dev_null() -> None:
    script = "import sys; from mithril import streams; streams.occupy(); print(sys.stdin.read(), flush=True)"
    script += "; print(sys.stdout.isatty(), file=sys.stderr); sys.stdout.buffer.write(b'x'); sys.exit(7)"
    ran = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script], check=False)
    assert ran.returncode == 7


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from mithril import streams
streams.occupy()
with open({str(tmp_path / "another")!r}, "w") as another:
    Path({str(tmp_path / "number")!r}).write_text(str(another.fileno()))
"""
    subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", script], check=True)
    assert int((tmp_path / "number").read_text()) > streams.STDERR
