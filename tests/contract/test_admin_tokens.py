"""Administration of tokens: `/admin/tokens`, the tokens of a user, and session tokens (rules ADM-15 to ADM-19)."""

import asyncio
import json
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import structlog

from mithril import security
from support import administering, factories, oauth_world, racing
from support.administering import (
    MISSING,
    NO_UUID,
    NOT_FOUND,
    REQUIRED,
    TAKEN,
    cast,
    data_of,
    error_of,
    events,
    invalid,
    is_good,
)
from support.factories import Db

pytestmark = pytest.mark.anyio

TOKENS = "/admin/tokens"
LAST_MOMENT = 253_402_300_799
USER_ID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
NO_USER_ID: dict[str, Any] = {
    "rule": "format",
    "description": "has invalid format",
    "params": [f"~r/{USER_ID_PATTERN}/"],
}
TOO_LATE: dict[str, Any] = {
    "rule": "number",
    "description": f"must be less than or equal to {LAST_MOMENT}",
    "params": {"less_than_or_equal_to": LAST_MOMENT},
}
NOT_ALLOWED: dict[str, Any] = {
    "rule": "inclusion",
    "description": "nothing of it is allowed by client type",
    "params": [],
}
TOO_EARLY: dict[str, Any] = {
    "rule": "number",
    "description": "must be greater than or equal to 0",
    "params": {"greater_than_or_equal_to": 0},
}


def one(token_id: object) -> str:
    return f"{TOKENS}/{token_id}"


async def id_of(db: Db, value: str) -> str:
    return str(await db.fetchval("SELECT id FROM tokens WHERE digest = $1", security.digest(value)))


async def view_of(db: Db, token_id: object) -> dict[str, Any]:
    """Return the fields of the answers from the database."""
    row = await db.fetchrow("SELECT * FROM tokens WHERE id = $1", UUID(str(token_id)))
    assert row is not None
    details = {"client_id": str(row["client_id"]), "scope": row["scope"]} | json.loads(row["details"])
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "expires_at": int(row["expires_at"].timestamp()),
        "user_id": str(row["user_id"]),
        "details": details,
    }


async def fields(db: Db, **changes: Any) -> dict[str, Any]:
    """Return the required fields of a new token."""
    client = await factories.client(db)
    return {
        "name": "access_token",
        "user_id": str(client.user_id),
        "value": f"value-{uuid4()}",
        "expires_at": int(time.time()) + 3600,
        "details": {"client_id": str(client.id), "scope": "connection:write", "grant_type": "password"},
    } | changes


async def add(admin: httpx.AsyncClient, given: dict[str, Any]) -> httpx.Response:
    return await admin.post(TOKENS, json={"token": given})


async def change(admin: httpx.AsyncClient, token_id: object, **given: Any) -> httpx.Response:
    return await admin.patch(one(token_id), json={"token": given})


async def kept(db: Db, *values: str) -> list[bool]:
    """Return the tokens that still exist."""
    digests = [security.digest(value) for value in values]
    rows = {row["digest"] for row in await db.fetch("SELECT digest FROM tokens WHERE digest = ANY ($1)", digests)}
    return [digest in rows for digest in digests]


# List and show


async def test_the_list_has_no_value_and_no_digest(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    value = await factories.token(db, client=client, expires_in=-5)
    await factories.token(db, client=await factories.client(db))
    token_id = await id_of(db, value)
    response = await admin.get(TOKENS, params={"user_id": str(client.user_id)})
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{admin.base_url}{TOKENS}",
            "type": "list",
            "request_id": administering.REQUEST_ID,
        },
        "data": [await view_of(db, token_id)],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }
    assert data_of(await admin.get(one(token_id))) == response.json()["data"][0]
    assert response.json()["data"][0]["details"] == {"client_id": str(client.id), "scope": "connection:write"}


