"""A whole session of a vendor's program: its requests byte for byte, and what it demands of the answers.

The program is a MIS in PHP, with Laravel's HTTP client over Guzzle and curl. It escapes slashes in JSON, sends `[]` for
no body, sends headers of the network edge of ESOZ, and encodes a query like a form.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID

import pytest

from mithril.snapshots import service as snapshots
from support import sockets
from support.browsing import sign_in
from support.processes import DEMO_CLIENT, DEMO_CONNECTION, DEMO_HEADERS
from support.servers import Server, demo_server

MIS = "25c03af6-69bd-439e-b0dd-f1669b3dbbfd"
API_KEY, CALLBACK, EMAIL, PASSWORD = (
    DEMO_HEADERS["API-key"],
    "https://example2.com",
    "owner@clinic.example",
    "Demo-Password-1",
)
(SECRET,) = (row["secret"] for row in snapshots.demo().connections if row["id"] == DEMO_CONNECTION)
# The program asks for everything that its own list has for a role.
(SCOPE,) = (row["scope"] for row in snapshots.demo().roles if row["name"] == "OWNER")
CONNECTIONS = f"/api/clients/{DEMO_CLIENT}/connections"

Rules = Mapping[str, Callable[[Any], bool]]


def is_uuid(value: object) -> bool:
    return isinstance(value, str) and str(UUID(value)) == value


def is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def is_whole(value: object) -> bool:
    return type(value) is int


def is_time(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value) is not None


def is_url(value: object) -> bool:
    return isinstance(value, str) and bool(urlsplit(value).scheme and urlsplit(value).netloc)


def is_object(value: object) -> bool:
    # PHP decodes an object and a list to the same; an empty list would do.
    return isinstance(value, dict | list)


def is_true_or_false(value: object) -> bool:
    return isinstance(value, bool)


def absent_or(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


SESSION: Rules = {"value": is_text, "user_id": is_text}
CODE: Rules = {
    "id": is_uuid,
    "name": lambda name: name == "authorization_code",
    "value": is_text,
    "user_id": is_uuid,
    "expires_at": is_whole,
    "details": is_object,
    "details.app_id": is_uuid,
    "details.client_id": is_uuid,
    "details.redirect_uri": is_url,
    "details.scope_request": is_text,
}
EXCHANGED: Rules = {
    "value": is_text,
    "user_id": is_uuid,
    "expires_at": is_whole,
    "details": is_object,
    "details.client_id": is_uuid,
    "details.scope": lambda scope: set(scope.split(" ")) <= set(SCOPE.split()),
    "details.refresh_token": is_text,
}
REFRESHED: Rules = {"value": is_text, "expires_at": is_whole, "details.refresh_token": is_text}
USER: Rules = {
    "id": is_text,
    "email": is_text,
    "is_blocked": is_true_or_false,
    "block_reason": absent_or(is_text),
    "person_id": absent_or(is_text),
    "tax_id": absent_or(is_text),
    "settings": absent_or(is_object),
    "inserted_at": is_text,
    "updated_at": is_text,
}
CLIENT: Rules = {
    "id": is_uuid,
    "name": is_text,
    "user_id": is_uuid,
    "client_type_id": is_uuid,
    "client_type_name": absent_or(is_text),
    "is_blocked": absent_or(is_true_or_false),
    "block_reason": absent_or(is_text),
    "settings": absent_or(is_object),
    "inserted_at": absent_or(is_time),
    "updated_at": absent_or(is_time),
}
CONNECTION: Rules = {
    "id": is_uuid,
    "client_id": is_uuid,
    "consumer_id": is_uuid,
    "redirect_uri": is_text,
    "secret": absent_or(is_text),
    "inserted_at": absent_or(is_time),
    "updated_at": absent_or(is_time),
}


@pytest.fixture
def server(postgres: str) -> Iterator[Server]:
    """A server with demo data of its own: a session changes the secret."""
    with demo_server(postgres) as running:
        yield running


class Program:
    """The vendor's two ways to send a request. The older one asks for JSON, and mistakes what has more than `data`."""

    def __init__(self, server: Server) -> None:
        """Call this server, as no user."""
        self.server, self.token = server, ""

    def send(self, line: str, body: object = None, *, is_older: bool = False, token: str | None = None) -> Any:
        """Send one request, and return `data` of the answer. `token`: the bearer; by default that of the session."""
        status, envelope = self.answer(line, body, is_older=is_older, token=token)
        assert status in (200, 201), envelope
        if is_older and (envelope.get("urgent") or envelope.get("paging")):
            return envelope
        return envelope.get("data", [])

    def answer(
        self, line: str, body: object = None, *, is_older: bool = False, token: str | None = None
    ) -> tuple[int, Any]:
        """Send one request, and return the status and the envelope of the answer."""
        bearer = self.token if token is None else token
        sent = None if body is None else json.dumps(body, separators=(",", ":")).replace("/", r"\/")
        head = [
            f"{line} HTTP/1.1",
            f"Host: {urlsplit(self.server.url).netloc}",
            "User-Agent: GuzzleHttp/7",
            *(["Content-Type: application/json"] if sent is not None else []),
            *(["Accept: application/json"] if is_older else []),
            "X-Custom-PSK: a-key-of-the-network-edge",
            f"API-key: {API_KEY}",
            *([f"Authorization: Bearer {bearer}"] if bearer else []),
            *([f"Content-Length: {len(sent)}"] if sent is not None else []),
        ]
        status, headers, envelope = sockets.exchange(
            self.server, ("\r\n".join([*head, "", ""]) + (sent or "")).encode()
        )
        assert headers["content-type"].startswith("application/json")
        return status, envelope

    def exchange(self, code: str, *, secret: str = SECRET) -> dict[str, Any]:
        """Exchange a code, and keep the access token for what follows."""
        proof = {"client_id": DEMO_CLIENT, "client_secret": secret, "grant_type": "authorization_code"}
        asked = {"token": {**proof, "code": code, "redirect_uri": CALLBACK, "scope": SCOPE}}
        data = self.send("POST /oauth/tokens", asked, is_older=True, token="")
        check(data, EXCHANGED)
        self.token = data["value"]
        return dict(data)

    def code(self) -> str:
        """Log in through the MIS and ask for a code, as the vendor's login page for developers does."""
        login = {"email": EMAIL, "password": PASSWORD, "client_id": MIS, "scope": "app:authorize"}
        session = self.send("POST /auth/login", {"token": {"grant_type": "password", **login}}, token="")
        check(session, SESSION)
        asked = {"app": {"client_id": DEMO_CLIENT, "redirect_uri": CALLBACK, "scope": SCOPE}}
        code = self.send("POST /oauth/apps/authorize", asked, token=session["value"])
        check(code, CODE)
        return str(code["value"])

    def refresh(self, refresh_token: str, *, secret: str = SECRET) -> tuple[int, Any]:
        proof = {"client_id": DEMO_CLIENT, "client_secret": secret, "grant_type": "refresh_token"}
        return self.answer("POST /oauth/tokens", {"token": {**proof, "refresh_token": refresh_token}}, token="")


