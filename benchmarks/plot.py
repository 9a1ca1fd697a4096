"""The charts: throughput as a multiple of that of others, latency against load, and a day's life."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import EXCHANGE, INTROSPECT, PATCH, VERIFY
from benchmarks.measuring import PGBENCH
from benchmarks.processes import MEBIBYTE
from benchmarks.report import SERVICE, Life, Report

PANELS = {PATCH: "PATCH of a connection, audited", VERIFY: "verify, or introspection"}
COLOURS = {
    SERVICE: "#0b6e4f",
    PGBENCH: "#8a8f98",
    "fastapi_orm": "#2f6fb5",
    "django": "#c8553d",
    "oidc_provider": "#8e5aa8",
}
NAMES = {
    SERVICE: "Mithril",
    PGBENCH: "pgbench: the limit",
    "fastapi_orm": "FastAPI + ORM",
    "django": "Django",
    "oidc_provider": "oidc-provider",
}
NAMES_OF_INTROSPECTION = {"django": "django-oauth-toolkit", "oidc_provider": "oidc-provider"}
COMPARED = {PATCH: "PATCH", VERIFY: "verify", INTROSPECT: "introspection", EXCHANGE: "code exchange"}
STYLE = {"font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "mithril"}
OF_TABLES = ("#0b6e4f", "#c8553d", "#2f6fb5", "#8e5aa8", "#b8860b")
APART = 1.55  # the smallest ratio of the heights of two names
TEXT, FAINT = "#22262b", "#d9dce0"


def draw_ratios(report: Report, path: Path) -> None:
    """Draw a bar for each operation and each other program: the throughput of the service as a multiple of its."""
    bars = []
    for operation, title in COMPARED.items():
        for name, colour in COLOURS.items():
            ratio = report.ratio(operation, name) if name != SERVICE else None
            if ratio and (operation != VERIFY or name not in NAMES_OF_INTROSPECTION):
                shown = NAMES | (NAMES_OF_INTROSPECTION if operation != PATCH else {})
                bars.append((f"{title}, of {shown[name]}", ratio, colour))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.6 + 0.42 * len(bars)), layout="constrained", facecolor="white")
        axes = figure.subplots()
        places = range(len(bars))
        axes.barh(list(places), [ratio for _, ratio, _ in bars], color=[colour for *_, colour in bars], height=0.62)
        for place, (_, ratio, _) in zip(places, bars, strict=True):
            axes.text(ratio * 1.04, place, f"{ratio:.2f} ×", va="center", color=TEXT, fontweight="bold")
        axes.axvline(1, color=TEXT, linewidth=1)
        axes.set_yticks(list(places), [label for label, *_ in bars])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(0.25, max(ratio for _, ratio, _ in bars) * 1.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
        axes.set_title("Throughput of Mithril at 64 connections, as a multiple of others", loc="left", color=TEXT)
        _strip(axes)
        figure.savefig(path, metadata={"Date": None})


def draw(report: Report, path: Path) -> None:
    """Draw one panel for each operation: the median as a line, with a band up to the 99th percentile."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 5.2), layout="constrained", facecolor="white")
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axes, (operation, title) in zip(panels, PANELS.items(), strict=True):
            _draw_operation(axes, report, operation, title)
        panels[0].set_ylabel("milliseconds, logarithmic", color=TEXT)
        figure.suptitle(
            "Latency against load: the line is the median, the band reaches to the 99th percentile",
            x=0.01,
            ha="left",
            color=TEXT,
            fontsize=12,
        )
        figure.savefig(path, metadata={"Date": None})


def draw_life(life: Life, path: Path) -> None:
    """Draw over the minutes of a day: the sizes of tables, dead rows, latencies, and the memory of a worker."""
    minutes = [moment.minute for moment in life.moments]
    names = life.grown(len(OF_TABLES))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 6.4), layout="constrained", facecolor="white")
        (sizes, dead), (latencies, memory) = figure.subplots(2, 2)
        for name, colour in zip(names, OF_TABLES, strict=False):
            tables = [moment.tables.get(name, {}) for moment in life.moments]
            mebibytes = [(table.get("heap", 0) + table.get("indexes", 0)) / MEBIBYTE for table in tables]
            sizes.plot(minutes, mebibytes, color=colour, label=name)
            rows = [100 * table.get("dead", 0) / max(1, table.get("live", 0)) for table in tables]
            dead.plot(minutes, rows, color=colour, label=name)
        for name, colour in zip(life.moments[-1].p50, OF_TABLES, strict=False):
            latencies.plot(minutes, [moment.p50[name] for moment in life.moments], color=colour, label=name)
            latencies.plot(minutes, [moment.p99[name] for moment in life.moments], color=colour, linestyle=":")
        latencies.set_yscale("log")
        memory.plot(minutes, [moment.mebibytes for moment in life.moments], color=COLOURS[SERVICE])
        titles = {
            sizes: "Table with its indexes, MiB",
            dead: "Dead rows, % of the live ones",
            latencies: "Latency, ms: median, and dotted the 99th percentile",
            memory: "Memory of the largest worker, MiB",
        }
        for axes, title in titles.items():
            axes.set_title(title, loc="left", color=TEXT)
            axes.grid(axis="y", color=FAINT, linewidth=0.8)
            _strip(axes)
            if axes is not latencies:
                axes.set_ylim(bottom=0)
            if axes is not memory:
                axes.legend(frameon=False, fontsize=8, ncols=2)
        figure.supxlabel("minutes", color=TEXT)
        figure.savefig(path, metadata={"Date": None})


def _draw_operation(axes: Axes, report: Report, operation: str, title: str) -> None:
    loads = sorted({cell.connections for cell, _ in report.results})
    for name, colour in COLOURS.items():
        found = {c: r for c in loads if (r := report.find(name, operation, c)) and r.p50}
        if not found:
            continue
        is_ours = name == SERVICE
        medians, tails = [r.p50 for r in found.values()], [r.p99 for r in found.values()]
        axes.fill_between(list(found), medians, tails, color=colour, alpha=0.22 if is_ours else 0.10, linewidth=0)
        axes.plot(
            list(found),
            medians,
            color=colour,
            linewidth=2.6 if is_ours else 1.6,
            linestyle="--" if name == PGBENCH else "-",
            marker="o",
            markersize=5 if is_ours else 3.5,
            zorder=3 if is_ours else 2,
        )
    _label_lines(axes, report, operation, max(loads))
    axes.set_title(title, loc="left", color=TEXT, fontsize=11, fontweight="bold")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(loads, [str(load) for load in loads])
    axes.set_xlim(min(loads) / 1.15, max(loads) * 10)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("concurrent connections", color=TEXT)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    _strip(axes)


def _label_lines(axes: Axes, report: Report, operation: str, load: int) -> None:
    """Write names at the ends of the lines instead of a legend, and move names apart that are close together."""
    ends = sorted((r.p50, name) for name in COLOURS if (r := report.find(name, operation, load)) and r.p50)
    height = 0.0
    for p50, name in ends:
        height = max(p50, height * APART)
        shown = NAMES | (NAMES_OF_INTROSPECTION if operation == VERIFY else {})
        axes.text(
            load * 1.15,
            height,
            f"{shown[name]}  {p50:.1f} ms",
            color=COLOURS[name],
            va="center",
            fontsize=9.5,
            fontweight="bold" if name == SERVICE else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )


def _strip(axes: Axes) -> None:
    """Leave out what is no data."""
    axes.tick_params(colors=TEXT, length=0, which="both")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
