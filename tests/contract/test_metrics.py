"""GET /metrics: answered requests, for Prometheus, without labels that a caller chooses."""

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from mithril import app, metrics
from support.clusters import workers_of
from support.factories import bearer
from support.processes import run, serving
from support.servers import running_server

pytestmark = pytest.mark.anyio

COUNT = "http_server_request_duration_seconds_count"


async def counted(internal: httpx.AsyncClient) -> dict[tuple[str, str, str, str], float]:
    """Return the counts: (listener, method, route, status) -> number."""
    response = await internal.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (labels["listener"], labels["method"], labels["route"], labels["status"]): value
        for family in text_string_to_metric_families(response.text)
        for name, labels, value, *_ in family.samples
        if name == COUNT
    }


async def test_requests_are_counted_by_route_and_status(http: httpx.AsyncClient, internal: httpx.AsyncClient) -> None:
    before = await counted(internal)
    await http.patch(f"/api/clients/{uuid4()}/connections/{uuid4()}", json={}, headers=bearer("nobodys"))
    await http.get(f"/no/{uuid4()}/such/path")
    await http.request("PROPFIND", "/api/clients")
    after = await counted(internal)
    grown = {key for key in after if after[key] > before.get(key, 0)}
    assert grown >= {
        ("public", "PATCH", "/api/clients/{client_id}/connections/{connection_id}", "401"),
        ("public", "GET", "none", "404"),
        ("public", "_OTHER", "/api/clients", "405"),
    }


async def test_no_label_repeats_a_path(http: httpx.AsyncClient, internal: httpx.AsyncClient) -> None:
    await http.get("/api/clients/a-path-of-a-caller")
    await internal.get("/admin/tokens/a-path-of-a-caller/verify")
    assert "a-path-of-a-caller" not in (await internal.get("/metrics")).text


async def test_metrics_are_available_as_openmetrics(internal: httpx.AsyncClient) -> None:
    response = await internal.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert list(openmetrics.text_string_to_metric_families(response.text))  # type: ignore[no-untyped-call]


async def test_metrics_are_on_the_internal_listener_only_and_require_its_key(
    http: httpx.AsyncClient, postgres: str
) -> None:
    assert (await http.get("/metrics")).status_code == 404
    with running_server(database_url=postgres, internal_key="the key of the gateway") as locked:
        async with httpx.AsyncClient(base_url=locked.internal_url) as gateway:
            assert (await gateway.get("/metrics")).status_code == 401
            key = {"X-Mithril-Key": "the key of the gateway"}
            assert (await gateway.get("/metrics", headers=key)).status_code == 200


async def test_workers_share_the_metrics(demo_home: Path) -> None:
    with serving("--workers", "2", "--home", str(demo_home)) as process:
        for _ in range(40):  # a connection each, so that both have some
            async with httpx.AsyncClient(base_url=process.public) as http:
                await http.get("/no/such/path")
        async with httpx.AsyncClient(base_url=process.internal) as internal:
            assert {(await counted(internal))["public", "GET", "none", "404"] for _ in range(10)} == {40}


@pytest.mark.slow
async def test_what_a_worker_counted_is_not_lost_with_it(demo_home: Path) -> None:
    with serving("--workers", "2", "--home", str(demo_home)) as process:
        async with httpx.AsyncClient(base_url=process.internal) as internal:
            killed = workers_of(process)
            for _ in range(10):
                await internal.get("/no/such/path")
            while (await counted(internal))["internal", "GET", "none", "404"] < 10:
                pass  # a request is counted after its answer
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
        while set(workers_of(process)) & set(killed) or len(workers_of(process)) < 2:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.05)  # until pytest's own limit
        async with httpx.AsyncClient(
            base_url=process.internal, transport=httpx.AsyncHTTPTransport(retries=5)
        ) as internal:
            await internal.get("/no/such/path")
            while (found := (await counted(internal))["internal", "GET", "none", "404"]) < 11:
                pass
            assert found == 11


def test_a_start_without_room_for_the_metrics_says_how_much_they_need(database_url: str) -> None:
    arguments = ("serve", "--port", "0", "--internal-port", "0", "--workers", "2", "--database-url", database_url)
    refused = run(*arguments, through='ulimit -f 100; exec "$@"')
    assert refused.returncode == 1
    assert "mithril: the metrics need 2097152 bytes of memory: File too large\n" in refused.stderr


def test_where_memory_cannot_be_shared_a_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert os.fstat(metrics.SharedMemory(3)._descriptor).st_size == 3 * metrics.TABLE_BYTES
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    with pytest.raises(OSError, match="the metrics need 1572864 bytes of /no/such/folder: No such file"):
        metrics.SharedMemory(3)


def test_the_labels_of_every_route_have_room() -> None:
    for route in (*app.PUBLIC, *app.INTERNAL):
        assert isinstance(route, Route)
        assert len(f"internal\nOPTIONS\n500\n{route.path}") <= metrics.LABEL_BYTES


def test_labels_that_find_no_room_are_counted_together() -> None:
    memory = bytearray(metrics.TABLE_BYTES)
    table = metrics.Table(memory)
    for number in range(3_000):
        table.count(("public", "GET", "200", f"/{number}"), 0.02)
    table.count(("public", "GET", "200", "/2999"), 20)
    records = dict(metrics.Table(memory).read())
    assert len(records) == metrics.RECORDS - 1
    assert records["public", "GET", "200", "/7"] == [0, 0, 0, 0, 1, *[0] * 9, 0.02]
    others = records["public", "_OTHER", "0", "none"]
    assert (sum(others[:-1]), others[-2]) == (3_000 - (metrics.RECORDS - 2) + 1, 1)
