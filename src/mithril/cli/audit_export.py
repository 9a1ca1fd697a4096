"""`mithril audit export`: every event of the trail, once to a file, or at least once to a collector of OpenTelemetry.

Where an export was left is in a small file, which one process at a time may have: the number of the last event, moved
after what was written or accepted. An export to a file needs it only when that file is replaced. The file itself says
more exactly where it was left: a process that is killed may have written events, the last of them not whole.
"""

import asyncio
import fcntl
import mmap
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import typer

from mithril import __version__, errors, streams
from mithril.audit import reading_store
from mithril.audit.events import Entry
from mithril.cli import audit, output, session
from mithril.cli.output import Done
from mithril.database.database import Database
from mithril.identity import services
from mithril.identity.services import Service

app = audit.app
STANDARD_OUTPUT = Path("-")
BATCH = 500
POLL_SECONDS = 1.0
# A collector that does not accept is asked again after 1, 2, 4 ... seconds; without --follow not for ever.
LONGEST_PAUSE_SECONDS, ATTEMPTS = 30.0, 6
COLLECTOR_SECONDS = 30.0
LOGS_PATH = "/v1/logs"
TOO_LATE, TOO_MANY = 408, 429
INFO = 9  # the severity of OpenTelemetry
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Put = Callable[[Sequence[Entry]], Awaitable[None]]


