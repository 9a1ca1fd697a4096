"""Administration of user roles, in one client or global (rules USR-12 to USR-17)."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from support import factories
from support.administering import (
    MISSING,
    NO_UUID,
    NOT_FOUND,
    REQUEST_ID,
    REQUIRED,
    TAKEN,
    data_of,
    error_of,
    events,
    invalid,
    wire,
)
from support.factories import Db

pytestmark = pytest.mark.anyio

ALL = "/admin/user_roles"
SOMEBODY = "7d3c1a52-0c11-4f4b-9a53-0a3f0c9d2b78"


@dataclass(frozen=True)
class Role:
    """The id and the name of a role."""

    id: UUID
    name: str


async def role(db: Db, *, scope: str = "a:b c:d") -> Role:
    name = f"role-{uuid4()}"
    return Role(await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", name, scope), name)


async def given(db: Db, *, user_id: UUID, client_id: UUID, role_id: UUID) -> UUID:
    statement = "INSERT INTO user_roles (user_id, client_id, role_id) VALUES ($1, $2, $3) RETURNING id"
    made: UUID = await db.fetchval(statement, user_id, client_id, role_id)
    return made


async def given_globally(db: Db, *, user_id: UUID, role_id: UUID) -> UUID:
    statement = "INSERT INTO global_user_roles (user_id, role_id) VALUES ($1, $2) RETURNING id"
    made: UUID = await db.fetchval(statement, user_id, role_id)
    return made


async def view_of(db: Db, row_id: UUID) -> dict[str, Any]:
    """Return the fields of lists from the database."""
    row = await db.fetchrow(
        "SELECT ur.*, r.name AS role_name, r.scope, c.name AS client_name FROM user_roles ur"
        " JOIN roles r ON r.id = role_id JOIN clients c ON c.id = client_id WHERE ur.id = $1",
        row_id,
    )
    assert row is not None
    ids = {name: str(row[name]) for name in ("id", "user_id", "role_id", "client_id")}
    names = {name: row[name] for name in ("role_name", "client_name", "scope")}
    return ids | names | {"created_at": wire(row["inserted_at"]), "updated_at": wire(row["updated_at"])}


async def global_view_of(db: Db, row_id: UUID | str) -> dict[str, Any]:
    row = await db.fetchrow(
        "SELECT gr.*, r.name AS role_name, r.scope FROM global_user_roles gr JOIN roles r ON r.id = role_id"
        " WHERE gr.id = $1",
        UUID(str(row_id)),
    )
    assert row is not None
    ids = {name: str(row[name]) for name in ("id", "user_id", "role_id")}
    times = {name: wire(row[name]) for name in ("inserted_at", "updated_at")}
    return ids | times | {"role_name": row["role_name"], "scope": row["scope"]}


def of(user_id: object) -> str:
    return f"/admin/users/{user_id}/roles"


def everywhere(user_id: object) -> str:
    return f"/admin/users/{user_id}/global_roles"


async def listed(admin: httpx.AsyncClient, path: str, **query: object) -> list[str]:
    found = data_of(await admin.get(path, params={name: str(value) for name, value in query.items()}))
    return [row["id"] for row in found]


# In one client: list and show


async def test_roles_of_a_user_are_listed_and_paged(admin: httpx.AsyncClient, db: Db) -> None:
    client, other = await factories.client(db), await factories.client(db)
    first, second = await role(db), await role(db)
    rows = [
        await given(db, user_id=client.user_id, client_id=client.id, role_id=first.id),
        await given(db, user_id=client.user_id, client_id=other.id, role_id=first.id),
        await given(db, user_id=client.user_id, client_id=client.id, role_id=second.id),
    ]
    await given(db, user_id=other.user_id, client_id=client.id, role_id=first.id)
    response = await admin.get(of(client.user_id), params={"page": "2", "page_size": "2"})
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{admin.base_url}{of(client.user_id)}",
            "type": "list",
            "request_id": REQUEST_ID,
        },
        "data": [await view_of(db, rows[2])],
        "paging": {"page_number": 2, "page_size": 2, "total_entries": 3, "total_pages": 2},
    }
    ids = [str(row) for row in rows]
    assert await listed(admin, of(client.user_id)) == ids
    # The user in the path counts, whatever the query says.
    assert await listed(admin, of(client.user_id), user_id=other.user_id) == ids
    assert await listed(admin, of(client.user_id), client_id=client.id) == [ids[0], ids[2]]
    assert await listed(admin, of(client.user_id), client_id=client.id, role_id=second.id) == [ids[2]]
    assert await listed(admin, of(uuid4())) == []


async def test_roles_of_all_users_are_listed_and_filtered(admin: httpx.AsyncClient, db: Db) -> None:
    client, other, third = [await factories.client(db) for _ in range(3)]
    a_role = await role(db)
    ids = [
        str(await given(db, user_id=person, client_id=client.id, role_id=a_role.id))
        for person in (client.user_id, other.user_id, third.user_id)
    ]
    await given(db, user_id=client.user_id, client_id=other.id, role_id=(await role(db)).id)
    assert await listed(admin, ALL, role_id=a_role.id) == ids
    assert await listed(admin, ALL, client_id=client.id, user_id=other.user_id) == [ids[1]]
    people = f"{other.user_id}, {third.user_id}"
    assert await listed(admin, ALL, user_ids=people, client_id=client.id) == ids[1:]
    assert set(ids) <= set(await listed(admin, ALL, page_size=500))


async def test_every_invalid_filter_is_named_as_in_a_body(admin: httpx.AsyncClient) -> None:
    some_ids = {"rule": "cast", "description": "is invalid", "params": ["Elixir.Core.Ecto.CommaParamsUUID"]}
    response = await admin.get(ALL, params={"role_id": "x", "user_ids": f"{uuid4()},x"})
    assert error_of(response) == invalid(role_id=NO_UUID, user_ids=some_ids)


async def test_a_role_of_the_user_is_shown(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    a_role = await role(db)
    row = await given(db, user_id=client.user_id, client_id=client.id, role_id=a_role.id)
    assert data_of(await admin.get(f"{of(client.user_id)}/{row}")) == {
        "id": str(row),
        "user_id": str(client.user_id),
        "role_id": str(a_role.id),
        "client_id": str(client.id),
    }
    assert error_of(await admin.get(f"{of(await factories.user(db))}/{row}")) == NOT_FOUND
    assert error_of(await admin.get(f"{of(client.user_id)}/{uuid4()}")) == NOT_FOUND


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", of("x")),
        ("POST", of("x")),
        ("DELETE", of("x")),
        ("GET", f"{of(SOMEBODY)}/x"),
        ("DELETE", "/admin/users/roles/x"),
        ("GET", everywhere("x")),
        ("POST", everywhere("x")),
        ("GET", f"{everywhere(SOMEBODY)}/x"),
        ("DELETE", f"{everywhere(SOMEBODY)}/x"),
    ],
)
async def test_a_malformed_id_in_the_path_is_400(admin: httpx.AsyncClient, verb: str, path: str) -> None:
    status, error = error_of(await admin.request(verb, path))
    assert (status, error["type"]) == (400, "request_malformed")


# In one client: grant


async def test_a_role_is_granted_in_one_client(admin: httpx.AsyncClient, db: Db) -> None:
    client, a_role = await factories.client(db), await role(db)
    # The user id of the path may be repeated, in any letter case.
    fields = {"role_id": str(a_role.id), "client_id": str(client.id)}
    body = {"user_role": fields | {"user_id": str(client.user_id).upper(), "id": str(uuid4())}}
    response = await admin.post(of(client.user_id), json=body)
    data = data_of(response, 201)
    assert data == fields | {"id": data["id"], "user_id": str(client.user_id), "scope": "a:b c:d"}
    assert response.headers["location"] == f"{of(client.user_id)}/{data['id']}"
    assert await db.fetchval("SELECT count(*) FROM user_roles WHERE role_id = $1", a_role.id) == 1
    assert await view_of(db, UUID(data["id"]))
    assert await events(db, data["id"]) == [
        {
            "action": "user_role.create",
            "client_id": client.id,
            "old": None,
            "new": fields | {"user_id": str(client.user_id)},
        }
    ]


async def test_a_role_is_granted_only_to_the_user_in_the_path(admin: httpx.AsyncClient, db: Db) -> None:
    client, a_role, other = await factories.client(db), await role(db), await factories.user(db)
    fields = {"role_id": str(a_role.id), "client_id": str(client.id), "user_id": str(other)}
    response = await admin.post(of(client.user_id), json={"user_role": fields})
    only = {"rule": "inclusion", "description": "is invalid", "params": [str(client.user_id)]}
    assert error_of(response) == invalid(user_id=only)
    assert await db.fetchval("SELECT count(*) FROM user_roles WHERE role_id = $1", a_role.id) == 0


async def test_every_missing_or_invalid_field_is_named(admin: httpx.AsyncClient, db: Db) -> None:
    client, a_role = await factories.client(db), await role(db)
    right = {"role_id": str(a_role.id), "client_id": str(client.id)}
    unknown = str(uuid4())

    async def refused(person: object, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return error_of(await admin.post(of(person), json={"user_role": fields}))

    assert await refused(client.user_id, {}) == invalid(client_id=REQUIRED, role_id=REQUIRED)
    assert await refused(client.user_id, {"client_id": "x", "role_id": 1, "user_id": "y"}) == invalid(
        client_id=NO_UUID,
        role_id={"rule": "cast", "description": "is invalid", "params": ["string"]},
        user_id=NO_UUID,
    )
    assert await refused(client.user_id, right | {"role_id": unknown}) == invalid(role_id=MISSING)
    assert await refused(client.user_id, right | {"client_id": unknown}) == invalid(client_id=MISSING)
    assert await refused(unknown, right) == invalid(user_id=MISSING)
    status, error = error_of(await admin.post(of(client.user_id), json=right))
    assert (status, error["type"]) == (400, "request_malformed")


async def test_a_role_is_granted_once(admin: httpx.AsyncClient, db: Db) -> None:
    client, a_role = await factories.client(db), await role(db)
    body = {"user_role": {"role_id": str(a_role.id), "client_id": str(client.id)}}
    answers = await asyncio.gather(*(admin.post(of(client.user_id), json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 4
    refused = [error_of(answer) for answer in answers if answer.status_code == 422]
    assert refused == [invalid(user_roles=TAKEN)] * 4
    # The same role in another client is another one.
    body["user_role"]["client_id"] = str((await factories.client(db)).id)
    data_of(await admin.post(of(client.user_id), json=body), 201)


# In one client: revoke


@dataclass(frozen=True)
class Rows:
    """A user with two roles in two clients each, and another user with one of them."""

    user_id: UUID
    clients: tuple[UUID, UUID]
    roles: tuple[Role, Role]
    rows: dict[tuple[int, int], UUID]
    """By the number of the client and that of the role."""
    other_row: UUID


@pytest.fixture
async def rows(db: Db) -> Rows:
    first, second = await factories.client(db), await factories.client(db)
    roles = (await role(db), await role(db))
    clients = (first.id, second.id)
    made = {
        (c, r): await given(db, user_id=first.user_id, client_id=clients[c], role_id=roles[r].id)
        for c in (0, 1)
        for r in (0, 1)
    }
    other = await given(db, user_id=second.user_id, client_id=first.id, role_id=roles[0].id)
    return Rows(first.user_id, clients, roles, made, other)


async def left(db: Db, rows: Rows) -> set[tuple[int, int]]:
    found = {row["id"] for row in await db.fetch("SELECT id FROM user_roles")}
    assert rows.other_row in found
    return {place for place, row_id in rows.rows.items() if row_id in found}


async def take(admin: httpx.AsyncClient, rows: Rows, **query: object) -> None:
    response = await admin.delete(of(rows.user_id), params={name: str(value) for name, value in query.items()})
    assert (response.status_code, response.content) == (204, b"")


async def test_a_role_is_revoked_by_name_in_the_named_client(admin: httpx.AsyncClient, db: Db, rows: Rows) -> None:
    await take(admin, rows, role_name=rows.roles[0].name, client_id=rows.clients[1])
    assert await left(db, rows) == {(0, 0), (0, 1), (1, 1)}
    assert await events(db, rows.rows[1, 0]) == [
        {
            "action": "user_role.delete",
            "client_id": rows.clients[1],
            "old": {
                "user_id": str(rows.user_id),
                "role_id": str(rows.roles[0].id),
                "client_id": str(rows.clients[1]),
            },
            "new": None,
        }
    ]


async def test_a_role_is_revoked_by_name_in_every_client(admin: httpx.AsyncClient, db: Db, rows: Rows) -> None:
    await take(admin, rows, role_name=rows.roles[0].name)
    assert await left(db, rows) == {(0, 1), (1, 1)}


async def test_roles_are_revoked_by_id(admin: httpx.AsyncClient, db: Db, rows: Rows) -> None:
    await take(admin, rows, role_id=rows.roles[1].id, client_id=rows.clients[0])
    assert await left(db, rows) == {(0, 0), (1, 0), (1, 1)}
    await take(admin, rows, client_id=rows.clients[1])
    assert await left(db, rows) == {(0, 0)}


async def test_without_a_filter_all_roles_of_the_user_are_revoked(admin: httpx.AsyncClient, db: Db, rows: Rows) -> None:
    await take(admin, rows)
    assert await left(db, rows) == set()


@pytest.mark.parametrize("query", [{"role_name": "no such role"}, {"role_id": str(uuid4())}])
async def test_a_filter_without_a_match_revokes_nothing(
    admin: httpx.AsyncClient, db: Db, rows: Rows, query: dict[str, str]
) -> None:
    await take(admin, rows, **query)
    assert await left(db, rows) == set(rows.rows)


async def test_an_empty_or_invalid_filter_revokes_nothing(admin: httpx.AsyncClient, db: Db, rows: Rows) -> None:
    empty = await admin.delete(of(rows.user_id), params={"role_name": "", "client_id": ""})
    assert error_of(empty) == invalid(client_id=REQUIRED, role_name=REQUIRED)
    wrong = await admin.delete(of(rows.user_id), params={"client_id": "x"})
    assert error_of(wrong) == invalid(client_id=NO_UUID)
    assert await left(db, rows) == set(rows.rows)


async def test_a_user_role_is_revoked_by_its_id(admin: httpx.AsyncClient, db: Db, rows: Rows) -> None:
    path = f"/admin/users/roles/{rows.rows[0, 1]}"
    response = await admin.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert await left(db, rows) == {(0, 0), (1, 0), (1, 1)}
    assert error_of(await admin.delete(path)) == NOT_FOUND
    assert [event["action"] for event in await events(db, rows.rows[0, 1])] == ["user_role.delete"]


# Global roles


async def test_a_global_role_is_granted(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, a_role = await factories.user(db), await role(db)
    response = await admin.post(everywhere(user_id), json={"global_user_role": {"role_id": str(a_role.id)}})
    data = data_of(response, 201)
    assert data == await global_view_of(db, data["id"])
    assert (data["user_id"], data["role_name"], data["scope"]) == (str(user_id), a_role.name, "a:b c:d")
    assert response.headers["location"] == f"{everywhere(user_id)}/{data['id']}"
    assert data_of(await admin.get(response.headers["location"])) == data
    assert await events(db, data["id"]) == [
        {
            "action": "global_user_role.create",
            "client_id": None,
            "old": None,
            "new": {"user_id": str(user_id), "role_id": str(a_role.id)},
        }
    ]


async def test_a_repeated_grant_answers_with_the_existing_global_role(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, a_role = await factories.user(db), await role(db)
    body = {"global_user_role": {"role_id": str(a_role.id)}}
    answers = await asyncio.gather(*(admin.post(everywhere(user_id), json=body) for _ in range(5)))
    answers.append(await admin.post(everywhere(user_id), json=body))
    row_id = await db.fetchval("SELECT id FROM global_user_roles WHERE user_id = $1", user_id)
    expected = await global_view_of(db, row_id)
    assert [data_of(answer, 201) for answer in answers] == [expected] * 6
    assert len(await events(db, row_id)) == 1


async def test_every_missing_or_invalid_field_of_a_global_role_is_named(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, a_role = await factories.user(db), await role(db)

    async def refused(person: object, **fields: Any) -> tuple[int, dict[str, Any]]:
        return error_of(await admin.post(everywhere(person), json={"global_user_role": fields}))

    assert await refused(user_id) == invalid(role_id=REQUIRED)
    assert await refused(user_id, role_id="OWNER") == invalid(role_id=NO_UUID)
    assert await refused(user_id, role_id=str(uuid4())) == invalid(role_id=MISSING)
    assert await refused(uuid4(), role_id=str(a_role.id)) == invalid(user_id=MISSING)
    only = {"rule": "inclusion", "description": "is invalid", "params": [str(user_id)]}
    assert await refused(user_id, role_id=str(a_role.id), user_id=str(uuid4())) == invalid(user_id=only)
    assert await db.fetchval("SELECT count(*) FROM global_user_roles WHERE role_id = $1", a_role.id) == 0


async def test_global_roles_are_listed_shown_and_revoked(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, other, a_role = await factories.user(db), await factories.user(db), await role(db)
    row = await given_globally(db, user_id=user_id, role_id=a_role.id)
    others = await given_globally(db, user_id=other, role_id=a_role.id)
    assert data_of(await admin.get(everywhere(user_id))) == [await global_view_of(db, row)]
    assert error_of(await admin.get(f"{everywhere(other)}/{row}")) == NOT_FOUND
    assert error_of(await admin.delete(f"{everywhere(other)}/{row}")) == NOT_FOUND
    response = await admin.delete(f"{everywhere(user_id)}/{row}")
    assert (response.status_code, response.content) == (204, b"")
    assert error_of(await admin.get(f"{everywhere(user_id)}/{row}")) == NOT_FOUND
    assert await listed(admin, everywhere(user_id)) == []
    assert await listed(admin, everywhere(other)) == [str(others)]
    assert await events(db, row) == [
        {
            "action": "global_user_role.delete",
            "client_id": None,
            "old": {"user_id": str(user_id), "role_id": str(a_role.id)},
            "new": None,
        }
    ]


# Effects


async def test_a_changed_role_is_shown_with_the_user_of_a_token_at_once(admin: httpx.AsyncClient, db: Db) -> None:
    client, a_role, another = await factories.client(db), await role(db), await role(db)
    token = await factories.token(db, client=client)

    async def roles() -> tuple[list[str], list[str]]:
        urgent = data_of(await admin.get(f"/admin/tokens/{token}/user"))["urgent"]
        return [each["name"] for each in urgent["roles"]], [each["name"] for each in urgent["global_roles"]]

    assert await roles() == ([], [])
    body = {"role_id": str(a_role.id), "client_id": str(client.id)}
    await admin.post(of(client.user_id), json={"user_role": body})
    await admin.post(everywhere(client.user_id), json={"global_user_role": {"role_id": str(another.id)}})
    assert await roles() == ([a_role.name], [another.name])
    await admin.delete(of(client.user_id))
    assert await roles() == ([], [another.name])
