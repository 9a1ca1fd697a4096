"""Administration of a user's own approvals, `/admin/apps` (rules ADM-9 to ADM-14)."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mithril import security
from support import described, factories, oauth_world, racing
from support.administering import (
    ACTOR_ID,
    MISSING,
    NO_UUID,
    NOT_FOUND,
    REQUEST_ID,
    REQUIRED,
    TAKEN,
    cast,
    data_of,
    error_of,
    events,
    invalid,
    is_good,
    wire,
)
from support.factories import Client, Db
from support.servers import Server

pytestmark = pytest.mark.anyio

APPS = "/admin/apps"
NO_HEADER = (401, {"type": "access_denied", "message": "Missing header x-consumer-id"})
NO_APPROVAL = (404, {"type": "not_found", "message": "Approval not found"})
FORBIDDEN = (403, {"type": "forbidden", "message": "Forbidden"})


@pytest.fixture(autouse=True)
async def _only_own_approvals(db: Db) -> AsyncIterator[None]:
    """Make the administrator a user, without approvals before and after each test."""
    await db.execute(
        "INSERT INTO users (id, email) VALUES ($1, 'actor@clinic.example') ON CONFLICT DO NOTHING", ACTOR_ID
    )
    yield
    await db.execute("DELETE FROM apps WHERE user_id = $1", ACTOR_ID)
    await db.execute("DELETE FROM tokens WHERE user_id = $1", ACTOR_ID)


def one(approval_id: object) -> str:
    return f"{APPS}/{approval_id}"


async def client(db: Db, name: str | None = None) -> Client:
    made = await factories.client(db)
    if name is not None:
        await db.execute("UPDATE clients SET name = $2 WHERE id = $1", made.id, name)
    return made


async def approval(db: Db, client_id: UUID, user_id: UUID = ACTOR_ID, *, scope: str = "a:read") -> UUID:
    statement = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3) RETURNING id"
    made: UUID = await db.fetchval(statement, user_id, client_id, scope)
    return made


async def view_of(db: Db, approval_id: object) -> dict[str, Any]:
    """Return the fields of the answers from the database."""
    row = await db.fetchrow(
        "SELECT a.*, c.name FROM apps a JOIN clients c ON c.id = a.client_id WHERE a.id = $1", UUID(str(approval_id))
    )
    assert row is not None
    return {
        "id": str(row["id"]),
        "scope": row["scope"],
        "user_id": str(row["user_id"]),
        "client_id": str(row["client_id"]),
        "client_name": row["name"],
        "created_at": wire(row["inserted_at"]),
        "updated_at": wire(row["updated_at"]),
    }


async def token(db: Db, of: Client, user_id: UUID = ACTOR_ID, *, name: str = "access_token") -> str:
    return await factories.token(db, client=of, user_id=user_id, name=name)


async def change(admin: httpx.AsyncClient, approval_id: object, **given: Any) -> httpx.Response:
    return await admin.patch(one(approval_id), json={"app": given})


# The header


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", ""), ("GET", "/x"), ("PUT", "/x"), ("PATCH", "/x"), ("DELETE", "/x")],
)
async def test_the_user_header_is_checked_before_anything_else(server: Server, db: Db, method: str, path: str) -> None:
    async with described.client(server.internal_url) as nobody:
        assert error_of(await nobody.request(method, APPS + path)) == NO_HEADER
        twice = [("X-Consumer-Id", str(uuid4())), ("X-Consumer-Id", str(uuid4()))]
        assert error_of(await nobody.request(method, APPS + path, headers=twice)) == NO_HEADER
        status, error = error_of(await nobody.request(method, APPS + path, headers={"X-Consumer-Id": "me"}))
    assert (status, error["type"]) == (400, "request_malformed")


# List and show


async def test_the_list_has_only_the_approvals_of_the_user(admin: httpx.AsyncClient, db: Db) -> None:
    msp, other = await client(db), await client(db)
    approval_id = await approval(db, msp.id)
    await approval(db, msp.id, other.user_id)
    response = await admin.get(APPS, params={"user_ids": str(other.user_id), "user_id": str(other.user_id)})
    assert response.json() == {
        "meta": {"code": 200, "url": f"{admin.base_url}{APPS}", "type": "list", "request_id": REQUEST_ID},
        "data": [await view_of(db, approval_id)],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }
    assert data_of(await admin.get(one(approval_id))) == await view_of(db, approval_id)


async def test_clients_are_filtered_by_id_or_by_the_beginning_of_their_name(admin: httpx.AsyncClient, db: Db) -> None:
    clients = [await client(db, name) for name in ("Клініка 5%_", "Клініка 50", "Аптека")]
    ids = [str(await approval(db, each.id)) for each in clients]
    by_id = [f"client-{each.id}" for each in clients]

    async def listed(**query: str) -> list[int]:
        return [ids.index(row["id"]) for row in data_of(await admin.get(APPS, params=query))]

    assert await listed() == [0, 1, 2]
    assert await listed(client_ids=f"{by_id[0]},{by_id[2].upper().replace('CLIENT', 'client')}") == [0, 2]
    assert await listed(client_names="client_name-клініка") == [0, 1]
    assert await listed(client_names="client_name-клініка 5%_,client_name-апт") == [0, 2]
    assert await listed(client_names="client_name-ека") == []
    assert await listed(client_ids=by_id[2], client_names="client_name-Клініка 50") == [1, 2]
    assert await listed(client_ids=f"client-{uuid4()}") == []
    # Words without a prefix are ignored; when all are ignored there is no filter.
    assert await listed(client_ids=f"{clients[0].id},{by_id[1]}") == [1]
    assert await listed(client_ids=str(clients[0].id), client_names="Клініка") == [0, 1, 2]
    assert await listed(page="2", page_size="2") == [2]


async def test_a_malformed_client_id_is_404(admin: httpx.AsyncClient) -> None:
    answer = await admin.get(APPS, params={"client_ids": f"client-{uuid4()},client-x"})
    assert error_of(answer) == NOT_FOUND
    assert error_of(await admin.get(APPS, params={"client_names": "\0"})) == invalid(client_names=cast("string"))


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", {"app": {"scope": "z"}}), ("DELETE", None)])
async def test_the_approval_of_another_user_is_404(admin: httpx.AsyncClient, db: Db, method: str, body: Any) -> None:
    msp, other = await client(db), await client(db)
    theirs, value = await approval(db, msp.id, other.user_id), await token(db, msp, other.user_id)
    before = await view_of(db, theirs)
    given = {} if body is None else {"json": body}
    for approval_id in (theirs, uuid4()):
        assert error_of(await admin.request(method, one(approval_id), **given)) == NO_APPROVAL
    status, error = error_of(await admin.request(method, one("x"), **given))
    assert (status, error["type"]) == (400, "request_malformed")
    assert await view_of(db, theirs) == before
    assert await is_good(admin, value)


# Create


async def test_a_user_creates_an_own_approval(admin: httpx.AsyncClient, db: Db) -> None:
    msp = await client(db)
    given = {"user_id": str(ACTOR_ID).upper(), "client_id": str(msp.id), "scope": "a:read b:write"}
    response = await admin.post(APPS, json={"app": given})
    made = data_of(response, 201)
    assert made == await view_of(db, made["id"])
    assert (made["client_id"], made["scope"]) == (str(msp.id), "a:read b:write")
    assert response.headers["location"] == one(made["id"])
    new = {"user_id": str(ACTOR_ID), "client_id": str(msp.id), "scope": "a:read b:write"}
    assert await events(db, made["id"]) == [{"action": "approval.create", "client_id": msp.id, "old": None, "new": new}]
    assert error_of(await admin.post(APPS, json={"app": given})) == invalid(user_id=TAKEN)


async def test_a_user_cannot_create_an_approval_of_another_user(admin: httpx.AsyncClient, db: Db) -> None:
    msp = await client(db)
    given = {"user_id": str(msp.user_id), "client_id": str(msp.id), "scope": "a:read"}
    assert error_of(await admin.post(APPS, json={"app": given})) == FORBIDDEN
    assert await db.fetchval("SELECT count(*) FROM apps WHERE client_id = $1", msp.id) == 0


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({}, dict.fromkeys(("client_id", "scope", "user_id"), REQUIRED)),
        (
            {"user_id": "me", "client_id": "it", "scope": 1},
            {"client_id": NO_UUID, "scope": cast("string"), "user_id": NO_UUID},
        ),
        ({"user_id": str(ACTOR_ID), "client_id": str(uuid4()), "scope": "a"}, {"client_id": MISSING}),
        ({"user_id": str(ACTOR_ID), "client_id": str(uuid4()), "scope": "\0"}, {"scope": cast("string")}),
    ],
)
async def test_every_violated_rule_is_named(
    admin: httpx.AsyncClient, given: dict[str, Any], rules: dict[str, Any]
) -> None:
    assert error_of(await admin.post(APPS, json={"app": given})) == invalid(**rules)
    status, error = error_of(await admin.post(APPS, json=given))
    assert (status, error["type"]) == (400, "request_malformed")


async def test_an_unknown_user_cannot_approve(admin: httpx.AsyncClient, db: Db) -> None:
    stranger = str(uuid4())
    given = {"user_id": stranger, "client_id": str((await client(db)).id), "scope": "a"}
    answer = await admin.post(APPS, json={"app": given}, headers={"X-Consumer-Id": stranger})
    assert error_of(answer) == invalid(user_id=MISSING)


# Change


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_changed_scope_changes_nothing_else(admin: httpx.AsyncClient, db: Db, method: str) -> None:
    msp = await client(db)
    approval_id, value = await approval(db, msp.id), await token(db, msp)
    before = await view_of(db, approval_id)
    changed = data_of(await admin.request(method, one(approval_id), json={"app": {"scope": "b", "id": "x"}}))
    assert changed == before | {"scope": "b", "updated_at": changed["updated_at"]}
    assert changed == await view_of(db, approval_id)
    assert await is_good(admin, value)
    assert await events(db, approval_id) == [
        {"action": "approval.update", "client_id": msp.id, "old": {"scope": "a:read"}, "new": {"scope": "b"}}
    ]
    assert error_of(await change(admin, approval_id, scope="")) == invalid(scope=REQUIRED)


async def test_moving_an_approval_to_another_client_revokes_the_tokens_of_the_first(
    admin: httpx.AsyncClient, db: Db
) -> None:
    first, second = await client(db), await client(db)
    approval_id = await approval(db, first.id)
    ended, kept = await token(db, first), await token(db, second)
    assert data_of(await change(admin, approval_id, client_id=str(second.id)))["client_id"] == str(second.id)
    assert (await is_good(admin, ended), await is_good(admin, kept)) == (False, True)
    again = await approval(db, first.id)
    assert error_of(await change(admin, again, client_id=str(second.id))) == invalid(user_id=TAKEN)
    assert error_of(await change(admin, again, client_id=str(uuid4()))) == invalid(client_id=MISSING)
    assert error_of(await change(admin, again, user_id=str(first.user_id))) == FORBIDDEN


# Delete


async def test_deleting_an_approval_revokes_the_tokens_of_its_user_and_client(admin: httpx.AsyncClient, db: Db) -> None:
    msp, other = await client(db), await client(db)
    approval_id = await approval(db, msp.id)
    untouched = await approval(db, other.id)
    ended = [await token(db, msp), await token(db, msp, name="refresh_token")]
    kept = [await token(db, other), await token(db, msp, other.user_id)]
    response = await admin.delete(one(approval_id))
    assert (response.status_code, response.content) == (204, b"")
    assert not await is_good(admin, ended[0])
    assert [await is_good(admin, value) for value in kept] == [True, True]
    living = "SELECT count(*) FROM tokens WHERE user_id = $1 AND client_id = $2 AND expires_at > now()"
    assert await db.fetchval(living, ACTOR_ID, msp.id) == 0
    assert data_of(await admin.get(one(untouched)))["id"] == str(untouched)
    (event,) = await events(db, approval_id)
    assert (event["action"], event["client_id"], event["new"]) == ("approval.delete", msp.id, None)
    assert event["old"] == {"user_id": str(ACTOR_ID), "client_id": str(msp.id), "scope": "a:read"}
    assert error_of(await admin.delete(one(approval_id))) == NO_APPROVAL


async def test_approvals_of_a_user_are_deleted_for_one_client_or_all(
    admin: httpx.AsyncClient, server: Server, db: Db
) -> None:
    msp, other = await client(db), await client(db)
    approvals = [await approval(db, msp.id), await approval(db, other.id), await approval(db, msp.id, other.user_id)]
    first, second = await token(db, msp), await token(db, other)
    unapproved, theirs = await token(db, await client(db)), await token(db, msp, other.user_id)
    path = f"/admin/users/{ACTOR_ID}/apps"

    async def left(**query: str) -> tuple[list[bool], list[bool]]:
        async with described.client(server.internal_url) as nobody:
            response = await nobody.delete(path, params=query)
        assert (response.status_code, response.content) == (204, b"")
        rows = [await db.fetchval("SELECT EXISTS (SELECT FROM apps WHERE id = $1)", each) for each in approvals]
        return rows, [await is_good(admin, value) for value in (first, second, unapproved, theirs)]

    assert await left(client_id=str(uuid4())) == ([True, True, True], [True, True, True, True])
    assert await left(client_id=str(msp.id)) == ([False, True, True], [False, True, True, True])
    assert await left() == ([False, False, True], [False, False, False, True])
    assert await left() == ([False, False, True], [False, False, False, True])
    trail = "SELECT count(*) FROM audit_events WHERE action = 'approval.delete' AND subject_id = ANY ($1)"
    assert await db.fetchval(trail, approvals) == 2
    assert error_of(await admin.delete(path, params={"client_id": "x"})) == invalid(client_id=NO_UUID)
    status, error = error_of(await admin.delete("/admin/users/x/apps"))
    assert (status, error["type"]) == (400, "request_malformed")


@pytest.mark.parametrize("way", ["one", "all"])
async def test_a_deletion_waits_for_a_code_exchange_and_revokes_its_tokens(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db, way: str
) -> None:
    world = await oauth_world.make(db)
    code = await oauth_world.code_of(http, db, world)
    approval_id = await db.fetchval("SELECT id FROM apps WHERE user_id = $1", world.user_id)
    path = one(approval_id) if way == "one" else f"/admin/users/{world.user_id}/apps"
    deletion = admin.delete(path, headers={"X-Consumer-Id": str(world.user_id)})
    # The exchange waits at the code, with the rows of user and approval locked.
    async with db.transaction():
        await db.execute("SELECT FROM tokens WHERE digest = $1 FOR UPDATE", security.digest(code))
        exchanging = await racing.sent(db, oauth_world.exchange(http, world, code), waiting=1)
        deleting = await racing.sent(db, deletion, waiting=2)
    exchanged = await exchanging
    assert (exchanged.status_code, (await deleting).status_code) == (201, 204)
    data = exchanged.json()["data"]
    assert not await is_good(admin, data["value"], api_key=world.key)
    again = await oauth_world.refresh(http, world, data["details"]["refresh_token"])
    assert again.status_code == 401


async def test_a_code_exchange_that_waits_for_a_deletion_issues_nothing(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db
) -> None:
    world = await oauth_world.make(db)
    code = await oauth_world.code_of(http, db, world)
    async with db.transaction():
        await db.execute("DELETE FROM apps WHERE user_id = $1", world.user_id)
        exchanging = await racing.sent(db, oauth_world.exchange(http, world, code), waiting=1)
    message = "Resource owner revoked access for the client."
    assert oauth_world.refusal(await exchanging) == (401, "access_denied", message)
