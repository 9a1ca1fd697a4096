"""The methods for gateways: token verify in two forms, the user of a token, API-keys, forward-auth."""

import asyncio
import json
import re
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from mithril.database.database import Database
from mithril.database.lookups import Found, Lookup
from mithril.tokens import verification_store as tokens
from support import factories, repository
from support.factories import Db, bearer
from support.oauth_world import refusal
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

SCOPE = "connection:read connection:write"


class Parties:
    """A clinic that works through a MIS, a tool that does not, and the API-key of the MIS."""

    def __init__(self, clinic: factories.Client, tool: factories.Client, mis: factories.Client, key: str) -> None:
        self.clinic, self.tool, self.mis, self.key = clinic, tool, mis, key


@pytest.fixture
async def parties(db: Db) -> Parties:
    mis = await factories.client(db, client_type="MIS", broker_scope="connection:read connection:write")
    own = await factories.connection(db, client_id=mis.id)
    await factories.connection(db, client_id=(await factories.client(db)).id)  # must not be shown
    clinic, tool = await factories.client(db, access_type="BROKER"), await factories.client(db)
    return Parties(clinic, tool, mis, own.secret)


async def verify(internal: httpx.AsyncClient, token: str, api_key: str | None = None) -> httpx.Response:
    """Verify in both ways, which must agree in all but the URL, and return the first answer."""
    headers = {} if api_key is None else {"api-key": api_key}
    body = {"token": token} | ({} if api_key is None else {"api_key": api_key})
    asked = await internal.get(f"/admin/tokens/{token}/verify", headers=headers)
    posted = await internal.post("/admin/tokens/verify", json=body)
    assert posted.status_code == asked.status_code
    assert [posted.json().get(key) for key in ("data", "error", "urgent")] == [
        asked.json().get(key) for key in ("data", "error", "urgent")
    ]
    return asked


async def test_the_token_of_a_direct_client_is_verified(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    value = await factories.token(db, client=parties.tool, scope=SCOPE)
    row = await db.fetchrow("SELECT id, user_id, expires_at FROM tokens WHERE client_id = $1", parties.tool.id)
    assert row is not None
    response = await verify(internal, value, api_key="ignored")
    assert response.status_code == 200
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{internal.base_url}/admin/tokens/***/verify",
            "type": "object",
            "request_id": response.headers["x-request-id"],
        },
        "data": {
            "id": str(row["id"]),
            "name": "access_token",
            "expires_at": int(row["expires_at"].timestamp()),
            "user_id": str(row["user_id"]),
            "details": {"client_id": str(parties.tool.id), "scope": SCOPE},
        },
        "urgent": {"mis_client_id": None},
    }


