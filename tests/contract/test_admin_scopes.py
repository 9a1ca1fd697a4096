"""Administration of client types and roles, which have the same methods."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from support import factories
from support.factories import Db
from support.oauth_world import invalid, refusal

pytestmark = pytest.mark.anyio

KINDS = [("/admin/client_types", "client_type", "client_types"), ("/admin/roles", "role", "roles")]
BOTH = pytest.mark.parametrize(("path", "noun", "table"), KINDS)
PERSON = "0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2b01"


async def added(internal: httpx.AsyncClient, path: str, noun: str, **fields: Any) -> dict[str, Any]:
    response = await internal.post(path, json={noun: {"name": f"name {uuid4()}", "scope": "a:b c:d"} | fields})
    assert response.status_code == 201, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


async def trail(db: Db, subject: str) -> list[tuple[Any, ...]]:
    rows = await db.fetch(
        "SELECT action, old::text, new::text, actor_user_id, request_id FROM audit_events WHERE subject_id = $1"
        " ORDER BY id",
        UUID(subject),
    )
    return [tuple(row) for row in rows]


@BOTH
async def test_a_role_or_client_type_is_added_shown_changed_and_deleted(
    internal: httpx.AsyncClient, db: Db, path: str, noun: str, table: str
) -> None:
    name, request_id = f"name {uuid4()}", "a-request-of-some-length"
    headers = {"x-consumer-id": PERSON, "x-request-id": request_id}
    made = await internal.post(path, json={noun: {"name": name, "scope": "a:b", "id": PERSON}}, headers=headers)
    data = made.json()["data"]
    assert made.headers["location"] == f"{path}/{data['id']}"
    assert data == {"id": data["id"], "name": name, "scope": "a:b"}
    assert data["id"] != PERSON
    one = f"{path}/{data['id'].upper()}"
    assert (await internal.get(one)).json()["data"] == data

    patched = await internal.patch(one, json={noun: {"scope": "a:b c:d"}}, headers=headers)
    assert patched.json()["data"] == data | {"scope": "a:b c:d"}
    before = await db.fetchval(f"SELECT updated_at FROM {table} WHERE id = $1", UUID(data["id"]))
    assert (await internal.put(one, json={noun: {"name": name}})).json()["data"] == data | {"scope": "a:b c:d"}
    assert await db.fetchval(f"SELECT updated_at FROM {table} WHERE id = $1", UUID(data["id"])) == before

    gone = await internal.delete(one, headers=headers)
    assert (gone.status_code, gone.content) == (204, b"")
    assert refusal(await internal.get(one)) == (404, "not_found", "Not Found")
    assert await trail(db, data["id"]) == [
        (f"{noun}.create", None, f'{{"name": "{name}", "scope": "a:b"}}', UUID(PERSON), request_id),
        (f"{noun}.update", '{"scope": "a:b"}', '{"scope": "a:b c:d"}', UUID(PERSON), request_id),
        (f"{noun}.delete", f'{{"name": "{name}", "scope": "a:b c:d"}}', None, UUID(PERSON), request_id),
    ]


@BOTH
async def test_every_invalid_field_is_named(internal: httpx.AsyncClient, path: str, noun: str, table: str) -> None:
    taken = await added(internal, path, noun)
    other = await added(internal, path, noun)

    async def asked(method: str, url: str, fields: Any) -> dict[str, list[str]]:
        return invalid(await internal.request(method, url, json={noun: fields}))

    both = {"$.name": ["required"], "$.scope": ["required"]}
    assert await asked("POST", path, {}) == both
    assert await asked("POST", path, {"name": " ", "scope": None}) == both
    assert await asked("POST", path, {"name": 1, "scope": []}) == {"$.name": ["cast"], "$.scope": ["cast"]}
    assert await asked("POST", path, {"name": "x" * 256, "scope": "a"}) == {"$.name": ["length"]}
    assert await asked("POST", path, {"name": "a\0b", "scope": "a"}) == {"$.name": ["cast"]}
    assert await asked("POST", path, {"name": taken["name"], "scope": "a"}) == {"$.name": [None]}
    assert await asked("PATCH", f"{path}/{other['id']}", {"name": taken["name"]}) == {"$.name": [None]}
    assert await asked("PATCH", f"{path}/{other['id']}", {"name": ""}) == {"$.name": ["required"]}
    assert (await internal.get(f"{path}/{other['id']}")).json()["data"] == other


@BOTH
async def test_a_malformed_id_is_400_and_an_unknown_id_is_404(
    internal: httpx.AsyncClient, path: str, noun: str, table: str
) -> None:
    good = {noun: {"name": f"name {uuid4()}", "scope": "a"}}
    for body in ({}, {noun: 1}, {"name": "x", "scope": "a"}):
        assert (await internal.post(path, json=body)).status_code == 400
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        unknown, nonsense = f"{path}/{uuid4()}", f"{path}/nonsense"
        content: dict[str, Any] = {} if method in ("GET", "DELETE") else {"json": good}
        assert refusal(await internal.request(method, unknown, **content)) == (404, "not_found", "Not Found")
        assert (await internal.request(method, nonsense, **content)).status_code == 400


@BOTH
async def test_lists_are_filtered_and_paged(internal: httpx.AsyncClient, path: str, noun: str, table: str) -> None:
    mark = uuid4().hex
    rows = [await added(internal, path, noun, scope=f"{mark}:{n} x:{mark}") for n in range(3)]

    async def ids(**query: Any) -> list[str]:
        return [each["id"] for each in (await internal.get(path, params=query)).json()["data"]]

    assert await ids(scope=f"x:{mark}") == [row["id"] for row in rows]
    assert await ids(scope=f"{mark}:0,{mark}:2") == [rows[0]["id"], rows[2]["id"]]
    assert await ids(scope=f"{mark}") == []
    assert await ids(name=rows[1]["name"]) == [rows[1]["id"]]
    assert await ids(name=rows[1]["name"][:-1]) == []
    assert await ids(scope=f"x:{mark}", page=2, page_size=2) == [rows[2]["id"]]
    response = await internal.get(path, params={"scope": f"x:{mark}", "page_size": 2})
    paging = response.json()["paging"]
    assert await ids(scope=f"x:{mark}", after=paging.pop("next")) == [rows[2]["id"]]
    assert paging == {"page_number": 1, "page_size": 2, "total_entries": 3, "total_pages": 2}
    assert invalid(await internal.get(path, params={"page": 0, "page_size": "x"})) == {
        "$.page": ["number"],
        "$.page_size": ["cast"],
    }


async def test_a_client_type_in_use_is_not_deleted(internal: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db, client_type=f"type {uuid4()}")
    type_id = await db.fetchval("SELECT client_type_id FROM clients WHERE id = $1", client.id)
    one = f"/admin/client_types/{type_id}"
    assert refusal(await internal.delete(one)) == (409, "request_conflict", "It is in use.")
    assert (await internal.get(one)).status_code == 200


async def test_deleting_a_role_removes_it_from_all_users(internal: httpx.AsyncClient, db: Db) -> None:
    client, role = await factories.client(db), await added(internal, "/admin/roles", "role")
    give = "INSERT INTO user_roles (user_id, client_id, role_id) VALUES ($1, $2, $3)"
    await db.execute(give, client.user_id, client.id, UUID(role["id"]))
    assert (await internal.delete(f"/admin/roles/{role['id']}")).status_code == 204
    assert await db.fetchval("SELECT count(*) FROM user_roles WHERE user_id = $1", client.user_id) == 0