def check(data: Any, rules: Rules) -> None:
    """Hold a part of an answer against the rules; a name with a dot is of an object in it."""
    for name, is_good in rules.items():
        value = data
        for part in name.split("."):
            value = value.get(part)
        assert is_good(value), (name, value, data)


@pytest.fixture
def program(server: Server) -> Program:
    return Program(server)


def test_a_user_signs_in_on_the_page_and_is_known_to_the_program(server: Server, program: Program) -> None:
    query = {
        "client_id": DEMO_CLIENT,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "email": EMAIL,
        "scope": SCOPE,
    }
    back = sign_in(f"{server.url}/sign-in?{urlencode(query)}", email=EMAIL, password=PASSWORD)
    exchanged = program.exchange(parse_qs(urlsplit(back).query)["code"][0])
    assert exchanged["details"]["client_id"] == DEMO_CLIENT
    assert set(exchanged["details"]["scope"].split()) == set(SCOPE.split())
    user = program.send("GET /oauth/user", is_older=True)
    check(user, USER)
    assert (user["id"], user["email"]) == (exchanged["user_id"], EMAIL)


def test_a_session_from_login_to_logout(server: Server, program: Program) -> None:
    exchanged = program.exchange(program.code())

    listed = program.send("GET /api/clients?page_size=300")
    assert [each["id"] for each in listed] == [DEMO_CLIENT]
    for client in (*listed, program.send(f"GET /api/clients/{DEMO_CLIENT}")):
        check(client, CLIENT)
    (connection,) = program.send(f"GET {CONNECTIONS}?page_size=300")
    check(connection, CONNECTION)

    status, refreshed = program.refresh(exchanged["details"]["refresh_token"])
    assert (status, set(refreshed)) == (201, {"meta", "data"})
    check(refreshed["data"], REFRESHED)
    assert refreshed["data"]["details"]["refresh_token"] == exchanged["details"]["refresh_token"]
    assert refreshed["data"]["value"] != program.token
    program.token = refreshed["data"]["value"]

    moved = program.send(f"PATCH {CONNECTIONS}/{DEMO_CONNECTION}", {"redirect_uri": "https://example3.com"})
    check(moved, CONNECTION)
    assert (moved["redirect_uri"], moved.get("secret")) == ("https://example3.com", None)
    program.send(f"PATCH {CONNECTIONS}/{DEMO_CONNECTION}", {"redirect_uri": CALLBACK})

    renewed = program.send(f"PATCH {CONNECTIONS}/{DEMO_CONNECTION}/actions/refresh_secret", [])
    check(renewed, CONNECTION)
    status, refused = program.refresh(exchanged["details"]["refresh_token"])
    assert (status, refused["error"]["type"]) == (401, "invalid_client")
    status, refreshed = program.refresh(exchanged["details"]["refresh_token"], secret=renewed["secret"])
    assert status == 201
    program.token = refreshed["data"]["value"]

    verify = f"GET /admin/tokens/{program.token}/verify HTTP/1.1\r\nHost: 127.0.0.1\r\napi-key: {API_KEY}\r\n\r\n"
    status, _, verified = sockets.exchange(server, verify.encode(), is_internal=True)
    assert (status, verified["data"]["user_id"]) == (200, exchanged["user_id"])
    assert verified["urgent"] == {"mis_client_id": MIS}

    status, ended = program.answer("POST /auth/logout", [])
    assert (status, set(ended)) == (200, {"meta"})
    status, refused = program.answer("GET /oauth/user", is_older=True)
    assert (status, refused["error"]["type"]) == (401, "access_denied")
    assert program.refresh(exchanged["details"]["refresh_token"], secret=renewed["secret"])[0] == 401


