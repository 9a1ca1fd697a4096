"""Every place where a scope comes in takes the syntax of RFC 6749 section 3.3 and no other (rule CNV-51)."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support import administering, factories, granting, oauth_world
from support.factories import Db
from support.oauth_world import World
from support.servers import Server

pytestmark = pytest.mark.anyio

LOOSE, FOLDED = "  app:authorize   user:change_password app:authorize ", "app:authorize user:change_password"
ODD = [
    "app:authorize\u2003user:change_password",
    "app:authorize\n",
    "\tapp:authorize",
    "\xa0",
    "\u2003",
    'a"b',
    "a\\b",
    "я",
]


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the internal listener; not every answer here is described."""
    async with httpx.AsyncClient(base_url=server.internal_url, headers=administering.HEADERS) as client:
        yield client


async def log_in(http: httpx.AsyncClient, _: httpx.AsyncClient, __: Db, world: World, scope: str) -> httpx.Response:
    return await oauth_world.login(http, world, scope=scope)


async def open_session(
    _: httpx.AsyncClient, admin: httpx.AsyncClient, __: Db, world: World, scope: str
) -> httpx.Response:
    given = {"client_id": str(world.front.id), "scope": scope}
    return await admin.post(f"/admin/users/{world.user_id}/tokens/access", json={"token": given})


async def add_token(_: httpx.AsyncClient, admin: httpx.AsyncClient, __: Db, world: World, scope: str) -> httpx.Response:
    details = {"client_id": str(world.front.id), "scope": scope}
    token = {"name": "access_token", "value": str(uuid4()), "user_id": str(world.user_id), "details": details}
    return await admin.post("/admin/tokens", json={"token": token | {"expires_at": int(time.time()) + 60}})


async def approve(_: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, world: World, scope: str) -> httpx.Response:
    statement = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'old\u2003one')"
    statement += " ON CONFLICT (user_id, client_id) DO UPDATE SET scope = excluded.scope RETURNING id"
    approval_id = await db.fetchval(statement, world.user_id, world.clinic.id)
    headers = {"X-Consumer-Id": str(world.user_id)}
    shown = await admin.get(f"/admin/apps/{approval_id}", headers=headers)
    assert shown.json()["data"]["scope"] == "old\u2003one"
    return await admin.put(f"/admin/apps/{approval_id}", json={"app": {"scope": scope}}, headers=headers)


def add_named(path: str, wrapper: str) -> Any:
    async def add(_: httpx.AsyncClient, admin: httpx.AsyncClient, __: Db, ___: World, scope: str) -> httpx.Response:
        return await admin.post(path, json={wrapper: {"name": str(uuid4()), "scope": scope}})

    return add


async def set_broker_scope(
    _: httpx.AsyncClient, admin: httpx.AsyncClient, __: Db, world: World, scope: str
) -> httpx.Response:
    given = {"priv_settings": {"access_type": "DIRECT", "broker_scope": scope}}
    return await admin.patch(f"/admin/clients/{world.mis.id}", json={"client": given})


async def authorize(http: httpx.AsyncClient, _: httpx.AsyncClient, db: Db, world: World, scope: str) -> httpx.Response:
    session = await oauth_world.session_of(db, world)
    return await oauth_world.authorize(http, world, session, scope=scope)


async def authorize_inside(
    _: httpx.AsyncClient, admin: httpx.AsyncClient, __: Db, world: World, scope: str
) -> httpx.Response:
    app = {"client_id": str(world.clinic.id), "redirect_uri": oauth_world.ADDRESS, "scope": scope}
    headers = {"X-Consumer-Id": str(world.user_id)}
    return await admin.post("/oauth/apps/authorize", json={"app": app}, headers=headers)


ENTRANCES = [
    log_in,
    open_session,
    add_token,
    approve,
    add_named("/admin/roles", "role"),
    add_named("/admin/client_types", "client_type"),
    set_broker_scope,
]
OF_THE_CLINIC = [authorize, authorize_inside]


@pytest.mark.parametrize("send", ENTRANCES)
async def test_spaces_and_repeats_are_folded(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, world: World, send: Any
) -> None:
    answer = await send(http, admin, db, world, LOOSE)
    assert answer.status_code in (200, 201), answer.text
    data = answer.json()["data"]
    found = data.get("scope") or data.get("details", data.get("priv_settings"))
    scope = found if isinstance(found, str) else found.get("scope", found.get("broker_scope"))
    assert scope == FOLDED


@pytest.mark.parametrize("send", OF_THE_CLINIC)
async def test_spaces_and_repeats_of_an_authorization_are_folded(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, world: World, send: Any
) -> None:
    answer = await send(http, admin, db, world, " employee:read  legal_entity:read employee:read ")
    assert answer.status_code == 201, answer.text
    assert answer.json()["data"]["details"]["scope_request"] == "employee:read legal_entity:read"
    approved = await db.fetchval("SELECT scope FROM apps WHERE user_id = $1", world.user_id)
    assert approved == "employee:read legal_entity:read"


@pytest.mark.parametrize("send", [*ENTRANCES, *OF_THE_CLINIC])
async def test_every_other_character_is_refused(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, world: World, send: Any
) -> None:
    for odd in ODD:
        answer = await send(http, admin, db, world, odd)
        assert answer.status_code == 422, (odd, answer.text)
        assert await db.fetchval("SELECT count(*) FROM tokens WHERE scope = $1", odd) == 0


@pytest.mark.parametrize("odd", ["legal_entity:read\u2003", "\u2003"])
async def test_a_trusted_client_gets_nothing_for_a_malformed_scope(http: httpx.AsyncClient, db: Db, odd: str) -> None:
    world = await oauth_world.make(db)
    answer = await authorize(http, http, db, world, odd)
    assert answer.status_code == 422
    assert list(oauth_world.invalid(answer)) == ["$.scope"]


@pytest.mark.parametrize("odd", ["connection:read\u2003connection:write", "\u2003", "connection:read\t"])
async def test_a_malformed_scope_of_a_refresh_is_invalid_scope(
    http: httpx.AsyncClient, server: Server, db: Db, odd: str
) -> None:
    app = await granting.party(db)
    form = {
        "grant_type": "authorization_code",
        "code": await granting.code(server, app),
        "redirect_uri": app.redirect_uri,
    }
    first = (await http.post("/oauth2/token", data=form, auth=app.basic)).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    refused = await http.post("/oauth2/token", data=form | {"scope": odd}, auth=app.basic)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    narrow = await http.post("/oauth2/token", data=form | {"scope": "  connection:read  "}, auth=app.basic)
    assert narrow.json()["scope"] == "connection:read"


async def test_a_scope_that_was_stored_with_other_spaces_can_be_read(http: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    connection = await factories.connection(db, client_id=client.id)
    token = await factories.token(db, client=client, scope="connection:read\u2003connection:write")
    shown = await http.get(connection.path, headers=factories.bearer(token))
    assert shown.status_code == 200
