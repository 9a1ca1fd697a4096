"""The command line: `make bench`, `make bench-growth`, `make bench-scenario`."""

import contextlib
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console

from benchmarks import growth as growing
from benchmarks import life as living
from benchmarks import load, measuring, plot, report, startup
from benchmarks import scenario as signing_in
from benchmarks import trail as asking
from benchmarks.contenders import PATCH, VERIFY, Contender, mithril, peers
from benchmarks.data import Size
from benchmarks.measuring import OPERATIONS, PGBENCH, Cell, Environment, Measurer, Sample
from benchmarks.processes import Failed, Server
from benchmarks.report import Growth, Life, Report, Trail
from mithril.database import embedded

HERE = Path(__file__).parent
FOUND = HERE / ".found"
SIZE = Size(connections=20_000, tokens=100_000)
STARTUP_TRIES = 5

Kept = TypeVar("Kept")

app = typer.Typer(add_completion=False, help="How fast the hot paths are, side by side with others.")
console = Console(width=None if sys.stdout.isatty() else 130)


@app.command()
def run(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of one measurement.")] = 3,
    connections: Annotated[str, typer.Option(help="Numbers of concurrent connections, by comma.")] = "1,16,64",
    only: Annotated[str, typer.Option(help="Operations, by comma.")] = ",".join(OPERATIONS),
    *,
    with_peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Whether to measure others too.")] = True,
) -> None:
    """Measure side by side; print a table; write RESULTS.md, latency.svg and ratios.svg."""
    load.wrk_version()
    left_out: dict[str, str] = {}
    loads, operations = [int(number) for number in connections.split(",")], only.split(",")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(measuring.scratch_folder())
        console.print("Starting PostgreSQL and making the data ...")
        postgres = stack.enter_context(embedded.running(folder / "home"))
        url = measuring.new_database(postgres, "bench", SIZE)
        measurer = Measurer(Environment(url, SIZE, folder, folder / "home" / "postgres"), seconds=seconds)
        servers: dict[str, tuple[Contender, Server]] = {}
        for contender in [mithril(1), mithril(2), *(peers() if with_peers else [])]:
            try:
                servers[contender.name] = (contender, _start(stack, contender, measurer, url, operations=operations))
            except Failed as reason:
                if contender.name.startswith("mithril"):
                    raise
                left_out[contender.title] = str(reason)
                console.print(f"[yellow]Left out:[/] {contender.title}: {reason}")
        cells = [Cell(PGBENCH, operation, number) for operation in (PATCH, VERIFY) for number in loads]
        cells += [Cell(name, o, n) for name, (c, _) in servers.items() for o in c.operations for n in loads]
        cells = [cell for cell in cells if cell.operation in operations]
        samples = _measure(measurer, servers, cells, rounds)
        mebibytes = {name: server.worker_mebibytes() for name, (_, server) in servers.items()}
        titles = {PGBENCH: "pgbench, same SQL"} | {name: contender.title for name, (contender, _) in servers.items()}
    console.print("Measuring the start ...")
    with measuring.scratch_folder() as folder:
        startup_seconds = {
            f"mithril-{n}": startup.seconds_to_first_answer(folder, workers=n, tries=STARTUP_TRIES) for n in (1, 2)
        }
    _save(
        "bench.json",
        Report(
            date=report.today(),
            machine=report.machine(),
            rounds=rounds,
            seconds=seconds,
            titles=titles,
            results=sorted(measuring.summarised(samples).items(), key=lambda found: cells.index(found[0])),
            mebibytes=mebibytes,
            startup_seconds=startup_seconds,
            left_out=left_out,
        ),
    )
    write()


@app.command()
def growth(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; figures are medians over them.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of one measurement.")] = 3,
    largest: Annotated[int, typer.Option(help="Tokens of the largest size.")] = 10_000_000,
) -> None:
    """Measure whether throughput changes as the tables grow."""
    load.wrk_version()
    _save("growth.json", growing.measure(console, rounds=rounds, seconds=seconds, largest=largest))
    if (FOUND / "bench.json").exists():
        write()