async def test_each_filter_narrows_the_list_alone_and_with_others(admin: httpx.AsyncClient, db: Db) -> None:
    client, other = await factories.client(db), await factories.client(db)
    access = await factories.token(db, client=client)
    refresh = await factories.token(db, client=client, name="refresh_token")
    elsewhere = await factories.token(db, client=other, user_id=client.user_id)
    await factories.token(db, client=other), await factories.token(db, client=other, name="accessXtoken")
    values = {await id_of(db, value): value for value in (access, refresh, elsewhere)}

    async def listed(**query: str) -> list[str]:
        return [values[row["id"]] for row in data_of(await admin.get(TOKENS, params=query))]

    user_id, client_id = str(client.user_id), str(client.id)
    assert await listed(user_id=user_id) == [access, refresh, elsewhere]
    assert await listed(client_id=client_id.upper()) == [access, refresh]
    assert await listed(client_id=client_id, name="ACCESS") == [access]
    assert await listed(user_id=user_id, name="s_tok") == [access, elsewhere]
    assert await listed(user_id=user_id, name="%") == []
    assert await listed(value=refresh) == [refresh]
    assert await listed(value=refresh, name="access") == []
    assert await listed(value=refresh[:-1]) == []
    assert await listed(value=refresh, client_id=str(other.id)) == []
    assert await listed(id=await id_of(db, elsewhere)) == [elsewhere]
    assert await listed(user_id=user_id, page="2", page_size="2") == [elsewhere]


async def test_every_invalid_filter_is_named(admin: httpx.AsyncClient) -> None:
    response = await admin.get(TOKENS, params={"user_id": "1", "client_id": "2", "id": "3", "name": "\0"})
    assert {each["entry"]: each["rules"] for each in response.json()["error"]["invalid"]} == {
        **{key: [NO_UUID] for key in ("$.client_id", "$.id", "$.user_id")},
        "$.name": [cast("string")],
    }


async def test_internal_details_of_a_token_are_not_shown(admin: httpx.AsyncClient, db: Db) -> None:
    token_id = await id_of(db, await factories.token(db, client=await factories.client(db), scope=None))
    noted = {"grant_type": "password", "refresh_token": "r", "request_authentication_factor": "+380501234567"}
    noted |= {"request_authentication_factor_state": "s", "replaces": "a", "successor": "b", "chosen": "c"}
    await db.execute("UPDATE tokens SET details = $2, used_at = now() WHERE id = $1", UUID(token_id), json.dumps(noted))
    shown = data_of(await admin.get(one(token_id)))["details"]
    assert shown == {"grant_type": "password", "client_id": shown["client_id"], "used": True}


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", {"token": {"name": "x"}}), ("DELETE", None)])
async def test_an_unknown_token_is_404_and_a_malformed_id_400(admin: httpx.AsyncClient, method: str, body: Any) -> None:
    given = {} if body is None else {"json": body}
    assert error_of(await admin.request(method, one(uuid4()), **given)) == NOT_FOUND
    for odd in ("verify", "not-a-uuid"):
        status, error = error_of(await admin.request(method, one(odd), **given))
        assert (status, error["type"]) == (400, "request_malformed")


async def test_a_token_value_in_place_of_an_id_is_masked(admin: httpx.AsyncClient, db: Db) -> None:
    value = await factories.token(db, client=await factories.client(db))
    with structlog.testing.capture_logs() as logged:
        answer = await admin.get(one(value))
    assert answer.status_code == 400
    assert value not in answer.text
    assert value not in repr(logged)


# Create


async def test_a_new_token_is_active_at_once_and_its_value_is_shown_once(admin: httpx.AsyncClient, db: Db) -> None:
    given = await fields(db)
    response = await add(admin, given)
    made = data_of(response, 201)
    assert made == await view_of(db, made["id"]) | {"value": given["value"]}
    assert made["details"] == given["details"]
    assert response.headers["location"] == one(made["id"])
    verified = (await admin.get(f"{TOKENS}/{given['value']}/verify")).json()["data"]
    assert verified["details"] == given["details"]
    assert "value" not in data_of(await admin.get(one(made["id"])))
    (event,) = await events(db, made["id"])
    assert event["action"] == "token.create"
    assert str(event["client_id"]) == given["details"]["client_id"]
    assert event["new"]["details"] == {"grant_type": "password"}
    assert given["value"] not in json.dumps(event["new"])
    assert "digest" not in event["new"]


