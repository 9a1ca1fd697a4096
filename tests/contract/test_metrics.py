"""GET /metrics: answered requests, for Prometheus, without labels that a caller chooses."""

from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from support.factories import bearer
from support.processes import serving
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
