"""Shared by the tests of the pages: a user with a role in a client, and the steps of a browser."""

import base64
import hashlib
import html
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID, uuid4

import httpx

from mithril import security
from support import factories
from support.factories import Db

PASSWORD = "Correct-Horse-7"
PASSWORD_HASH = security.hash_password(PASSWORD)
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ENTRANCES = ["/sign-in", "/oauth2/authorize"]
HOSTILE = "\"><script>alert('x')</script>&amp;{{7*7}}"
FORM_TOKEN = re.compile(r'name="form_token" value="([A-Za-z0-9_-]{32})"')


@dataclass
class Case:
    """A user with a role in a client that has one connection, and the query of the authorization request."""

    client_id: UUID
    user_id: UUID
    email: str
    redirect_uri: str
    secret: str
    query: dict[str, str] = field(default_factory=dict)

    def changed(self, **changes: str | None) -> str:
        """Return the query as text; None omits a parameter."""
        return urlencode({k: v for k, v in {**self.query, **changes}.items() if v is not None})


async def make_case(
    db: Db,
    *,
    scope: str = "legal_entity:read employee:read",
    settings: dict[str, Any] | None = None,
    redirect_uri: str = "https://mis.example.com/callback?clinic=7",
) -> Case:
    made = await factories.client(db, client_type=f"Type {uuid4()}")
    await db.execute(
        "UPDATE client_types SET scope = 'legal_entity:read employee:read declaration:read'"
        " WHERE id = (SELECT client_type_id FROM clients WHERE id = $1)",
        made.id,
    )
    await db.execute("UPDATE clients SET settings = $2 WHERE id = $1", made.id, json.dumps(settings or {}))
    connection = await factories.connection(db, client_id=made.id, redirect_uri=redirect_uri)
    email = await db.fetchval(
        "UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING email", made.user_id, PASSWORD_HASH
    )
    role_id = await db.fetchval(
        "INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id",
        f"Role {uuid4()}",
        "legal_entity:read employee:read",
    )
    await db.execute(
        "INSERT INTO user_roles (user_id, role_id, client_id) VALUES ($1, $2, $3)", made.user_id, role_id, made.id
    )
    query = {
        "client_id": str(made.id),
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "scope": scope,
        "state": "a b+ü&=%",
        "lang": "en",
    }
    return Case(made.id, made.user_id, email, redirect_uri, connection.secret, query)


def form_token(response: httpx.Response) -> str:
    found = FORM_TOKEN.search(response.text)
    assert found, response.text
    return found[1]


async def sign_in(http: httpx.AsyncClient, url: str, *, email: str, password: str = PASSWORD) -> httpx.Response:
    page = await http.get(url)
    return await http.post(url, data={"form_token": form_token(page), "email": email, "password": password})


async def consent_page(http: httpx.AsyncClient, url: str, case: Case) -> httpx.Response:
    response = await sign_in(http, url, email=case.email)
    assert response.status_code == 303, response.text
    page = await http.get(url)
    assert 'value="allow"' in page.text
    return page


async def decide(http: httpx.AsyncClient, url: str, page: httpx.Response, decision: str, **more: str) -> httpx.Response:
    scope = re.search(r'name="scope" value="([^"]*)"', page.text)
    assert scope
    data = {"form_token": form_token(page), "scope": html.unescape(scope[1]), "decision": decision, **more}
    return await http.post(url, data=data)


def sent_back(response: httpx.Response, case: Case) -> dict[str, str]:
    """Return the parameters that the client gets in its redirect URI, which must otherwise be the registered one."""
    assert response.status_code == 303, response.text
    location = response.headers["location"]
    assert location.startswith(case.redirect_uri)
    rest = location.removeprefix(case.redirect_uri)
    assert rest[0] in "?&"
    return dict(parse_qsl(rest[1:], strict_parsing=True))


async def approve(db: Db, case: Case, scope: str) -> None:
    statement = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3)"
    await db.execute(statement, case.user_id, case.client_id, scope)


async def add_factor(db: Db, user_id: UUID, phone: str | None) -> None:
    statement = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', $2)"
    await db.execute(statement, user_id, phone)


def code_in(text: str) -> str:
    found = re.search(r"\d{4,}", text)
    assert found
    return found[0]


async def redeem(http: httpx.AsyncClient, case: Case, code: str) -> httpx.Response:
    """Exchange the code, as the client's back end does."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": case.redirect_uri}
    return await http.post("/oauth2/token", data=form, auth=(str(case.client_id), case.secret))


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until it holds, ten seconds at most: a server writes the log line of a request after its answer."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