async def test_token_values_in_the_details_are_not_stored(admin: httpx.AsyncClient, db: Db) -> None:
    given = await fields(db)
    given["details"] |= {"refresh_token": "another-value", "redirect_uri": "https://a.example/", "n": 2**70}
    made = data_of(await add(admin, given), 201)
    assert made["details"] == {k: v for k, v in given["details"].items() if k != "refresh_token"}
    row = await db.fetchval("SELECT row_to_json(t)::text FROM tokens t WHERE id = $1", UUID(made["id"]))
    trail = await db.fetchval("SELECT new::text FROM audit_events WHERE subject_id = $1", UUID(made["id"]))
    assert "another-value" not in row + trail


async def test_a_token_gets_of_its_scope_what_the_type_of_its_client_allows(admin: httpx.AsyncClient, db: Db) -> None:
    given = await fields(db)
    given["details"] |= {"scope": "a:read connection:write", "scope_request": "connection:write b:write"}
    made = data_of(await add(admin, given), 201)
    assert made["details"] == given["details"] | dict.fromkeys(("scope", "scope_request"), "connection:write")
    verified = (await admin.get(f"{TOKENS}/{given['value']}/verify")).json()["data"]
    assert verified["details"]["scope"] == "connection:write"
    client = await factories.client(db, client_type=f"type-{uuid4()}")
    await db.execute("UPDATE client_types SET scope = 'a:read' WHERE name LIKE 'type-%'")
    details = {"client_id": str(client.id), "scope": "a:read connection:write"}
    assert data_of(await change(admin, made["id"], details=details))["details"] == details | {"scope": "a:read"}
    without = {"client_id": str(client.id)}
    assert data_of(await change(admin, made["id"], details=without))["details"] == without


@pytest.mark.parametrize("name", ["scope", "scope_request"])
async def test_a_token_of_which_the_type_of_its_client_allows_nothing_is_refused(
    admin: httpx.AsyncClient, db: Db, name: str
) -> None:
    given = await fields(db)
    details = given["details"] | {name: "a:read b:write"}
    assert error_of(await add(admin, given | {"details": details})) == invalid(**{f"details__{name}": NOT_ALLOWED})
    made = data_of(await add(admin, given), 201)
    assert error_of(await change(admin, made["id"], details=details)) == invalid(**{f"details__{name}": NOT_ALLOWED})
    assert data_of(await admin.get(one(made["id"])))["details"] == given["details"]


async def test_a_type_that_is_narrowed_while_a_token_is_added_narrows_the_token(
    admin: httpx.AsyncClient, db: Db
) -> None:
    given = await fields(db)
    client = await factories.client(db, client_type=f"type-{uuid4()}")
    await db.execute("UPDATE client_types SET scope = 'a:read b:write' WHERE name LIKE 'type-%'")
    given["details"] |= {"client_id": str(client.id), "scope": "a:read b:write"}
    async with db.transaction():  # the token waits for its client, when it has read the type
        await db.execute("SELECT FROM clients WHERE id = $1 FOR UPDATE", client.id)
        adding = asyncio.create_task(add(admin, given))
        while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not adding.done()
            await asyncio.sleep(0.01)
        await db.execute("UPDATE client_types SET scope = 'a:read' WHERE name LIKE 'type-%'")
    assert (await adding).status_code == 201
    verified = (await admin.get(f"{TOKENS}/{given['value']}/verify")).json()["data"]
    assert verified["details"]["scope"] == "a:read"


