"""What is taken away is gone with the next request in every worker, and giving it back revives nothing."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mithril import security
from mithril.audit.events import Actor
from mithril.cleanup import service as cleanup
from mithril.connections import redirect_uris
from mithril.database.database import Database
from mithril.settings import Settings
from mithril.snapshots import service as snapshots
from support import administering, factories, oauth_world
from support.factories import Db, bearer
from support.oauth_world import ADDRESS, CLINIC_SCOPE, World, exchange, may_read, refresh, refusal, tokens_of
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

SCOPE = "legal_entity:read connection:write"
LEFT = "legal_entity:read"
REVOKED = (401, "access_denied", "Resource owner revoked access for the client.")
CONSUMER_BLOCKED = (401, "invalid_client", "Authentication failed.")


Request = tuple[str, str, Any]


@pytest.fixture
async def world(db: Db) -> World:
    return await oauth_world.make(db)


@pytest.fixture(scope="module")
def other(server: Server) -> Iterator[Server]:
    """Another server on the same database, like another worker."""
    with running_server(database_url=server.database_url) as running:
        yield running


async def verify(server: Server, world: World, token: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.internal_url) as client:
        return await client.get(f"/admin/tokens/{token}/verify", headers={"api-key": world.key})


async def verified_scope(server: Server, world: World, token: str) -> str:
    response = await verify(server, world, token)
    assert response.status_code == 200, response.text
    scope: str = response.json()["data"]["details"]["scope"]
    return scope


async def administrate(internal: httpx.AsyncClient, method: str, path: str, body: Any = None, **headers: str) -> None:
    response = await internal.request(method, path, json=body, headers={**administering.HEADERS, **headers})
    assert response.is_success, response.text


class Taking:
    """Ways to take `connection:write` away, and to give it back."""

    def __init__(self, db: Db, internal: httpx.AsyncClient, world: World) -> None:
        self.db, self.internal, self.world = db, internal, world
        self.clinic = world.clinic.id

    async def _role(self) -> UUID:
        role: UUID = await self.db.fetchval("SELECT role_id FROM user_roles WHERE user_id = $1", self.world.user_id)
        return role

    async def role_scope(self, scope: str) -> None:
        await administrate(self.internal, "PUT", f"/admin/roles/{await self._role()}", {"role": {"scope": scope}})

    async def type_scope(self, scope: str) -> None:
        type_id = await self.db.fetchval("SELECT client_type_id FROM clients WHERE id = $1", self.clinic)
        await administrate(self.internal, "PUT", f"/admin/client_types/{type_id}", {"client_type": {"scope": scope}})

    async def approval(self, scope: str) -> None:
        approval = await self.db.fetchval("SELECT id FROM apps WHERE user_id = $1", self.world.user_id)
        await administrate(
            self.internal,
            "PUT",
            f"/admin/apps/{approval}",
            {"app": {"scope": scope}},
            **{"X-Consumer-Id": str(self.world.user_id)},
        )

    async def client_type(self, scope: str) -> None:
        made = await self.db.fetchval(
            "INSERT INTO client_types (name, scope) VALUES ($1, $2) RETURNING id", f"t{uuid4()}", scope
        )
        await administrate(
            self.internal, "PUT", f"/admin/clients/{self.clinic}", {"client": {"client_type_id": str(made)}}
        )

    async def role(self, scope: str) -> None:
        before = await self.db.fetch("SELECT id FROM user_roles WHERE user_id = $1", self.world.user_id)
        await oauth_world.give_role(self.db, self.world.user_id, self.clinic, scope=scope)
        for row in before:
            path = f"/admin/users/roles/{row['id']}"
            await administrate(self.internal, "DELETE", path)

    async def role_deleted(self, scope: str) -> None:
        role = await self._role()
        await oauth_world.give_role(self.db, self.world.user_id, self.clinic, scope=scope)
        await administrate(self.internal, "DELETE", f"/admin/roles/{role}")


WAYS = ["role_scope", "type_scope", "approval", "client_type", "role", "role_deleted"]


@pytest.fixture(params=WAYS)
async def taking(request: pytest.FixtureRequest, db: Db, internal: httpx.AsyncClient, world: World) -> Any:
    return getattr(Taking(db, internal, world), request.param)


async def test_a_token_loses_what_is_taken_away_in_every_worker(  # noqa: PLR0917 -- fixtures
    http: httpx.AsyncClient, server: Server, other: Server, db: Db, world: World, taking: Any
) -> None:
    access, refresh_token = await tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    assert await verified_scope(other, world, access) == SCOPE
    await taking(LEFT)
    for worker in (other, server):
        assert await verified_scope(worker, world, access) == LEFT
    assert not await may_read(http, world, access)
    refreshed = (await refresh(http, world, refresh_token)).json()["data"]
    assert refreshed["details"]["scope"] == LEFT
    redeemed = (await exchange(http, world, code)).json()["data"]
    assert await verified_scope(other, world, redeemed["value"]) == LEFT
    await taking(CLINIC_SCOPE)  # what is given back revives nothing
    for each in (access, refreshed["value"], redeemed["value"]):
        assert await verified_scope(other, world, each) == LEFT
    later, _ = await tokens_of(http, db, world)
    assert await verified_scope(other, world, later) == SCOPE


async def test_a_token_of_which_nothing_is_left_is_refused(
    http: httpx.AsyncClient, other: Server, db: Db, world: World, taking: Any
) -> None:
    access, refresh_token = await tokens_of(http, db, world)
    code = await oauth_world.code_of(http, db, world)
    await taking("employee:read")
    assert (await verify(other, world, access)).status_code == 401
    assert refusal(await refresh(http, world, refresh_token)) == REVOKED
    assert refusal(await exchange(http, world, code)) == REVOKED


async def test_a_session_of_a_sign_in_client_is_bound_by_its_type_only(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    session = (await oauth_world.login(http, world)).json()["data"]["value"]
    await db.execute("UPDATE roles SET scope = 'legal_entity:read connection:write'")
    assert (await oauth_world.authorize(http, world, session)).status_code == 201


@pytest.mark.parametrize("is_brokered", [True, False])
async def test_a_blocked_consumer_stops_what_goes_through_its_connection(
    http: httpx.AsyncClient,
    server: Server,
    other: Server,
    db: Db,
    is_brokered: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    world = await oauth_world.make(db, is_brokered=is_brokered)
    access, refresh_token = await tokens_of(http, db, world)
    code, session = await oauth_world.code_of(http, db, world), await oauth_world.session_of(db, world)
    introspection = {"token": access, "client_id": str(world.clinic.id), "client_secret": world.link.secret}
    assert (await http.post("/oauth2/introspect", data=introspection)).json()["active"] is True
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", world.mis.id)
    for each in (server, other):
        assert refusal(await verify(each, world, access)) == CONSUMER_BLOCKED
    api = await http.get(f"/api/clients/{world.clinic.id}", headers=bearer(access, api_key=world.key))
    assert refusal(api) == (401, "access_denied", "Access denied")
    assert refusal(await oauth_world.authorize(http, world, session)) == CONSUMER_BLOCKED
    assert refusal(await exchange(http, world, code)) == CONSUMER_BLOCKED
    assert refusal(await refresh(http, world, refresh_token)) == CONSUMER_BLOCKED
    assert (await http.post("/oauth2/introspect", data=introspection)).json() == {"active": False}
    page = await http.get(
        "/sign-in", params={"client_id": str(world.clinic.id), "redirect_uri": ADDRESS, "scope": SCOPE}
    )
    assert page.status_code == 400


async def imported(db: Db, document: dict[str, Any]) -> None:
    snapshot = snapshots.read(json.dumps(document).encode())
    policy = redirect_uris.Policy()
    await snapshots.import_snapshot(db, snapshot, actor=Actor(request_id=None), policy=policy)


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Database]:
    async with Database(server.database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
        yield database


async def test_an_import_that_blocks_and_unblocks_revokes(
    http: httpx.AsyncClient, other: Server, db: Db, world: World
) -> None:
    access, _ = await tokens_of(http, db, world)
    for is_blocked in (True, False):
        user = {"id": str(world.user_id), "email": world.email, "is_blocked": is_blocked}
        await imported(db, {"users": [user]})
        assert (await verify(other, world, access)).status_code == 401
    again, _ = await tokens_of(http, db, world)
    await imported(db, {"users": [{**user, "password": "Another-Password-2"}]})
    assert (await verify(other, world, again)).status_code == 401


@pytest.mark.slow
async def test_the_cleanup_stores_what_is_left_and_drops_the_revocations(
    http: httpx.AsyncClient, server: Server, db: Db, world: World, taking: Any
) -> None:
    access, _ = await tokens_of(http, db, world)
    await oauth_world.code_of(http, db, world)
    await taking(LEFT)
    await db.execute("UPDATE revocations SET inserted_at = now() - interval '1 hour'")
    async with opened(server) as database:
        assert (await cleanup.clean_up(database, Settings()))["tokens_narrowed"] >= 3
    assert await db.fetchval("SELECT count(*) FROM revocations") == 0
    stored = await db.fetch(
        "SELECT scope FROM tokens WHERE user_id = $1 AND name <> 'authorization_code'", world.user_id
    )
    assert {row["scope"] for row in stored} <= {LEFT, "app:authorize"}
    codes = await db.fetch("SELECT details ->> 'scope_request' s FROM tokens WHERE name = 'authorization_code'")
    assert LEFT in {row["s"] for row in codes}
    assert await verified_scope(server, world, access) == LEFT
    await taking(CLINIC_SCOPE)
    assert await verified_scope(server, world, access) == LEFT


async def test_the_cleanup_leaves_revocations_that_a_running_request_may_not_have_seen(
    server: Server, db: Db, world: World
) -> None:
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    async with opened(server) as database:
        await cleanup.clean_up(database, Settings())
    assert await db.fetchval("SELECT count(*) FROM revocations WHERE user_id = $1", world.user_id) == 1


async def test_a_role_taken_while_a_code_is_issued_narrows_the_code(
    http: httpx.AsyncClient, server: Server, db: Db, world: World
) -> None:
    """Whichever comes first, no token keeps what the role gave."""
    session = await oauth_world.session_of(db, world)
    answers = [asyncio.create_task(oauth_world.authorize(http, world, session)) for _ in range(8)]
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    for answer in await asyncio.gather(*answers):
        if answer.status_code == 201:
            redeemed = await exchange(http, world, answer.json()["data"]["value"])
            assert redeemed.status_code == 401


MANY = 1_000_000
ADD_MANY = """
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, scope, details, expires_at, seen_user, seen_client,
                    seen_type, seen_role, is_bound_by_roles)
