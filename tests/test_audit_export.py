"""`mithril audit export`: each event once in a file, at least once at a collector, over kills and late commits."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer

from mithril.audit import reading_store
from mithril.audit.events import Entry
from mithril.cli import audit_export
from mithril.cli.audit_export import export
from mithril.database.database import Database

pytestmark = pytest.mark.slow

ADD = "INSERT INTO audit_events (action, subject_id, new) VALUES ('test.thing', gen_random_uuid(), $1)"
IDS = "SELECT id FROM audit_events ORDER BY id"
KILLS = 40


def exported(database_url: str, **options: Any) -> Any:
    """Run the command in this process."""
    given = {"to": None, "otlp": None, "state": None, "since": 0, "follow": False} | options

    async def work() -> Any:
        async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
            return await export(database, **given)

    return asyncio.run(work())


def add(database_url: str, count: int = 1) -> None:
    async def insert() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.executemany(ADD, [('{"a": "b"}',)] * count)
        await connection.close()

    asyncio.run(insert())


def ids_of_trail(database_url: str) -> list[int]:
    async def read() -> list[int]:
        connection = await asyncpg.connect(database_url)
        rows = await connection.fetch(IDS)
        await connection.close()
        return [row["id"] for row in rows]

    return asyncio.run(read())


def ids_in(*files: Path) -> list[int]:
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trail.jsonl"


def test_each_event_is_a_line_of_the_file_once(database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_export, "BATCH", 2)
    add(database_url, 5)
    assert exported(database_url, to=file).result == {"events": 5, "last_id": 5}
    assert exported(database_url, to=file).result == {"events": 0, "last_id": 5}
    add(database_url)
    exported(database_url, to=file)
    assert ids_in(file) == ids_of_trail(database_url)
    assert json.loads(file.read_text().splitlines()[0]).keys() == set(Entry.__struct_fields__)
    assert (file.stat().st_mode & 0o777, Path(f"{file}.state").stat().st_mode & 0o777) == (0o600, 0o600)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_event_that_becomes_visible_late_is_not_lost(database_url: str, file: Path, end: str) -> None:
    """Its number is smaller than that of an event that is there already."""

    async def scenario() -> None:
        late, other = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
        transaction, unrelated = late.transaction(), other.transaction()
        await transaction.start()
        await late.execute(ADD, "{}")
        async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
            await other.execute(ADD, "{}")
            given: dict[str, Any] = {"to": file, "otlp": None, "state": None, "since": 0, "follow": False}
            exporting: asyncio.Future[Any] = asyncio.ensure_future(export(database, **given))
            await asyncio.sleep(5 * reading_store.PAUSE_SECONDS)
            assert not exporting.done()
            await unrelated.start()
            await other.execute(ADD, "{}")  # one that has begun later is not waited for
            await (transaction.commit() if end == "commit" else transaction.rollback())
            await asyncio.wait_for(exporting, 60)
            await unrelated.commit()
            await export(database, **given)
        await late.close()
        await other.close()

    asyncio.run(scenario())
    assert ids_in(file) == ids_of_trail(database_url) == ([1, 2, 3] if end == "commit" else [2, 3])


@pytest.mark.parametrize("torn", ["", '{"id": 3, "occ', '{"id": 3}\n{"id"', "x" * 200_000])
def test_what_a_killed_export_has_left_is_completed(database_url: str, file: Path, torn: str) -> None:
    """It had written more than its state says, the last line not whole."""
    add(database_url, 5)
    exported(database_url, to=file)
    first, second, third, *_ = file.read_text().splitlines(keepends=True)
    file.write_text(first + second + (third + '{"id"' if torn.startswith('{"id": 3}') else torn))
    Path(f"{file}.state").write_text(json.dumps({"id": 1, "to": str(file)}) + "\n")
    exported(database_url, to=file)
    assert ids_in(file) == [1, 2, 3, 4, 5]


def test_the_state_goes_on_in_another_file_and_a_missing_one_is_found_in_the_file(
    database_url: str, file: Path, tmp_path: Path
) -> None:
    state, second, third = tmp_path / "state", tmp_path / "second", tmp_path / "third"
    add(database_url, 2)
    exported(database_url, to=file, state=state)
    add(database_url)
    exported(database_url, to=second, state=state)
    assert (ids_in(file), ids_in(second)) == ([1, 2], [3])
    # Killed before it noted the last event, then told to go on in a third file.
    state.write_text(json.dumps({"id": 2, "to": str(second)}) + "\n")
    add(database_url)
    exported(database_url, to=third, state=state)
    assert ids_in(file, second, third) == [1, 2, 3, 4]
    state.unlink()
    exported(database_url, to=third, state=state)
    assert ids_in(third) == [4]
    third.rename(tmp_path / "rotated")
    add(database_url)
    exported(database_url, to=third, state=state)
    assert ids_in(third) == [5]


def test_the_first_export_may_begin_later(database_url: str, file: Path) -> None:
    add(database_url, 3)
    exported(database_url, to=file, since=2)
    exported(database_url, to=file, since=0)
    assert ids_in(file) == [3]


def test_what_is_no_export_is_left_as_it_is(database_url: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("a diary\nwhose last line is not ended")
    with pytest.raises(SystemExit):
        exported(database_url, to=file)
    assert "is no export of the audit trail" in capsys.readouterr().err
    assert file.read_text() == "a diary\nwhose last line is not ended"


def test_wrong_uses_are_refused(
    database_url: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ({}, {"to": file, "otlp": "http://127.0.0.1:1"}, {"to": Path("-")}, {"otlp": "http://127.0.0.1:1"}):
        with pytest.raises(typer.BadParameter):
            exported(database_url, **wrong)
    with pytest.raises(SystemExit):
        exported(database_url, to=tmp_path / "none" / "file")
    (tmp_path / "state").write_text("a diary\n")
    with pytest.raises(SystemExit):
        exported(database_url, to=file, state=tmp_path / "state")
    with audit_export.State(Path(f"{file}.state"), since=0), pytest.raises(SystemExit):
        exported(database_url, to=file)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == f"mithril: {tmp_path}/none/file.state: No such file or directory"
    assert second == f"mithril: {tmp_path}/state does not say where an export was left"
    assert third == f"mithril: another export is at {file}.state"


def test_standard_output_gets_the_events_alone(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(database_url, 2)
    exported(database_url, to=Path("-"), state=tmp_path / "state")
    printed = capsys.readouterr()
    assert [json.loads(line)["id"] for line in printed.out.splitlines()] == [1, 2]
    assert printed.err == "2 events exported; the last one has the id 2.\n"


FORKING = """
import asyncio, os, sys
from pathlib import Path
from mithril.cli.audit_export import export
from mithril.database.database import Database

