"""GET /metrics: answered requests, for Prometheus, without labels that a caller chooses."""

import asyncio
import math
import os
import re
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import msgspec
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from mithril import __version__, app, errors, metrics, refusals
from mithril.cleanup import service as cleanup
from mithril.database.database import SCHEMA_VERSION, Database
from mithril.settings import Settings
from mithril.tokens.kinds import TokenKind
from support import oauth_world, repository
from support.clusters import workers_of
from support.factories import Db, bearer
from support.oauth_world import World
from support.processes import run, serving
from support.servers import Server, running_server

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


async def numbers(internal: httpx.AsyncClient) -> dict[str, float]:
    """Return all numbers of our own but those of buckets, by name and label values: `mithril_sign_ins_total ok`."""
    families = text_string_to_metric_families((await internal.get("/metrics")).text)
    samples = (sample for family in families for sample in family.samples)
    return {
        " ".join([name, *labels.values()]): value
        for name, labels, value, *_ in samples
        if name.startswith("mithril_") and "le" not in labels
    }


async def grown(internal: httpx.AsyncClient, before: dict[str, float]) -> dict[str, float]:
    """Return by how much numbers have grown since then, but those that grow by themselves."""
    after = await numbers(internal)
    others = ("mithril_event_loop", "mithril_lookup", "mithril_open", "mithril_database_pool")
    return {
        key.removeprefix("mithril_"): value - before.get(key, 0)
        for key, value in after.items()
        if value != before.get(key, 0) and not key.startswith(others)
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


async def test_what_ends_well_and_what_is_refused_is_counted_by_the_name_of_the_refusal(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, world: World
) -> None:
    before = await numbers(internal)
    session = (await oauth_world.login(http, world)).json()["data"]["value"]
    await oauth_world.login(http, world, password="Wrong-Password-1")
    code = (await oauth_world.authorize(http, world, session)).json()["data"]["value"]
    await oauth_world.exchange(http, world, code, client_secret="wrong")
    data = (await oauth_world.exchange(http, world, code)).json()["data"]
    await oauth_world.refresh(http, world, data["details"]["refresh_token"])
    await oauth_world.refresh(http, world, "nothing")
    path = f"/admin/tokens/{data['value']}/verify"
    await internal.get(path, headers={"API-key": world.key})
    await internal.get(path)
    await internal.post("/admin/tokens/verify", json={"token": data["value"], "api_key": world.key})
    await internal.get("/admin/forward-auth", headers=bearer("nobodys"))
    assert await grown(internal, before) == {
        "sign_ins_total ok": 1,
        "sign_ins_total password_wrong": 1,
        "exchanges_total ok": 1,
        "exchanges_total client_secret_wrong": 1,
        "refreshes_total ok": 1,
        "refreshes_total token_not_found": 1,
        "verifications_total ok": 2,
        "verifications_total api_key_required": 1,
        "verifications_total access_denied": 1,
        "tokens_issued_total access_token": 3,
        "tokens_issued_total authorization_code": 1,
        "tokens_issued_total refresh_token": 1,
        "tokens_ended_total authorization_code": 1,
        "audit_rows_total": 1,
    }


async def test_the_standard_routes_count_exchanges_and_refreshes_too(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, world: World
) -> None:
    code = await oauth_world.code_of(http, db, world)
    before = await numbers(internal)
    form = {"client_id": str(world.clinic.id), "client_secret": world.link.secret}
    asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": oauth_world.ADDRESS}
    await http.post("/oauth2/token", data=form | asked | {"client_secret": "wrong"})
    assert (await http.post("/oauth2/token", data=form | asked)).status_code == 200
    await http.post("/oauth2/token", data=form | {"grant_type": "refresh_token", "refresh_token": "nothing"})
    await http.post("/oauth2/token", data=form | {"grant_type": "another"})
    counts = await grown(internal, before)
    assert {key: value for key, value in counts.items() if key.startswith(("exchanges", "refreshes"))} == {
        "exchanges_total ok": 1,
        "exchanges_total client_secret_wrong": 1,
        "refreshes_total token_not_found": 1,
    }


async def test_changes_of_connections_and_what_they_end_are_counted(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, world: World
) -> None:
    session = await oauth_world.session_of(db, world)
    access, _ = await oauth_world.tokens_of(http, db, world)
    before = await numbers(internal)
    headers = bearer(access, api_key=world.key)
    for _ in range(2):  # the second one changes nothing
        body = {"redirect_uri": "https://mis.example.com/counted"}
        assert (await http.patch(world.link.path, json=body, headers=headers)).status_code == 200
    path = f"/admin/clients/{world.clinic.id}/connections/{world.link.id}"
    rotated = await admin.patch(f"{path}/actions/refresh_secret", json={}, headers={"API-key": world.key})
    assert rotated.status_code == 200
    assert (await http.post("/auth/logout", headers=bearer(session))).status_code == 200
    assert await grown(internal, before) == {
        "redirect_uri_changes_total update": 1,
        "secret_rotations_total": 1,
        "audit_rows_total": 2,
        "tokens_ended_total access_token": 1,
    }


async def test_gauges_tell_connections_and_the_pools(internal: httpx.AsyncClient, server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as caller:
        await caller.get("/readyz")
        while True:
            found = await numbers(internal)
            if found["mithril_database_pool_open_connections lookups"]:
                break
    size = server.settings.db_pool_size
    assert found["mithril_database_pool_limit lookups"] + found["mithril_database_pool_limit statements"] == size
    assert found["mithril_open_connections public"] >= 1
    assert found["mithril_connection_limit public"] == server.settings.max_connections
    assert found[f"mithril_build_info {SCHEMA_VERSION} {__version__}"] == 1
    assert found["mithril_event_loop_lag_seconds_count"] > 0


async def test_a_cleanup_counts_its_rows_and_its_end(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_tables", [table := metrics.Table(bytearray(metrics.TABLE_BYTES))])
    settings = msgspec.convert({"database_url": database_url, "sweep_interval": 1}, Settings)
    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    results: list[Any] = [errors.ServiceUnavailable(), ValueError(), cleanup.Busy(), {}, asyncio.CancelledError()]

    async def clean_up(*_: object, listener: cleanup.Listener, **__: object) -> cleanup.Counts:
        result = results.pop(0)
        if isinstance(result, BaseException):
            raise result
        listener("tokens_deleted", 7)
        listener("transitions_completed", 2)
        return cast("cleanup.Counts", result)

    monkeypatch.setattr(cleanup, "clean_up", clean_up)
    with suppress(asyncio.CancelledError):
        await cleanup.clean_up_regularly(cast("Database", None), settings)
    found = {labels: values[0] for labels, values in table.read()}
    assert abs(found.pop(("mithril_cleanup_last_success_timestamp_seconds",)) - time.time()) < 60
    assert found.pop(("mithril_cleanup_seconds",)) < 60
    assert found == {
        ("mithril_cleanups", "postponed"): 1,
        ("mithril_cleanups", "failed"): 1,
        ("mithril_cleanups", "left_to_another"): 1,
        ("mithril_cleanups", "ok"): 1,
        ("mithril_cleanup_rows", "tokens_deleted"): 7,
        ("mithril_cleanup_rows", "transitions_completed"): 2,
        ("mithril_redirect_uri_changes", "complete_transition"): 2,
        ("mithril_audit_rows",): 2,
    }


async def no_sleep(_: float) -> None:
    """Wait for nothing."""


def test_the_gauges_of_a_process_that_has_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = metrics.SharedMemory(2)
    monkeypatch.setattr(metrics, "_tables", [metrics.Table(bytearray(metrics.TABLE_BYTES))])

    def shown() -> set[str]:
        return {line for line in metrics.expose("").text.decode().splitlines() if line.startswith("mithril_")}

    memory.use(0)
    metrics.CONNECTIONS.set(3, "public")
    metrics.CLEANUP_SUCCESS.set(7)
    metrics.AUDIT_ROWS.add()
    metrics.gauges_are_set()
    memory.use(1)
    metrics.CONNECTIONS.set(4, "public")
    metrics.CLEANUP_SUCCESS.set(5)
    metrics.AUDIT_ROWS.add()
    always = {"mithril_audit_rows_total 2.0", "mithril_cleanup_last_success_timestamp_seconds 7.0"}
    assert shown() >= always | {'mithril_open_connections{listener="public"} 7.0'}
    metrics._tables[1].numbers[metrics.GAUGES_SET_AT] -= metrics.GAUGES_LAST_SECONDS
    assert shown() >= always | {'mithril_open_connections{listener="public"} 4.0'}
    memory.use(0)  # another process takes its place
    assert shown() >= always | {'mithril_open_connections{listener="public"} 0.0'}


def test_no_refusal_is_formatted_and_none_of_a_caller_counts() -> None:
    assert refusals.ClientBlocked.name == "client_blocked" == metrics.NAMES[refusals.ClientBlocked]
    table = metrics._tables[0]
    for error, name in ((ValueError, "mithril_error"), (errors.MithrilError, "mithril_error"), (None, "ok")):
        before = dict(table.read()).get(("mithril_refreshes", name), [0])[0]
        with suppress(Exception), metrics.REFRESHES:
            if error:
                raise error
        assert dict(table.read())["mithril_refreshes", name][0] == before + 1
    counted = {labels: each for labels, each in table.read() if labels[0] == "mithril_refreshes"}
    with suppress(asyncio.CancelledError), metrics.REFRESHES:
        raise asyncio.CancelledError
    assert {labels: each for labels, each in table.read() if labels[0] == "mithril_refreshes"} == counted


def test_all_labels_that_are_no_requests_have_room() -> None:
    values = {
        "outcome": len({*metrics.NAMES.values(), metrics.OK, metrics.OWN_ERROR, "postponed", "failed"}),
        "channel": 2,
        "listener": 2,
        "pool": 2,
        "change": 6,
        "kind": len(TokenKind) + 1,
        "rows": len(list(cleanup.tasks(Settings()))) + 1,
    }
    families = [each for each in metrics.FAMILIES.values() if each is not metrics.REQUESTS]
    # The outcomes of notifications are no refusals: there are those that are known from the start.
    rooms = {each: math.prod(values[label] for label in each.labels) for each in families}
    rooms[metrics.NOTIFICATIONS] = len(metrics.NOTIFICATIONS.known)
    assert sum(rooms.values()) < metrics.OTHER_RECORDS
    longest = max(len("\n".join([each.name, "x" * 60, "sms"])) for each in families)
    assert longest <= metrics.LABEL_BYTES
    assert max(map(len, metrics.NAMES.values())) <= 60


def test_every_metric_is_in_the_table_of_the_page() -> None:
    page = (repository() / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE)
    text = metrics.expose("").text.decode()
    shown = {
        (name, shape) for name, shape in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE) if "mithril" in name
    }
    assert {(name, shape) for name, shape, _ in rows if "mithril" in name} == shown
    labels = {each.name: ", ".join(f"`{label}`" for label in each.labels) for each in metrics.FAMILIES.values()}
    for name, _, said in rows:
        family = labels.get(name) if name in labels else labels.get(name.removesuffix("_total"))
        if family is not None:
            assert re.sub(r" \([^)]*\)", "", said).strip() == family, name


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_start_without_room_for_the_metrics_says_how_much_they_need(database_url: str) -> None:
    arguments = ("serve", "--port", "0", "--internal-port", "0", "--workers", "2", "--database-url", database_url)
    refused = run(*arguments, through='ulimit -f 100; exec "$@"')
    assert refused.returncode == 1
    assert "mithril: the metrics need 3145728 bytes of memory: File too large\n" in refused.stderr


def test_where_memory_cannot_be_shared_a_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert os.fstat(metrics.SharedMemory(3)._descriptor).st_size == 3 * metrics.TABLE_BYTES
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    with pytest.raises(OSError, match="the metrics need 2359296 bytes of /no/such/folder: No such file"):
        metrics.SharedMemory(3)


def test_the_labels_of_every_route_have_room() -> None:
    for route in (*app.PUBLIC, *app.INTERNAL):
        assert isinstance(route, Route)
        assert len(f"internal\nOPTIONS\n500\n{route.path}") <= metrics.LABEL_BYTES


def test_what_every_process_measures_of_the_same_is_not_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [metrics.Table(bytearray(metrics.TABLE_BYTES)) for _ in range(2)]
    for number, table in enumerate(tables, start=1):
        monkeypatch.setattr(metrics, "_tables", [table])
        metrics.NOTIFICATION_DELAY.set(number * 30.0)
        metrics.AUDIT_ROWS.add()
        metrics.gauges_are_set()
    monkeypatch.setattr(metrics, "_tables", tables)
    shown = metrics.expose("").text.decode()
    assert "\nmithril_notification_delay_seconds 60.0\n" in shown
    assert "\nmithril_audit_rows_total 2.0\n" in shown


def test_requests_that_find_no_room_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    table = metrics.Table(bytearray(metrics.TABLE_BYTES))
    monkeypatch.setattr(metrics, "_tables", [table])
    for number in range(3_000):
        metrics.count_request(listener="public", method="GET", status=200, route=f"/{number}", seconds=0.02)
    metrics.count_request(listener="public", method="GET", status=200, route="/2999", seconds=20)
    metrics.AUDIT_ROWS.add()
    records = dict(table.read())
    assert records["public", "GET", "200", "/7"] == [0, 0, 0, 0, 1, *[0] * 9, 0.02]
    requests = {labels: sum(each[:-1]) for labels, each in records.items() if labels[0] == "public"}
    others = records["public", "_OTHER", "0", "none"]
    assert (sum(requests.values()), others[-2]) == (3_001, 1)
    assert len(requests) <= metrics.RECORDS - metrics.OTHER_RECORDS
    assert sum(others[:-1]) == 3_002 - len(requests)
    assert records["mithril_audit_rows",][0] == 1
