"""What is asked in the target of a request of the internal listener, and what of it is shown and logged."""

from uuid import uuid4

import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril import app
from mithril.tokens import verification
from mithril.web.routing import Endpoint
from support import described, factories
from support.cases import wait_until
from support.factories import Db, bearer
from support.servers import Server
from support.sockets import exchange, hear, statuses

pytestmark = pytest.mark.anyio

EXCEPTED = {"/healthz", "/readyz", "/docs", "/docs/{file}", "/openapi.json"}
SECRET = "s3cr3t-t0ken-value-of-somebody"


def knows_query(method: str, path: str) -> bool:
    operation = described.document()["paths"][path.replace(":path}", "}")][method.lower()]
    return any(described.resolved(each)["in"] == "query" for each in operation.get("parameters", []))


def refused_names(response: httpx.Response) -> list[str]:
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["type"] == "validation_failed"
    assert {each["entry_type"] for each in error["invalid"]} == {"query_parameter"}
    return [each["entry"] for each in error["invalid"]]


def test_a_route_takes_a_query_exactly_where_parameters_are_described() -> None:
    for route in app.INTERNAL:
        endpoint = route.endpoint  # type: ignore[attr-defined]
        assert isinstance(endpoint, Endpoint)
        path: str = route.path  # type: ignore[attr-defined]
        for method in (route.methods or {"GET"}) - {"HEAD"}:  # type: ignore[attr-defined]
            wanted = path in EXCEPTED or path.startswith("/admin/forward-auth") or knows_query(method, path)
            assert endpoint.takes_query == wanted, (method, path)


async def test_routes_without_parameters_refuse_any(internal: httpx.AsyncClient) -> None:
    for method, path, _ in described.operations():
        if path in EXCEPTED or "forward-auth" in path or knows_query(method, path):
            continue
        url = path
        for name in ("id", "client_id", "user_id", "token", "api_key"):
            url = url.replace(f"{{{name}}}", str(uuid4()))
        response = await internal.request(method, f"{url}?a=1&b&a=2")
        assert refused_names(response) == ["a", "b"], (method, path)


@pytest.mark.parametrize("path", sorted(EXCEPTED))
async def test_probes_and_pages_take_what_they_do_not_know(internal: httpx.AsyncClient, path: str) -> None:
    assert (await internal.get(path.replace("{file}", "docs.css") + "?v=1")).status_code == 200


@pytest.mark.parametrize("query", ["/verify", "&/verify", "=", "&", "%2Fverify", "verify=1"])
async def test_the_id_of_a_token_with_a_query_does_not_pass_for_the_token(
    internal: httpx.AsyncClient, db: Db, query: str
) -> None:
    client = await factories.client(db)
    await factories.token(db, client=client)
    token_id = await db.fetchval("SELECT id FROM tokens WHERE client_id = $1", client.id)
    assert (await internal.get(f"/admin/tokens/{token_id}")).status_code == 200
    assert refused_names(await internal.get(f"/admin/tokens/{token_id}?{query}"))
    assert (await internal.get(f"/admin/tokens/{token_id}%3F/verify")).status_code == 404
    assert (await internal.get(f"/admin/tokens/{token_id}%23/verify")).status_code == 404


async def test_a_question_mark_with_nothing_behind_it_is_no_query(server: Server, db: Db) -> None:
    value = await factories.token(db, client=await factories.client(db))
    request = f"GET /admin/tokens/{value}/verify? HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    assert exchange(server, request, is_internal=True)[0] == 200