async def work(url, to, otlp, state):
    given = {"to": to and Path(to), "otlp": otlp, "state": Path(state), "since": 0, "follow": True}
    async with Database(url, size=2, wait_seconds=60, statement_seconds=60) as database:
        await export(database, **given)

for _ in sys.stdin:
    if (child := os.fork()) == 0:
        asyncio.run(work(*(each or None for each in sys.argv[1:])))
    print(child, flush=True)
    os.waitpid(child, 0)
"""


@contextmanager
def killing(database_url: str, *, to: str = "", otlp: str = "", state: Path) -> Iterator[Any]:
    """Yield what starts an export, waits for a sign that it works and a little more, and kills it."""
    chance = random.Random(1)
    command = [sys.executable, "-c", FORKING, database_url, to, otlp, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def kill_once(sign: Any) -> None:
            before = sign()
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            child = int(process.stdout.readline())  # type: ignore[union-attr]
            while sign() == before:  # until pytest's own limit
                time.sleep(0.001)
            time.sleep(chance.choice([0, 0.01, 0.1, 0.3]) * chance.random())
            os.kill(child, signal.SIGKILL)

        yield kill_once


@contextmanager
def writing(database_url: str) -> Iterator[None]:
    """Add events in transactions that overlap, take their time, and are undone at times."""
    is_over = threading.Event()

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        connection = await asyncpg.connect(database_url)
        while not is_over.is_set():
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(chance.randint(1, 20)):
                await connection.execute(ADD, json.dumps({"text": "x" * chance.randint(1, 5_000)}))
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.3]))
            await (transaction.rollback() if chance.random() < 0.1 else transaction.commit())
        await connection.close()

    async def write_all() -> None:
        await asyncio.gather(*map(write, range(4)))

    thread = threading.Thread(target=lambda: asyncio.run(write_all()))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_over_many_kills_each_event_is_in_the_file_once(database_url: str, file: Path) -> None:
    torn, state = 0, Path(f"{file}.state")
    with writing(database_url), killing(database_url, to=str(file), state=state) as kill_once:
        for _ in range(KILLS):
            kill_once(lambda: file.exists() and file.stat().st_size)
            torn += not file.read_bytes().endswith(b"\n")
    exported(database_url, to=file)
    assert ids_in(file) == ids_of_trail(database_url)
    assert len(ids_in(file)) > KILLS, f"{torn} lines were torn"


class Collector(BaseHTTPRequestHandler):
    """A collector that answers as it is told, and keeps what it accepts."""

    url: str
    answers: list[tuple[int, bytes]]
    accepted: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert (self.path, self.headers["content-type"]) == ("/v1/logs", "application/json")
        status, answer = self.answers.pop(0) if self.answers else (200, b"{}")
        if status == 200:
            self.accepted.append(json.loads(body))
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    class Own(Collector):
        answers, accepted = [], []

    monkeypatch.setattr(audit_export, "LONGEST_PAUSE_SECONDS", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Own.url = f"http://127.0.0.1:{server.server_port}"
        yield Own
        server.shutdown()
        thread.join()


def records(collector: Any) -> list[dict[str, Any]]:
    scopes = (document["resourceLogs"][0]["scopeLogs"][0] for document in collector.accepted)
    return [record for scope in scopes for record in scope["logRecords"]]


def ids_at(collector: Any) -> list[int]:
    return [json.loads(record["body"]["stringValue"])["id"] for record in records(collector)]


def test_a_collector_gets_each_event_and_the_state_moves_when_it_has_accepted(
    database_url: str, collector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "BATCH", 2)
    state = tmp_path / "state"
    add(database_url, 3)
    collector.answers += [(503, b""), (429, b""), (200, b'{"partialSuccess": {}}')]
    exported(database_url, otlp=collector.url, state=state)
    add(database_url)
    exported(database_url, otlp=collector.url + "/", state=state)
    assert ids_at(collector) == [1, 2, 3, 4]
    record = records(collector)[0]
    event = json.loads(record["body"]["stringValue"])
    assert event["new"] == {"a": "b"}
    assert record["eventName"] == "mithril.audit.test.thing"
    assert int(record["timeUnixNano"]) % 1_000 == 0
    seconds = int(record["timeUnixNano"]) / 1e9
    assert abs(seconds - time.time()) < 600
    attributes = {each["key"]: each["value"] for each in record["attributes"]}
    assert attributes["mithril.audit.id"] == {"intValue": "1"}
    assert attributes["mithril.audit.subject_id"] == {"stringValue": event["subject_id"]}
    assert "mithril.audit.actor_user_id" not in attributes, "it has none"


@pytest.mark.parametrize(
    "answered",
    [
        ([(400, b"")], "refuses the events with status 400"),
        ([(200, b'{"partialSuccess": {"rejectedLogRecords": "2"}}')], "rejects 2 events"),
        ([(503, b"")] * audit_export.ATTEMPTS, "status 503; the next export goes on here"),
    ],
)
def test_what_a_collector_does_not_accept_is_sent_again_by_the_next_export(
    database_url: str,
    collector: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answered: tuple[list[tuple[int, bytes]], str],
) -> None:
    add(database_url, 3)
    collector.answers += answered[0]
    with pytest.raises(SystemExit):
        exported(database_url, otlp=collector.url, state=tmp_path / "state")
    assert answered[1] in capsys.readouterr().err
    collector.accepted.clear()
    exported(database_url, otlp=collector.url, state=tmp_path / "state")
    assert ids_at(collector) == [1, 2, 3]


def test_over_many_kills_a_collector_gets_each_event(database_url: str, collector: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with writing(database_url), killing(database_url, otlp=collector.url, state=state) as kill_once:
        for _ in range(KILLS // 5):
            kill_once(lambda: len(collector.accepted))
    exported(database_url, otlp=collector.url, state=state)
    assert sorted(set(ids_at(collector))) == ids_of_trail(database_url)
