"""Foreign hosts, wrong bodies, and SQL in every text."""

import gzip
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mithril.openapi import document as openapi_document
from support import factories
from support.factories import Db, bearer
from support.servers import Server, fresh_database, running_server
from support.sockets import exchange, hear, statuses

pytestmark = pytest.mark.anyio

SQL = [
    "' OR '1'='1",
    "'; DROP TABLE clients; --",
    "1); SELECT pg_sleep(90); --",
    "' UNION SELECT secret_digest FROM connections --",
    '$1 {0} %s \\ " ` \u0000 \u02bc',
]
HEADERS = ("Authorization", "API-key", "X-Request-ID", "If-Match", "X-Forwarded-For", "Accept-Language", "Cookie")


def operations() -> Iterator[tuple[str, str]]:
    for path, item in openapi_document.load()["paths"].items():
        if path == "/auth/logout":
            continue  # it would revoke the token, and every later request would be 401
        for method in item:
            if method in {"get", "post", "put", "patch", "delete"}:
                yield method, path


@pytest.mark.slow
@pytest.mark.parametrize("payload", SQL)
async def test_sql_in_any_parameter_is_only_text(http: httpx.AsyncClient, db: Db, payload: str) -> None:
    """In the path, query, body and headers of every method: no 5xx, no change, no delay.

    A server that did what the text says would sleep for longer than it gives a statement, and answer 503.
    """
    owner = await factories.client(db, client_type="NHS")
    token = await factories.token(db, client=owner, scope="connection:write connection:read client:read secret:refresh")
    await factories.connection(db, client_id=owner.id)
    before = await _state(db)
    for method, path in operations():
        where = path.replace("{", "").replace("}", "")
        filled = "/".join("x" if "{" in part else part for part in path.split("/"))
        texts = {"grant_type", "email", "password", "client_id", "scope", "redirect_uri", "code", "otp", "token"}
        body: Any = dict.fromkeys(texts, payload)
        encoded = str(httpx.QueryParams({"v": payload})).removeprefix("v=")
        requests: list[dict[str, Any]] = [
            {"url": path.replace("{client_id}", encoded).replace("{connection_id}", encoded)},
            {"url": filled, "params": dict.fromkeys((*texts, "page", "page_size", "consumer_id", where), payload)},
            {"url": filled, "json": {"token": body, "app": body, "user": body, **body}},
            {"url": filled, "data": body},
        ]
        for request in requests:
            response = await http.request(method, headers=bearer(token), **request)
            assert response.status_code < 500, (method, path, request)
        headers = [(name.encode(), payload.replace("\0", "").encode()) for name in HEADERS]
        assert (await http.request(method, filled, headers=headers)).status_code < 500
    assert await _state(db) == before


async def _state(db: Db) -> list[Any]:
    tables = ("clients", "connections", "tokens", "users", "roles", "audit_events")
    return [
        await db.fetchval(f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} t") for table in tables
    ]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "a@evil.example", "evil.example/path", "[::1"])
async def test_a_forged_host_is_in_no_url_when_the_public_url_is_set(public_server: Server, host: str) -> None:
    """With MITHRIL_PUBLIC_URL no URL in an answer comes from the request."""
    headers = {
        "Host": host,
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "Forwarded": "host=evil",
    }
    async with httpx.AsyncClient(base_url=public_server.url) as client:
        for path in ("/healthz", "/.well-known/oauth-authorization-server", "/openapi.json", "/sign-in", "/docs"):
            response = await client.get(path, headers=headers)
            assert "evil" not in response.text.replace("evil.example/path", "evil")
            assert "evil" not in str(response.headers)
            assert "gopher" not in response.text


@pytest.fixture(scope="module")
def public_server(postgres: str) -> Iterator[Server]:
    with fresh_database(postgres) as url, running_server(database_url=url, public_url="https://api.example.ua") as it:
        yield it