@app.command()
def trail(
    count: Annotated[int, typer.Option("--events", min=1_000, help="Events of the trail.")] = 100_000_000,
) -> None:
    """Measure how long `mithril audit` looks for the last events in a large trail."""
    _save("trail.json", asking.measure(console, count=count))
    if (FOUND / "bench.json").exists():
        write()


@app.command()
def life(minutes: Annotated[int, typer.Option(min=1, help="How long the day takes.")] = 60) -> None:
    """Live a day, faster than it is, and see what grows."""
    living.live(console, minutes=minutes, note=lambda lived: _save("life.json", lived))


@app.command()
def scenario(
    users: Annotated[int, typer.Option(min=1, help="How many people sign in at the same time.")] = 20,
    seconds: Annotated[int, typer.Option(min=1, help="For how long.")] = 20,
) -> None:
    """Run the performance test of the original system: sign in, consent, exchange the code, verify the token."""
    with measuring.scratch_folder() as folder:
        signing_in.run(folder, users=users, seconds=seconds)


@app.command()
def write() -> None:
    """Write RESULTS.md and its charts again from the last measurement."""
    found = msgspec.json.decode((FOUND / "bench.json").read_bytes(), type=Report)
    grown, lived, asked = _found("growth.json", Growth), _found("life.json", Life), _found("trail.json", Trail)
    report.show(found, grown, console)
    (HERE / "RESULTS.md").write_text(report.markdown(found, grown, asked, lived))
    plot.draw(found, HERE / "latency.svg")
    plot.draw_ratios(found, HERE / "ratios.svg")
    if lived:
        plot.draw_life(lived, HERE / "life.svg")
    console.print(f"Written: {HERE / 'RESULTS.md'} and its charts")


def _start(
    stack: contextlib.ExitStack,
    contender: Contender,
    measurer: Measurer,
    url: str,
    *,
    operations: list[str],
) -> Server:
    console.print(f"Starting {contender.title} ...")
    contender.install()
    contender.prepare(url)
    server = stack.enter_context(contender.running(url, measurer.log_of(contender)))
    measurer.prepare(contender, server, operations)
    return server


def _measure(
    measurer: Measurer, servers: dict[str, tuple[Contender, Server]], cells: list[Cell], rounds: int
) -> dict[Cell, list[Sample]]:
    samples: dict[Cell, list[Sample]] = defaultdict(list)
    console.print("Warming up ...")
    most = max(cell.connections for cell in cells)
    for cell in cells:
        if cell.connections == most and cell.contender != PGBENCH:
            measurer.warm_up(*servers[cell.contender], cell.operation, most)
    present = 0
    for number, cell in measuring.in_turn(cells, rounds=rounds):
        if number != present:
            measurer.tidy()
            present = number
        if cell.contender == PGBENCH:
            sample = measurer.measure_ceiling(cell.operation, cell.connections)
        else:
            sample = measurer.measure(*servers[cell.contender], cell.operation, cell.connections)
        samples[cell].append(sample)
        measured = sample.measured
        console.print(
            f"{number + 1}/{rounds}  {cell.contender:<14}{cell.operation:<9}{cell.connections:>3} connections"
            f"{measured.per_second:>10,.0f}/s  p50 {measured.p50:>8.2f} ms  p99 {measured.p99:>8.2f} ms"
            + (f"  [red]{measured.errors} errors[/]" if measured.errors else ""),
            highlight=False,
            soft_wrap=True,
        )
    return samples


def _found(name: str, kind: type[Kept]) -> Kept | None:
    """Return what another measurement has found, or None where there was none."""
    path = FOUND / name
    return msgspec.json.decode(path.read_bytes(), type=kind) if path.exists() else None


def _save(name: str, found: Report | Growth | Life | Trail) -> None:
    FOUND.mkdir(exist_ok=True)
    (FOUND / name).write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    try:
        app()
    except (load.Missing, Failed) as error:
        console.print(f"[red]{error}[/]")
        raise SystemExit(1) from None
