"""The results, as a table in the terminal and as `RESULTS.md`: ratios first, then absolute figures."""

import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.contenders import EXCHANGE, INTROSPECT, PATCH, VERIFY
from benchmarks.measuring import OPERATIONS, PGBENCH, Cell, Result
from benchmarks.processes import MEBIBYTE
from mithril import __version__
from mithril.database import embedded

SERVICE = "mithril-2"
LOAD = 64
PACKAGES = ("starlette", "uvicorn", "uvloop", "httptools", "asyncpg", "msgspec")
SEE = "How, and what the figures mean: [README.md](README.md)."
GIBIBYTE = 1024**3
MOST_TABLES = 5
EMPTY = {"heap": 0, "indexes": 0, "live": 0, "dead": 0}
QUIET_LIMIT = 0.1  # the kernel's own work counts too


class Target(NamedTuple):
    """A value to reach. `at_most`: whether it is an upper limit."""

    what: str
    limit: float
    unit: str
    at_most: bool = False


class Verdict(NamedTuple):
    """A target and the measured value; None when it was not measured."""

    target: Target
    measured: float | None

    @property
    def word(self) -> str:
        """Whether the target is met, as a word."""
        if self.measured is None:
            return "not measured"
        is_met = self.measured <= self.target.limit if self.target.at_most else self.measured >= self.target.limit
        return "met" if is_met else "**missed**"


class Report(msgspec.Struct, kw_only=True):
    """All results of one run."""

    date: str
    machine: list[str]
    rounds: int
    seconds: int
    titles: dict[str, str]
    results: list[tuple[Cell, Result]]
    mebibytes: dict[str, float]
    startup_seconds: dict[str, float]
    left_out: dict[str, str]

    @property
    def others(self) -> float:
        """The share of the machine that other programs took, as a median."""
        return median(result.others for _, result in self.results)

    def find(self, contender: str, operation: str, connections: int = LOAD) -> Result | None:
        """Return the result of a cell, or None when it was not measured.

        What knows no verify answers the same question by introspection.
        """
        found = dict(self.results)
        other = INTROSPECT if operation == VERIFY else operation
        return found.get(Cell(contender, operation, connections)) or found.get(Cell(contender, other, connections))

    def ratio(self, operation: str, contender: str, connections: int = LOAD, *, to: str = "") -> float | None:
        """Return the throughput of the service as a multiple of another's. `to`: of another operation."""
        ours, theirs = self.find(SERVICE, operation, connections), self.find(contender, to or operation, connections)
        return ours.per_second / theirs.per_second if ours and theirs and theirs.per_second else None


class Growth(msgspec.Struct, kw_only=True):
    """Throughput at several sizes, `(connections, tokens)`."""

    date: str
    machine: list[str]
    rounds: int
    seconds: int
    results: list[tuple[tuple[int, int], dict[str, Result]]]
    lists: dict[str, dict[str, tuple[int, float]]] = {}
    """By the size and the path: the status, and the milliseconds of a request alone."""

    def largest_deviation(self) -> float:
        """The largest deviation of throughput from that of the smallest size, as a share, over all operations."""
        _size, smallest = self.results[0]
        return max(
            abs(result.per_second / smallest[operation].per_second - 1)
            for _size, results in self.results
            for operation, result in results.items()
        )


class Moment(msgspec.Struct, kw_only=True):
    """What was measured over one minute, and how large everything was at its end. Latencies are in milliseconds."""

    minute: int
    p50: dict[str, float]
    p99: dict[str, float]
    errors: int
    tables: dict[str, dict[str, int]]
    mebibytes: float
    """The memory of the largest worker, as in the report."""
    others: float
    """The share of the processors that was taken, by this measurement and all others."""


class Life(msgspec.Struct, kw_only=True):
    """A whole day."""

    date: str
    machine: list[str]
    moments: list[Moment]

    def grown(self, most: int) -> list[str]:
        """Return the names of the tables that grew most, so many."""

        def size(moment: Moment, name: str) -> int:
            table = moment.tables.get(name, EMPTY)
            return table["heap"] + table["indexes"]

        first, last = self.moments[0], self.moments[-1]
        return sorted(last.tables, key=lambda name: size(first, name) - size(last, name))[:most]


class Trail(msgspec.Struct, kw_only=True):
    """How the audit trail is asked for its last events. `size`: bytes, with indexes."""

    date: str
    machine: list[str]
    events: int
    months: int
    size: int
    asked: dict[str, tuple[float, float, float, float]]
    """By question, as medians: its milliseconds; those of its plan and of its run when it is asked again; its pages."""


