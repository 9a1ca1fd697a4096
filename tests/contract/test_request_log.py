"""The log line of a request says by name why it was refused and, where that is known, who asked."""

import re
from collections.abc import Iterator
from string import Formatter
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.routing import Route
from structlog.testing import CapturingLogger

from mithril import app
from mithril.console import routes as console
from support.cases import wait_until
from support.processes import DEMO_CLIENT, DEMO_HEADERS
from support.servers import Server, demo_server, running_server

pytestmark = pytest.mark.slow

NAME = re.compile(r"[a-z][a-z_0-9]*(: .+)?", re.DOTALL)
OWNER, BROKER = "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01", "25c03af6-69bd-439e-b0dd-f1669b3dbbfd"
LISTENERS = {
    "public": [*app.PUBLIC, *console.ROUTES],
    "internal": [*app.INTERNAL, *console.ROUTES],
}
UNKNOWN = {"Authorization": "Bearer unknown"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# What is wrong with a request, beside what its route may find wrong: its head, and its body.
KINDS: dict[str, tuple[dict[str, str], str | None]] = {
    "nothing is sent": ({}, None),
    "an unknown token": (UNKNOWN, "{}"),
    "a token of another client": (DEMO_HEADERS | JSON, "{}"),
    "no JSON": (DEMO_HEADERS | JSON, "{"),
    "a form": (DEMO_HEADERS | FORM, "a=b&decision=confirm"),
    "a foreign host": ({"Host": "a host"}, None),
}


@pytest.fixture(scope="module")
def demo(postgres: str) -> Iterator[Server]:
    with demo_server(postgres, max_failures=1_000_000, max_failures_per_address=1_000_000) as server:
        yield server


def requests_of(listener: str) -> Iterator[tuple[str, str]]:
    """Yield method and path for each route, with ids that nothing has, and for one method that it does not take."""
    for route in LISTENERS[listener]:
        assert isinstance(route, Route)
        names = [name for _, name, _, _ in Formatter().parse(route.path_format) if name]
        path = route.path_format.format_map({name: str(uuid4()) for name in names})
        for method in (*sorted(route.methods or {"POST"}), "TRACE"):
            yield method, path
    yield "GET", "/unknown/path"


def walk(logged: CapturingLogger, url: str, listener: str, kind: str) -> list[dict[str, Any]]:
    """Send all these requests, and return the lines of those that are refused."""
    headers, body = KINDS[kind]
    refused = {}
    with httpx.Client(base_url=url, timeout=60) as client:
        for method, path in requests_of(listener):
            if path == "/auth/logout" and headers.items() >= DEMO_HEADERS.items():
                continue  # it would end the token
            answer = client.request(method, path, headers=headers, content=body)
            if answer.is_error or "error=" in answer.headers.get("location", ""):
                refused[answer.headers["x-request-id"]] = answer
    wait_until(lambda: refused.keys() <= {call.kwargs.get("request_id") for call in logged.calls})
    lines = [call.kwargs for call in logged.calls if call.args == ("request",)]
    found = [line for line in lines if line["request_id"] in refused]
    assert len(found) == len(refused) > 20
    for line in found:
        assert line["status"] == refused[line["request_id"]].status_code
        assert NAME.fullmatch(line["refusal"] or ""), (kind, line)
    return found


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_refusal_of_every_route_has_its_name(
    demo: Server, logged: CapturingLogger, listener: str, kind: str
) -> None:
    url = demo.url if listener == "public" else demo.internal_url
    lines = walk(logged, url, listener, kind)
    if kind == "a token of another client" and listener == "public":
        of_api = [line for line in lines if line["path"].startswith("/api/") and line["status"] in (403, 404, 422)]
        assert len(of_api) > 10
        assert {(line.get("user_id"), line.get("client_id")) for line in of_api} == {(OWNER, DEMO_CLIENT)}


@pytest.mark.parametrize("listener", LISTENERS)
def test_without_a_database_every_503_has_its_name(logged: CapturingLogger, listener: str) -> None:
    nowhere = "postgresql://postgres@127.0.0.1:1/none"
    with running_server(database_url=nowhere) as server:
        url = server.url if listener == "public" else server.internal_url
        lines = walk(logged, url, listener, "a token of another client")
    away = [line for line in lines if line["status"] == 503]
    assert len(away) > 10
    assert {line["refusal"].partition(":")[0] for line in away} <= {"service_unavailable", "webhooks_off"}


def refusal_of(logged: CapturingLogger, answer: httpx.Response) -> dict[str, Any]:
    own = answer.headers["x-request-id"]
    wait_until(lambda: any(call.kwargs.get("request_id") == own for call in logged.calls))
    (line,) = (call.kwargs for call in logged.calls if call.kwargs.get("request_id") == own)
    assert answer.is_error
    assert line.keys() >= {"refusal"}
    return dict(line)


def test_a_refusal_names_the_user_and_the_client_where_they_are_known(demo: Server, logged: CapturingLogger) -> None:
    key, token = DEMO_HEADERS["API-key"], DEMO_HEADERS["Authorization"]
    _, _, value = token.partition(" ")
    secret = {"client_id": DEMO_CLIENT, "client_secret": "wrong"}
    person = {"email": "owner@clinic.example", "password": "wrong", "grant_type": "password", "scope": "app:authorize"}
    code = {"grant_type": "authorization_code", "code": "unknown", "redirect_uri": "https://example.com"}
    both, client = {"user_id": OWNER, "client_id": DEMO_CLIENT}, {"client_id": DEMO_CLIENT}
    with httpx.Client(timeout=60) as http:
        api, admin = demo.url + "/api/clients", demo.internal_url + "/admin"
        path = f"{admin}/tokens/{value}/verify"
        met = [
            (http.get(api, headers={"Authorization": token}), both, "access_denied"),
            (http.get(path), both, "api_key"),
            (http.get(path, headers={"API-key": key + "x"}), both, "api_key"),
            (http.get(f"{admin}/forward-auth", headers={"Authorization": token}), both, "access_denied"),
            (http.post(demo.url + "/oauth/tokens", json={"token": code | secret}), client, ""),
            (http.post(demo.url + "/oauth2/token", data={"grant_type": "refresh_token"} | secret), client, ""),
            (http.post(demo.url + "/oauth2/introspect", data={"token": "a"} | secret), client, ""),
            (http.post(demo.url + "/auth/login", json={"token": person | {"client_id": BROKER}}), None, ""),
            (
                http.post(
                    demo.internal_url + "/oauth/apps/authorize",
                    headers={"X-Consumer-Id": OWNER},
                    json={"app": {"client_id": DEMO_CLIENT, "redirect_uri": "https://wrong.example", "scope": "a"}},
                ),
                both,
                "",
            ),
        ]
    for answer, known, name in met:
        line = refusal_of(logged, answer)
        expected = {"user_id": OWNER, "client_id": BROKER} if known is None else known
        assert line.items() >= expected.items(), line
        assert name in line["refusal"]