async def test_the_secret_of_a_connection_with_another_consumer_is_no_api_key(
    internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    """The other system of the MIS knows that secret, and must not pass for the MIS with it."""
    through = await factories.connection(db, client_id=parties.mis.id, consumer_id=parties.tool.id)
    previous = await factories.connection(db, client_id=parties.mis.id, consumer_id=parties.clinic.id)
    rotate = (
        "UPDATE connections SET previous_secret_digest = secret_digest, secret_digest = $2,"
        " previous_secret_expires_at = now() + interval '1 minute' WHERE id = $1"
    )
    await db.execute(rotate, previous.id, uuid4().bytes)
    value = await factories.token(db, client=parties.clinic, scope=SCOPE)
    for secret in (through.secret, previous.secret):
        response = await verify(internal, value, secret)
        assert refusal(response) == (422, "request_malformed", "API-KEY header is invalid.")
        assert (await internal.get(f"/admin/api_key/{secret}/verify")).status_code == 404
        called = await internal.get("/admin/forward-auth", headers=bearer(value, api_key=secret))
        assert called.status_code == 401
    assert (await verify(internal, value, parties.key)).status_code == 200


async def test_the_token_of_a_broker_client_is_verified(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    connection = await factories.connection(db, client_id=parties.clinic.id, consumer_id=parties.mis.id)
    value = await factories.token(db, client=parties.clinic, scope=SCOPE, connection_id=connection.id)
    details = {"grant_type": "authorization_code", "redirect_uri": "https://a.example.com", "refresh_token": "R"}
    await db.execute("UPDATE tokens SET details = $2 WHERE client_id = $1", parties.clinic.id, json.dumps(details))
    response = await verify(internal, value, parties.key)
    assert response.json()["data"]["details"] == {
        "grant_type": "authorization_code",
        "client_id": str(parties.clinic.id),
        "scope": SCOPE,
        "redirect_uri": "https://a.example.com",
        "broker_scope": "connection:read connection:write",
    }
    assert response.json()["urgent"] == {"mis_client_id": str(parties.mis.id)}
    assert value not in response.text
    assert parties.key not in response.text


INVALID_GRANT = (401, "invalid_grant", "Token expired or client approval was revoked.")
CLIENT = (401, "invalid_client", "Authentication failed.")
PERSON = (401, "invalid_user", "Authentication failed.")
NO_TYPE = (401, "access_denied", "Client settings must contain access_type.")
KEY_MISSING = (422, "request_malformed", "API-KEY header required.")
KEY_UNKNOWN = (422, "request_malformed", "API-KEY header is invalid.")
NO_BROKER = (422, "request_malformed", "Incorrect broker settings.")
UNKNOWN = (404, "not_found", "Not Found")


async def test_refusals_come_in_their_order(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    """At first everything is wrong; each step corrects what the answer named."""
    clinic, mis = parties.clinic, parties.mis
    foreign = await factories.connection(db, client_id=parties.tool.id)  # the API-key of a client without broker scope
    issued = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    value = await factories.token(db, client=clinic, expires_in=-1, name="refresh_token", connection_id=issued.id)
    other = await factories.client(db, client_type="MIS", broker_scope="connection:read", is_blocked=True)
    others = await factories.connection(db, client_id=other.id)
    await factories.quietly(db, "UPDATE clients SET is_blocked = true, priv_settings = '{}' WHERE id = $1", clinic.id)
    await factories.quietly(db, "UPDATE users SET is_blocked = true WHERE id = $1", clinic.user_id)

    async def told(api_key: str | None = None) -> tuple[int, str, str | None]:
        return refusal(await verify(internal, value, api_key))

    assert await told() == UNKNOWN
    await db.execute("UPDATE tokens SET name = 'access_token' WHERE client_id = $1", clinic.id)
    assert await told() == INVALID_GRANT
    await db.execute("UPDATE tokens SET expires_at = now() + interval '1 hour' WHERE client_id = $1", clinic.id)
    assert await told() == CLIENT
    await factories.quietly(db, "UPDATE clients SET is_blocked = false WHERE id = $1", clinic.id)
    assert await told() == PERSON
    await factories.quietly(db, "UPDATE users SET is_blocked = false WHERE id = $1", clinic.user_id)
    assert await told() == NO_TYPE
    await factories.quietly(
        db, """UPDATE clients SET priv_settings = '{"access_type": "BROKER"}' WHERE id = $1""", clinic.id
    )
    assert await told() == KEY_MISSING
    assert await told("no-such-key") == KEY_UNKNOWN
    assert await told(foreign.secret) == NO_BROKER
    assert await told(others.secret) == CLIENT
    await factories.quietly(db, "UPDATE clients SET is_blocked = false WHERE id = $1", other.id)
    assert await told(others.secret) == KEY_UNKNOWN
    assert (await verify(internal, value, parties.key)).status_code == 200


@pytest.mark.parametrize("name", ["authorization_code", "refresh_token", "2fa_access_token", "change_password_token"])
async def test_only_access_tokens_are_verified(
    internal: httpx.AsyncClient, db: Db, parties: Parties, name: str
) -> None:
    value = await factories.token(db, client=parties.tool, name=name)
    assert refusal(await verify(internal, value)) == UNKNOWN
    assert refusal(await internal.get(f"/admin/tokens/{value}/user")) == UNKNOWN


async def test_an_empty_or_repeated_api_key_is_invalid(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    url = f"/admin/tokens/{await factories.token(db, client=parties.clinic)}/verify"
    doubled = [("api-key", parties.key), ("api-key", parties.key)]
    assert refusal(await internal.get(url, headers={"api-key": ""})) == KEY_UNKNOWN
    assert refusal(await internal.get(url, headers=doubled)) == KEY_UNKNOWN


async def test_the_previous_secret_is_an_api_key_during_the_overlap(
    internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    value = await factories.token(db, client=parties.clinic)
    rotate = (
        "UPDATE connections SET previous_secret_digest = secret_digest, secret_digest = $2,"
        " previous_secret_expires_at = now() + make_interval(secs => $3) WHERE client_id = $1"
    )
    await db.execute(rotate, parties.mis.id, b"another", 60.0)
    assert (await verify(internal, value, parties.key)).status_code == 200
    await db.execute("UPDATE connections SET previous_secret_expires_at = now() WHERE client_id = $1", parties.mis.id)
    assert refusal(await verify(internal, value, parties.key)) == KEY_UNKNOWN


async def test_scopes_are_checked_in_the_token_and_the_broker(
    internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    value = await factories.token(db, client=parties.clinic, scope="connection:read connection:delete")

    async def asked(scope: str) -> tuple[int, str | None]:
        body = {"token": value, "api_key": parties.key, "scope": scope}
        response = await internal.post("/admin/tokens/verify", json=body)
        challenge = re.search(r'scope="(.*?)"', response.headers.get("www-authenticate", ""))
        return response.status_code, challenge[1] if challenge else None

    assert await asked("connection:read") == (200, None)
    assert await asked("") == (200, None)
    assert await asked("connection:read connection:write") == (403, "connection:write")
    assert await asked("connection:delete") == (403, "connection:delete")


@pytest.mark.parametrize(
    ("body", "entries"),
    [({}, ["$.token"]), ({"token": 1, "scope": []}, ["$.scope", "$.token"]), ({"token": "x" * 5000}, ["$.token"])],
)
async def test_a_body_without_a_token_is_refused(
    internal: httpx.AsyncClient, body: dict[str, Any], entries: list[str]
) -> None:
    response = await internal.post("/admin/tokens/verify", json=body)
    assert response.status_code == 422
    assert [each["entry"] for each in response.json()["error"]["invalid"]] == entries


async def test_the_user_of_a_token_is_shown(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    tool = parties.tool
    value = await factories.token(db, client=tool)
    names = [f"role {uuid4()}" for _ in range(3)]
    roles: list[UUID] = [
        await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, 'a:b') RETURNING id", name) for name in names
    ]
    give = "INSERT INTO user_roles (user_id, client_id, role_id) VALUES ($1, $2, $3)"
    await db.execute(give, tool.user_id, tool.id, roles[0])
    await db.execute(give, tool.user_id, parties.mis.id, roles[1])  # in another client: does not count
    await db.execute("INSERT INTO global_user_roles (user_id, role_id) VALUES ($1, $2)", tool.user_id, roles[2])
    response = await internal.get(f"/admin/tokens/{value}/user")
    assert response.status_code == 200
    data = response.json()["data"]
    assert response.json()["urgent"] is True
    assert data["id"] == str(tool.user_id)
    assert data["urgent"]["roles"] == [{"id": str(roles[0]), "name": names[0], "scope": "a:b"}]
    assert data["urgent"]["global_roles"] == [{"id": str(roles[2]), "name": names[2], "scope": "a:b"}]
    await db.execute("UPDATE tokens SET expires_at = now() WHERE client_id = $1", tool.id)
    assert refusal(await internal.get(f"/admin/tokens/{value}/user")) == INVALID_GRANT


async def test_an_api_key_is_verified(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    response = await internal.get(f"/admin/api_key/{parties.key}/verify")
    assert response.status_code == 200
    assert response.json()["data"] == {
        "details": {
            "client_id": str(parties.mis.id),
            "broker_scope": "connection:read connection:write",
            "scope": "connection:write",
        }
    }
    assert response.json()["urgent"] == {"mis_client_id": str(parties.mis.id)}
    assert parties.key not in response.text
    foreign = await factories.connection(db, client_id=parties.tool.id)
    assert refusal(await internal.get(f"/admin/api_key/{foreign.secret}/verify")) == NO_BROKER
    assert refusal(await internal.get("/admin/api_key/no-such-key/verify")) == UNKNOWN
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", parties.mis.id)
    assert refusal(await internal.get(f"/admin/api_key/{parties.key}/verify")) == CLIENT


async def test_forward_auth_names_the_caller_in_headers(internal: httpx.AsyncClient, db: Db, parties: Parties) -> None:
    value = await factories.token(db, client=parties.clinic, scope=SCOPE)
    headers = bearer(value, api_key=parties.key) | {"x-request-id": "a-request-of-some-length"}
    # The scope of the proxy comes before the query of its caller.
    proxied = "/api/clients/1?scope=connection:write&scope=x"
    for method, path in (("GET", ""), ("POST", proxied), ("DELETE", "/"), ("OPTIONS", "/%2F?a=b")):
        response = await internal.request(method, f"/admin/forward-auth{path}", headers=headers)
        assert response.status_code == 200, path
        assert response.content == b""
        assert response.headers["x-consumer-id"] == str(parties.clinic.user_id)
        assert response.headers["x-consumer-scope"] == SCOPE
        assert response.headers["x-request-id"] == "a-request-of-some-length"
        assert json.loads(response.headers["x-consumer-metadata"]) == {
            "client_id": str(parties.clinic.id),
            "scope": SCOPE,
            "broker_scope": "connection:read connection:write",
        }
        assert response.headers["x-person-id"] == ""
        assert value not in str(response.headers)


async def test_what_envoy_sends_for_a_request_is_judged_by_its_own_scope_alone(
    internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    """With the prefix of docs/gateways.md, to which Envoy appends path and query of its caller as they are."""
    (prefix,) = re.findall(r'path_prefix: "([^"]+)"', (repository() / "docs/gateways.md").read_text())
    good = await factories.token(db, client=parties.tool, scope="employee:read")
    poor = await factories.token(db, client=parties.tool, scope="employee:write")
    for asked in (
        *("/", "/api/employees", "/api/employees/?page=1&page=2", "/?a", "/?", "//", "/%2F%00", "/a;b=c?d[]=e&&f=&=g"),
        *("/?scope=employee:write", "/?scope=%00", "/&scope=employee:write", "/?x=1&scopes=a&original=/b&scope=%D1%8F"),
    ):
        for method in ("GET", "POST", "DELETE"):
            passed = await internal.request(method, prefix + asked, headers=bearer(good))
            assert (passed.status_code, passed.headers.get("x-consumer-scope")) == (200, "employee:read"), asked
            assert (await internal.request(method, prefix + asked, headers=bearer(poor))).status_code == 403, asked
            assert (await internal.request(method, prefix + asked)).status_code == 401, asked


# What the HTTP parser knows of the registry of methods, and what caches and discovery protocols use besides.
METHODS = [
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "ACL", "BIND", "CHECKOUT", "COPY"),
    *("LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "REBIND"),
    *("REPORT", "SEARCH", "UNBIND", "UNLINK", "UNLOCK", "M-SEARCH", "NOTIFY", "PURGE", "SOURCE", "SUBSCRIBE"),
    "UNSUBSCRIBE",
]


@pytest.mark.parametrize("method", METHODS)
async def test_forward_auth_answers_every_method(server: Server, db: Db, parties: Parties, method: str) -> None:
    """Some proxies ask with the method of their caller."""
    value = await factories.token(db, client=parties.tool, scope=SCOPE)
    async with httpx.AsyncClient(base_url=server.internal_url) as asking:
        for path in ("", "/api/clients"):
            passed = await asking.request(method, f"/admin/forward-auth{path}", headers=bearer(value))
            assert (passed.status_code, passed.headers["x-consumer-scope"]) == (200, SCOPE)
            assert (await asking.request(method, f"/admin/forward-auth{path}")).status_code == 401
            poor = f"/admin/forward-auth{path}?scope=connection:delete"
            assert (await asking.request(method, poor, headers=bearer(value))).status_code == 403


async def test_forward_auth_answers_for_a_path_with_a_line_break(server: Server, db: Db, parties: Parties) -> None:
    value = await factories.token(db, client=parties.tool, scope=SCOPE)
    async with httpx.AsyncClient(base_url=server.internal_url) as asking:
        assert (await asking.get("/admin/forward-auth/a%0Ab", headers=bearer(value))).status_code == 200
        assert (await asking.get("/admin/forward-auth/a%0Ab")).status_code == 401


@pytest.mark.parametrize("method", ["FOO", "UPDATE", "VERSION-CONTROL", "CONNECT"])
async def test_forward_auth_passes_no_request_of_a_method_that_the_parser_does_not_know(
    server: Server, db: Db, parties: Parties, method: str
) -> None:
    value = await factories.token(db, client=parties.tool, scope=SCOPE)
    async with httpx.AsyncClient(base_url=server.internal_url) as asking:
        refused = await asking.request(method, "/admin/forward-auth", headers=bearer(value))
        assert (refused.status_code, refused.json()["error"]["invalid"][0]["rules"][0]["rule"]) == (400, "http")


@pytest.mark.parametrize(
    ("person_id", "sent"),
    [
        ("0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01", "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01"),
        ("", ""),
        ("Ї-1", ""),
        ("1\r\nX-Consumer-Id: 2", ""),
    ],
)
async def test_forward_auth_names_the_person(
    internal: httpx.AsyncClient, db: Db, parties: Parties, person_id: str, sent: str
) -> None:
    value = await factories.token(db, client=parties.tool)
    await db.execute("UPDATE users SET person_id = $2 WHERE id = $1", parties.tool.user_id, person_id)
    response = await internal.get("/admin/forward-auth", headers=bearer(value))
    assert response.headers["x-person-id"] == sent
    assert response.headers["x-consumer-id"] == str(parties.tool.user_id)


async def test_forward_auth_refuses_with_401_and_403_only(
    internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    value = await factories.token(db, client=parties.clinic, scope=SCOPE)
    denied = (401, "access_denied", "Access denied")

    async def asked(query: str = "", **headers: str) -> tuple[int, str, str | None]:
        return refusal(await internal.get(f"/admin/forward-auth{query}", headers=headers))

    assert await asked() == denied
    assert await asked(authorization="Bearer nobody") == denied
    assert await asked(authorization=f"Bearer {value}") == denied
    right = bearer(value, api_key=parties.key)
    assert await asked("?scope=connection:delete", **right) == (403, "forbidden", "Invalid scopes")
    assert await asked("?scope=connection:read%20connection:delete", **right) == (403, "forbidden", "Invalid scopes")
    assert await asked("?scope=connection:delete&scope=connection:read", **right) == (
        403,
        "forbidden",
        "Invalid scopes",
    )


async def test_a_scope_that_is_not_ascii_is_omitted_from_the_header(
    internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    value = await factories.token(db, client=parties.tool, scope="a:b довідник:читати c:d")
    response = await internal.get("/admin/forward-auth", headers=bearer(value))
    assert response.headers["x-consumer-scope"] == "a:b c:d"


async def test_the_key_of_the_internal_listener_is_required(server: Server, db: Db, parties: Parties) -> None:
    value = await factories.token(db, client=parties.tool)
    with running_server(database_url=server.database_url, internal_key="the key of a test") as guarded:
        async with httpx.AsyncClient(base_url=guarded.internal_url) as client:
            url = f"/admin/tokens/{value}/verify"
            assert (await client.get(url)).status_code == 401
            assert (await client.get(url, headers={"x-mithril-key": "another"})).status_code == 401
            assert (await client.get(url, headers={"x-mithril-key": "the key of a test"})).status_code == 200


async def test_a_blocked_or_revoked_token_is_refused_at_once(
    server: Server, internal: httpx.AsyncClient, db: Db, parties: Parties
) -> None:
    """The change is made by another process, so this one cannot have cached anything."""
    value = await factories.token(db, client=parties.tool)
    assert (await verify(internal, value)).status_code == 200
    other = await asyncpg.connect(server.database_url)
    await other.execute("UPDATE clients SET is_blocked = true WHERE id = $1", parties.tool.id)
    await other.close()
    assert refusal(await verify(internal, value)) == CLIENT


@pytest.mark.slow
async def test_simultaneous_verifications_get_their_own_answers(internal: httpx.AsyncClient, db: Db) -> None:
    """Valid and invalid tokens of many clients, each verified twice."""
    owners = [await factories.client(db, is_blocked=number % 3 == 0) for number in range(30)]
    values = [await factories.token(db, client=owner) for owner in owners]
    asking = [verify(internal, value) for value in [*values, "unknown", *reversed(values)]]
    answers = await asyncio.gather(*asking)
    assert answers[30].status_code == 404
    for owner, *both in zip(owners, answers[:30], reversed(answers[31:]), strict=True):
        for answer in both:
            if answer.status_code == 200:
                assert answer.json()["data"]["user_id"] == str(owner.user_id)
            else:
                assert refusal(answer) == CLIENT
    assert [answer.status_code for answer in answers[:30]] == [401, 200, 200] * 10


async def test_verification_is_one_statement(server: Server, monkeypatch: pytest.MonkeyPatch, db: Db) -> None:
    """The one statement reads everything that verify needs."""
    asked: list[Lookup] = []
    look_up = Database.look_up

    async def noted(self: Database, lookup: Lookup, *arguments: object) -> Found:
        asked.append(lookup)
        return await look_up(self, lookup, *arguments)

    monkeypatch.setattr(Database, "look_up", noted)
    for other in ("connection", "fetchrow"):
        monkeypatch.setattr(Database, other, None)
    value = await factories.token(db, client=await factories.client(db))
    async with httpx.AsyncClient(base_url=server.internal_url) as client:
        assert (await client.get(f"/admin/tokens/{value}/verify")).status_code == 200
    assert asked == [tokens.FIND_PRESENTED]
