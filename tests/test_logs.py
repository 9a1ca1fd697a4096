"""The log line of a request: without structlog in JSON, with structlog in text, and the same fields in both."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mithril import logs
from support import repository

FIELDS: dict[str, Any] = {
    "listener": "public",
    "request_id": "a-request-id-of-20-chars",
    "method": "PATCH",
    "path": '/api/clients/"\n',
    "status": 200,
    "milliseconds": 1.25,
}


def test_in_json_a_request_is_one_line_with_the_known_fields(capsys: pytest.CaptureFixture[str]) -> None:
    write = logs.request_writer(level="info", style="json")
    write(logs.Answered(level="info", **FIELDS))
    write(logs.Answered(level="info", **FIELDS, user_id="u", client_id="c", refusal="why"))
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    age = datetime.now(UTC) - datetime.fromisoformat(first.pop("timestamp"))
    assert timedelta() <= age < timedelta(minutes=1)
    assert first == {"event": "request", "level": "info", **FIELDS}
    assert (second["user_id"], second["client_id"], second["refusal"]) == ("u", "c", "why")


@pytest.mark.parametrize(("level", "written"), [("debug", 2), ("info", 1), ("warning", 0), ("error", 0)])
def test_lines_below_the_level_are_not_written(level: str, written: int, capsys: pytest.CaptureFixture[str]) -> None:
    write = logs.request_writer(level=level, style="json")
    for own in ("debug", "info"):
        write(logs.Answered(level=own, **FIELDS))
    assert len(capsys.readouterr().err.splitlines()) == written


ODD = """
import structlog
from mithril import logs

logs.configure(level="info", style="json")
structlog.get_logger().info("odd", half="\\ud800", unknown=object())
"""


def test_a_value_that_json_cannot_have_raises_nothing_and_is_not_shown() -> None:
    said = subprocess.run([sys.executable, "-c", ODD], capture_output=True, text=True, check=True).stderr
    line = json.loads(said)
    assert (line["event"], line["half"], line["unknown"]) == ("odd", "\ud800", "<object>")


TEXT = f"""
from mithril import logs

logs.configure(level="info", style="text")
write = logs.request_writer(level="info", style="text")
write(logs.Answered(level="info", **{FIELDS}, refusal="why"))
write(logs.Answered(level="debug", **{FIELDS}))
"""


def test_in_text_a_request_looks_like_any_other_line() -> None:
    """Runs in its own process, because structlog is configured for a whole process."""
    said = subprocess.run([sys.executable, "-c", TEXT], capture_output=True, text=True, check=True).stderr
    (line,) = said.splitlines()
    assert re.match(r"\S+ \[info +\] request ", line)
    fields = dict(re.findall(r"(\w+)=('[^']*'|\S+)", line))
    assert fields.keys() == {*FIELDS, "refusal"}
    assert (fields["method"], fields["status"], fields["refusal"]) == ("PATCH", "200", "why")


def test_every_event_is_in_the_documentation() -> None:
    page = (repository() / "docs" / "watch.md").read_text()
    _, _, table = page.partition("## Events of the log")
    documented = set(re.findall(r"`([a-z_]+)`", table.partition("\n## ")[0]))
    code = "\n".join(path.read_text() for path in Path(logs.__file__).parent.rglob("*.py"))
    logged = re.findall(r"""\blog\.(?:debug|info|warning|error|exception)\(\s*"([^"]*)\"""", code)
    assert len(logged) > 20
    assert set(logged) <= documented
