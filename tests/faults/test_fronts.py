"""Fronts: HAProxy and nginx, with the configurations of docs/clusters, before two servers under writes."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import programs
from support.clusters import Cluster
from support.processes import PATIENT, Process
from support.programs import example, free_port, program, started
from support.writing import prove_nothing_is_lost, report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(300)]


class Node:
    """One server, always at the same ports."""

    def __init__(self, database_url: str) -> None:
        self._arguments = ("--workers", "2", "--database-url", database_url)
        self.port, self.internal_port = free_port(), free_port()
        self.start()

    def start(self) -> None:
        ports = ("--port", str(self.port), "--internal-port", str(self.internal_port))
        self.process = Process(*self._arguments, *ports, MITHRIL_TRUSTED_PROXIES="127.0.0.1", **PATIENT)

    def stop(self) -> None:
        self.process.stop()

    def restart(self) -> None:
        """Stop it as a unit of systemd does, and start it again."""
        self.stop()
        self.start()


@contextmanager
def haproxy(folder: Path, nodes: list[Node], port: int) -> Iterator[None]:
    changes = {":8080": f"127.0.0.1:{port}", "10.0.0.10:8081": f"127.0.0.1:{free_port()}"}
    for number, node in enumerate(nodes, start=1):
        changes[f"10.0.0.2{number}:4000"] = f"127.0.0.1:{node.port}"
        changes[f"10.0.0.2{number}:4001"] = f"127.0.0.1:{node.internal_port}"
    (folder / "haproxy.cfg").write_text(example("haproxy.cfg", changes))
    with started(program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg"), port=port):
        yield


@contextmanager
def nginx(folder: Path, nodes: list[Node], port: int) -> Iterator[None]:
    changes = {f"10.0.0.2{number}:4000": f"127.0.0.1:{node.port}" for number, node in enumerate(nodes, start=1)}
    file = programs.nginx_configuration(folder, example("nginx.conf", {"8080": f"127.0.0.1:{port}", **changes}))
    with started(program("nginx"), "-p", str(folder), "-c", str(file), "-e", "stderr", port=port):
        yield


FRONTS = {"haproxy": haproxy, "nginx": nginx}


@pytest.mark.parametrize("name", FRONTS)
async def test_servers_are_restarted_behind_a_front_and_the_database_goes(cluster: Cluster, name: str) -> None:
    """A rolling restart refuses nothing and cuts nothing off. Without a database the servers' own answer comes through,
    and writes resume as soon as without a front.
    """
    program(name)
    with ExitStack() as end:
        folder = end.enter_context(programs.folder_of_account())
        nodes = [Node(cluster.url), Node(cluster.url)]
        for node in nodes:
            end.callback(node.stop)
        port = free_port()
        end.enter_context(FRONTS[name](folder, nodes, port))
        async with writing(f"http://127.0.0.1:{port}", cluster.url) as stream:
            for node in nodes:
                await stream.more(200)
                await asyncio.to_thread(node.restart)
            await stream.more(200)
            assert (stream.refused, stream.unanswered, stream.unknown) == ({}, {}, {})
            cluster.kill()
            await stream.refusals(20)
            await asyncio.to_thread(cluster.start)
            resumed = await stream.more()
        await prove_nothing_is_lost(stream, cluster.url)
    assert not stream.unanswered
    assert resumed < 5
    report(f"two servers restarted behind {name}, and PostgreSQL killed", stream, resumed_after=resumed)
