"""The common mistakes of docs/integrate.md, made: the server answers what the page says."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mithril.snapshots import service as snapshots
from support import repository
from support.factories import bearer
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS
from support.servers import demo_server

CALLBACK = "https://example2.com"
CONNECTION = f"/api/clients/{DEMO_CLIENT}/connections/{DEMO_CONNECTION}"
(SECRET,) = (row["secret"] for row in snapshots.demo().connections if row["id"] == DEMO_CONNECTION)
KEY = {"API-key": DEMO_HEADERS["API-key"]}
Answers = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def http(postgres: str) -> Iterator[httpx.Client]:
    """A client of a server with demo data."""
    with demo_server(postgres) as running, httpx.Client(base_url=running.url) as client:
        yield client


def test_each_mistake_is_answered_as_the_page_says(http: httpx.Client) -> None:
    login = {
        "grant_type": "password",
        "email": "owner@clinic.example",
        "password": "Demo-Password-1",
        "client_id": "e2e1d2c8-9bac-43c6-adef-83239940b30a",
        "scope": "app:authorize",
    }
    session = http.post("/auth/login", json={"token": login}).json()["data"]["value"]

    def authorize(token: str = session, **changes: str) -> httpx.Response:
        asked = {"client_id": DEMO_CLIENT, "redirect_uri": CALLBACK, "scope": "employee:read", **changes}
        return http.post("/oauth/apps/authorize", json={"app": asked}, headers=bearer(token) | KEY)

    def exchange(code: str | None = None, **changes: str) -> httpx.Response:
        code = code or authorize().json()["data"]["value"]
        proof = {"grant_type": "authorization_code", "client_id": DEMO_CLIENT, "client_secret": SECRET}
        return http.post("/oauth/tokens", json={"token": {**proof, "redirect_uri": CALLBACK, "code": code, **changes}})

    code = authorize().json()["data"]["value"]
    access = exchange(code).json()["data"]["value"]
    reader = bearer(exchange().json()["data"]["value"]) | KEY
    made: list[httpx.Response] = [
        authorize(redirect_uri=f"{CALLBACK}/"),
        exchange(redirect_uri=f"{CALLBACK}/"),
        exchange(client_secret=KEY["API-key"]),
        exchange(code),
        http.get(CONNECTION, headers={"Authorization": DEMO_HEADERS["Authorization"]}),
        http.get(CONNECTION, headers={"Authorization": DEMO_HEADERS["Authorization"].removeprefix("Bearer "), **KEY}),
        http.get(CONNECTION, headers=reader),
        http.get(CONNECTION.replace(DEMO_CLIENT, "25c03af6-69bd-439e-b0dd-f1669b3dbbfd"), headers=DEMO_HEADERS),
        authorize(scope="employee:read bl_user:read"),
        http.post("/oauth/tokens", data={"grant_type": "refresh_token"}),
        http.post("/oauth/tokens", json={"grant_type": "refresh_token"}),
        authorize(reader["Authorization"].removeprefix("Bearer ")),
    ]
    assert http.get("/oauth/user", headers=bearer(access) | KEY).status_code == 401  # the second use ended it
    for row, response in zip(rows(), made, strict=True):
        assert row.startswith(f"{response.status_code} `{response.json()['error']['type']}`"), (row, response.text)
        said = re.match(r"\d+ `\w+`: ([^.;]*)", row)
        assert said is None or said[1] in response.json()["error"]["message"], (row, response.text)


def rows() -> list[str]:
    """Return the right column of the page's table of mistakes."""
    page: Any = (repository() / "docs/integrate.md").read_text()
    table = page.partition("## Common mistakes")[2].partition("\n## ")[0]
    return re.findall(r"^\| .* \| (\d{3} .*) \|$", table, re.MULTILINE)