def verdicts(report: Report, growth: Growth | None) -> Iterator[Verdict]:
    """Yield each target with its measured value, at 64 connections with 2 workers unless it says otherwise."""
    yield Verdict(Target("PATCH, of pgbench with the same statements", 0.50, "×"), report.ratio(PATCH, PGBENCH))
    yield Verdict(Target("verify, of pgbench with the same statement", 0.35, "×"), report.ratio(VERIFY, PGBENCH))
    yield Verdict(Target("PATCH, of FastAPI + SQLAlchemy ORM", 5, "×"), report.ratio(PATCH, "fastapi_orm"))
    yield Verdict(Target("verify, of FastAPI + SQLAlchemy ORM", 7, "×"), report.ratio(VERIFY, "fastapi_orm"))
    yield Verdict(Target("PATCH, of an ordinary Django view", 8, "×"), report.ratio(PATCH, "django"))
    yield Verdict(Target("verify, of django-oauth-toolkit's introspection", 20, "×"), report.ratio(VERIFY, "django"))
    yield Verdict(Target("introspection, of verify", 1 / 1.5, "×"), report.ratio(INTROSPECT, SERVICE, to=VERIFY))
    for name, title in (("django", "django-oauth-toolkit"), ("oidc_provider", "oidc-provider")):
        yield Verdict(Target(f"code exchange, of {title}", 1, "×"), report.ratio(EXCHANGE, name))
    for operation in (PATCH, VERIFY):
        result = report.find(SERVICE, operation)
        spread = result.p99 / result.p50 if result else None
        yield Verdict(Target(f"{operation}, p99 over p50", 3, "×", at_most=True), spread)
    yield Verdict(Target("memory of one worker (RSS)", 90, "MiB", at_most=True), report.mebibytes.get(SERVICE))
    first = report.startup_seconds.get(SERVICE)
    yield Verdict(Target("from process start to the first 200", 1.5, "s", at_most=True), first)
    deviation = growth.largest_deviation() * 100 if growth else None
    yield Verdict(Target("change of throughput from 10⁴ to 10⁷ tokens", 15, "%", at_most=True), deviation)


