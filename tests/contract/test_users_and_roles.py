"""What a caller reads of its own user, and of the roles that there are."""

from uuid import uuid4

import httpx
import pytest
from starlette.routing import Route

from mithril import app
from support import factories, oauth_world
from support.factories import Db, bearer
from support.oauth_world import World, refusal

pytestmark = pytest.mark.anyio

DENIED = (401, "access_denied", "Access denied")
READER = "role:read"


# GET /oauth/user


async def own(http: httpx.AsyncClient, db: Db, *, scope: str) -> dict[str, object]:
    """Return the user of a new token with that scope, who is a patient; another user exists."""
    client = await factories.client(db)
    await db.execute(
        "UPDATE users SET tax_id = '3126509816', person_id = 'd290f1ee', settings = '{\"a\": 1}' WHERE id = $1",
        client.user_id,
    )
    await factories.user(db)
    response = await http.get("/oauth/user", headers=bearer(await factories.token(db, client=client, scope=scope)))
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"meta", "data"}
    data: dict[str, object] = response.json()["data"]
    assert data["id"] == str(client.user_id)
    assert data["email"] == await db.fetchval("SELECT email FROM users WHERE id = $1", client.user_id)
    return data


@pytest.mark.parametrize("scope", ["", "app:authorize connection:write", "user:reader party_user:read"])
async def test_a_token_shows_its_own_user_without_what_leads_to_the_patient(
    http: httpx.AsyncClient, db: Db, scope: str
) -> None:
    data = await own(http, db, scope=scope)
    fields = {"id", "email", "settings", "is_blocked", "block_reason", "inserted_at", "updated_at"}
    assert set(data) == fields
    assert (data["settings"], data["is_blocked"], data["block_reason"]) == ({"a": 1}, False, None)


async def test_the_scope_user_read_also_shows_what_leads_to_the_patient(http: httpx.AsyncClient, db: Db) -> None:
    data = await own(http, db, scope="connection:write user:read")
    assert (data["tax_id"], data["person_id"]) == ("3126509816", "d290f1ee")
    assert len(data) == 9


async def test_the_scope_user_read_must_be_the_brokers_too(http: httpx.AsyncClient, db: Db, world: World) -> None:
    token = await factories.token(db, client=world.clinic, scope="user:read")
    headers = bearer(token, api_key=world.key)
    assert "tax_id" not in (await http.get("/oauth/user", headers=headers)).json()["data"]
    widen = 'UPDATE clients SET priv_settings = priv_settings || \'{"broker_scope": "user:read"}\' WHERE id = $1'
    await db.execute(widen, world.mis.id)
    assert "tax_id" in (await http.get("/oauth/user", headers=headers)).json()["data"]


async def test_only_an_active_access_token_shows_a_user(http: httpx.AsyncClient, db: Db, world: World) -> None:
    client = await factories.client(db)
    expired = await factories.token(db, client=client, expires_in=-1)
    kinds = ("refresh_token", "authorization_code", "2fa_access_token", "change_password_token", "sign_in_visit")
    others = [await factories.token(db, client=client, name=kind) for kind in kinds]
    keyless = await factories.token(db, client=world.clinic)
    for value in ("no-such-token", expired, keyless, *others):
        assert refusal(await http.get("/oauth/user", headers=bearer(value))) == DENIED
    assert refusal(await http.get("/oauth/user")) == DENIED
    active = await factories.token(db, client=client)
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", client.user_id)
    assert refusal(await http.get("/oauth/user", headers=bearer(active))) == DENIED


async def test_a_user_of_another_id_is_never_shown(http: httpx.AsyncClient, db: Db) -> None:
    client, other = await factories.client(db), await factories.user(db)
    headers = bearer(await factories.token(db, client=client), x_consumer_id=str(other))
    response = await http.get(f"/oauth/user?id={other}&user_id={other}", headers=headers)
    assert response.json()["data"]["id"] == str(client.user_id)
    assert (await http.get(f"/oauth/user/{other}", headers=headers)).status_code == 404


