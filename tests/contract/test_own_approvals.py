"""What a user has approved, by a token of that user: list, show, delete."""

from uuid import UUID, uuid4

import httpx
import pytest

from support import factories, oauth_world
from support.factories import Db, bearer
from support.oauth_world import World, may_read, refusal

pytestmark = pytest.mark.anyio

APPS = "/api/pis/apps"
NOT_FOUND = (404, "not_found", "Approval not found")
BOTH = "app:read_pis app:delete_pis"


@pytest.fixture
async def patient(db: Db) -> factories.Client:
    """A client of a patient system, whose owner is the patient."""
    return await factories.client(db, client_type="PIS")


async def headers_of(db: Db, client: factories.Client, *, scope: str = BOTH) -> dict[str, str]:
    return bearer(await factories.token(db, client=client, scope=scope))


async def approve(db: Db, user_id: UUID, client_id: UUID) -> str:
    statement = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'a:read b:read') RETURNING id"
    return str(await db.fetchval(statement, user_id, client_id))


async def test_a_user_lists_and_reads_only_their_own_approvals(
    http: httpx.AsyncClient, db: Db, patient: factories.Client
) -> None:
    headers, clinic = await headers_of(db, patient), await factories.client(db)
    own = [await approve(db, patient.user_id, client.id) for client in (patient, clinic)]
    theirs = await approve(db, await factories.user(db), clinic.id)
    listed = await http.get(APPS, headers=headers)
    assert (listed.status_code, set(listed.json())) == (200, {"meta", "data", "paging"})
    assert [row["id"] for row in listed.json()["data"]] == own
    shown = await http.get(f"{APPS}/{own[1].upper()}", headers=headers)
    assert shown.json()["data"] == listed.json()["data"][1]
    (row,) = await db.fetch("SELECT * FROM apps WHERE id = $1", UUID(own[1]))
    assert shown.json()["data"] == {
        "id": own[1],
        "user_id": str(patient.user_id),
        "applicant_user_id": str(patient.user_id),
        "client_id": str(clinic.id),
        "client_name": await db.fetchval("SELECT name FROM clients WHERE id = $1", clinic.id),
        "scope": "a:read b:read",
        "created_at": row["inserted_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "updated_at": row["updated_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    for method in ("GET", "DELETE"):
        for foreign in (theirs, uuid4(), "no-uuid"):
            assert refusal(await http.request(method, f"{APPS}/{foreign}", headers=headers)) == NOT_FOUND
    assert await db.fetchval("SELECT count(*) FROM apps WHERE id = ANY ($1)", [UUID(i) for i in (*own, theirs)]) == 3


async def test_approvals_are_found_by_client_or_by_the_beginning_of_its_name(
    http: httpx.AsyncClient, db: Db, patient: factories.Client
) -> None:
    headers, found = await headers_of(db, patient), []
    clients = [await factories.client(db) for _ in range(3)]
    for number, client in enumerate(clients):
        await db.execute("UPDATE clients SET name = $2 WHERE id = $1", client.id, f"Clinic N{number}")
        found.append(await approve(db, patient.user_id, client.id))

    async def listed(**query: str) -> list[int]:
        response = await http.get(APPS, params=query, headers=headers)
        return [found.index(row["id"]) for row in response.json()["data"]]

    assert await listed(client_ids=f"client-{clients[2].id},client-{uuid4()}") == [2]
    assert await listed(client_ids=f"client-{clients[2].id}", client_names="client_name-clinic n0") == [0, 2]
    assert await listed(page_number="2", page_size="2") == [2]
    assert refusal(await http.get(APPS, params={"client_ids": "client-x"}, headers=headers))[0] == 404


async def test_a_deleted_approval_ends_the_tokens_of_that_client_and_no_others(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    headers = await headers_of(db, factories.Client((await factories.client(db)).id, world.user_id))
    granted, other = await oauth_world.tokens_of(http, db, world), await oauth_world.make(db)
    foreign = await oauth_world.tokens_of(http, db, other)
    approval_id = await db.fetchval("SELECT id FROM apps WHERE user_id = $1", world.user_id)
    response = await http.delete(f"{APPS}/{approval_id}", headers=headers)
    assert (response.status_code, response.content) == (204, b"")
    assert not await may_read(http, world, granted[0])
    assert (await oauth_world.refresh(http, world, granted[1])).status_code == 401
    assert await may_read(http, other, foreign[0])
    assert (await http.get(APPS, headers=headers)).json()["data"] == []
    *_, event = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1 ORDER BY id", approval_id)
    assert (event["action"], event["actor_user_id"]) == ("approval.delete", world.user_id)


async def test_each_method_needs_its_own_scope(http: httpx.AsyncClient, db: Db, patient: factories.Client) -> None:
    approval_id = await approve(db, patient.user_id, patient.id)
    read = await headers_of(db, patient, scope="app:read_pis app:read app:delete")
    delete = await headers_of(db, patient, scope="app:delete_pis app:read app:delete")
    one, missing = f"{APPS}/{approval_id}", (403, "forbidden", "Invalid scopes")
    assert refusal(await http.get(APPS, headers=delete)) == missing
    assert refusal(await http.get(one, headers=delete)) == missing
    assert refusal(await http.delete(one, headers=read)) == missing
    assert (await http.get(one, headers=read)).status_code == 200
    for method, path in (("GET", APPS), ("GET", one), ("DELETE", one)):
        assert refusal(await http.request(method, path)) == (401, "access_denied", "Access denied")
    assert (await http.delete(one, headers=delete)).status_code == 204