def machine() -> list[str]:
    """Return the machine and the software of the measurement, one line each."""
    memory = psutil.virtual_memory().total / GIBIBYTE
    postgres = subprocess.run(
        [embedded.postgres_bin() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        f"{os.cpu_count()} × {_processor()}, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"Mithril {__version__} on Python {platform.python_version()}: {packages}",
        f"PostgreSQL {postgres.stdout.split()[-1]}, embedded, with its default, durable settings",
        f"load: {load.wrk_version()}, and pgbench of the same PostgreSQL",
    ]


def today() -> str:
    """Return the date in UTC."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def show(report: Report, growth: Growth | None, console: Console) -> None:
    """Print the targets and the throughput under load."""
    targets = Table("target", "aim", "measured", "", title="Targets: medians at 64 connections, 2 workers, audit on")
    for verdict in verdicts(report, growth):
        colour = {"met": "green", "**missed**": "red"}.get(verdict.word, "dim")
        targets.add_row(*_verdict_row(verdict)[:3], f"[{colour}]{verdict.word.strip('*')}[/]")
    console.print(targets)
    for operation, title in OPERATIONS.items():
        table = Table(*_columns(), title=title)
        for row in _rows(report, operation):
            table.add_row(*row)
        console.print(table)
    for title, reason in report.left_out.items():
        console.print(f"Left out: {title}: {reason}")
    console.print(_quiet(report))


def markdown(report: Report, growth: Growth | None, trail: Trail | None, life: Life | None) -> str:
    """Return the text of RESULTS.md."""
    parts = [
        "# Results",
        "![The throughput of Mithril as a multiple of that of others](ratios.svg)",
        f"Measured on {report.date} by `make bench`, {report.rounds} rounds of {report.seconds} s, medians. {SEE}",
        "\n".join(f"- {line}" for line in [*report.machine, _quiet(report)]),
        "## Targets",
        "At 64 connections, with 2 workers and the audit trail on.",
        _table(("target", "aim", "measured", ""), [_verdict_row(v) for v in verdicts(report, growth)]),
        "## Latency against load",
        "![Latency against the number of connections](latency.svg)",
        "## Throughput",
        *_operations(report),
        "## Memory and start",
        _memory(report),
        "## Growth",
        _growth(growth),
        "## The audit trail",
        _trail(trail),
        "## A day's life",
        _life(life),
    ]
    if report.left_out:
        parts += ["## Left out", "\n".join(f"- {title}: {reason}" for title, reason in report.left_out.items())]
    return "\n\n".join(parts) + "\n"


def _quiet(report: Report) -> str:
    """Return the line that says whether other programs disturbed the measurement."""
    said = f"other programs took {report.others:.0%} of the processors meanwhile"
    return f"{said}: **too much; measure again on a quiet machine**" if report.others > QUIET_LIMIT else said


def _operations(report: Report) -> Iterator[str]:
    for operation, title in OPERATIONS.items():
        rows = list(_rows(report, operation))
        if rows:
            yield f"### {title[0].upper()}{title[1:]}"
            yield _table(_columns(), rows)


def _columns() -> tuple[str, ...]:
    return (
        *("who", "connections", "requests/s", "Mithril ×", "p50 ms", "p99 ms", "errors"),
        *("server µs", "PostgreSQL µs", "load µs"),
    )


def _rows(report: Report, operation: str) -> Iterator[list[str]]:
    """Yield one row for each cell; processor times are for one request."""
    for cell, result in report.results:
        if cell.operation != operation:
            continue
        ratio = report.ratio(operation, cell.contender, cell.connections)
        yield [
            report.titles[cell.contender],
            str(cell.connections),
            _number(result.per_second),
            f"{ratio:.2f}" if ratio else "",
            f"{result.p50:.2f}",
            f"{result.p99:.2f}",
            str(result.errors),
            f"{result.server_time:.0f}",
            f"{result.postgres_time:.0f}",
            f"{result.load_time:.0f}",
        ]


def _memory(report: Report) -> str:
    rows = [
        [report.titles[name], f"{mebibytes:.0f}", _seconds(report.startup_seconds.get(name))]
        for name, mebibytes in report.mebibytes.items()
    ]
    return _table(("who", "largest worker, MiB (RSS, after the load)", "first 200 after"), rows)


def _growth(growth: Growth | None) -> str:
    if growth is None:
        return "Not measured; `make bench-growth` does, and takes longer."
    operations = list(growth.results[0][1])
    _size, smallest = growth.results[0]
    rows = [
        [
            _number(connections),
            _number(tokens),
            *(
                f"{_number(r.per_second)} ({r.per_second / smallest[name].per_second:.2f})"
                for name, r in results.items()
            ),
        ]
        for (connections, tokens), results in growth.results
    ]
    heading = ("connections", "tokens", *(f"{name}/s (of the first row)" for name in operations))
    said = f"Measured on {growth.date}, {growth.rounds} rounds of {growth.seconds} s, 2 workers, 64 connections;"
    said += " shared buffers of a quarter of the memory."
    return f"{said}\n\n{_table(heading, rows)}\n\n{_lists(growth)}"


def _lists(growth: Growth) -> str:
    if not growth.lists:
        return ""
    paths = next(iter(growth.lists.values()))
    rows = [
        [f"`{path}`", *(f"{ms:.1f} ms ({status})" for status, ms in (found[path] for found in growth.lists.values()))]
        for path in paths
    ]
    return f"Lists, one request alone, medians:\n\n{_table(('list', *growth.lists), rows)}"


def _trail(trail: Trail | None) -> str:
    if trail is None:
        return "Not measured; `make bench-trail` does, and needs 50 GB of disk."
    said = f"Measured on {trail.date}: {_number(trail.events)} events in {trail.months} months,"
    said += f" {trail.size / GIBIBYTE:.0f} GiB with indexes; the last 50 by one request alone on an open connection,"
    said += " medians. Each time it is about another subject or time, which PostgreSQL does not have in its memory yet;"
    said += " then the same again."
    rows = [
        [title, f"{whole:.1f}", f"{plan:.1f} and {run:.1f}", _number(pages)]
        for title, (whole, plan, run, pages) in trail.asked.items()
    ]
    heading = ("the last events", "whole, ms", "again, PostgreSQL alone, ms: plan and run", "pages of 8 KiB")
    return f"{said}\n\n{_table(heading, rows)}"


def _life(life: Life | None) -> str:
    if life is None:
        return "Not measured; `make bench-life` does, in an hour."
    first, last = life.moments[0], life.moments[-1]
    rows = []
    for name in life.grown(MOST_TABLES):
        tables = [moment.tables.get(name, EMPTY) for moment in (first, last)]
        mebibytes = [f"{(table['heap'] + table['indexes']) / MEBIBYTE:.1f}" for table in tables]
        rows.append(
            [f"`{name}`: MiB; live and dead rows"]
            + [
                f"{size}; {_number(table['live'])} and {_number(table['dead'])}"
                for size, table in zip(mebibytes, tables, strict=True)
            ]
        )
    for name in first.p50:
        of_name = [f"{moment.p50[name]:.1f} and {moment.p99[name]:.1f}" for moment in (first, last)]
        rows.append([f"{name}: p50 and p99, ms", *of_name])
    rows.append(["largest worker, MiB", f"{first.mebibytes:.1f}", f"{last.mebibytes:.1f}"])
    rows.append(["processors busy, with all other programs", f"{first.others:.0%}", f"{last.others:.0%}"])
    errors = sum(moment.errors for moment in life.moments)
    said = f"Measured on {life.date}, {len(life.moments)} minutes, {errors} errors. Its scale: [README.md](README.md)."
    picture = "![Sizes, dead rows, latencies and memory over a day](life.svg)"
    return f"{said}\n\n{picture}\n\n{_table(('what', 'first minute', 'last minute'), rows)}"


def _verdict_row(verdict: Verdict) -> list[str]:
    sign = "≤" if verdict.target.at_most else "≥"
    measured = "" if verdict.measured is None else f"{verdict.measured:.2f} {verdict.target.unit}"
    return [verdict.target.what, f"{sign} {verdict.target.limit:g} {verdict.target.unit}", measured, verdict.word]


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
