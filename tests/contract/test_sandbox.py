"""What a refusal tells with --demo only (rules CNV-53, CNV-54)."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from mithril.snapshots import demo
from support.factories import bearer
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS
from support.servers import Server, demo_server

TOKEN = DEMO_HEADERS["Authorization"].removeprefix("Bearer ")
FRONT = "e2e1d2c8-9bac-43c6-adef-83239940b30a"


@pytest.fixture(scope="module")
def running(postgres: str) -> Iterator[Server]:
    with demo_server(postgres) as server:
        yield server


@pytest.fixture
def caller(running: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url) as client:
        yield client


def told(response: httpx.Response) -> Any:
    assert response.is_error
    return response.json()["sandbox"]


def exchanged(caller: httpx.Client, **changes: str) -> httpx.Response:
    own = demo.program()
    fields = {"grant_type": "authorization_code", "client_id": own.client_id, "client_secret": own.secret}
    fields |= {"code": "unknown", "redirect_uri": "https://example.com"} | changes
    return caller.post("/oauth/tokens", json={"token": fields})


def authorized(caller: httpx.Client, redirect_uri: str) -> httpx.Response:
    person = {"email": demo.USER, "password": "Demo-Password-1", "grant_type": "password", "scope": "app:authorize"}
    session = caller.post("/auth/login", json={"token": person | {"client_id": FRONT}}).json()["data"]["value"]
    asked = {"client_id": demo.program().client_id, "redirect_uri": redirect_uri, "scope": "employee:read"}
    return caller.post("/oauth/apps/authorize", json={"app": asked}, headers=bearer(session))


def test_a_slash_is_named_as_the_only_difference(caller: httpx.Client, running: Server) -> None:
    registered = running.url + demo.CALLBACK_PATH
    shown = {"redirect_uri": registered + "/", "hint": "a slash at the end is the only difference"}
    found = told(authorized(caller, registered + "/"))
    assert found == {"refusal": "redirect_uri_not_registered", "registered": [registered], **shown}
    code = authorized(caller, registered).json()["data"]["value"]
    found = told(exchanged(caller, code=code, redirect_uri=registered + "/"))
    assert found == {"refusal": "redirect_uri_mismatch", "registered": [registered], **shown}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"client_secret": "wrong"}, "the secret is of no connection of this client"),
        ({"client_id": str(uuid4())}, "there is no client with this client_id"),
        ({"client_id": "clinic"}, "client_id is no UUID"),
    ],
)
def test_what_of_the_credentials_is_wrong_is_told(caller: httpx.Client, changes: dict[str, str], hint: str) -> None:
    assert told(exchanged(caller, **changes)) == {"refusal": "client_secret_wrong", "hint": hint}


def test_what_was_presented_in_place_of_a_code_is_told(caller: httpx.Client) -> None:
    assert told(exchanged(caller))["detail"] == "nothing was issued with this value"
    assert told(exchanged(caller, code=TOKEN))["detail"] == "its kind is access_token, and not authorization_code"


@pytest.mark.parametrize(
    ("path", "headers", "detail"),
    [
        (f"/api/clients/{DEMO_CLIENT}", {"Authorization": TOKEN}, "no word Bearer before the token"),
        ("/api/clients/clinic", DEMO_HEADERS, "an id in the path is no UUID"),
        (f"/api/clients/{DEMO_CLIENT}/connections/mine", DEMO_HEADERS, "an id in the path is no UUID"),
        (f"/admin/tokens/{TOKEN}/verify", {}, "what is below /admin answers on the internal listener"),
        ("/api/clients//", DEMO_HEADERS, "a slash too many at the end of the path"),
    ],
)
def test_common_mistakes_are_named(caller: httpx.Client, path: str, headers: dict[str, str], detail: str) -> None:
    assert detail in told(caller.get(path, headers=headers))["detail"]


def test_the_internal_listener_names_the_public_one(running: Server) -> None:
    answer = httpx.get(f"{running.internal_url}/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}")
    assert told(answer)["detail"] == "what is below /api answers on the public listener"


@pytest.mark.anyio
async def test_without_the_demo_nothing_is_told(http: httpx.AsyncClient) -> None:
    wrong = {"grant_type": "refresh_token", "client_id": str(uuid4()), "client_secret": "a", "refresh_token": "b"}
    answer = await http.post("/oauth/tokens", json={"token": wrong})
    assert (answer.status_code, set(answer.json())) == (401, {"meta", "error"})
