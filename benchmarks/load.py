"""The load generators: wrk, which sends prepared requests, and pgbench, which runs only their SQL."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

from benchmarks.data import CONSUMERS, FACTOR, MODULUS, TARGETS, Size
from mithril.connections import store as connections
from mithril.database import embedded
from mithril.tokens import verification_store as tokens

SCRIPT = Path(__file__).parent / "requests.lua"
MARK = b"##########"  # wrk puts the number of the request here, in as many digits
ANSWER_SECONDS = 10
SAMPLING_RATE = 0.2  # the share of transactions whose time pgbench records
HOW_TO_GET_WRK = "The load generator wrk is missing: `apt-get install wrk`, or `brew install wrk`."


class Missing(Exception):
    """A program is not installed; the message says how to get it."""


class Measured(NamedTuple):
    """The result of one run. Latencies are in milliseconds."""

    per_second: float
    p50: float
    p99: float
    errors: int


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP request as bytes. Header names are written like `content_type`."""
    named = {"host": "127.0.0.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body:
        named["content-length"] = str(len(body))
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())])
    return f"{head}\r\n\r\n".encode() + body


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    """Write the requests in the format that `requests.lua` reads."""
    path.write_bytes(b"\0".join(requests))


def wrk_version() -> str:
    """Return the version of wrk. Raises Missing."""
    if shutil.which("wrk") is None:
        raise Missing(HOW_TO_GET_WRK)
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout
    return said.split(" [")[0].split(" Copyright")[0].strip()


def wrk(
    port: int, requests: Path, *, connections: int, seconds: int, seed: int, first: int, in_order: bool
) -> Measured:
    """Send the requests, in random order or in their own, over so many connections. `first`: the first number."""
    ran = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={ANSWER_SECONDS}s"),
            *("-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--"),
            *(str(requests), "sequential" if in_order else "random", str(seed), str(first)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    said: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return Measured(
        per_second=said["requests"] / said["microseconds"] * 1e6,
        p50=said["p50"] / 1000,
        p99=said["p99"] / 1000,
        errors=said["refused"] + said["broken"] + said["timeouts"],
    )


def pgbench_script(operation: str, size: Size) -> str:
    """Return the statements of one request, taken from the stores, with variables of pgbench as parameters.

    The second statement takes its parameters from the result of the first, as the service does. No `If-Match` is sent.
    """
    n = f":k * {size.connections // TARGETS}"
    presented = {1: "int8send(:token)", 2: "int8send(:api_key)"}
    replaced = {
        1: f"md5('connection ' || {n})::uuid",
        2: ":found_client_id",
        3: "'https://mis.example.com/moved/' || :number",
        4: "NULL",
        5: ":found_user_id",
        6: ":found_client_id",
        7: ":found_broker_id",
        8: "'4f0c6a3b9d2e4f0c6a3b9d2e'",
        9: "'127.0.0.1'",
        10: "(extract(epoch FROM clock_timestamp()) + 3)::double precision",
        11: "gen_random_uuid()",
    }
    chosen = (
        f"\\set k random(1, {TARGETS})\n"
        f"\\set token :k * {FACTOR} % {MODULUS}\n"
        f"\\set api_key (1 + ({n}) % {CONSUMERS}) * {FACTOR} % {MODULUS}\n"
    )
    if operation == "verify":
        return chosen + _with_values(tokens.FIND_PRESENTED.alone, presented) + ";\n"
    return (
        chosen
        + "\\set number random(1, 1000000000)\n"
        + _with_values(tokens.FIND_PRESENTED.alone, presented)
        + "\\gset found_\n"
        + _with_values(connections.REPLACE_REDIRECT_URI, replaced)
        + ";\n"
    )


def pgbench(url: str, script: Path, *, connections: int, seconds: int, seed: int) -> Measured:
    """Run the script over so many connections, with prepared statements."""
    logs = script.parent / f"{script.stem}-log"
    ran = subprocess.run(
        [
            *(str(embedded.postgres_bin() / "pgbench"), "--no-vacuum", "--protocol=prepared"),
            *(f"--client={connections}", f"--jobs={min(connections, 2)}", f"--time={seconds}"),
            *("--log", f"--log-prefix={logs}", f"--sampling-rate={SAMPLING_RATE}", f"--random-seed={seed}"),
            *(f"--file={script}", url),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    milliseconds = []
    for log in script.parent.glob(f"{logs.name}.*"):
        milliseconds += [int(line.split(" ")[2]) / 1000 for line in log.read_text().splitlines()]
        log.unlink()
    average = float(_found(r"latency average = ([\d.]+)", ran.stdout))
    cuts = quantiles(milliseconds, n=100) if len(milliseconds) > 1 else [average] * 99
    return Measured(
        per_second=float(_found(r"tps = ([\d.]+)", ran.stdout)),
        p50=cuts[49],
        p99=cuts[98],
        errors=int(_found(r"number of failed transactions: (\d+)", ran.stdout)),
    )


def _with_values(statement: str, values: dict[int, str]) -> str:
    """Put SQL expressions in place of the parameters of a statement."""
    return re.sub(r"\$(\d+)", lambda match: f"({values[int(match[1])]})", statement).strip()


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]
