"""Whether the cost of a request grows with the tables: several databases of different sizes, measured in turn.

PATCH and verify are measured under load, lists by one request at a time.
"""

import contextlib
import http.client
import itertools
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

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
# Pages in the middle and far behind, which only a cursor leads to, and searches that find nothing or refuse.
LISTS = (
    "/admin/clients?page=1",
    "/admin/clients?page=100",
    "/admin/clients?page=10000",
    "/admin/clients?page=2000&page_size=500",
    "/admin/clients?name=zzzz",
    "/admin/tokens?name=zzzz",
    "/admin/tokens?page=10000",
    "/admin/users?page=10000",
)
TIMES = 20


def measure_lists(port: int) -> dict[str, tuple[int, float]]:
    """Return the status of each list, and the median time of a request alone in milliseconds."""
    connection, found = http.client.HTTPConnection("127.0.0.1", port, timeout=60), {}
    for path in LISTS:
        taken = []
        for _ in range(TIMES):
            began = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            taken.append((time.perf_counter() - began) * 1000)
        found[path] = answer.status, median(taken)
    return found


def measure(console: Console, *, rounds: int, seconds: int, largest: int) -> Growth:
    """Measure PATCH and verify with 2 workers and 64 connections, at every size up to so many tokens."""
    sizes = [size for size in SIZES if size.tokens <= largest]
    service = mithril(2)
    samples: dict[tuple[Size, str], list[Sample]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(measuring.scratch_folder())
        give_memory(folder / "home")
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
        lists = {
            f"{size.connections:,} clients, {size.tokens:,} tokens": measure_lists(server.ports["internal"])
            for size, _, server in prepared
        }
    summarised = {key: measuring.result(taken) for key, taken in samples.items()}
    results = [((s.connections, s.tokens), {name: summarised[s, name] for name in (PATCH, VERIFY)}) for s in sizes]
    return Growth(
        date=report.today(), machine=report.machine(), rounds=rounds, seconds=seconds, results=results, lists=lists
    )


def give_memory(home: Path) -> None:
    """Set the shared buffers of the PostgreSQL to a quarter of the memory, as its manual advises.

    With its default of 128 MB the larger sizes would be read again and again from the operating system.
    """
    with embedded.running(home) as url:
        measuring.execute(url, f"ALTER SYSTEM SET shared_buffers = '{psutil.virtual_memory().total // 4 // 2**20}MB'")
