"""Whether the cost of a request grows with the tables: several databases of different sizes, measured in turn."""

import contextlib
import itertools
from collections import defaultdict
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import measuring, report
from benchmarks.contenders import PATCH, VERIFY, mithril
from benchmarks.data import Size
from benchmarks.measuring import Cell, Environment, Measurer, Sample
from benchmarks.report import LOAD, Growth
from mithril.database import embedded

SIZES = (
    Size(connections=10_000, tokens=10_000),
    Size(connections=100_000, tokens=100_000),
    Size(connections=1_000_000, tokens=1_000_000),
    Size(connections=1_000_000, tokens=10_000_000),
)


def measure(console: Console, *, rounds: int, seconds: int, largest: int) -> Growth:
    """Measure PATCH and verify with 2 workers and 64 connections, at every size up to so many tokens."""
    sizes = [size for size in SIZES if size.tokens <= largest]
    service = mithril(2)
    samples: dict[tuple[Size, str], list[Sample]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(measuring.scratch_folder())
        _give_memory(folder / "home")
        url = stack.enter_context(embedded.running(folder / "home"))
        prepared = []
        for number, size in enumerate(sizes):
            console.print(f"Making {size.connections:,} connections and {size.tokens:,} tokens ...")
            made = measuring.new_database(url, f"size_{number}", size)
            (own := folder / f"size-{number}").mkdir()
            measurer = Measurer(Environment(made, size, own, folder / "home" / "postgres"), seconds=seconds)
            server = stack.enter_context(service.running(made, Path(own) / "server.log"))
            measurer.prepare(service, server, (PATCH, VERIFY))
            for operation in (PATCH, VERIFY):
                measurer.warm_up(service, server, operation, LOAD)
            prepared.append((size, measurer, server))
        cells = list(itertools.product(range(len(prepared)), (PATCH, VERIFY)))
        turns = [Cell(str(number), operation, LOAD) for number, operation in cells]
        for _, cell in measuring.in_turn(turns, rounds=rounds):
            size, measurer, server = prepared[int(cell.contender)]
            sample = measurer.measure(service, server, cell.operation, LOAD)
            samples[size, cell.operation].append(sample)
            console.print(f"{size.tokens:>12,} tokens  {cell.operation:<8} {sample.measured.per_second:>8,.0f}/s")
    summarised = {key: measuring.result(taken) for key, taken in samples.items()}
    results = [((s.connections, s.tokens), {name: summarised[s, name] for name in (PATCH, VERIFY)}) for s in sizes]
    return Growth(date=report.today(), machine=report.machine(), rounds=rounds, seconds=seconds, results=results)


def _give_memory(home: Path) -> None:
    """Set the shared buffers of the PostgreSQL to a quarter of the memory, as its manual advises.

    With its default of 128 MB the larger sizes would be read again and again from the operating system.
    """
    with embedded.running(home) as url:
        measuring.execute(url, f"ALTER SYSTEM SET shared_buffers = '{psutil.virtual_memory().total // 4 // 2**20}MB'")