SELECT t.name, sha256(n::text::bytea), t.user_id, t.client_id, t.connection_id, t.scope, t.details, t.expires_at,
       t.seen_user, t.seen_client, t.seen_type, t.seen_role, t.is_bound_by_roles
  FROM tokens t, generate_series(1, $2) n WHERE t.digest = $1
"""


async def token_of_a_code(db: Db, world: World, connection_id: UUID | None) -> str:
    """Add a token that stands on client, user, connection, role and approval, and of these what is missing."""
    if not await db.fetchval("SELECT count(*) FROM user_roles WHERE user_id = $1", world.user_id):
        await oauth_world.give_role(db, world.user_id, world.clinic.id, scope=CLINIC_SCOPE)
    approve = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    await db.execute(approve, world.user_id, world.clinic.id, CLINIC_SCOPE)
    value = await factories.token(
        db, client=world.clinic, user_id=world.user_id, connection_id=connection_id, scope=SCOPE
    )
    noted = '{"grant_type": "authorization_code"}'
    await db.execute("UPDATE tokens SET details = $2 WHERE digest = $1", security.digest(value), noted)
    return value


async def changes(db: Db, world: World) -> AsyncIterator[tuple[str, Request, Request | None]]:
    """Each change that ends a token, as a request, and the request that takes it back where the next ones need that."""
    client, mis = (f"/admin/clients/{each.id}" for each in (world.clinic, world.mis))
    user = f"/admin/users/{world.user_id}"
    type_id = await db.fetchval("SELECT client_type_id FROM clients WHERE id = $1", world.clinic.id)
    blocking, unblocking = ({"client": {"is_blocked": each}} for each in (True, False))
    narrowing, widening = ({"client_type": {"scope": each}} for each in ("employee:read", CLINIC_SCOPE))
    yield "block client", ("PUT", client, blocking), ("PUT", client, unblocking)
    yield "block consumer", ("PUT", mis, blocking), ("PUT", mis, unblocking)
    yield (
        "block user",
        ("PATCH", f"{user}/actions/block", {"user": {}}),
        ("PATCH", f"{user}/actions/unblock", {"user": {}}),
    )
    yield "deactivate tokens", ("PATCH", f"{client}/actions/deactivate_tokens", None), None
    yield (
        "narrow type",
        ("PUT", f"/admin/client_types/{type_id}", narrowing),
        ("PUT", f"/admin/client_types/{type_id}", widening),
    )
    role_id = await db.fetchval("SELECT role_id FROM user_roles WHERE user_id = $1", world.user_id)
    yield "delete role", ("DELETE", f"/admin/roles/{role_id}", None), None
    approval_id = await db.fetchval("SELECT id FROM apps WHERE user_id = $1", world.user_id)
    yield "delete approval", ("DELETE", f"/admin/apps/{approval_id}", None), None
    yield "delete connection", ("DELETE", f"{client}/connections/{world.link.id}", None), None
    yield "delete client", ("DELETE", client, None), None
    yield "delete user", ("DELETE", user, None), None


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_each_change_is_quick_with_a_million_tokens_and_known_to_every_worker(
    server: Server, other: Server, db: Db, world: World
) -> None:
    """In constant time: each has far less than the limit of a statement, which is that of the default settings."""
    first = await token_of_a_code(db, world, world.link.id)
    await factories.quietly(db, ADD_MANY, security.digest(first), MANY)
    await db.execute("ANALYZE tokens")
    limit = Settings().statement_timeout
    seconds = {}
    with running_server(database_url=server.database_url, statement_timeout=limit) as strict:
        async with httpx.AsyncClient(base_url=strict.internal_url) as internal:
            async for name, request, undo in changes(db, world):
                if name == "delete user":
                    value = await factories.token(db, client=world.front, user_id=world.user_id, scope=SCOPE)
                else:
                    is_there = await db.fetchval("SELECT count(*) FROM connections WHERE id = $1", world.link.id)
                    value = await token_of_a_code(db, world, world.link.id if is_there else None)
                assert await verified_scope(other, world, value) == SCOPE
                began = time.monotonic()
                await administrate(internal, *request, **{"X-Consumer-Id": str(world.user_id)})
                seconds[name] = round(time.monotonic() - began, 3)
                assert (await verify(other, world, value)).status_code in (401, 404), name
                if undo:
                    await administrate(internal, *undo)
    print(f"with {MANY} tokens, seconds: {seconds}")  # noqa: T201
    assert max(seconds.values()) < limit


async def test_a_session_with_an_administrative_client_loses_what_the_roles_lose(
    http: httpx.AsyncClient, server: Server, db: Db, world: World
) -> None:
    admin = await factories.client(db, client_type="NHS ADMIN")
    await db.execute("UPDATE client_types SET scope = $1 WHERE name = 'NHS ADMIN'", CLINIC_SCOPE)
    await oauth_world.set_settings(db, admin.id, allowed_grant_types=["password"])
    await oauth_world.give_role(db, world.user_id, admin.id, scope="connection:write app:authorize")
    asked = {"client_id": str(admin.id), "scope": "app:authorize connection:write connection:read"}
    session = (await oauth_world.login(http, world, **asked)).json()["data"]["value"]
    assert await verified_scope(server, world, session) == "app:authorize connection:write"
    await db.execute("DELETE FROM user_roles WHERE client_id = $1", admin.id)
    assert (await verify(server, world, session)).status_code == 401


async def test_what_a_refresh_token_made_by_hand_gives_loses_what_the_roles_lose(
    http: httpx.AsyncClient, server: Server, db: Db, world: World
) -> None:
    stranger = await factories.user(db)
    await db.execute(
        "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3)", stranger, world.clinic.id, SCOPE
    )
    made = await factories.token(db, client=world.clinic, user_id=stranger, name="refresh_token", scope=SCOPE)
    assert (await refresh(http, world, made)).status_code == 401
    await oauth_world.give_role(db, stranger, world.clinic.id, scope=SCOPE)
    access = (await refresh(http, world, made)).json()["data"]["value"]
    assert await verified_scope(server, world, access) == SCOPE
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", stranger)
    assert (await verify(server, world, access)).status_code == 401


async def test_a_type_that_is_narrowed_while_a_password_is_checked_narrows_the_session(
    http: httpx.AsyncClient, internal: httpx.AsyncClient, server: Server, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login has read the client and its type before the change, and issues its session after it."""
    world = await oauth_world.make(db)
    await db.execute("UPDATE client_types SET scope = 'app:authorize connection:write' WHERE name = 'Auth_FE'")
    type_id = await db.fetchval("SELECT id FROM client_types WHERE name = 'Auth_FE'")
    began, go_on, is_password = threading.Event(), threading.Event(), security.is_password

    def slow(*arguments: str) -> bool:
        began.set()
        go_on.wait(60)
        return is_password(*arguments)

    monkeypatch.setattr(security, "is_password", slow)
    login = asyncio.create_task(oauth_world.login(http, world, scope="app:authorize connection:write"))
    assert await asyncio.to_thread(began.wait, 60)
    body = {"client_type": {"scope": "app:authorize user:change_password"}}
    await administrate(internal, "PATCH", f"/admin/client_types/{type_id}", body)
    go_on.set()
    session = (await login).json()["data"]["value"]
    assert await verified_scope(server, world, session) == "app:authorize"