async def test_the_public_listener_ignores_what_it_does_not_know(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz?a=1")).status_code == 200
    assert (await http.post("/oauth/nonce?a=1", json={})).status_code == 422
    assert (await http.post("/oauth/nonce?a=1", json={})).json()["error"]["invalid"][0]["entry"] == "$.client_id"


@pytest.mark.parametrize("target", ["#", "#/verify", "?#", "/verify#", "/verify?a#b"])
@pytest.mark.parametrize("is_internal", [False, True])
async def test_a_fragment_in_a_target_is_malformed(server: Server, target: str, *, is_internal: bool) -> None:
    request = f"GET /admin/tokens/{uuid4()}{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    status, _, body = exchange(server, request, is_internal=is_internal)
    assert (status, body["error"]["type"]) == (400, "request_malformed")


@pytest.mark.parametrize(
    "wrong", ["%3F", "%23", "%20", "%00", "%0A", "%22", "%25", "%5C", ";", ",", "@", ":", "%C3%A9", "=a"]
)
async def test_a_value_that_no_token_can_have_is_not_looked_up(
    internal: httpx.AsyncClient, db: Db, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    async def look_up(*_: object, **__: object) -> None:
        pytest.fail("it was looked up")

    value = await factories.token(db, client=await factories.client(db))
    monkeypatch.setattr(verification, "verify", look_up)
    monkeypatch.setattr(verification, "find_owner", look_up)
    for question in ("verify", "user"):
        assert (await internal.get(f"/admin/tokens/{value}{wrong}/{question}")).status_code == 404


# Scopes that a gateway asks for


@pytest.mark.parametrize(
    "scope",
    ["%D1%8F", "%00", "a%22,error=%22x", "a%0d%0aX:%20y", "a%5Cb", "a%7f", "a%09b", "a%E2%80%83b", "%C2%85", "a%FF"],
)
async def test_a_scope_that_is_none_is_refused_without_being_repeated(server: Server, db: Db, scope: str) -> None:
    value = await factories.token(db, client=await factories.client(db))
    request = (
        f"GET /admin/forward-auth?scope={scope} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: Bearer {value}\r\n\r\n"
    )
    received = hear(server, request.encode(), is_internal=True)
    assert statuses(received) == [422]
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"www-authenticate" not in head.lower()
    assert b'"entry":"scope"' in body


@pytest.mark.parametrize("scope", ["я", "\0", 'a",error="x', "a\\b", "a\tb", "a\u2003b", "\u2003", "\u0085", "a\nb"])
async def test_so_it_is_in_a_body(internal: httpx.AsyncClient, db: Db, scope: str) -> None:
    value = await factories.token(db, client=await factories.client(db), scope="a b")
    response = await internal.post("/admin/tokens/verify", json={"token": value, "scope": scope})
    assert response.status_code == 422
    assert [each["entry"] for each in response.json()["error"]["invalid"]] == ["$.scope"]


async def test_spaces_round_scopes_are_folded(internal: httpx.AsyncClient, db: Db) -> None:
    value = await factories.token(db, client=await factories.client(db), scope="a b")
    assert (await internal.get("/admin/forward-auth?scope=%20a%20%20b%20", headers=bearer(value))).status_code == 200
    assert (await internal.post("/admin/tokens/verify", json={"token": value, "scope": " a  b "})).status_code == 200


@pytest.mark.parametrize(
    "unknown", [{"scopes": "b"}, {"Scope": "b"}, {"scopes": ""}, {"scopes": None}, {"api-key": ""}]
)
async def test_a_misspelt_property_does_not_skip_a_check(
    internal: httpx.AsyncClient, db: Db, unknown: dict[str, str | None]
) -> None:
    value = await factories.token(db, client=await factories.client(db), scope="a")
    response = await internal.post("/admin/tokens/verify", json={"token": value} | unknown)
    assert response.status_code == 422
    (name,) = unknown
    (invalid,) = response.json()["error"]["invalid"]
    assert (invalid["entry"], invalid["rules"][0]["rule"]) == (f"$.{name}", "schema")


# What is shown, and what is logged


def logged_paths(logged: CapturingLogger, *, requests: int) -> list[str]:
    wait_until(lambda: len(logged.calls) >= requests)
    return [call.kwargs["path"] for call in logged.calls if call.args == ("request",)]


@pytest.mark.parametrize(
    "path",
    [
        f"/admin/tokens/{SECRET}/verify",
        f"/admin/tokens%2F{SECRET}/verify",
        f"/admin/%74okens/{SECRET}/verify",
        f"/%61dmin/tokens/{SECRET}%2Fverify",
        f"//admin/tokens/{SECRET}/verify/",
        f"/admin/tokens/{SECRET}/user",
        f"/admin/tokens/{SECRET}",
        f"/admin/tokens%2f{SECRET}",
        f"/admin/tokens/{SECRET}/verify/more",
        f"/admin//tokens/{SECRET}/verify",
        f"/admin/api_key/{SECRET}/verify",
        f"/admin/%61pi_key/{SECRET}/verify",
        f"/gateway/admin/tokens/{SECRET}/verify",
        f"/ADMIN/TOKENS/{SECRET}/verify",
    ],
)
@pytest.mark.parametrize("is_internal", [False, True])
async def test_a_token_in_a_path_is_neither_shown_nor_logged_however_it_is_written(
    server: Server, logged: CapturingLogger, path: str, *, is_internal: bool
) -> None:
    for method in ("GET", "PUT"):
        request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
        _, _, body = exchange(server, request, is_internal=is_internal)
        assert SECRET not in str(body)
        assert "***" in body["meta"]["url"]
    wait_until(lambda: len(logged.calls) >= 2)
    assert SECRET not in str(logged.calls)
    assert logged.calls


@pytest.mark.parametrize("path", [f"/no/{SECRET}", f"/no/such/{SECRET}", f"/no%2f{SECRET}", f"/no/{SECRET}/"])
async def test_of_a_path_that_no_route_takes_the_first_segment_is_logged(
    http: httpx.AsyncClient, logged: CapturingLogger, path: str
) -> None:
    assert (await http.get(path)).status_code == 404
    assert logged_paths(logged, requests=1) == ["/no"]


async def test_identifiers_in_a_path_are_logged_and_other_text_is_not(
    internal: httpx.AsyncClient, logged: CapturingLogger
) -> None:
    client_id = uuid4()
    await internal.get(f"/admin/clients/{client_id}/connections/{SECRET}")
    await internal.get(f"/admin/clients/{client_id}/details")
    assert logged_paths(logged, requests=2) == [
        f"/admin/clients/{client_id}/connections/***",
        f"/admin/clients/{client_id}/details",
    ]


async def test_what_is_refused_before_it_is_routed_is_logged_like_anything_else(
    server: Server, logged: CapturingLogger
) -> None:
    for path in (f"/admin/tokens/{SECRET}/verify", f"/admin%2Ftokens/{SECRET}/verify", f"/no/{SECRET}"):
        _, _, body = exchange(server, f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode(), is_internal=True)
        assert body["meta"]["code"] == 421
    assert logged_paths(logged, requests=3) == ["/admin/tokens/***/verify", "/admin/tokens/***/verify", "/no"]


async def test_unknown_names_stay_out_of_the_log(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, logged: CapturingLogger
) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner)
    body = {"redirect_uri": "http://x", SECRET: 1}
    refused = [
        await http.patch(connection.path, json=body, headers=bearer(token)),
        await http.post("/api/redirect_uris/check", json=body, headers=bearer(token)),
        await internal.post("/admin/tokens/verify", json={SECRET: 1}),
        await internal.get(f"/metrics?{SECRET}"),
    ]
    assert [response.status_code for response in refused] == [422] * 4
    wait_until(lambda: len(logged.calls) >= len(refused))
    assert SECRET not in str(logged.calls)
    assert "$.redirect_uri: format" in str(logged.calls)


@pytest.mark.parametrize(
    "inserted", ["?", "?x", "?x=1&", "?id={id}&x=", "?user_id={user}&x=", "?name=", "?page_size=1&name="]
)
@pytest.mark.parametrize("ending", ["verify", "user"])
async def test_a_bearer_that_begins_with_a_question_mark_reaches_no_list(
    server: Server, db: Db, inserted: str, ending: str
) -> None:
    client = await factories.client(db)
    await factories.token(db, client=client)
    token_id = await db.fetchval("SELECT id FROM tokens WHERE user_id = $1", client.user_id)
    target = inserted.format(id=token_id, user=client.user_id)
    for place in ("/admin/tokens", "/admin/%74okens", "//admin/tokens", "/%61dmin/tokens"):
        request = f"GET {place}/{target}/{ending} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert exchange(server, request, is_internal=True)[0] in (404, 422)


@pytest.mark.parametrize("noun", ["apps", "roles", "tokens"])
async def test_a_misspelt_filter_deletes_nothing(internal: httpx.AsyncClient, db: Db, noun: str) -> None:
    client = await factories.client(db)
    await factories.token(db, client=client)
    response = await internal.delete(f"/admin/users/{client.user_id}/{noun}?client={uuid4()}")
    assert response.status_code == 422
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", client.user_id) == 1


async def test_a_misspelt_parameter_of_forward_auth_is_refused(internal: httpx.AsyncClient, db: Db) -> None:
    token = await factories.token(db, client=await factories.client(db))
    for name in ("scopes", "Scope", "scope[]"):
        response = await internal.get("/admin/forward-auth", params={name: "a:b"}, headers=bearer(token))
        assert response.status_code == 422
        before = f"/admin/forward-auth?{name}=a:b&original=/api/x"
        assert (await internal.get(before, headers=bearer(token))).status_code == 422
    appended = await internal.get("/admin/forward-auth/api/x", params={"page": "1"}, headers=bearer(token))
    assert appended.status_code == 200
