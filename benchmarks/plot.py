"""A chart of latency against load."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import PATCH, VERIFY
from benchmarks.measuring import PGBENCH
from benchmarks.report import SERVICE, Report

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
NAMES_OF_INTROSPECTION = {"django": "django-oauth-toolkit"}
APART = 1.55  # the smallest ratio of the heights of two names
TEXT, FAINT = "#22262b", "#d9dce0"


def draw(report: Report, path: Path) -> None:
    """Draw one panel for each operation: the median as a line, with a band up to the 99th percentile."""
    style = {"font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "mithril"}
    with mpl.rc_context(style):
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
    axes.tick_params(colors=TEXT, length=0, which="both")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


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
