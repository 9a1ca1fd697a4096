"""The rows of a sign-in: a user with a role, a front end, a clinic and its MIS."""

import itertools
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import argon2
import httpx

from support import factories
from support.factories import Db, bearer

PASSWORD = "Demo-Password-1"
# A hash names its own cost. Only the test that measures time needs a real one.
PASSWORD_HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
ADDRESS = "https://mis.example.com/callback?clinic=7"
CLINIC_SCOPE = "app:authorize legal_entity:read employee:read connection:read connection:write"
ASKED = "legal_entity:read connection:write"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class World:
    """A user and everything that they sign in to. `key` is the API-key of the MIS."""

    user_id: UUID
    email: str
    front: factories.Client
    clinic: factories.Client
    mis: factories.Client
    link: factories.Connection
    key: str


async def make(db: Db, *, is_brokered: bool = True) -> World:
    await _add_types(db)
    user_id, email = await person(db)
    front = await factories.client(db, client_type="Auth_FE")
    await set_settings(db, front.id, allowed_grant_types=["password", "change_password"])
    mis = await factories.client(db, client_type="MIS", broker_scope=CLINIC_SCOPE)
    own = await factories.connection(db, client_id=mis.id)
    clinic = await factories.client(db, client_type="MSP", access_type="BROKER" if is_brokered else "DIRECT")
    link = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id, redirect_uri=ADDRESS)
    await give_role(db, user_id, clinic.id, scope=CLINIC_SCOPE)
    return World(user_id, email, front, clinic, mis, link, own.secret)


async def person(db: Db, *, password_hash: str | None = PASSWORD_HASH, tax_id: str = "") -> tuple[UUID, str]:
    email = f"person-{next(_numbers)}-{uuid4()}@clinic.example"
    statement = "INSERT INTO users (email, password_hash, tax_id) VALUES ($1, $2, $3) RETURNING id"
    return await db.fetchval(statement, email, password_hash, tax_id), email


async def give_role(db: Db, user_id: UUID, client_id: UUID | None, *, scope: str) -> UUID:
    """Grant a new role in a client, or globally when the client is None."""
    role: UUID = await db.fetchval(
        "INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", f"role-{uuid4()}", scope
    )
    if client_id is None:
        await db.execute("INSERT INTO global_user_roles (user_id, role_id) VALUES ($1, $2)", user_id, role)
    else:
        statement = "INSERT INTO user_roles (user_id, client_id, role_id) VALUES ($1, $2, $3)"
        await db.execute(statement, user_id, client_id, role)
    return role


async def set_settings(db: Db, client_id: UUID, **settings: Any) -> None:
    await db.execute("UPDATE clients SET settings = $2 WHERE id = $1", client_id, json.dumps(settings))


async def login(http: httpx.AsyncClient, world: World, **changes: Any) -> httpx.Response:
    fields = {
        "grant_type": "password",
        "email": world.email,
        "password": PASSWORD,
        "client_id": str(world.front.id),
        "scope": "app:authorize",
    }
    return await http.post("/auth/login", json={"token": fields | changes})


async def authorize(http: httpx.AsyncClient, world: World, session: str, **changes: Any) -> httpx.Response:
    fields = {"client_id": str(world.clinic.id), "redirect_uri": ADDRESS, "scope": ASKED}
    return await http.post("/oauth/apps/authorize", json={"app": fields | changes}, headers=bearer(session))


async def exchange(http: httpx.AsyncClient, world: World, code: str, **changes: Any) -> httpx.Response:
    fields = {
        "grant_type": "authorization_code",
        "client_id": str(world.clinic.id),
        "client_secret": world.link.secret,
        "code": code,
        "redirect_uri": ADDRESS,
    }
    return await http.post("/oauth/tokens", json={"token": fields | changes})


async def refresh(http: httpx.AsyncClient, world: World, token: str, **changes: Any) -> httpx.Response:
    fields = {
        "grant_type": "refresh_token",
        "client_id": str(world.clinic.id),
        "client_secret": world.link.secret,
        "refresh_token": token,
    }
    return await http.post("/oauth/tokens", json={"token": fields | changes})


async def session_of(db: Db, world: World, *, scope: str = "app:authorize") -> str:
    """Return a session token as a login issues it, without the login."""
    return await factories.token(db, client=world.front, user_id=world.user_id, scope=scope)


async def code_of(http: httpx.AsyncClient, db: Db, world: World, **changes: Any) -> str:
    response = await authorize(http, world, await session_of(db, world), **changes)
    assert response.status_code == 201, response.text
    code: str = response.json()["data"]["value"]
    return code


async def tokens_of(http: httpx.AsyncClient, db: Db, world: World, **changes: Any) -> tuple[str, str]:
    """Return an access token and its refresh token."""
    response = await exchange(http, world, await code_of(http, db, world, **changes))
    assert response.status_code == 201, response.text
    data = response.json()["data"]
    return data["value"], data["details"]["refresh_token"]


async def may_read(http: httpx.AsyncClient, world: World, access_token: str) -> bool:
    """Return whether the API accepts the token."""
    headers = bearer(access_token, api_key=world.key)
    response = await http.patch(f"{world.link.path}", json={}, headers=headers)
    assert response.status_code in (401, 403, 422)
    return response.status_code == 422


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, type and message. Fails when the answer has anything else but the `sandbox` of a demo."""
    body = response.json()
    assert set(body) - {"sandbox"} == {"meta", "error"}
    assert body["meta"]["code"] == response.status_code
    return response.status_code, body["error"]["type"], body["error"].get("message")


def invalid(response: httpx.Response) -> dict[str, list[str]]:
    """Return the violated rules of each entry of a 422, in the order of the answer."""
    assert response.status_code == 422, response.text
    assert response.json()["error"]["type"] == "validation_failed"
    return {each["entry"]: [rule["rule"] for rule in each["rules"]] for each in response.json()["error"]["invalid"]}


async def _add_types(db: Db) -> None:
    for name, scope in (
        ("MSP", CLINIC_SCOPE),
        ("MIS", CLINIC_SCOPE),
        ("Auth_FE", "app:authorize user:change_password"),
    ):
        await db.execute(
            "INSERT INTO client_types (name, scope) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET scope = $2",
            name,
            scope,
        )