async def test_headers_of_an_untrusted_proxy_are_ignored(server: Server, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}
    headers = bearer(await factories.token(db, client=owner)) | forged
    async with httpx.AsyncClient(base_url=server.url) as client:
        body = {"redirect_uri": "https://forwarded.example.com"}
        response = await client.patch(connection.path, json=body, headers=headers)
    assert response.json()["meta"]["url"].startswith("http://127.0.0.1")
    recorded = await db.fetchval("SELECT network_address FROM audit_events WHERE subject_id = $1", connection.id)
    assert str(recorded) == "127.0.0.1"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-unknown"])
@pytest.mark.parametrize(
    ("path", "kind"), [("/auth/login", "application/json"), ("/oauth2/token", "application/x-www-form-urlencoded")]
)
async def test_a_compressed_body_is_refused_unread(http: httpx.AsyncClient, coding: str, path: str, kind: str) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    response = await http.post(path, content=bomb, headers={"Content-Encoding": coding, "Content-Type": kind})
    assert response.status_code in (400, 415)


async def test_a_length_beyond_the_limit_is_refused_before_anything_is_sent(server: Server) -> None:
    head = b"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 65537\r\n\r\n"
    status, headers, _ = exchange(server, head)
    assert (status, headers["connection"]) == (413, "close")


RAW = [
    b"\xa0",
    b"\x85",
    b"\xff\xfe",
    b"\xd1\x8f",
    b'"',
    b"'; DROP",
    b"%00%0d%0a",
    b"\t",
    b"a=b; a=c",
    b"{}",
    b"\\",
    b"a" * 5_000,
]
RAW_HEADERS = (
    b"Authorization",
    b"API-key",
    b"X-Request-ID",
    b"X-Consumer-Id",
    b"If-Match",
    b"If-None-Match",
    b"Accept",
    b"Accept-Language",
    b"Content-Type",
    b"Content-Encoding",
    b"Cookie",
    b"Origin",
    b"Sec-Fetch-Site",
    b"Upgrade",
    b"Connection",
    b"Expect",
    b"X-Forwarded-For",
    b"X-Mithril-Key",
    b"Host",
)
RAW_TARGETS = (
    b"GET /sign-in?client_id=a",
    b"POST /sign-in?client_id=a",
    b"PATCH /api/clients/a/connections/b",
    b"POST /auth/login",
    b"POST /oauth2/token",
    b"GET /docs",
    b"GET /metrics",
    b"GET /admin/forward-auth?scope=a",
    b"POST /admin/tokens/verify",
    b"GET /admin/apps",
)


@pytest.mark.parametrize("header", RAW_HEADERS)
async def test_no_bytes_in_a_header_break_a_decision(server: Server, header: bytes) -> None:
    break_nothing(server, header, RAW_TARGETS[7], is_internal=True)


@pytest.mark.slow
@pytest.mark.parametrize("header", RAW_HEADERS)
@pytest.mark.parametrize("is_internal", [False, True])
async def test_no_bytes_in_a_header_break_anything(server: Server, header: bytes, *, is_internal: bool) -> None:
    for target in RAW_TARGETS:
        break_nothing(server, header, target, is_internal=is_internal)


def break_nothing(server: Server, header: bytes, target: bytes, *, is_internal: bool) -> None:
    """Send the bytes alone, in front of a good value, behind it, and twice."""
    for raw in RAW:
        for lines in (
            header + b": " + raw,
            header + b": " + raw + b"__Host-mithril-form=a",
            header + b": localhost" + raw,
            header + b": " + raw + b"\r\n" + header + b": " + raw,
        ):
            host = b"" if header == b"Host" else b"\r\nHost: localhost"
            request = target + b" HTTP/1.1" + host + b"\r\n" + lines + b"\r\nContent-Length: 2\r\n"
            received = hear(server, request + b"Connection: close\r\n\r\n{}", is_internal=is_internal)
            found = statuses(received)
            assert found, request
            assert max(found) < 500, request
            assert b"\r\nX-Injected" not in received
