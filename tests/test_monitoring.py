"""The dashboard, the alert rules and the runbook name what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mithril import metrics
from support import repository
from support.processes import in_shell, serving

FOLDER = repository() / "docs" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES}
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PAGE = (repository() / "docs" / "metrics.md").read_text()
LABELS = {each.name: {*each.labels} for each in metrics.FAMILIES.values()}
# What Prometheus adds, and `le` of the buckets.
ADDED = {"job", "instance", "le"}


def selectors(expression: str) -> list[tuple[str, str]]:
    """Return each metric in a query, with what stands in its braces."""
    found = re.findall(r"\b((?:mithril|http)_[a-z_]+)(?:\{([^}]*)\})?", expression)
    others = {"mithril_build_info", "mithril_lost_log_lines_total"}  # which have no labels to check
    return [(name, braces) for name, braces in found if name not in others]


def family_of(name: str) -> str:
    bare = re.sub(r"_(bucket|count|sum|total)$", "", name)
    return name if name in LABELS else bare


def test_every_metric_and_label_of_the_dashboard_and_the_alerts_exists() -> None:
    metrics.describe_build(version="", schema="")
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    queries += [str(rule["expr"]) for rule in RULES]
    queries += [PAGE.partition("## Questions")[2].partition("## Dashboard")[0]]
    assert len(queries) > 50
    for query in queries:
        for name, braces in selectors(query):
            assert f"# HELP {family_of(name)}" in metrics.expose("").text.decode(), name
            labels = set(re.findall(r"(\w+) *(?:=~|!~|!=|=)", braces))
            assert labels <= LABELS[family_of(name)] | ADDED, (name, labels)
            if name.endswith("_total"):
                assert isinstance(metrics.FAMILIES[family_of(name)], metrics.Counter), name


def test_every_metric_that_a_page_names_exists() -> None:
    metrics.describe_build(version="", schema="")
    shown = metrics.expose("").text.decode()
    pages = [*repository().glob("*.md"), *(repository() / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"`(mithril_[a-z_]+)`", page.read_text())}
    assert len(named) > len(metrics.FAMILIES) - 3
    assert {name for name in named if f"# HELP {family_of(name)}" not in shown} <= {"mithril_owner"}, (
        "a role of a database"
    )


def test_what_is_shown_by_a_label_has_that_label() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"instance", "version", "schema"}
            for name, _ in selectors(target["expr"]):
                assert named <= LABELS[family_of(name)], (panel["title"], named)


def test_the_dashboard_works_with_any_data_source_and_overlaps_nowhere() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_alert_has_a_line_in_the_runbook_and_two_unit_tests() -> None:
    lines = re.findall(r"^\| `(Mithril\w+)` \| [^|]+ \| [^|]+ \| `[^`|]+` \|$", PAGE, re.MULTILINE)
    assert lines == list(ALERTS)
    cases = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    tested = [(rule["alertname"], bool(rule["exp_alerts"])) for case in cases for rule in case["alert_rule_test"]]
    assert tested == [(name, is_raised) for name in ALERTS for is_raised in (True, False)]


@pytest.mark.slow
def test_the_command_of_each_alert_runs(database_url: str, tmp_path: Path) -> None:
    """None is refused for how it is written; a log without faults has no line that it finds."""
    commands = re.findall(r"^\| `Mithril\w+` \|.*\| `([^`|]+)` \|$", PAGE, re.MULTILINE)
    assert len(commands) == len(ALERTS)
    (tmp_path / "mithril.log").touch()
    with serving("--database-url", database_url) as process:
        for command in commands:
            script = command.replace("http://127.0.0.1:4000", process.public)
            script = script.replace("http://127.0.0.1:4001", process.internal)
            ran = in_shell(script, folder=tmp_path, MITHRIL_DATABASE_URL=database_url)
            assert ran.returncode == command.startswith("grep"), (command, ran.stderr)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool")
@pytest.mark.parametrize("command", [("check", "alerts.yml"), ("test", "alerts.test.yml")], ids=lambda c: c[0])
def test_promtool_accepts_the_rules(command: tuple[str, str]) -> None:
    verb, name = command
    found = subprocess.run(["promtool", verb, "rules", name], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
