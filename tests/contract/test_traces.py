"""Traces: which spans are sent, how a trace comes in and goes on, and that no span repeats a secret."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support import factories, oauth_world, repository
from support.factories import bearer
from support.processes import serving

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PHONE = "+380671112233"


class Collector:
    """What a collector of spans and an SMS service have received."""

    def __init__(self) -> None:
        self.exports: list[bytes] = []
        self.messages: list[tuple[str | None, dict[str, Any]]] = []
        self.url = ""

    def spans(self) -> list[Any]:
        found = []
        for body in self.exports:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in of_resource.scope_spans:
                    found += scope.spans
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                collector.exports.append(body)
            else:
                collector.messages.append((self.headers["traceparent"], json.loads(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        collector.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            listener.shutdown()
            thread.join()


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_request_its_access_check_and_its_statements_are_spans(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    world = await oauth_world.make(db)
    token = await factories.token(db, client=world.clinic)
    unknown = "a-token-that-is-not-there-1234567"
    await db.execute("UPDATE users SET is_blocked = false WHERE id = $1", world.user_id)
    factor = "INSERT INTO authentication_factors (user_id, type, factor, is_active) VALUES ($1, 'SMS', $2, true)"
    await db.execute(factor, world.user_id, PHONE)
    await db.close()
    headers = {**bearer(token, api_key=world.key), "traceparent": f"00-{TRACE}-{PARENT}-01"}
    with collecting() as collector:
        sending = {"MITHRIL_TRACES_ENDPOINT": f"{collector.url}/v1/traces", "MITHRIL_OTP_ENDPOINT": collector.url}
        with serving("--database-url", database_url, **sending) as process:
            async with httpx.AsyncClient(base_url=process.public) as http:
                uri = "https://moved.example.com/callback?state-of=secret-place"
                moved = await http.patch(world.link.path, json={"redirect_uri": "https://x"}, headers=bearer(unknown))
                assert moved.status_code == 401
                moved = await http.patch(world.link.path, json={"redirect_uri": uri}, headers=headers)
                assert moved.status_code == 200, moved.text
                assert (await oauth_world.login(http, world)).status_code == 201
                assert (await http.get(f"{process.internal}/admin/tokens/{unknown}/verify")).status_code == 404
            log = process.stop()
    spans = collector.spans()
    (change,) = (s for s in spans if s.trace_id.hex() == TRACE and s.parent_span_id.hex() == PARENT)
    assert change.name == "PATCH /api/clients/{client_id}/connections/{connection_id}"
    told = attributes(change)
    assert told["http.response.status_code"] == 200
    assert told["http.route"] == "/api/clients/{client_id}/connections/{connection_id}"
    of_change = [s for s in spans if s.trace_id.hex() == TRACE and s is not change]
    (check,) = (s for s in of_change if s.name == "access check")
    assert check.parent_span_id == change.span_id
    statements = [s for s in of_change if s.name == "statement"]
    assert {s.parent_span_id for s in statements} == {check.span_id, change.span_id}
    assert any("UPDATE connections" in attributes(s)["db.query.text"] for s in statements)

    # The request id leads to the trace, and the log to both.
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (line,) = (each for each in lines if each.get("trace_id") == TRACE)
    assert line["request_id"] == told["mithril.request_id"] == moved.headers["x-request-id"]

    # A refusal has its name.
    (refused,) = (s for s in spans if attributes(s).get("http.response.status_code") == 401 and "PATCH" in s.name)
    assert attributes(refused)["mithril.refusal"] == "access_denied"

    # The trace goes on in the SMS service.
    (login,) = (s for s in spans if s.name == "POST /auth/login")
    ((carried, message),) = collector.messages
    assert carried
    assert carried.split("-")[1] == login.trace_id.hex()
    code = "".join(filter(str.isdigit, message["body"]))

    sent = "".join(map(str, spans))
    for secret in (token, unknown, world.key, world.link.secret, oauth_world.PASSWORD, PHONE, code, world.email, uri):
        assert secret not in sent


async def test_the_line_of_the_page_sends_the_traces_that_callers_record(database_url: str) -> None:
    page = (repository() / "docs/watch.md").read_text()
    (line,) = re.findall(r"^(MITHRIL_TRACES.*) mithril serve$", page, re.MULTILINE)
    variables = dict(each.split("=", 1) for each in line.split())
    endpoint = variables["MITHRIL_TRACES_ENDPOINT"]
    with collecting() as collector:
        variables["MITHRIL_TRACES_ENDPOINT"] = endpoint.replace("http://127.0.0.1:4318", collector.url)
        with serving("--database-url", database_url, **variables) as process:
            async with httpx.AsyncClient(base_url=process.public) as http:
                for flags in ("00", "01"):
                    trace = TRACE[:-2] + flags
                    assert (
                        await http.get("/readyz", headers={"traceparent": f"00-{trace}-{PARENT}-{flags}"})
                    ).is_success
            process.stop()
    assert {span.trace_id.hex() for span in collector.spans()} == {TRACE[:-2] + "01"}


async def test_a_collector_that_is_away_stops_nothing(database_url: str) -> None:
    with serving("--database-url", database_url, MITHRIL_TRACES_ENDPOINT="http://127.0.0.1:9/v1/traces") as process:
        async with httpx.AsyncClient(base_url=process.public) as http:
            answers = await asyncio.gather(*(http.get("/readyz") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        process.stop()
    assert process.popen.returncode == 0
