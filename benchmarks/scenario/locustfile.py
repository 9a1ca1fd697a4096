"""The public performance test of the original system, as a scenario for locust, against `mithril serve --demo`.

    POST /auth/login -> POST /oauth/apps/authorize -> POST /oauth/tokens -> GET /admin/tokens/{token}/verify (api-key)

Each user of locust is a person of their own in the demo's clinic, made through the internal listener at the start, as
one person's logins end each other's sessions. Any answer but the expected one is a failure, and locust ends with 1.
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


class Person(HttpUser):
    """Signs in, consents, exchanges the code; then the gateway asks about the token."""

    host = "http://127.0.0.1:4000"
    wait_time = constant(0)

    def on_start(self) -> None:
        """A person with the role that the scenario needs, and the address that the connection has today."""
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
        """The scenario, once."""
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
        """The value that the answer has; None, and a failure is noted, where it has none."""
        with self.client.post(path, json=body, headers=headers, catch_response=True) as response:
            if response.status_code == CREATED:
                value: str = response.json()["data"]["value"]
                return value
            response.failure(f"{response.status_code}: {response.text}")
        return None

    def verify(self, token: str) -> None:
        """As the gateway does."""
        url, name = f"{self.internal}/admin/tokens/{token}/verify", "/admin/tokens/{token}/verify"
        with self.client.get(url, headers=self.headers | {"api-key": API_KEY}, name=name, catch_response=True) as found:
            if found.status_code != OK or found.json()["data"]["details"]["scope"] != SCOPE:
                found.failure(f"{found.status_code}: {found.text}")

    def administer(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 -- JSON
        """`data` of the answer, which must be a success; not part of what is measured."""
        name = "(making a person)"
        response = self.client.request(method, self.internal + path, json=body, headers=self.headers, name=name)
        response.raise_for_status()
        return response.json()["data"]

    @property
    def internal(self) -> str:
        """The internal listener."""
        base: str = self.environment.parsed_options.internal
        return base

    @property
    def headers(self) -> dict[str, str]:
        """What the internal listener wants."""
        key = self.environment.parsed_options.internal_key
        return {"X-Mithril-Key": key} if key else {}
