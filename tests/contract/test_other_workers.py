"""A change by one worker takes effect in another worker with the next request: no worker caches tokens."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support import administering, factories
from support.factories import Db, bearer
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

# Requests to one worker, about the ids of `World`; after each the token, or the API-key, is no longer accepted.
ENDINGS: list[tuple[str, str, Any]] = [
    ("PATCH", "/admin/clients/{clinic}", {"client": {"is_blocked": True}}),
    ("PATCH", "/admin/clients/{clinic}/actions/deactivate_tokens", None),
    ("DELETE", "/admin/clients/{clinic}", None),
    ("PATCH", "/admin/clients/{mis}", {"client": {"is_blocked": True}}),
    ("PATCH", "/admin/clients/{mis}/connections/{key}/actions/refresh_secret", None),
    ("DELETE", "/admin/clients/{mis}/connections/{key}", None),
    ("DELETE", "/admin/clients/{clinic}/connections/{connection}", None),
    ("PATCH", "/admin/users/{person}/actions/block", {"user": {"block_reason": "an incident"}}),
    ("DELETE", "/admin/users/{person}", None),
    ("DELETE", "/admin/apps/{approval}", None),
    ("DELETE", "/admin/users/{person}/apps", None),
    ("DELETE", "/admin/tokens/{token}", None),
    ("DELETE", "/admin/users/{person}/tokens", None),
]


class World:
    """A user's token in a clinic that works through a MIS, and the ids of all rows that it depends on."""

    def __init__(self, value: str, api_key: str, ids: dict[str, Any]) -> None:
        self.value, self.api_key, self.ids = value, api_key, ids


@pytest.fixture
async def world(db: Db) -> World:
    mis = await factories.client(db, client_type="MIS", broker_scope="connection:write")
    clinic = await factories.client(db, access_type="BROKER")
    person = await factories.user(db)
    key = await factories.connection(db, client_id=mis.id)
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    adding = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'connection:write') RETURNING id"
    approval = await db.fetchval(adding, person, clinic.id)
    value = await factories.token(db, client=clinic, user_id=person, connection_id=connection.id)
    token = await db.fetchval("SELECT id FROM tokens WHERE user_id = $1", person)
    ids = {"mis": mis.id, "clinic": clinic.id, "person": person, "key": key.id, "connection": connection.id}
    return World(value, key.secret, {**ids, "approval": approval, "token": token})


@pytest.fixture(scope="module")
def other(server: Server) -> Iterator[Server]:
    """Another server on the same database, like another worker or another machine."""
    with running_server(database_url=server.database_url) as running:
        yield running


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: f"{ending[0]} {ending[1]}")
async def test_a_change_on_one_worker_stops_tokens_on_the_other_at_once(
    internal: httpx.AsyncClient, other: Server, world: World, ending: tuple[str, str, Any]
) -> None:
    method, path, body = ending
    headers = {
        **administering.HEADERS,
        "X-Consumer-Id": str(world.ids["person"]),
    }  # a user sees only their own approvals
    async with httpx.AsyncClient(base_url=other.internal_url) as elsewhere:
        assert await is_good(elsewhere, world)
        changed = await internal.request(method, path.format(**world.ids), json=body, headers=headers)
        assert changed.is_success, changed.text
        assert not await is_good(elsewhere, world)


async def test_deleting_a_connection_over_the_api_stops_its_tokens_on_the_other_worker_at_once(
    http: httpx.AsyncClient, db: Db, other: Server, world: World
) -> None:
    administrator = await factories.client(db, client_type="NHS")
    token = await factories.token(db, client=administrator, scope="connection:delete")
    async with httpx.AsyncClient(base_url=other.internal_url) as elsewhere:
        assert await is_good(elsewhere, world)
        path = f"/api/clients/{world.ids['clinic']}/connections/{world.ids['connection']}"
        assert (await http.delete(path, headers=bearer(token))).status_code == 200
        assert not await is_good(elsewhere, world)


async def test_a_logout_takes_effect_on_other_workers_at_once(
    http: httpx.AsyncClient, other: Server, world: World
) -> None:
    async with httpx.AsyncClient(base_url=other.internal_url) as elsewhere:
        assert (await http.post("/auth/logout", headers=bearer(world.value))).is_success
        assert not await is_good(elsewhere, world)


async def is_good(gateway: httpx.AsyncClient, world: World) -> bool:
    headers = {"api-key": world.api_key}
    response = await gateway.get(f"/admin/tokens/{world.value}/verify", headers=headers)
    assert response.status_code in (200, 401, 404, 422), response.text  # 422: the API-key is unknown
    return response.status_code == 200
