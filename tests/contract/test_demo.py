"""What the demo data is for: programs and users of each kind can do with it what the documentation shows."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mithril.snapshots import service as snapshots
from support import repository
from support.factories import bearer
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS, run
from support.servers import Server, demo_server

FRONT = "e2e1d2c8-9bac-43c6-adef-83239940b30a"
CONNECTION = f"/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
# Of each institution, MIS and patient system: a user who signs in, and the role whose scopes are asked for.
USERS = {
    "owner@clinic.example": "OWNER",
    "doctor2@clinic.example": "DOCTOR",
    "owner2@pharmacy.example": "PHARMACY_OWNER",
    "owner@hospital.example": "OWNER",
    "owner@closed.example": "REORGANIZATION_OWNER",
    "developer@mis.example": "MIS USER",
    "admin@nhs.example": "NHS ADMIN",
    "admin2@mithril.example": "MITHRIL ADMIN",
    "patient@cabinet.example": "PIS USER",
}
CLIENTS = {
    "clinic": "https://example2.com",
    "pharmacy": "https://mis.example.com/pharmacy",
    "hospital": "https://mis.example.com/hospital",
    "closed": "https://mis.example.com/closed",
    "mis": "https://mis.example.com/callback",
    "nhs": "https://nhs.example.com/callback",
    "mithril": "https://admin.example.com/callback",
    "cabinet": "https://pis.example.com/callback",
}


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server with demo data."""
    with demo_server(postgres) as running:
        yield running


@pytest.mark.parametrize(
    ("email", "is_own_login"),
    [*((email, False) for email in USERS), ("developer@mis.example", True), ("patient@cabinet.example", True)],
)
def test_users_of_the_demo_give_a_client_all_scopes_of_their_role(
    server: Server, email: str, *, is_own_login: bool
) -> None:
    """The printed sample in three steps: login, authorize, exchange. A MIS and a PIS may log their users in, too."""
    found = snapshots.demo()
    uri = CLIENTS[email.partition("@")[2].partition(".")[0]]
    (connection,) = (row for row in found.connections if row["redirect_uri"] == uri)
    (scope,) = (row["scope"] for row in found.roles if row["name"] == USERS[email])
    (client,) = (row for row in found.clients if row["id"] == connection["client_id"])
    entrance = client["id"] if is_own_login else FRONT
    person = {"email": email, "password": "Demo-Password-1", "grant_type": "password", "scope": "app:authorize"}
    with httpx.Client(base_url=server.url) as http:

        def call(path: str, wrapper: str, fields: dict[str, str], **headers: str) -> Any:
            response = http.post(path, json={wrapper: fields}, headers=headers)
            assert response.status_code == 201, response.text
            return response.json()["data"]

        session = call("/auth/login", "token", person | {"client_id": entrance})["value"]
        asked = {"client_id": client["id"], "redirect_uri": uri, "scope": scope}
        code = call("/oauth/apps/authorize", "app", asked, **bearer(session))["value"]
        proof = asked | {"client_secret": connection["secret"], "grant_type": "authorization_code", "code": code}
        assert set(call("/oauth/tokens", "token", proof)["details"]["scope"].split()) >= set(scope.split())


@pytest.mark.slow
def test_a_reset_beside_a_running_server_is_seen_by_the_next_request(postgres: str) -> None:
    with demo_server(postgres) as running, httpx.Client(base_url=running.url) as http:
        moved = http.patch(CONNECTION, json={"redirect_uri": "https://example3.com"}, headers=DEMO_HEADERS)
        assert moved.status_code == 200
        assert http.post("/auth/logout", headers=DEMO_HEADERS).status_code == 200
        assert http.get(CONNECTION, headers=DEMO_HEADERS).status_code == 401
        refused = run("demo", "reset", "--database-url", running.database_url)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "also 0 users and 0 clients that are not of the demo" in refused.stderr
        assert http.get(CONNECTION, headers=DEMO_HEADERS).status_code == 401
        done = run("demo", "reset", "--yes", "--json", "--database-url", running.database_url)
        assert json.loads(done.stdout) == {"users": 0, "clients": 0}, done.stderr
        again = http.get(CONNECTION, headers=DEMO_HEADERS)
        assert (again.status_code, again.json()["data"]["redirect_uri"]) == (200, "https://example2.com")


@pytest.mark.slow
def test_a_database_without_the_demo_is_not_reset(database_url: str) -> None:
    refused = run("demo", "reset", "--yes", "--database-url", database_url)
    assert (refused.returncode, refused.stderr) == (1, "mithril: there is no demo data in this database\n")


def test_the_document_names_every_client_connection_and_user_of_the_demo() -> None:
    document = (repository() / "docs" / "demo.md").read_text()
    rows = [line for line in document.splitlines() if line.startswith("|")]
    found = snapshots.demo()
    assert all(
        any(f"`{each['id']}` | `{each['client_type']}`" in row for row in rows)
        for each in found.clients
        if each["client_type"] != "Auth_FE"
    )
    for connection in found.connections:
        (row,) = (row for row in rows if f"`{connection['client_id']}`" in row)
        assert f"`{connection['redirect_uri']}`, secret" in row
        assert f"`{connection['secret']}`" in row
    for email in (user["email"] for user in found.users if "password" in user):
        name, _, domain = email.partition("@")
        assert any(f"`{domain}`" in row and f"`{name.removesuffix('2')}`" in row for row in rows), email
