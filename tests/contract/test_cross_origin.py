"""Pages of other origins: they may call what a public client in a browser needs, and nothing else."""

from collections.abc import Iterator

import httpx
import pytest

from support import granting
from support.factories import Db
from support.granting import CHALLENGE, VERIFIER
from support.servers import Server, fresh_database, running_server
from support.sockets import connect, exchange

pytestmark = pytest.mark.anyio

TOKEN, REVOKE, METADATA = "/oauth2/token", "/oauth2/revoke", "/.well-known/oauth-authorization-server"
OPEN = [(TOKEN, "POST"), (REVOKE, "POST"), (METADATA, "GET, HEAD")]
CLOSED = [
    "/oauth2/introspect",
    "/oauth2/authorize",
    "/sign-in",
    "/auth/login",
    "/oauth/tokens",
    "/oauth/nonce",
    "/oauth/apps/authorize",
    "/api/clients",
    "/api/user/roles",
    "/oauth2/token/more",
    "/healthz",
    "/no-such-page",
]
ORIGIN = {"Origin": "https://app.example"}
PREFLIGHT = ORIGIN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}
EXPOSED = "retry-after, www-authenticate, x-request-id, ratelimit, ratelimit-policy"


def allowed(response: httpx.Response) -> dict[str, str]:
    """Return what the answer says to a browser."""
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(("path", "methods"), OPEN)
async def test_a_preflight_is_answered(http: httpx.AsyncClient, path: str, methods: str) -> None:
    response = await http.options(path, headers=PREFLIGHT)
    assert (response.status_code, response.content) == (204, b"")
    assert allowed(response) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": methods,
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "7200",
        "access-control-expose-headers": EXPOSED,
    }


@pytest.mark.parametrize("origin", [b"https://app.example", b"null", b"x\r\nOrigin: y"])
def test_a_preflight_in_bytes(server: Server, origin: bytes) -> None:
    request = b"OPTIONS /oauth2/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: %b\r\n" % origin
    with connect(server) as connection:
        connection.sendall(request + b"Access-Control-Request-Method: POST\r\n\r\n")
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 204 No Content"
    assert lines.count(b"access-control-allow-origin: *") == 1
    assert not [line for line in lines if line.startswith((b"access-control-allow-credentials", b"set-cookie"))]
    assert body == b""


@pytest.mark.parametrize(("path", "methods"), OPEN)
async def test_options_that_are_no_preflight_are_405(http: httpx.AsyncClient, path: str, methods: str) -> None:
    half = {"Access-Control-Request-Method": "POST"}
    for headers in ({}, ORIGIN, half):
        response = await http.options(path, headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, methods)


async def test_a_page_of_another_origin_gets_and_revokes_tokens(
    http: httpx.AsyncClient, server: Server, db: Db
) -> None:
    spa = await granting.party(db, is_public=True)
    code = await granting.code(server, spa, challenge=CHALLENGE)
    form = {"client_id": str(spa.client_id), "code": code, "code_verifier": VERIFIER, "redirect_uri": spa.redirect_uri}
    issued = await http.post(TOKEN, data=form | {"grant_type": "authorization_code"}, headers=ORIGIN)
    assert issued.status_code == 200
    revoked = await http.post(
        REVOKE, data={"client_id": str(spa.client_id), "token": issued.json()["refresh_token"]}, headers=ORIGIN
    )
    assert revoked.status_code == 200
    shown = await http.get(METADATA, headers=ORIGIN)
    assert shown.json()["token_endpoint"].endswith(TOKEN)
    for response in (issued, revoked, shown):
        assert allowed(response) == {"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED}
        assert "set-cookie" not in response.headers


async def test_refusals_can_be_read_too(http: httpx.AsyncClient) -> None:
    unknown = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "unknown", "client_secret": "x"}
    answers = [
        await http.post(TOKEN, data=unknown, headers=ORIGIN),
        await http.post(TOKEN, json={}, headers=ORIGIN),
        await http.post(REVOKE, data={"token": "x" * 70_000}, headers=ORIGIN),
        await http.put(TOKEN, headers=ORIGIN),
        await http.post(METADATA, headers=ORIGIN),
    ]
    assert [each.status_code for each in answers] == [400, 400, 413, 405, 405]
    for response in answers:
        assert allowed(response) == {"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED}


@pytest.fixture
def small(postgres: str) -> Iterator[Server]:
    """A server that allows one failure, and one request at a time."""
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, max_failures_per_address=1, max_requests=1) as running,
    ):
        yield running


async def test_refusals_of_too_many_requests_can_be_read_too(small: Server) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "unknown"}
    async with httpx.AsyncClient(base_url=small.url) as http:
        answers = [await http.post(TOKEN, data=form) for _ in range(2)]
    assert [each.status_code for each in answers] == [400, 429]
    assert {each.headers["access-control-allow-origin"] for each in answers} == {"*"}
    with connect(small) as connection:
        connection.sendall(b"POST /oauth2/revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n")
        connection.sendall(b"Content-Type: application/x-www-form-urlencoded\r\n\r\n")
        status = 0
        while status != 503:
            status, headers, body = exchange(
                small, b"POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            )
        assert (headers["access-control-allow-origin"], body["error"]) == ("*", "temporarily_unavailable")


@pytest.mark.parametrize("path", CLOSED)
async def test_everything_else_stays_closed(http: httpx.AsyncClient, path: str) -> None:
    for method in ("OPTIONS", "GET", "POST"):
        response = await http.request(method, path, headers=PREFLIGHT)
        assert allowed(response) == {}
        assert method != "OPTIONS" or response.status_code in (404, 405)


@pytest.mark.parametrize("path", [TOKEN, REVOKE, METADATA, "/admin/clients", "/admin/tokens/verify", "/healthz"])
async def test_the_internal_listener_stays_closed(server: Server, path: str) -> None:
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        for method in ("OPTIONS", "GET", "POST"):
            assert allowed(await internal.request(method, path, headers=PREFLIGHT)) == {}