# GET /admin/roles


async def reader(db: Db, *, scope: str = READER) -> dict[str, str]:
    return bearer(await factories.token(db, client=await factories.client(db, client_type="MIS"), scope=scope))


async def add_role(db: Db, name: str) -> dict[str, str]:
    role_id = await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, 'a:read b:read') RETURNING id", name)
    return {"id": str(role_id), "name": name, "scope": "a:read b:read"}


async def test_roles_are_listed_and_found_by_a_part_of_their_name(http: httpx.AsyncClient, db: Db) -> None:
    mark = uuid4().hex
    added = [await add_role(db, f"{kind} {mark}") for kind in ("Doctor", "PHARMACY_OWNER", "OWNER")]
    headers = await reader(db)

    async def found(**query: str) -> list[dict[str, str]]:
        response = await http.get("/admin/roles", params=query, headers=headers)
        assert response.status_code == 200, response.text
        assert set(response.json()) == {"meta", "data", "paging"}
        rows: list[dict[str, str]] = response.json()["data"]
        return rows

    assert [role for role in await found(page_size="500") if mark in role["name"]] == added
    assert await found(name=f"owner {mark}") == added[1:]
    assert await found(name=f"owner {mark}", page_size="1", page="2") == added[2:]
    assert await found(name=f"%{mark}") == []
    assert await found(name=f"doctor {mark.upper()}", scope="no:such") == added[:1]


async def test_a_role_is_shown_by_its_id(http: httpx.AsyncClient, db: Db) -> None:
    role, headers = await add_role(db, str(uuid4())), await reader(db)
    response = await http.get(f"/admin/roles/{role['id'].upper()}", headers=headers)
    assert (response.status_code, response.json()["data"]) == (200, role)
    for unknown in (uuid4(), "no-uuid"):
        assert (await http.get(f"/admin/roles/{unknown}", headers=headers)).status_code == 404


async def test_roles_need_the_scope_role_read(http: httpx.AsyncClient, db: Db, world: World) -> None:
    without = await reader(db, scope="role:write client:read app:authorize")
    brokered = bearer(await factories.token(db, client=world.clinic, scope=READER), api_key=world.key)
    for path in ("/admin/roles", f"/admin/roles/{uuid4()}"):
        assert refusal(await http.get(path)) == DENIED
        for headers in (without, brokered):
            assert refusal(await http.get(path, headers=headers)) == (403, "forbidden", "Invalid scopes")
            assert 'scope="role:read"' in (await http.get(path, headers=headers)).headers["www-authenticate"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_roles_are_read_only_on_the_public_listener(http: httpx.AsyncClient, db: Db, method: str) -> None:
    role, headers = await add_role(db, str(uuid4())), await reader(db, scope="role:read role:write role:delete")
    body = {"role": {"name": str(uuid4()), "scope": "c:read"}}
    for path in ("/admin/roles", f"/admin/roles/{role['id']}"):
        response = await http.request(method, path, json=body, headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    assert await db.fetchval("SELECT scope FROM roles WHERE name = $1", role["name"]) == role["scope"]


def test_nothing_else_below_admin_is_on_the_public_listener() -> None:
    routes = [route for route in app.PUBLIC if isinstance(route, Route) and route.path.startswith("/admin")]
    assert {(method, route.path) for route in routes for method in route.methods or {"any"}} == {
        (method, path) for path in ("/admin/roles", "/admin/roles/{id}") for method in ("GET", "HEAD")
    }


async def test_other_paths_below_admin_are_unknown_to_the_public_listener(http: httpx.AsyncClient, db: Db) -> None:
    headers = await reader(db, scope=f"role:read client_type:read {oauth_world.CLINIC_SCOPE}")
    for path in ("client_types", "clients", "users", "tokens", "apps", "forward-auth", f"roles/{uuid4()}/users"):
        assert refusal(await http.get(f"/admin/{path}", headers=headers))[:2] == (404, "not_found")
