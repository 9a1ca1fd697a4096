"""The whole flow of the ESOZ routes over real HTTP, and each refusal of each route in its order."""

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from mithril import security
from support import factories, oauth_world
from support.factories import Db, bearer
from support.oauth_world import ADDRESS, ASKED, World, authorize, exchange, invalid, login, may_read, refresh, refusal
from support.servers import Server, demo_server, fresh_database, running_server

pytestmark = pytest.mark.anyio

NOT_FOUND = (401, "token_not_found", "Token not found.")
WRONG_CLIENT = (401, "invalid_client", "Invalid client id or secret.")
WRONG_ADDRESS = "The redirection URI provided does not match a pre-registered value."
REVOKED = (401, "access_denied", "Resource owner revoked access for the client.")
NEW_ADDRESS = "https://mis.example.com/moved"
JWT_SECRET = "a key of the tests that is long enough for HS512, sixty-four bytes"


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server that can sign nonces."""
    with fresh_database(postgres) as url, running_server(database_url=url, jwt_secret=JWT_SECRET) as running:
        yield running


async def expire(db: Db, value: str) -> None:
    await db.execute("UPDATE tokens SET expires_at = now() WHERE digest = $1", security.digest(value))


async def approval_of(db: Db, world: World) -> UUID:
    """Return the id of the one approval of the user for the clinic."""
    statement = "SELECT id FROM apps WHERE user_id = $1 AND client_id = $2"
    found: UUID = await db.fetchval(statement, world.user_id, world.clinic.id)
    return found


async def move(http: httpx.AsyncClient, world: World, access_token: str, address: str = NEW_ADDRESS) -> None:
    headers = bearer(access_token, api_key=world.key)
    response = await http.patch(world.link.path, json={"redirect_uri": address}, headers=headers)
    assert response.status_code == 200


# The whole flow


async def test_login_approval_exchange_call_refresh_and_logout(http: httpx.AsyncClient, world: World) -> None:
    session = (await login(http, world)).json()["data"]["value"]
    code = (await authorize(http, world, session)).json()["data"]["value"]
    granted = (await exchange(http, world, code)).json()["data"]
    await move(http, world, granted["value"])

    renewed = (await refresh(http, world, granted["details"]["refresh_token"])).json()["data"]
    assert await may_read(http, world, renewed["value"])

    response = await http.post("/auth/logout", headers=bearer(renewed["value"], api_key=world.key))
    assert response.status_code == 200
    assert set(response.json()) == {"meta"}
    assert not await may_read(http, world, renewed["value"])
    ended = await refresh(http, world, granted["details"]["refresh_token"])
    assert refusal(ended) == (401, "token_expired", "Token expired.")


async def test_the_answers_of_the_flow_have_no_other_parts_than_the_published_ones(
    http: httpx.AsyncClient, world: World
) -> None:
    """A client in a typed language reads each part of an answer as one type: an unexpected one breaks it."""
    answers = [await login(http, world)]
    answers.append(await authorize(http, world, answers[0].json()["data"]["value"]))
    answers.append(await exchange(http, world, answers[1].json()["data"]["value"]))
    answers.append(await refresh(http, world, answers[2].json()["data"]["details"]["refresh_token"]))
    headers = bearer(answers[3].json()["data"]["value"], api_key=world.key)
    answers += [await http.get(path, headers=headers) for path in ("/oauth/user", "/api/user/roles")]
    answers.append(await http.post("/auth/logout", headers=headers))
    parts = [set(answer.json()) - {"meta"} for answer in answers]
    assert parts == [{"data", "urgent"}, {"data", "urgent"}, *[{"data"}] * 4, set()]
    assert [list(answer.json()["urgent"]) for answer in answers[:2]] == [["next_step"], ["redirect_uri"]]


def test_the_flow_works_with_the_demo_data(postgres: str) -> None:
    clinic, key = {"client_id": "1380df72-275a-11e7-93ae-92361f002671"}, "uXhEczJ56adsfh3Ri9SUkc4en"
    person = {"email": "owner@clinic.example", "password": "Demo-Password-1"}
    front = {"client_id": "e2e1d2c8-9bac-43c6-adef-83239940b30a", "scope": "app:authorize"}
    proof = clinic | {"client_secret": "ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09"}
    at = {"redirect_uri": "https://example2.com"}
    connection = f"/api/clients/{clinic['client_id']}/connections/e5372365-d47a-467f-81d0-f35117864352"
    with demo_server(postgres) as running, httpx.Client(base_url=running.url) as http:

        def call(path: str, wrapper: str, fields: dict[str, str], **headers: str) -> Any:
            response = http.post(path, json={wrapper: fields}, headers=headers)
            assert response.status_code == 201, response.text
            return response.json()["data"]

        session = call("/auth/login", "token", {"grant_type": "password"} | person | front)["value"]
        app = clinic | at | {"scope": "connection:write legal_entity:read"}
        code = call("/oauth/apps/authorize", "app", app, **bearer(session))["value"]
        granted = call("/oauth/tokens", "token", {"grant_type": "authorization_code", "code": code} | proof | at)
        moved = http.patch(
            connection, json={"redirect_uri": NEW_ADDRESS}, headers=bearer(granted["value"], api_key=key)
        )
        assert (moved.status_code, moved.json()["data"]["redirect_uri"]) == (200, NEW_ADDRESS)
        renewal = {"grant_type": "refresh_token", "refresh_token": granted["details"]["refresh_token"]}
        renewed = call("/oauth/tokens", "token", renewal | proof)["value"]
        assert http.post("/auth/logout", headers=bearer(renewed)).status_code == 200
        assert http.get(connection, headers=bearer(renewed, api_key=key)).status_code == 401
        assert http.post("/oauth/tokens", json={"token": renewal | proof}).status_code == 401


async def test_no_issued_value_is_in_the_database_as_text(http: httpx.AsyncClient, db: Db, world: World) -> None:
    session = (await login(http, world)).json()["data"]["value"]
    code = (await authorize(http, world, session)).json()["data"]["value"]
    granted = (await exchange(http, world, code)).json()["data"]
    tables = [row[0] for row in await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    rows = [str(row[0]) for table in tables for row in await db.fetch(f"SELECT t::text FROM {table} t")]
    text = "\n".join(rows)
    assert str(world.user_id) in text
    secrets = [session, code, granted["value"], granted["details"]["refresh_token"], world.link.secret]
    for secret in [*secrets, oauth_world.PASSWORD]:
        assert secret not in text


# POST /oauth/apps/authorize


async def test_an_authorization_issues_a_code_and_names_the_redirect_uri(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    began = int(time.time())
    response = await authorize(http, world, await oauth_world.session_of(db, world))
    body = response.json()
    code, location = body["data"]["value"], response.headers["location"]
    assert response.status_code == 201
    assert location == f"https://mis.example.com/callback?code={code}&clinic=7"
    assert body["urgent"] == {"redirect_uri": location}
    assert list(body["data"]) == ["id", "name", "value", "expires_at", "user_id", "details"]
    assert body["data"]["name"] == "authorization_code"
    assert body["data"]["user_id"] == str(world.user_id)
    assert began + 300 <= body["data"]["expires_at"] <= time.time() + 300
    assert list(body["data"]["details"].items()) == [
        ("app_id", str(await approval_of(db, world))),
        ("client_id", str(world.clinic.id)),
        ("grant_type", "password"),
        ("redirect_uri", ADDRESS),
        ("scope_request", ASKED),
    ]
    assert response.headers["cache-control"] == "no-store"


async def test_an_approval_grows_and_never_shrinks(http: httpx.AsyncClient, db: Db, world: World) -> None:
    for scope in ("legal_entity:read", "employee:read", "legal_entity:read"):
        await oauth_world.code_of(http, db, world, scope=scope)
    approved = await db.fetch("SELECT scope FROM apps WHERE user_id = $1", world.user_id)
    assert [row["scope"] for row in approved] == ["employee:read legal_entity:read"]
    events = await db.fetch("SELECT * FROM audit_events WHERE client_id = $1 ORDER BY id", world.clinic.id)
    assert [event["action"] for event in events] == ["approval.create", "approval.update"]
    assert {(event["actor_user_id"], event["actor_client_id"]) for event in events} == {(world.user_id, world.front.id)}


async def test_an_approval_keeps_its_id_and_tokens_name_it(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, world: World
) -> None:
    other = await oauth_world.make(db)
    await oauth_world.code_of(http, db, other)
    session = await oauth_world.session_of(db, world)
    codes = [(await authorize(http, world, session, scope=s)).json()["data"] for s in (ASKED, ASKED, "employee:read")]
    approval_id = str(await approval_of(db, world))
    assert [code["details"]["app_id"] for code in codes] == [approval_id] * 3
    granted = (await exchange(http, world, codes[0]["value"])).json()["data"]
    renewed = (await refresh(http, world, granted["details"]["refresh_token"])).json()["data"]
    for token in (granted, renewed):
        assert token["details"]["app_id"] == approval_id
        shown = await internal.get(f"/admin/tokens/{token['value']}/verify", headers={"api-key": world.key})
        assert shown.json()["data"]["details"]["app_id"] == approval_id
        assert granted["details"]["refresh_token"] not in shown.text
    assert "app_id" not in (await login(http, world)).json()["data"]["details"]


async def test_the_tokens_of_an_approval_that_was_given_again_name_the_new_one(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    await oauth_world.code_of(http, db, world)
    before = await approval_of(db, world)
    await db.execute("DELETE FROM apps WHERE id = $1", before)
    granted = (await exchange(http, world, await oauth_world.code_of(http, db, world))).json()["data"]
    assert granted["details"]["app_id"] == str(await approval_of(db, world)) != str(before)
    # A refresh token of an older version does not note it.
    await db.execute("UPDATE tokens SET details = details - 'app_id' WHERE user_id = $1", world.user_id)
    renewed = (await refresh(http, world, granted["details"]["refresh_token"])).json()["data"]
    assert renewed["details"]["app_id"] == granted["details"]["app_id"]


async def test_simultaneous_approvals_keep_all_scopes(http: httpx.AsyncClient, db: Db, world: World) -> None:
    scopes = oauth_world.CLINIC_SCOPE.split()
    session = await oauth_world.session_of(db, world)
    answers = await asyncio.gather(*(authorize(http, world, session, scope=scope) for scope in scopes))
    assert {answer.status_code for answer in answers} == {201}
    approved = await db.fetchval("SELECT scope FROM apps WHERE user_id = $1", world.user_id)
    assert sorted(approved.split()) == sorted(scopes)


async def test_global_roles_count_too(http: httpx.AsyncClient, db: Db, world: World) -> None:
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    await oauth_world.give_role(db, world.user_id, None, scope=ASKED)
    assert await oauth_world.code_of(http, db, world)


async def test_the_user_id_of_the_body_is_ignored(http: httpx.AsyncClient, db: Db, world: World) -> None:
    other, _ = await oauth_world.person(db)
    session = await oauth_world.session_of(db, world)
    response = await authorize(http, world, session, user_id=str(other))
    assert response.json()["data"]["user_id"] == str(world.user_id)


async def test_each_refusal_of_an_approval_in_its_order(http: httpx.AsyncClient, db: Db, world: World) -> None:
    """At each step everything that is checked later is wrong too."""
    blocked = await factories.client(db, is_blocked=True)
    session = await oauth_world.session_of(db, world)
    reader = await oauth_world.session_of(db, world, scope="client:read")
    wrong = {"client_id": str(uuid4()), "redirect_uri": "https://evil.example", "scope": ""}

    async def attempt(**changes: object) -> tuple[int, str, str | None]:
        return refusal(await authorize(http, world, session, **(wrong | changes)))

    assert refusal(await http.post("/oauth/apps/authorize", content=b"{")) == (401, "access_denied", "Access denied")
    assert refusal(await authorize(http, world, reader, **wrong)) == (403, "forbidden", "Invalid scopes")
    empty = await http.post("/oauth/apps/authorize", json={}, headers=bearer(session))
    assert empty.status_code == 400
    assert await attempt() == (401, "access_denied", "Invalid client id.")
    assert await attempt(client_id=str(blocked.id)) == (401, "access_denied", "Client is blocked.")
    known = {"client_id": str(world.clinic.id)}
    assert await attempt(**known) == (401, "access_denied", WRONG_ADDRESS)
    right = known | {"redirect_uri": ADDRESS}
    none = "Requested scope is empty. Scope not passed or user has no roles or global roles."
    assert await attempt(**right) == (422, "request_malformed", none)
    of_type = "Scope is not allowed by client type."
    assert await attempt(**right, scope="legal_entity:read no:such") == (422, "request_malformed", of_type)
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    of_roles = "User requested scope that is not allowed by role based access policies."
    assert await attempt(**right, scope="legal_entity:read") == (422, "request_malformed", of_roles)
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", world.user_id) == 0


async def test_fields_of_an_approval_are_named_without_the_wrapper(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    session = await oauth_world.session_of(db, world)
    response = await authorize(http, world, session, redirect_uri=" ", client_id="no-uuid", scope=7)
    assert invalid(response) == {"$.client_id": ["cast"], "$.redirect_uri": ["required"], "$.scope": ["cast"]}
    assert response.json()["error"]["invalid"][:2] == [
        {
            "entry": "$.client_id",
            "entry_type": "json_data_property",
            "rules": [{"rule": "cast", "description": "is invalid", "params": ["Elixir.Ecto.UUID"]}],
        },
        {
            "entry": "$.redirect_uri",
            "entry_type": "json_data_property",
            "rules": [{"rule": "required", "description": "can't be blank", "params": []}],
        },
    ]


@pytest.mark.parametrize(
    "address",
    [
        ADDRESS + "/",
        ADDRESS.upper(),
        ADDRESS + "&x=1",
        ADDRESS + "#",
        f"https://evil.example/{ADDRESS}",
        "https://mis.example.com/callback",
    ],
)
async def test_only_the_exact_redirect_uri_is_accepted(
    http: httpx.AsyncClient, db: Db, world: World, address: str
) -> None:
    session = await oauth_world.session_of(db, world)
    response = await authorize(http, world, session, redirect_uri=address)
    assert refusal(response) == (401, "access_denied", WRONG_ADDRESS)


async def test_a_redirect_uri_with_a_null_character_is_refused(http: httpx.AsyncClient, db: Db, world: World) -> None:
    session = await oauth_world.session_of(db, world)
    assert invalid(await authorize(http, world, session, redirect_uri="\0")) == {"$.redirect_uri": ["format"]}


def test_a_trusted_client_may_omit_the_scope(postgres: str) -> None:
    with fresh_database(postgres) as url:
        world, session = asyncio.run(made(url))
        trusted = (str(world.clinic.id).upper(),)
        app = {"client_id": str(world.clinic.id), "redirect_uri": ADDRESS}
        with running_server(database_url=url, trusted_client_ids=trusted) as running:
            address = f"{running.url}/oauth/apps/authorize"
            response = httpx.post(address, json={"app": app}, headers=bearer(session))
    assert response.json()["data"]["details"]["scope_request"] == oauth_world.CLINIC_SCOPE


async def made(url: str) -> tuple[World, str]:
    """Add a world in another database, and a session in it."""
    db = await asyncpg.connect(url)
    world = await oauth_world.make(db)
    session = await oauth_world.session_of(db, world)
    await db.close()
    return world, session


# The same on the internal listener


async def test_the_internal_listener_takes_the_user_from_a_header(server: Server, db: Db, world: World) -> None:
    other, _ = await oauth_world.person(db)
    app = {"client_id": str(world.clinic.id), "redirect_uri": ADDRESS, "scope": ASKED, "user_id": str(other)}
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:

        async def attempt(app: object, **headers: str) -> httpx.Response:
            return await internal.post("/oauth/apps/authorize", json={"app": app}, headers=headers)

        missing = (401, "access_denied", "Missing header x-consumer-id")
        assert refusal(await attempt("nothing")) == missing
        assert (await attempt("nothing", **{"X-Consumer-Id": "x"})).status_code == 400
        bad = await attempt({}, **{"X-Consumer-Id": "x"})
        assert invalid(bad) == {"$.client_id": ["required"], "$.redirect_uri": ["required"], "$.user_id": ["cast"]}
        unknown = await attempt(app, **{"X-Consumer-Id": str(uuid4())})
        assert refusal(unknown) == (401, "access_denied", "User not found.")
        response = await attempt(app, **{"X-Consumer-Id": str(world.user_id)})
        await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", world.user_id)
        blocked = await attempt(app, **{"X-Consumer-Id": str(world.user_id)})
    assert response.status_code == 201
    assert response.json()["data"]["user_id"] == str(world.user_id)
    assert refusal(blocked) == (401, "user_blocked", "User blocked.")


async def test_the_public_listener_ignores_the_user_header(http: httpx.AsyncClient, world: World) -> None:
    app = {"client_id": str(world.clinic.id), "redirect_uri": ADDRESS, "scope": ASKED}
    response = await http.post(
        "/oauth/apps/authorize", json={"app": app}, headers={"X-Consumer-Id": str(world.user_id)}
    )
    assert refusal(response) == (401, "access_denied", "Access denied")


@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token"])
async def test_a_token_of_a_program_does_not_authorize(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, world: World, grant_type: str
) -> None:
    value, expires_at = str(uuid4()), int(time.time()) + 60
    details = {"client_id": str(world.front.id), "scope": "app:authorize", "grant_type": grant_type}
    by_hand = {"name": "access_token", "value": value, "user_id": str(world.user_id), "details": details}
    made = await internal.post("/admin/tokens", json={"token": by_hand | {"expires_at": expires_at}})
    assert made.status_code == 201, made.text
    response = await authorize(http, world, value)
    assert refusal(response) == (403, "forbidden", "Invalid scopes")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", world.user_id) == 0


async def test_a_program_does_not_widen_its_own_approval(http: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db, is_brokered=False)
    given = await oauth_world.tokens_of(http, db, world, scope="app:authorize legal_entity:read")
    renewed = (await refresh(http, world, given[1])).json()["data"]["value"]
    for value in (given[0], renewed):
        response = await authorize(http, world, value, scope="connection:write")
        assert refusal(response) == (403, "forbidden", "Invalid scopes")
    approved = await db.fetchval("SELECT scope FROM apps WHERE user_id = $1", world.user_id)
    assert approved == "app:authorize legal_entity:read"


# POST /oauth/tokens, authorization_code


async def test_a_code_is_exchanged_for_an_access_and_a_refresh_token(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    began = int(time.time())
    response = await exchange(http, world, await oauth_world.code_of(http, db, world), scope="ignored", unknown=1)
    data = response.json()["data"]
    assert response.status_code == 201
    assert set(response.json()) == {"meta", "data"}
    assert data["name"] == "access_token"
    assert began + 3600 <= data["expires_at"] <= time.time() + 3600
    details = data["details"]
    assert list(details.items()) == [
        ("app_id", str(await approval_of(db, world))),
        ("grant_type", "authorization_code"),
        ("client_id", str(world.clinic.id)),
        ("scope", ASKED),
        ("refresh_token", details["refresh_token"]),
        ("redirect_uri", ADDRESS),
    ]
    assert len({data["value"], details["refresh_token"]}) == 2
    assert "location" not in response.headers
    assert await may_read(http, world, data["value"])


async def test_each_refusal_of_a_code_in_its_order(http: httpx.AsyncClient, db: Db, world: World) -> None:
    """At each step everything that is checked later is wrong too."""
    other = await oauth_world.make(db)
    code = await oauth_world.code_of(http, db, world)
    foreign, old = await oauth_world.code_of(http, db, other), await oauth_world.code_of(http, db, world)
    await expire(db, old)
    await db.execute("DELETE FROM apps WHERE user_id = $1", world.user_id)
    elsewhere = {"redirect_uri": "https://evil.example"}

    bare = await http.post("/oauth/tokens", json={"client_id": "x"})
    assert refusal(bare)[:2] == (400, "request_malformed")
    assert invalid(await exchange(http, world, "", client_secret=None, redirect_uri=5)) == {
        "$.client_secret": ["required"],
        "$.code": ["required"],
        "$.redirect_uri": ["cast"],
    }
    for wrong in ({"client_id": "no-uuid"}, {"client_id": str(uuid4())}, {"client_secret": other.link.secret}):
        assert refusal(await exchange(http, world, "no-such-code", **elsewhere, **wrong)) == WRONG_CLIENT
    assert refusal(await exchange(http, world, "no-such-code", **elsewhere)) == NOT_FOUND
    not_theirs = (401, "invalid_grant", "Token not found or expired.")
    assert refusal(await exchange(http, world, foreign, **elsewhere)) == not_theirs
    assert refusal(await exchange(http, world, old, **elsewhere)) == (401, "token_expired", "Token expired.")
    assert refusal(await exchange(http, world, code, **elsewhere)) == (401, "invalid_client", WRONG_ADDRESS)
    assert refusal(await exchange(http, world, code)) == REVOKED


async def test_no_other_kind_of_token_is_accepted_as_a_code(http: httpx.AsyncClient, db: Db, world: World) -> None:
    access_token, refresh_token = await oauth_world.tokens_of(http, db, world)
    for value in (access_token, refresh_token):
        assert refusal(await exchange(http, world, value)) == NOT_FOUND
    code = await oauth_world.code_of(http, db, world)
    for value in (access_token, code):
        assert refusal(await refresh(http, world, value)) == NOT_FOUND


async def test_the_secret_of_another_connection_does_not_redeem_the_code(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    """Both connections belong to the client; the code was sent to the redirect URI of one of them."""
    own = await factories.connection(db, client_id=world.clinic.id, redirect_uri="https://other.example/callback")
    code = await oauth_world.code_of(http, db, world)
    response = await exchange(http, world, code, client_secret=own.secret)
    assert refusal(response) == (401, "invalid_client", WRONG_ADDRESS)
    assert (await exchange(http, world, code)).status_code == 201


async def test_the_previous_secret_works_until_it_expires(http: httpx.AsyncClient, db: Db, world: World) -> None:
    statement = (
        "UPDATE connections SET previous_secret_digest = secret_digest, secret_digest = $2,"
        " previous_secret_expires_at = now() + $3::interval WHERE id = $1"
    )
    code = await oauth_world.code_of(http, db, world)
    await db.execute(statement, world.link.id, security.digest("new"), timedelta(minutes=5))
    granted = await exchange(http, world, code)
    assert granted.status_code == 201
    refresh_token = granted.json()["data"]["details"]["refresh_token"]
    assert (await refresh(http, world, refresh_token)).status_code == 201
    assert (await refresh(http, world, refresh_token, client_secret="new")).status_code == 201
    await db.execute("UPDATE connections SET previous_secret_expires_at = now() WHERE id = $1", world.link.id)
    assert refusal(await refresh(http, world, refresh_token)) == WRONG_CLIENT


async def test_of_simultaneous_redemptions_of_one_code_one_succeeds(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    code = await oauth_world.code_of(http, db, world)
    answers = await asyncio.gather(*(exchange(http, world, code) for _ in range(32)))
    used = (401, "access_denied", "Token has already been used.")
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 31
    assert {refusal(answer) for answer in answers if answer.status_code == 401} == {used}
    names = await db.fetch(
        "SELECT name FROM tokens WHERE client_id = $1 AND name <> 'authorization_code'", world.clinic.id
    )
    assert sorted(row["name"] for row in names) == ["access_token", "refresh_token"]


async def test_reuse_of_a_code_revokes_its_tokens(http: httpx.AsyncClient, db: Db, world: World) -> None:
    code = await oauth_world.code_of(http, db, world)
    granted = (await exchange(http, world, code)).json()["data"]
    renewed = (await refresh(http, world, granted["details"]["refresh_token"])).json()["data"]["value"]
    bystander, _ = await oauth_world.tokens_of(http, db, world)
    assert await may_read(http, world, granted["value"])
    assert refusal(await exchange(http, world, code)) == (401, "access_denied", "Token has already been used.")
    assert not await may_read(http, world, granted["value"])
    assert not await may_read(http, world, renewed)
    ended = await refresh(http, world, granted["details"]["refresh_token"])
    assert refusal(ended) == (401, "token_expired", "Token expired.")
    assert await may_read(http, world, bystander)


# Effects of a changed redirect URI


async def test_a_code_for_a_changed_redirect_uri_is_refused(http: httpx.AsyncClient, db: Db, world: World) -> None:
    access_token, refresh_token = await oauth_world.tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    await move(http, world, access_token)
    for address in (ADDRESS, NEW_ADDRESS):
        response = await exchange(http, world, code, redirect_uri=address)
        assert refusal(response) == (401, "invalid_client", WRONG_ADDRESS)
    assert await may_read(http, world, access_token)
    assert (await refresh(http, world, refresh_token)).status_code == 201


@pytest.mark.parametrize("way", ["PATCH", "PUT"])
async def test_a_code_stays_revoked_when_the_redirect_uri_is_changed_back(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, world: World, way: str
) -> None:
    access_token, _ = await oauth_world.tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    for address in (NEW_ADDRESS, ADDRESS):
        if way == "PATCH":
            await move(http, world, access_token, address)
        else:
            path = f"/admin/clients/{world.clinic.id}/connections"
            changed = {"consumer_id": str(world.link.consumer_id), "redirect_uri": address}
            assert (await internal.put(path, json=changed)).status_code == 200
    assert refusal(await exchange(http, world, code)) == (401, "invalid_client", WRONG_ADDRESS)
    assert (await exchange(http, world, await oauth_world.code_of(http, db, world))).status_code == 201


async def test_reuse_of_a_code_revokes_its_tokens_also_after_the_redirect_uri_was_changed_back(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    mover, _ = await oauth_world.tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    given = (await exchange(http, world, code)).json()["data"]["value"]
    for address in (NEW_ADDRESS, ADDRESS):
        await move(http, world, mover, address)
    assert refusal(await exchange(http, world, code)) == (401, "access_denied", "Token has already been used.")
    assert not await may_read(http, world, given)


async def test_a_change_that_keeps_the_redirect_uri_does_not_revoke_codes(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    access_token, _ = await oauth_world.tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    await move(http, world, access_token, ADDRESS)
    assert (await exchange(http, world, code)).status_code == 201


async def test_a_changed_redirect_uri_works_at_once_and_the_old_one_does_not(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    access_token, _ = await oauth_world.tokens_of(http, db, world)
    await move(http, world, access_token)
    session = await oauth_world.session_of(db, world)
    assert refusal(await authorize(http, world, session)) == (401, "access_denied", WRONG_ADDRESS)
    code = await oauth_world.code_of(http, db, world, redirect_uri=NEW_ADDRESS)
    response = await exchange(http, world, code, redirect_uri=NEW_ADDRESS)
    assert response.status_code == 201
    assert response.json()["data"]["details"]["redirect_uri"] == NEW_ADDRESS


# POST /oauth/tokens, refresh_token


async def test_a_refresh_token_issues_an_access_token_and_stays_active(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    access_token, refresh_token = await oauth_world.tokens_of(http, db, world)
    first, second = await refresh(http, world, refresh_token), await refresh(http, world, refresh_token)
    assert (first.status_code, second.status_code) == (201, 201)
    data = first.json()["data"]
    assert list(data["details"].items()) == [
        ("app_id", str(await approval_of(db, world))),
        ("grant_type", "refresh_token"),
        ("client_id", str(world.clinic.id)),
        ("scope", ASKED),
        ("refresh_token", refresh_token),
    ]
    assert data["name"] == "access_token"
    for value in (access_token, data["value"], second.json()["data"]["value"]):
        assert await may_read(http, world, value)


async def test_each_refusal_of_a_refresh_in_its_order(http: httpx.AsyncClient, db: Db, world: World) -> None:
    other = await oauth_world.make(db)
    _, foreign = await oauth_world.tokens_of(http, db, other)
    _, old = await oauth_world.tokens_of(http, db, world)
    _, mine = await oauth_world.tokens_of(http, db, world)
    await expire(db, old)
    await db.execute("DELETE FROM apps WHERE user_id = $1", world.user_id)

    fields = await refresh(http, world, "", client_id=None, client_secret=[])
    assert invalid(fields) == {
        "$.client_id": ["required"],
        "$.client_secret": ["cast"],
        "$.refresh_token": ["required"],
    }
    assert refusal(await refresh(http, world, "no-such-token", client_secret="wrong")) == WRONG_CLIENT
    assert refusal(await refresh(http, world, "no-such-token")) == NOT_FOUND
    assert refusal(await refresh(http, world, foreign)) == (401, "invalid_grant", "Token not found or expired.")
    assert refusal(await refresh(http, world, old)) == (401, "token_expired", "Token expired.")
    assert refusal(await refresh(http, world, mine)) == REVOKED


async def test_a_refresh_is_never_wider_than_the_grant(http: httpx.AsyncClient, db: Db, world: World) -> None:
    _, refresh_token = await oauth_world.tokens_of(http, db, world, scope="legal_entity:read")
    await oauth_world.code_of(http, db, world, scope="connection:write employee:read")
    renewed = (await refresh(http, world, refresh_token)).json()["data"]
    assert renewed["details"]["scope"] == "legal_entity:read"


async def test_a_refresh_is_narrowed_to_the_scope_of_the_roles(http: httpx.AsyncClient, db: Db, world: World) -> None:
    _, refresh_token = await oauth_world.tokens_of(http, db, world)
    before = await db.fetchval("SELECT array_agg(id) FROM user_roles WHERE user_id = $1", world.user_id)
    await oauth_world.give_role(db, world.user_id, world.clinic.id, scope="legal_entity:read employee:read")
    await db.execute("DELETE FROM user_roles WHERE id = ANY ($1)", before)
    assert (await refresh(http, world, refresh_token)).json()["data"]["details"]["scope"] == "legal_entity:read"
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    assert refusal(await refresh(http, world, refresh_token)) == REVOKED


async def test_a_refresh_is_narrowed_to_the_scope_of_the_client_type(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    _, refresh_token = await oauth_world.tokens_of(http, db, world)
    narrow = await db.fetchval("INSERT INTO client_types (name, scope) VALUES ($1, $2) RETURNING id", str(uuid4()), "a")
    await db.execute("UPDATE clients SET client_type_id = $2 WHERE id = $1", world.clinic.id, narrow)
    assert refusal(await refresh(http, world, refresh_token)) == REVOKED


@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        ("UPDATE clients SET is_blocked = true WHERE id = $1", (401, "access_denied", "Client is blocked.")),
        (
            "UPDATE users SET is_blocked = true FROM apps WHERE apps.user_id = users.id AND apps.client_id = $1",
            (401, "user_blocked", "User blocked."),
        ),
        ("DELETE FROM apps WHERE client_id = $1", REVOKED),
    ],
)
async def test_blocking_and_revoking_stop_both_grants(
    http: httpx.AsyncClient, db: Db, world: World, statement: str, answer: tuple[int, str, str]
) -> None:
    _, refresh_token = await oauth_world.tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    await db.execute(statement, world.clinic.id)
    assert refusal(await exchange(http, world, code)) == answer
    assert refusal(await refresh(http, world, refresh_token)) == answer


async def test_deleting_a_connection_revokes_its_codes_and_tokens(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    await oauth_world.tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    await db.execute("DELETE FROM connections WHERE id = $1", world.link.id)
    assert refusal(await exchange(http, world, code)) == WRONG_CLIENT
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE client_id = $1", world.clinic.id) == 0


# The grants of a route


@pytest.mark.parametrize("path", ["/auth/login", "/oauth/tokens"])
async def test_a_missing_or_unknown_grant_type_is_refused(http: httpx.AsyncClient, path: str) -> None:
    async def attempt(document: object) -> tuple[int, str, str | None]:
        return refusal(await http.post(path, json=document))

    malformed = (400, "request_malformed", "Malformed request. Probably, you have sent corrupted JSON.")
    malformed_bodies: list[object] = [{}, [], {"token": None}, {"token": "x"}, {"grant_type": "password"}]
    for document in malformed_bodies:
        assert await attempt(document) == malformed
    missing = (422, "request_malformed", "Request must include grant_type.")
    for token in ({}, {"grant_type": None}, {"grant_type": " "}):
        assert await attempt({"token": token}) == missing
    not_allowed = (401, "invalid_grant", "Grant type not allowed.")
    grant_types: list[object] = ["client_credentials", "digital_signature", 1, ["password"]]
    for grant_type in grant_types:
        assert await attempt({"token": {"grant_type": grant_type}}) == not_allowed


async def test_each_route_accepts_only_its_own_grants(http: httpx.AsyncClient, world: World) -> None:
    for path, grant_type in (("/auth/login", "refresh_token"), ("/oauth/tokens", "password")):
        response = await http.post(path, json={"token": {"grant_type": grant_type}})
        assert refusal(response) == (401, "invalid_grant", "Grant type not allowed.")


# POST /auth/logout


async def test_logout_revokes_the_tokens_of_this_session_only(http: httpx.AsyncClient, db: Db, world: World) -> None:
    access_token, refresh_token = await oauth_world.tokens_of(http, db, world)
    renewed = (await refresh(http, world, refresh_token)).json()["data"]["value"]
    other_access, other_refresh = await oauth_world.tokens_of(http, db, world)
    assert (await http.post("/auth/logout", headers=bearer(access_token))).status_code == 200
    assert not await may_read(http, world, access_token)
    assert not await may_read(http, world, renewed)
    assert refusal(await refresh(http, world, refresh_token)) == (401, "token_expired", "Token expired.")
    assert await may_read(http, world, other_access)
    assert (await refresh(http, world, other_refresh)).status_code == 201


async def test_logout_revokes_the_session_token_of_the_login_too(http: httpx.AsyncClient, world: World) -> None:
    session = (await login(http, world)).json()["data"]["value"]
    assert (await http.post("/auth/logout", headers=bearer(session))).status_code == 200
    assert refusal(await authorize(http, world, session)) == (401, "access_denied", "Access denied")


async def test_logout_requires_an_active_access_token(http: httpx.AsyncClient, db: Db, world: World) -> None:
    access_token, refresh_token = await oauth_world.tokens_of(http, db, world)
    missing = await http.post("/auth/logout")
    assert refusal(missing) == (401, "access_denied", "Access denied")
    assert missing.headers["www-authenticate"] == "Bearer"
    await http.post("/auth/logout", headers=bearer(access_token))
    for value in ("no-such-token", access_token, refresh_token):
        response = await http.post("/auth/logout", headers=bearer(value))
        assert refusal(response) == (401, "access_denied", "Invalid access token")
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


# POST /oauth/nonce


async def test_a_nonce_is_a_signed_random_number(http: httpx.AsyncClient, world: World) -> None:
    answers = [await http.post("/oauth/nonce", json={"client_id": str(world.front.id)}) for _ in range(2)]
    tokens = [jwt.decode(a.json()["data"]["token"], OctKey.import_key(JWT_SECRET), ["HS512"]) for a in answers]
    first, second = (token.claims for token in tokens)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert tokens[0].header["alg"] == "HS512"
    assert (first["iss"], first["aud"], first["typ"]) == ("EHealth", "mithril-login", "access")
    assert first["exp"] - first["iat"] == 15 * 60
    assert first["sub"] == first["nonce"]
    assert UUID(first["nonce"]) != UUID(second["nonce"])


async def test_each_refusal_of_a_nonce_in_its_order(http: httpx.AsyncClient, db: Db) -> None:
    blocked = await factories.client(db, is_blocked=True)
    assert invalid(await http.post("/oauth/nonce", json={})) == {"$.client_id": ["required"]}
    assert invalid(await http.post("/oauth/nonce", json={"client_id": "x"})) == {"$.client_id": ["cast"]}
    assert refusal(await http.post("/oauth/nonce", json={"client_id": str(uuid4())})) == (404, "not_found", "Not Found")
    response = await http.post("/oauth/nonce", json={"client_id": str(blocked.id)})
    assert refusal(response) == (401, "access_denied", "Client is blocked")


@pytest.mark.parametrize(("is_demo", "status"), [(False, 503), (True, 200)])
def test_without_a_key_only_demo_issues_nonces(postgres: str, *, is_demo: bool, status: int) -> None:
    with fresh_database(postgres) as url:
        world, _ = asyncio.run(made(url))
        with running_server(database_url=url, demo=is_demo) as running:
            response = httpx.post(f"{running.url}/oauth/nonce", json={"client_id": str(world.front.id)})
    assert response.status_code == status