def test_a_program_that_acts_as_the_mis_may_send_the_key_twice(server: Server) -> None:
    """It adds a key of the MIS to the key that each request has. The token of a MIS needs none."""
    request = (
        f"GET {{}} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Custom-PSK: a-key-of-the-edge\r\nAPI-key: {API_KEY}\r\n"
        f"API-key: {API_KEY}\r\nAuthorization: Bearer demo-mis-access-token\r\nUser-Agent: Mozilla/5.0 (Windows NT"
        " 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\n"
        "Accept: application/json\r\n\r\n"
    )
    status, _, listed = sockets.exchange(server, request.format("/api/clients").encode())
    assert (status, [each["id"] for each in listed["data"]]) == (200, [MIS])
    verify = request.format("/admin/tokens/demo-mis-access-token/verify").encode()
    assert sockets.exchange(server, verify, is_internal=True)[0] == 200


def test_a_refused_scope_reaches_the_program_as_a_422_with_json(program: Program) -> None:
    """The program shows what a 422 says, and treats every other refusal alike."""
    login = {"email": EMAIL, "password": PASSWORD, "client_id": MIS, "scope": "app:authorize bl_user:read"}
    status, refused = program.answer("POST /auth/login", {"token": {"grant_type": "password", **login}}, token="")
    assert status == 422
    assert refused["error"]["message"] == "Scope is not allowed by client type."
    assert [rule["params"]["scope"] for rule in refused["error"]["invalid"][0]["rules"]] == ["bl_user:read"]