@pytest.mark.parametrize("expires_at", [0, 2**31, 2**32 + 1, LAST_MOMENT])
async def test_any_time_of_the_calendar_is_accepted_as_expiry(
    admin: httpx.AsyncClient, db: Db, expires_at: int
) -> None:
    made = data_of(await add(admin, await fields(db, expires_at=expires_at)), 201)
    assert made["expires_at"] == expires_at
    assert data_of(await admin.get(one(made["id"])))["expires_at"] == expires_at


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        (
            dict.fromkeys(("name", "user_id", "value", "expires_at", "details")),
            dict.fromkeys(("details", "expires_at", "name", "user_id", "value"), REQUIRED),
        ),
        ({"value": " ", "name": ""}, {"name": REQUIRED, "value": REQUIRED}),
        ({"user_id": "me", "value": 5}, {"user_id": NO_USER_ID, "value": cast("string")}),
        ({"user_id": "4261eacf80084e62899fde1e2f7065f0"}, {"user_id": NO_USER_ID}),
        ({"expires_at": "soon"}, {"expires_at": cast("integer")}),
        ({"expires_at": 1.5}, {"expires_at": cast("integer")}),
        ({"expires_at": True}, {"expires_at": cast("integer")}),
        ({"expires_at": -1}, {"expires_at": TOO_EARLY}),
        ({"expires_at": LAST_MOMENT + 1}, {"expires_at": TOO_LATE}),
        ({"expires_at": 2**63}, {"expires_at": TOO_LATE}),
        ({"expires_at": 10**30}, {"expires_at": TOO_LATE}),
        ({"details": "none"}, {"details": cast("map")}),
        ({"details": {}}, {"details__client_id": REQUIRED}),
        ({"details": {"client_id": "mine"}}, {"details__client_id": NO_UUID}),
        ({"details": {"client_id": str(uuid4())}}, {"details__client_id": MISSING}),
        ({"user_id": str(uuid4())}, {"user_id": MISSING}),
    ],
)
async def test_every_violated_rule_of_a_new_token_is_named(
    admin: httpx.AsyncClient, db: Db, given: dict[str, Any], rules: dict[str, Any]
) -> None:
    wanted = await fields(db, **given)
    assert error_of(await add(admin, wanted)) == invalid(**rules)


async def test_a_token_value_is_unique_over_all_kinds_of_tokens(admin: httpx.AsyncClient, db: Db) -> None:
    value = await factories.token(db, client=await factories.client(db), name="refresh_token")
    assert error_of(await add(admin, await fields(db, value=value))) == invalid(value=TAKEN)
    status, error = error_of(await admin.post(TOKENS, json=await fields(db)))
    assert (status, error["type"]) == (400, "request_malformed")


# Change


async def test_a_change_takes_effect_at_once_and_changes_nothing_else(admin: httpx.AsyncClient, db: Db) -> None:
    value = await factories.token(db, client=await factories.client(db))
    token_id = await id_of(db, value)
    before = await view_of(db, token_id)
    assert await is_good(admin, value)
    ended = data_of(await change(admin, token_id, expires_at=1, id=str(uuid4())))
    assert ended == before | {"expires_at": 1}
    assert not await is_good(admin, value)
    again = data_of(await admin.put(one(token_id), json={"token": {"expires_at": before["expires_at"]}}))
    assert again == before
    assert await is_good(admin, value)
    assert [event["action"] for event in await events(db, token_id)] == ["token.update"] * 2
    assert [event["new"].keys() for event in await events(db, token_id)] == [{"expires_at"}] * 2


async def test_a_changed_value_replaces_the_old_one(admin: httpx.AsyncClient, db: Db) -> None:
    value = await factories.token(db, client=await factories.client(db))
    token_id, new_value = await id_of(db, value), f"value-{uuid4()}"
    changed = await change(admin, token_id, value=new_value)
    assert data_of(changed) == await view_of(db, token_id)
    assert new_value not in changed.text
    assert (await is_good(admin, value), await is_good(admin, new_value)) == (False, True)
    (event,) = await events(db, token_id)
    assert (event["action"], event["old"], event["new"]) == ("token.update", None, None)


async def test_details_are_replaced_as_a_whole(admin: httpx.AsyncClient, db: Db) -> None:
    token_id = await id_of(db, await factories.token(db, client=await factories.client(db)))
    other = await factories.client(db)
    details = {"client_id": str(other.id).upper(), "note": "n"}
    assert data_of(await change(admin, token_id, details=details))["details"] == {
        "client_id": str(other.id),
        "note": "n",
    }
    assert error_of(await change(admin, token_id, details={"scope": "a"})) == invalid(details__client_id=REQUIRED)
    blank = dict.fromkeys(("name", "user_id", "value", "expires_at", "details"))
    assert error_of(await change(admin, token_id, **blank)) == invalid(**dict.fromkeys(sorted(blank), REQUIRED))


# Delete


