"""Common to all answers: envelope, request id, headers, unknown paths, the two listeners."""

from collections.abc import Iterator

import httpx
import pytest

from support import factories
from support.factories import Db, bearer
from support.servers import Server, fresh_database, running_server
from support.sockets import exchange

pytestmark = pytest.mark.anyio


async def test_an_unknown_path_is_not_found_in_the_envelope(http: httpx.AsyncClient) -> None:
    response = await http.get("/no/such/path?secret=1")
    assert response.status_code == 404
    assert response.json() == {
        "meta": {
            "code": 404,
            "url": f"{http.base_url}/no/such/path",
            "type": "object",
            "request_id": response.headers["x-request-id"],
        },
        "error": {"type": "not_found", "message": "Not Found"},
    }


async def test_a_405_names_the_allowed_methods(http: httpx.AsyncClient) -> None:
    response = await http.put("/api/clients/a/connections/b", json={})
    assert response.status_code == 405
    assert "PATCH" in response.headers["allow"].split(", ")
    assert response.json()["error"]["type"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        (b"", "no Host header"),
        (b"Host: x\r\nHost: x\r\n", "more than one Host header"),
        (b"Host:\r\n", "not a valid host"),
        (b"Host: a b\r\n", "not a valid host"),
        (b"Host: a/b\r\n", "not a valid host"),
        (b"Host: x@y\r\n", "not a valid host"),
        (b"Host: [::1\r\n", "not a valid host"),
        (b"Host: x:99999\r\n", "not a valid host"),
        (b"Host: x\xa0\r\n", "not a valid host"),
    ],
)
def test_a_missing_or_malformed_host_is_told_in_the_words_of_the_route(
    server: Server, hosts: bytes, reason: str
) -> None:
    for method, path in (
        *((b"POST", b"/oauth2/token"), (b"POST", b"//oauth2/revoke/"), (b"GET", b"/oauth2/introspect?a=b")),
        *((b"OPTIONS", b"/oauth2/token"), (b"GET", b"/oauth2/no/such/path"), (b"POST", b"/oauth2")),
        *((b"GET", b"/.well-known/oauth-authorization-server"), (b"POST", b"/%6fauth2/token")),
    ):
        request = method + b" " + path + b" HTTP/1.1\r\n" + hosts + b"Content-Length: 0\r\n\r\n"
        status, headers, body = exchange(server, request)
        assert (status, headers["connection"]) == (400, "close")
        description = "Malformed request. It must name one valid host."
        assert body == {"error": "invalid_request", "error_description": description}
    for is_internal, path in ((False, b"/auth/login"), (False, b"/healthz"), (True, b"/oauth2/token"), (True, b"/x")):
        request = b"POST " + path + b" HTTP/1.1\r\n" + hosts + b"\r\n"
        status, headers, body = exchange(server, request, is_internal=is_internal)
        assert (status, headers["connection"]) == (400, "close")
        assert body["error"] == {
            "type": "request_malformed",
            "message": "Malformed request. It must name one valid host.",
            "invalid": [{"entry_type": "request", "rules": [{"rule": "host", "description": reason}]}],
        }


@pytest.mark.parametrize("path", ["/oauth2", "/oauth2/", "/oauth2/tokens", "/oauth2/token/more", "/oauth2/%2e%2e"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_an_unknown_path_below_oauth2_is_told_in_the_words_of_the_rfc(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await http.request(method, path)
    assert response.status_code == 404
    assert response.json() == {"error": "invalid_request", "error_description": "Not Found"}


@pytest.mark.parametrize("request_id", ["x" * 20, "y" * 200, "6f1c2b1e-caller-correlation#17810"])
async def test_the_callers_request_id_is_kept(http: httpx.AsyncClient, request_id: str) -> None:
    response = await http.get("/healthz", headers={"X-Request-ID": request_id})
    assert response.headers["x-request-id"] == response.json()["meta"]["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["x" * 19, "y" * 201, "ї" * 20, ""])
async def test_an_invalid_request_id_is_replaced(http: httpx.AsyncClient, request_id: str) -> None:
    response = await http.get("/healthz", headers=[(b"X-Request-ID", request_id.encode())])
    given = request_id.encode()
    assert response.headers["x-request-id"].encode() != given
    assert 20 <= len(response.headers["x-request-id"]) <= 200


async def test_two_request_ids_are_replaced_by_one(http: httpx.AsyncClient) -> None:
    pair = [("X-Request-ID", "a" * 20), ("X-Request-ID", "b" * 20)]
    response = await http.get("/healthz", headers=pair)
    assert response.headers["x-request-id"] not in ("a" * 20, "b" * 20)


async def test_a_token_in_a_path_is_masked(http: httpx.AsyncClient) -> None:
    for path in (
        "/admin/tokens/s3cr3t-value/verify",
        "/admin/tokens/s3cr3t-value/user",
        "/admin/api_key/s3cr3t-value/verify",
    ):
        response = await http.get(path)
        assert response.status_code == 404
        assert "s3cr3t-value" not in response.text
        assert "***" in response.json()["meta"]["url"]


async def test_answers_forbid_caching_framing_and_sniffing(http: httpx.AsyncClient) -> None:
    headers = (await http.get("/healthz")).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers


async def test_health_and_readiness_answer_on_both_listeners(server: Server) -> None:
    for base in (server.url, server.internal_url):
        async with httpx.AsyncClient(base_url=base) as client:
            assert (await client.get("/healthz")).json()["data"] == {"status": "alive"}
            assert (await client.get("/readyz")).json()["data"] == {"status": "ready"}


async def test_the_internal_listener_has_no_public_methods(server: Server, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner)
    async with httpx.AsyncClient(base_url=server.internal_url) as client:
        body = {"redirect_uri": "https://new.example.com"}
        assert (await client.patch(connection.path, json=body, headers=bearer(token))).status_code == 404


@pytest.fixture
def keyed_server(postgres: str) -> Iterator[Server]:
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, internal_key="a-shared-key", public_url="https://api.example.ua/") as running,
    ):
        yield running


async def test_the_internal_listener_requires_its_key_when_one_is_set(keyed_server: Server) -> None:
    async with httpx.AsyncClient(base_url=keyed_server.internal_url) as client:
        refused = [
            await client.get("/admin/clients"),
            await client.get("/admin/clients", headers={"X-Mithril-Key": "wrong"}),
        ]
        known = await client.get("/admin/clients", headers={"X-Mithril-Key": "a-shared-key"})
        probe = await client.get("/healthz")
    assert [r.status_code for r in refused] == [401, 401]
    assert known.status_code != 401
    assert probe.status_code == 200


async def test_behind_a_proxy_the_url_is_the_public_one(keyed_server: Server) -> None:
    async with httpx.AsyncClient(base_url=keyed_server.url) as client:
        response = await client.get("/healthz")
    assert response.json()["meta"]["url"] == "https://api.example.ua/healthz"
