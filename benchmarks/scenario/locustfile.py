"""The public performance test of the original system, as a scenario for locust, against `mithril serve --demo`.

    POST /auth/login -> POST /oauth/apps/authorize -> POST /oauth/tokens -> GET /admin/tokens/{token}/verify (api-key)

Each user of locust gets an account in the clinic of the demo data, created through the internal listener at the start,
because a login revokes the user's earlier sessions. Any unexpected answer is a failure, and locust then exits with 1.
"""

from typing import Any
from uuid import uuid4

from locust import HttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser

SIGN_IN = "e2e1d2c8-9bac-43c6-adef-83239940b30a"
CLINIC = "1380df72-275a-11e7-93ae-92361f002671"
CONNECTION = "e5372365-d47a-467f-81d0-f35117864352"
CLIENT_SECRET = "ZlFOaHBTR0d3Q0hQcDEraHVYdXBVZz09"
API_KEY = "uXhEczJ56adsfh3Ri9SUkc4en"
PASSWORD = "Demo-Password-1"
OK, CREATED = 200, 201
SCOPE = "legal_entity:read client:read connection:read"


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--internal", default="http://127.0.0.1:4001", help="the internal listener")
    parser.add_argument("--internal-key", default="", env_var="MITHRIL_INTERNAL_KEY", is_secret=True, help="its key")


class MisUser(HttpUser):
    """A user who signs in, consents and exchanges the code; then the gateway verifies the token."""

    host = "http://127.0.0.1:4000"
    wait_time = constant(0)

    def on_start(self) -> None:
        """Create a user with the role that the scenario needs, and read the redirect URI of the connection."""
        self.email = f"locust-{uuid4()}@clinic.example"
        user = {"email": self.email, "password": PASSWORD, "2fa_enable": False}
        person = self.administer("POST", "/admin/users", {"user": user})
        (role,) = self.administer("GET", "/admin/roles?name=OWNER")
        given = {"client_id": CLINIC, "role_id": role["id"]}
        self.administer("POST", f"/admin/users/{person['id']}/roles", {"user_role": given})
        connection = self.administer("GET", f"/admin/clients/{CLINIC}/connections/{CONNECTION}")
        self.redirect_uri = connection["redirect_uri"]

    @task
    def sign_in(self) -> None:
        """Run the scenario once."""
        grant = {"grant_type": "password", "email": self.email, "password": PASSWORD, "client_id": SIGN_IN}
        session = self.ask("/auth/login", {"token": {**grant, "scope": "app:authorize"}})
        if session is None:
            return
        app = {"client_id": CLINIC, "redirect_uri": self.redirect_uri, "scope": SCOPE}
        headers = {"Authorization": f"Bearer {session}", "API-key": API_KEY}
        code = self.ask("/oauth/apps/authorize", {"app": app}, headers)
        if code is None:
            return
        grant = {"grant_type": "authorization_code", "client_id": CLINIC, "client_secret": CLIENT_SECRET}
        token = self.ask("/oauth/tokens", {"token": {**grant, "code": code, "redirect_uri": self.redirect_uri}})
        if token is not None:
            self.verify(token)

    def ask(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> str | None:
        """Return a value of the answer, or None, with a recorded failure, when the answer does not have it."""
        with self.client.post(path, json=body, headers=headers, catch_response=True) as response:
            if response.status_code == CREATED:
                value: str = response.json()["data"]["value"]
                return value
            response.failure(f"{response.status_code}: {response.text}")
        return None

    def verify(self, token: str) -> None:
        """Verify the token as the gateway does."""
        url, name = f"{self.internal}/admin/tokens/{token}/verify", "/admin/tokens/{token}/verify"
        with self.client.get(url, headers=self.headers | {"api-key": API_KEY}, name=name, catch_response=True) as found:
            if found.status_code != OK or found.json()["data"]["details"]["scope"] != SCOPE:
                found.failure(f"{found.status_code}: {found.text}")

    def administer(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 -- JSON
        """Return `data` of an answer, which must be a success. It is not part of the measurement."""
        name = "(making a person)"
        response = self.client.request(method, self.internal + path, json=body, headers=self.headers, name=name)
        response.raise_for_status()
        return response.json()["data"]

    @property
    def internal(self) -> str:
        """The URL of the internal listener."""
        base: str = self.environment.parsed_options.internal
        return base

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the internal listener needs."""
        key = self.environment.parsed_options.internal_key
        return {"X-Mithril-Key": key} if key else {}