async def test_a_deleted_token_is_unknown_at_once(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    value, other = await factories.token(db, client=client), await factories.token(db, client=client)
    token_id = await id_of(db, value)
    response = await admin.delete(one(token_id))
    assert (response.status_code, response.content) == (204, b"")
    assert (await is_good(admin, value), await is_good(admin, other)) == (False, True)
    (event,) = await events(db, token_id)
    assert (event["action"], event["client_id"], event["new"]) == ("token.delete", client.id, None)
    assert "digest" not in event["old"]
    assert error_of(await admin.delete(one(token_id))) == NOT_FOUND


async def test_tokens_of_a_user_are_deleted_all_or_by_filter(admin: httpx.AsyncClient, db: Db) -> None:
    client, other = await factories.client(db), await factories.client(db)
    here = await factories.token(db, client=client)
    refresh = await factories.token(db, client=client, name="refresh_token")
    there = await factories.token(db, client=other, user_id=client.user_id)
    theirs = await factories.token(db, client=client, user_id=other.user_id)
    path = f"/admin/users/{client.user_id}/tokens"

    async def left(**query: str) -> list[bool]:
        response = await admin.delete(path, params=query)
        assert (response.status_code, response.content) == (204, b"")
        return await kept(db, here, refresh, there, theirs)

    assert await left(client_id=str(uuid4())) == [True, True, True, True]
    assert await left(value=theirs) == [True, True, True, True]
    assert await left(client_id=str(client.id), name="REFRESH") == [True, False, True, True]
    assert await left(client_id=str(client.id)) == [False, False, True, True]
    assert await left() == [False, False, False, True]
    assert await left() == [False, False, False, True]
    assert await db.fetchval("SELECT count(*) FROM audit_events WHERE old ->> 'user_id' = $1", str(client.user_id)) == 3
    assert error_of(await admin.delete(path, params={"client_id": "1"})) == invalid(client_id=NO_UUID)
    status, error = error_of(await admin.delete("/admin/users/1/tokens"))
    assert (status, error["type"]) == (400, "request_malformed")


async def test_the_tokens_of_several_users_are_deleted(admin: httpx.AsyncClient, db: Db) -> None:
    clients = [await factories.client(db) for _ in range(3)]
    values = [await factories.token(db, client=client) for client in clients]
    ids = f"{clients[0].user_id},{str(clients[1].user_id).upper()},{uuid4()}"
    response = await admin.delete(TOKENS, params={"user_ids": ids})
    assert (response.status_code, response.content) == (204, b"")
    assert [await is_good(admin, value) for value in values] == [False, False, True]
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", clients[0].user_id) == 0


@pytest.mark.parametrize("query", [{}, {"user_ids": ""}, {"user_ids": "1"}, {"user_ids": f"{uuid4()},"}])
async def test_no_tokens_are_deleted_unless_users_are_named(
    admin: httpx.AsyncClient, db: Db, query: dict[str, str]
) -> None:
    value = await factories.token(db, client=await factories.client(db))
    status, error = error_of(await admin.delete(TOKENS, params=query))
    assert (status, error["type"]) == (400, "request_malformed")
    assert await is_good(admin, value)


# A session token for a user


async def session(admin: httpx.AsyncClient, user_id: object, **given: Any) -> httpx.Response:
    return await admin.post(f"/admin/users/{user_id}/tokens/access", json={"token": given})


async def test_a_new_session_token_revokes_the_older_ones(admin: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db)
    older = await oauth_world.session_of(db, world)
    elsewhere = await factories.token(db, client=world.mis, user_id=world.user_id)
    began = int(time.time())
    response = await session(admin, world.user_id, client_id=str(world.front.id), scope="app:authorize")
    made = data_of(response, 201)
    value = made.pop("value")
    assert made == await view_of(db, made["id"])
    assert made["details"] == {
        "grant_type": "password",
        "client_id": str(world.front.id),
        "scope": "app:authorize",
    }
    assert began + 3600 <= made["expires_at"] <= time.time() + 3600
    assert response.headers["location"] == one(made["id"])
    assert await is_good(admin, value)
    assert await db.fetchval("SELECT expires_at <= now() FROM tokens WHERE digest = $1", security.digest(older))
    assert not await db.fetchval("SELECT expires_at <= now() FROM tokens WHERE digest = $1", security.digest(elsewhere))
    (event,) = await events(db, made["id"])
    assert (event["action"], event["client_id"]) == ("token.create", world.front.id)
    assert "digest" not in event["new"]


async def test_a_session_with_an_administrative_client_has_no_more_than_the_roles_allow(
    admin: httpx.AsyncClient, db: Db
) -> None:
    world = await oauth_world.make(db)
    client = await factories.client(db, client_type="NHS ADMIN")
    await db.execute("UPDATE client_types SET scope = 'client:read connection:write' WHERE name = 'NHS ADMIN'")
    await oauth_world.set_settings(db, client.id, allowed_grant_types=["password"])
    asked = {"client_id": str(client.id), "scope": "client:read connection:write"}
    message = "User requested scope that is not allowed by role based access policies."
    assert oauth_world.refusal(await session(admin, world.user_id, **asked)) == (422, "request_malformed", message)
    await oauth_world.give_role(db, world.user_id, None, scope="client:read")
    opened = data_of(await session(admin, world.user_id, **asked), 201)
    assert opened["details"]["scope"] == "client:read"


async def test_a_session_token_is_refused_in_the_order_of_the_contract(admin: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db)
    front, clinic = str(world.front.id), str(world.clinic.id)
    params = (422, "request_malformed", "invalid params")
    no_client = (401, "invalid_client", "Invalid client id.")

    async def refused(user_id: object = world.user_id, **given: Any) -> tuple[int, str, str | None]:
        return oauth_world.refusal(await session(admin, user_id, **given))

    assert await refused(uuid4()) == (404, "not_found", "Not Found")
    assert (await refused("me"))[:2] == (400, "request_malformed")
    assert await refused() == params
    assert await refused(client_id=front, scope=" ") == params
    assert await refused(client_id=[front], scope="app:authorize") == params
    assert await refused(client_id="mine", scope="x") == no_client
    assert await refused(client_id=str(uuid4()), scope="x") == no_client
    assert await refused(client_id=clinic, scope="x") == (
        401,
        "access_denied",
        "Client is not allowed to issue login token.",
    )
    assert await refused(client_id=front, scope="x") == (
        422,
        "request_malformed",
        "Scope is not allowed by client type.",
    )
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", world.user_id)
    assert await refused(client_id=front, scope="app:authorize") == (401, "user_blocked", "User blocked.")
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", world.user_id) == 0
    missing = await admin.post(f"/admin/users/{world.user_id}/tokens/access", json={"client_id": front})
    assert missing.status_code == 400


# Secrets


async def test_no_value_and_no_digest_is_in_log_audit_or_other_answers(admin: httpx.AsyncClient, db: Db) -> None:
    given = await fields(db, value=f"most-secret-{uuid4()}")
    with structlog.testing.capture_logs() as logged:
        made = data_of(await add(admin, given), 201)
        answers = [
            await add(admin, given),
            await admin.get(TOKENS, params={"value": given["value"]}),
            await change(admin, made["id"], value=f"{given['value']}-2"),
            await admin.delete(f"/admin/users/{given['user_id']}/tokens", params={"value": f"{given['value']}-2"}),
        ]
    assert [answer.status_code for answer in answers] == [422, 200, 200, 204]
    trail = await db.fetch(
        "SELECT concat(old::text, new::text) FROM audit_events WHERE subject_id = $1", UUID(made["id"])
    )
    seen = " ".join([repr(logged), *(answer.text for answer in answers), *(row[0] for row in trail)])
    assert "most-secret" not in seen
    assert security.digest(given["value"]).hex() not in seen
    assert len(trail) == 3


async def test_a_deletion_waits_for_a_code_exchange(http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db)
    code = await oauth_world.code_of(http, db, world)
    # The exchange waits at the code, with the rows of user and approval locked.
    async with db.transaction():
        await db.execute("SELECT FROM tokens WHERE digest = $1 FOR UPDATE", security.digest(code))
        exchanging = await racing.sent(db, oauth_world.exchange(http, world, code), waiting=1)
        deleting = await racing.sent(db, admin.delete(f"/admin/users/{world.user_id}/tokens"), waiting=2)
    assert ((await exchanging).status_code, (await deleting).status_code) == (201, 204)
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", world.user_id) == 0