@session.command(app, "export")
async def export(
    opened: Database,
    *,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add each event as a line of JSON; - is standard output.")
    ] = None,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Send to this collector of OpenTelemetry, to /v1/logs.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where it was left; FILE.state with --to FILE.")
    ] = None,
    since: Annotated[int, typer.Option(metavar="ID", help="The first time, begin after this event.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
) -> Done | None:
    """Export every event once, from where the last export was left. It may be killed at any time."""
    if (to is None) == (otlp is None):
        raise typer.BadParameter("name one of --to and --otlp")
    if state is None:
        if to in (None, STANDARD_OUTPUT):
            raise typer.BadParameter("name a file with --state: it keeps where the export was left")
        state = Path(f"{to}.state")
    try:
        with ExitStack() as opening:
            left = opening.enter_context(State(state, since=since))
            if otlp:
                put = _sender(otlp, gives_up=not follow)
            else:
                put = _print if to == STANDARD_OUTPUT else opening.enter_context(_writing(left, to))
            count = await _export(opened, left, put)
            while follow:
                await asyncio.sleep(POLL_SECONDS)
                count += await _export(opened, left, put)
    except streams.Unwritable:
        raise
    except OSError as error:
        output.fail(f"{error.filename or to or state}: {error.strerror}")
    sentence = f"{count} events exported; the last one has the id {left.id}."
    if to == STANDARD_OUTPUT:
        output.note(sentence)
        return None
    return Done(sentence, {"events": count, "last_id": left.id})


async def _export(opened: Database, left: "State", put: Put) -> int:
    """Export what is there, and return how many events that were."""
    last, count = await reading_store.settled(opened), 0
    while found := await reading_store.list_between(opened, left.id, last, most=BATCH):
        await put(found)
        left.move(found[-1].id)
        count += len(found)
    return count


class Left(msgspec.Struct, frozen=True):
    """Where an export was left: the last event, and the file to which it went."""

    id: int
    to: str = ""


class State:
    """A file that keeps where an export was left. It is this process's own until it ends."""

    def __init__(self, path: Path, *, since: int) -> None:
        """`since`: what holds where there is no such file. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            output.fail(f"another export is at {path}")
        line, _, _ = os.pread(self._file, os.fstat(self._file).st_size, 0).partition(b"\n")
        try:
            self._left = msgspec.json.decode(line, type=Left) if line else Left(since)
        except msgspec.DecodeError:
            output.fail(f"{path} does not say where an export was left")

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let another process have it."""
        os.close(self._file)

    @property
    def id(self) -> int:
        """The last event that was exported."""
        return self._left.id

    @property
    def to(self) -> str:
        """The file to which it went."""
        return self._left.to

    def move(self, last_id: int, *, to: str | None = None) -> None:
        """Store where the export is now. One write, of which a killed process does all or nothing."""
        self._left = Left(last_id, self.to if to is None else to)
        line = msgspec.json.encode(self._left) + b"\n"
        os.pwrite(self._file, line, 0)
        os.ftruncate(self._file, len(line))
        os.fsync(self._file)


@contextmanager
def _writing(left: State, to: Path | None) -> Iterator[Put]:
    """Yield what adds events to a file, after `left` is where the last export really ended."""
    assert to is not None, "else events go elsewhere"
    target = str(to.absolute())
    last_id = _end_of(left.to or target)
    left.move(left.id if last_id is None else last_id, to=target)
    file = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def put(found: Sequence[Entry]) -> None:
        lines = memoryview(b"".join(msgspec.json.encode(audit.view(entry)) + b"\n" for entry in found))
        while lines:
            lines = lines[os.write(file, lines) :]
        os.fsync(file)

    try:
        yield put
    finally:
        os.close(file)


def _end_of(path: str) -> int | None:
    """Cut what is not a whole line from the end of an exported file; return the id of its last event, or None."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if not os.fstat(file).st_size:
            return None
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
            end = content.rfind(b"\n") + 1
            line = content[content.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end]
        last = msgspec.json.decode(line, type=Left) if line else None
        os.ftruncate(file, end)
    except msgspec.DecodeError:
        output.fail(f"{path} is no export of the audit trail")
    finally:
        os.close(file)
    return last.id if last else None


async def _print(found: Sequence[Entry]) -> None:
    for entry in found:
        output.print_line(audit.view(entry))
    sys.stdout.flush()


def _sender(url: str, *, gives_up: bool) -> Put:
    """Return what sends events until they are accepted; each may come twice. `gives_up`: after some attempts."""
    collector = Service("the collector", url, COLLECTOR_SECONDS)

    async def put(found: Sequence[Entry]) -> None:
        document = _document(found)
        attempt = 0
        while reason := await _send(collector, document):
            attempt += 1
            if gives_up and attempt >= ATTEMPTS:
                output.fail(f"{reason}; the next export goes on here")
            output.note(f"{reason}; trying again")
            await asyncio.sleep(min(2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS))

    return put


async def _send(collector: Service, document: dict[str, Any]) -> str:
    """Send once. Return why the collector has not accepted it yet, or nothing when it has. Exit when it never will."""
    try:
        answer = await services.ask(collector, "POST", LOGS_PATH, document)
    except errors.ServiceUnavailable as error:
        return error.detail
    if answer.status in (TOO_LATE, TOO_MANY):
        return f"the collector: status {answer.status}"
    if answer.is_refusal:
        output.fail(f"the collector refuses the events with status {answer.status}")
    if refused := _rejected(answer.body):
        output.fail(f"the collector rejects {refused} events: they are not marked as exported")
    return ""


def _rejected(body: bytes) -> int:
    """Return how many records of an accepted request were rejected."""
    try:
        partial = msgspec.json.decode(body, type=dict[str, Any]).get("partialSuccess") or {}
        return int(partial.get("rejectedLogRecords") or 0)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError, AttributeError):
        return 0


def _document(found: Sequence[Entry]) -> dict[str, Any]:
    """Return events as OTLP/JSON (OpenTelemetry protocol 1.x, ExportLogsServiceRequest)."""
    scope = {"scope": {"name": "mithril.audit", "version": __version__}, "logRecords": [_record(e) for e in found]}
    resource = {"attributes": _attributes({"service.name": "mithril", "service.version": __version__})}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}


def _record(entry: Entry) -> dict[str, Any]:
    fields = {f"mithril.audit.{name}": value for name, value in msgspec.structs.asdict(entry).items()}
    del fields["mithril.audit.occurred_at"]
    return {
        "timeUnixNano": str((entry.occurred_at - EPOCH) // timedelta(microseconds=1) * 1_000),
        "observedTimeUnixNano": str(time.time_ns()),
        "severityNumber": INFO,
        "severityText": "INFO",
        "eventName": f"mithril.audit.{entry.action}",
        "body": {"stringValue": msgspec.json.encode(audit.view(entry)).decode()},
        "attributes": _attributes(fields),
    }


def _attributes(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": {"intValue" if isinstance(value, int) else "stringValue": str(value)}}
        for name, value in fields.items()
        if value is not None
    ]
