"""An accepted redirect URI names the same host to Java, which many gateways and services use, as to a reader."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings

from mithril.connections.redirect_uris import Policy, problems
from support.fuzzed_uris import EDITS, ORIGINS, PATHS, QUERIES, SEEDS, as_written, edited, fuzzing, three

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

PROGRAM = """
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;

public class Hosts {
    public static void main(String[] none) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            URI uri = new URI(line);
            URL url = new URL(line);
            System.out.println(uri.getScheme() + " " + uri.getHost() + " " + uri.getPort()
                + " " + url.getHost() + " " + url.getPort() + " " + uri.getRawUserInfo() + " " + uri.getRawFragment());
        }
    }
}
"""


def seen_by_java(folder: Path, uris: list[str]) -> list[list[str]]:
    """Return scheme, host, port of `java.net.URI`, host, port of `java.net.URL`, user information and fragment."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("Java's idea of a host needs Java, which is not installed")
    source = folder / "Hosts.java"
    source.write_text(PROGRAM)
    given = "".join(f"{uri}\n" for uri in uris)
    ran = subprocess.run([java, source], input=given, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return [line.split(" ") for line in ran.stdout.splitlines()]


def test_java_reads_the_host_that_is_written(tmp_path: Path) -> None:
    policy = Policy(allow_loopback=True, allow_punycode=True)
    accepted: set[str] = set()

    @settings(fuzzing, max_examples=500)
    @given(EDITS, three(ORIGINS), three(PATHS), three(QUERIES))
    def collect(edits: list[tuple[int, int, str]], origins: list[str], paths: list[str], queries: list[str]) -> None:
        composed = ["".join(parts) for parts in zip(origins, paths, queries, strict=True)]
        for uri in (*composed, *(edited(seed, edits) for seed in (*SEEDS, *composed))):
            if not problems(uri, policy):
                accepted.add(uri)

    collect()
    uris = sorted(accepted)
    for uri, seen in zip(uris, seen_by_java(tmp_path, uris), strict=True):
        scheme, host, port, _ = as_written(uri)
        number = port or "-1"
        assert seen == [scheme, host, number, host, number, "null", "null"], uri
    print(f"addresses: {len(uris)} accepted ones mean the same host to Java")  # noqa: T201
    assert len(uris) > 500
