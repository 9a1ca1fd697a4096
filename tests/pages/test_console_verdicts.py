"""Who may open which page of the console: for every user, client and page the verdict of the API (rule CSL-6)."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pytest

from mithril.console import routes
from support import factories
from support.cases import PASSWORD_HASH, add_factor, form_token
from support.console import NEW, OLD, SCOPE, Owner, give_role, make_owner, sign_in
from support.factories import Client, Db, bearer
from support.servers import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ADMINISTRATION = "client:write token:read token:delete user:read"
CLIENT = "/console/clients/{client_id}"
CONNECTION = f"{CLIENT}/connections/{{connection_id}}"
ONE = "/api/clients/{client_id}/connections/{connection_id}"
# Each page, and each form, with the method of the API that has the verdict.
OF_API = {
    ("GET", CLIENT): ("GET", "/api/clients/{client_id}"),
    ("GET", f"{CLIENT}/activity"): ("GET", "/api/clients/{client_id}/connections"),
    ("GET", CONNECTION): ("GET", ONE),
    ("GET", f"{CONNECTION}/history"): ("GET", f"{ONE}/history"),
    ("GET", f"{CONNECTION}/address"): ("PATCH", ONE),
    ("POST", f"{CONNECTION}/address"): ("PATCH", ONE),
    ("GET", f"{CONNECTION}/history/{{event_id}}/revert"): ("POST", f"{ONE}/history/{{event_id}}/actions/revert"),
    ("POST", f"{CONNECTION}/history/{{event_id}}/revert"): ("POST", f"{ONE}/history/{{event_id}}/actions/revert"),
    ("GET", f"{CONNECTION}/secret"): ("PATCH", f"{ONE}/actions/refresh_secret"),
    ("POST", f"{CONNECTION}/secret"): ("PATCH", f"{ONE}/actions/refresh_secret"),
    ("GET", f"{CONNECTION}/previous_secret"): ("DELETE", f"{ONE}/previous_secret"),
    ("POST", f"{CONNECTION}/previous_secret"): ("DELETE", f"{ONE}/previous_secret"),
    ("GET", f"{CONNECTION}/delete"): ("DELETE", ONE),
    ("POST", f"{CONNECTION}/delete"): ("DELETE", ONE),
}
# A user's own account and sessions, which need no right: where the API asks for one, the token has it (rule CSL-18).
OF_ACCOUNT = {
    ("GET", "/account"): ("GET", "/api/pis/apps"),
    ("GET", "/account/consents/{consent_id}"): ("GET", "/api/pis/apps/{consent_id}"),
    ("POST", "/account/consents/{consent_id}"): ("GET", "/api/pis/apps/{consent_id}"),
    ("GET", "/account/password"): ("GET", "/oauth/user"),
    ("POST", "/account/password"): ("GET", "/oauth/user"),
    ("GET", "/account/phone"): ("GET", "/oauth/user"),
    ("POST", "/account/phone"): ("GET", "/oauth/user"),
    ("GET", "/console"): ("GET", "/oauth/user"),
    ("GET", "/console/session"): ("GET", "/oauth/user"),
    ("POST", "/console/session"): ("GET", "/oauth/user"),
    ("POST", "/console/sign-out"): ("GET", "/oauth/user"),
}
# The API has these on the internal listener only. Here they need the scope, and a client of an administrative type;
# then the API says whether the client is there (rules CSL-16, CSL-17, CSL-20).
OF_ADMINISTRATION = {
    ("GET", "/console/clients"): "client:read",
    ("GET", "/console/activity"): "client:read",
    ("GET", f"{CLIENT}/people"): "user:read",
    ("GET", f"{CLIENT}/people/{{user_id}}/sessions"): "token:delete",
    ("POST", f"{CLIENT}/people/{{user_id}}/sessions"): "token:delete",
    ("GET", f"{CLIENT}/block"): "client:write",
    ("POST", f"{CLIENT}/block"): "client:write",
    ("GET", f"{CLIENT}/tokens"): "token:delete",
    ("POST", f"{CLIENT}/tokens"): "token:delete",
}
# To act for another client: for the user's own one, which is what the form offers.
OF_CHOICE = ("POST", "/console")
WITHOUT_SESSION = {
    ("GET", "/console/sign-in"),
    ("POST", "/console/sign-in"),
    ("GET", "/console/forgotten"),
    ("POST", "/console/forgotten"),
    ("GET", "/console/console.css"),
    ("GET", "/console/console.js"),
}
ENDS_SESSION = (OF_CHOICE, ("POST", "/console/sign-out"))
# The verdicts that each user gets in all; a user without a role has an account, and consents of others are not there.
VERDICTS = {
    "owner": {"in", "forbidden", "not there"},
    "employee who reads": {"in", "forbidden", "not there"},
    "stranger": {"in", "forbidden", "not there"},
    "administrator": {"in", "not there"},
    "administrator who only reads": {"in", "forbidden", "not there"},
    "user without a role": {"in", "forbidden", "not there"},
    "blocked user": {"signed out"},
}


@dataclass(frozen=True)
class User:
    """A user with a browser in which they have signed in, and with what a grant could give them."""

    id: UUID
    email: str
    client: Client
    scope: str
    is_administrator: bool
    browser: httpx.AsyncClient


@dataclass(frozen=True)
class Target:
    """What the parameters of a path name, and the API-key of the MIS there."""

    values: dict[str, str]
    api_key: str

    def named(self, path: str) -> str:
        return path.format(**self.values)


async def make_target(db: Db, owner: Owner) -> Target:
    change, key = {"redirect_uri": NEW}, await factories.connection(db, client_id=owner.mis.id)
    event_id = await db.fetchval(
        "INSERT INTO audit_events (action, subject_id, client_id, old, new)"
        " VALUES ('connection.update', $1, $2, $3, '{}') RETURNING id",
        *(owner.connection.id, owner.client.id, json.dumps(change)),
    )
    consent_id = await db.fetchval(
        "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'x') RETURNING id", owner.user_id, owner.client.id
    )
    await db.execute(
        "UPDATE connections SET previous_secret_digest = $2, previous_secret_expires_at = now() + interval '1 day'"
        " WHERE id = $1",
        *(owner.connection.id, uuid4().bytes * 2),
    )
    ids = {"client_id": owner.client.id, "connection_id": owner.connection.id, "user_id": owner.user_id}
    return Target(
        {name: str(value) for name, value in ids.items()} | {"event_id": str(event_id), "consent_id": str(consent_id)},
        key.secret,
    )


async def enter(db: Db, user: User) -> dict[str, str]:
    """Sign in; return the hidden field of the forms. The second factor, which has a page, is there from then on."""
    await db.execute("DELETE FROM authentication_factors WHERE user_id = $1", user.id)
    assert (await sign_in(user.browser, user.email)).status_code == 303
    await add_factor(db, user.id, "+380501234567")
    return {"form_token": form_token(await user.browser.get("/console/session"))}


@pytest.fixture
async def targets(db: Db) -> dict[str, Target]:
    """What paths may name: a clinic, another institution, the clinic with its connection, and what is not there."""
    clinic, other = [await make_target(db, await make_owner(db, access_type="DIRECT")) for _ in range(2)]
    mixed = other.values | {name: clinic.values[name] for name in ("client_id", "user_id")}
    return {
        "the clinic": clinic,
        "the other": other,
        "mixed": Target(mixed, clinic.api_key),
        "unknown": Target({name: "0" if name == "event_id" else str(uuid4()) for name in mixed}, clinic.api_key),
        "no id": Target(dict.fromkeys(mixed, "x"), clinic.api_key),
    }


@pytest.fixture(params=VERDICTS)
async def user(
    request: pytest.FixtureRequest, server: Server, db: Db, targets: dict[str, Target]
) -> AsyncIterator[User]:
    who: str = request.param
    clinic = Client(*(UUID(targets["the clinic"].values[name]) for name in ("client_id", "user_id")))
    client, user_id, scope, is_administrator = clinic, clinic.user_id, SCOPE, "administrator" in who
    if who == "stranger":
        client = Client(*(UUID(targets["the other"].values[name]) for name in ("client_id", "user_id")))
        user_id = client.user_id
    elif is_administrator:
        scope = "client:read connection:read" if "reads" in who else f"{SCOPE} {ADMINISTRATION}"
        admin = await make_owner(
            db, client_type="MITHRIL ADMIN", scope=scope, type_scope=f"{SCOPE} {ADMINISTRATION}", access_type="DIRECT"
        )
        client, user_id = admin.client, admin.user_id
    elif who != "owner":
        user_id = await factories.user(db)
        scope = {"employee who reads": "client:read connection:read", "user without a role": ""}.get(who, SCOPE)
        if scope:
            await give_role(db, user_id, client.id, scope=scope)
    email = await db.fetchval(
        "UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING email", user_id, PASSWORD_HASH
    )
    # An administrator opens the console on the internal listener (rule CSL-2).
    base_url = server.internal_url if is_administrator else server.url
    async with httpx.AsyncClient(base_url=base_url) as browser:
        yield User(user_id, email, client, scope, is_administrator, browser)


def verdict(answer: httpx.Response) -> str:
    is_led_away = answer.headers.get("location", "").startswith("/console/sign-in") and answer.request.method == "GET"
    if answer.status_code == 401 or is_led_away:
        return "signed out"
    assert answer.status_code < 500, answer.text
    return {403: "forbidden", 404: "not there"}.get(answer.status_code, "in")


class Api:
    """What the API answers to a user with the token of a grant. Nothing is changed: the version is another one."""

    def __init__(self, http: httpx.AsyncClient, token: str, own_token: str) -> None:
        self.http, self.token, self.own_token = http, token, own_token
        self.known: dict[tuple[str, str, bool], str] = {}

    async def asked(self, method: str, path: str, target: Target, *, is_own: bool = False) -> str:
        key = method, target.named(path), is_own
        if key in self.known:
            return self.known[key]
        headers = bearer(self.own_token if is_own else self.token, api_key=target.api_key)
        headers |= {"if-match": '"999"', "content-type": "application/json"}
        body = json.dumps({"redirect_uri": OLD}) if (method, path) == ("PATCH", ONE) else None
        self.known[key] = verdict(await self.http.request(*key[:2], headers=headers, content=body))
        return self.known[key]

    async def verdict(self, page: tuple[str, str], user: User, target: Target) -> str:
        if page in OF_API:
            found = await self.asked(*OF_API[page], target)
            # The list of connections of a client that is not there is empty; the page has nothing to show.
            is_list = OF_API[page][1].endswith("/connections") and found == "in"
            return await self.asked("GET", "/api/clients/{client_id}", target) if is_list else found
        if page == OF_CHOICE:
            return await self.asked("GET", f"/api/clients/{user.client.id}", target)
        if page in OF_ACCOUNT:
            return await self.asked(*OF_ACCOUNT[page], target, is_own=True)
        may = user.is_administrator and OF_ADMINISTRATION[page] in user.scope.split()
        known = await self.asked("GET", "/api/clients/{client_id}" if "{" in page[1] else "/oauth/user", target)
        return known if may or known == "signed out" else "forbidden"


def test_every_route_of_the_console_has_a_verdict() -> None:
    listed = {*OF_API, *OF_ACCOUNT, *OF_ADMINISTRATION, OF_CHOICE, *WITHOUT_SESSION}
    assert {
        (method, route.path) for route in routes.ROUTES for method in route.methods or () if method != "HEAD"
    } == listed


async def test_a_page_opens_where_the_api_answers(
    request: pytest.FixtureRequest, http: httpx.AsyncClient, db: Db, targets: dict[str, Target], user: User
) -> None:
    """And asks for a sign-in, is forbidden or is not there, where that is the answer of the API."""
    # The API gives a user without a role no token at all: one that gives nothing here stands for that.
    scopes = (user.scope or "legal_entity:read", "app:read_pis")
    tokens = [await factories.token(db, scope=scope, client=user.client, user_id=user.id) for scope in scopes]
    api = Api(http, *tokens)
    form = await enter(db, user)
    who = request.node.callspec.params["user"]
    if who == "blocked user":
        await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", user.id)
    seen = set()
    for page in (*OF_API, *OF_ADMINISTRATION, *OF_ACCOUNT, OF_CHOICE):
        method, path = page
        for name, target in targets.items():
            if "{" not in path and name != "the clinic":
                continue
            fields = form | {"session_id": str(uuid4()), "client_id": str(user.client.id)}
            if page == ("POST", f"{CLIENT}/block"):
                fields["act"] = "block"
            answer = await user.browser.request(method, target.named(path), data=fields if method == "POST" else None)
            wanted = await api.verdict(page, user, target)
            assert (page, name, verdict(answer)) == (page, name, wanted)
            seen.add(wanted)
        if page in ENDS_SESSION and who != "blocked user":
            form = await enter(db, user)
    assert seen == VERDICTS[who]


async def test_what_needs_no_session_is_there_for_all(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as browser:
        form = {"form_token": form_token(await browser.get("/console/sign-in"))}
        for method, path in sorted(WITHOUT_SESSION):
            answer = await browser.request(method, path, data=form if method == "POST" else None)
            # No link for a forgotten password can be sent here.
            assert answer.status_code == (404 if "forgotten" in path else 200 if method == "GET" else 422), path
