"""Every form of the console is sent 32 times at once: one makes the change, and each gets a page (rule CSL-10)."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from mithril.console import forgotten, routes, sign_in
from support import factories
from support.cases import add_factor, code_in
from support.console import NEW, OLD, SCOPE, Owner, filled, give_role, make_owner, send
from support.console import sign_in as enter
from support.factories import Db
from support.servers import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

AT_ONCE = 32
ALL = f"{SCOPE} client:write token:read token:delete user:read"
CLIENT = "/console/clients/{client_id}"
CONNECTION = f"{CLIENT}/connections/{{connection_id}}"
PASSWORD = "Another-Password-9"


class World(NamedTuple):
    """An owner and an administrator, each with a browser in which they have signed in."""

    db: Db
    owner: Owner
    inside: httpx.AsyncClient
    outside: httpx.AsyncClient
    sent: list[tuple[str, str]]

    async def values(self) -> dict[str, str]:
        """What the parameters of a path are to be."""
        event = "SELECT id::text FROM audit_events WHERE subject_id = $1 ORDER BY id LIMIT 1"
        consent = "SELECT id::text FROM apps WHERE user_id = $1"
        return {
            "client_id": str(self.owner.client.id),
            "connection_id": str(self.owner.connection.id),
            "user_id": str(self.owner.user_id),
            "event_id": await self.db.fetchval(event, self.owner.connection.id) or "",
            "consent_id": await self.db.fetchval(consent, self.owner.user_id) or "",
        }


class Form(NamedTuple):
    """A form, what is done before it is opened, what is entered, what must follow."""

    path: str
    rows: list[str]
    """The actions of all audit rows that may follow."""
    made: tuple[int, int]
    """The status of the answers that say the change is made, and how many say so; 0 stands for one or more."""
    others: Collection[int] = ()
    """What the other answers may be."""
    before: Callable[[World], Awaitable[Any]] | None = None
    query: str = ""
    fields: Mapping[str, str] = MappingProxyType({})
    is_of_administrator: bool = False
    effect: tuple[str, Any] | None = None
    """A statement about the owner's id, and what it gives afterwards."""


def moved(*steps: tuple[str, str]) -> Callable[[World], Awaitable[None]]:
    """Move the redirect URI by the form: to which one, and how many days both are good."""

    async def move(world: World) -> None:
        path = f"{world.owner.page}/address"
        for new, days in steps:
            assert (await send(world.inside, path, of=f"{path}?new={new}", days=days)).status_code == 303

    return move


async def replace_secret(world: World) -> None:
    assert (await send(world.inside, f"{world.owner.page}/secret")).status_code == 200


async def block(world: World) -> None:
    await world.db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", world.owner.client.id)


async def hold_token(world: World) -> None:
    await factories.token(world.db, client=world.owner.client)


async def allow(world: World) -> None:
    add = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'x')"
    await world.db.execute(add, world.owner.user_id, world.owner.client.id)


async def have_phone(world: World) -> None:
    await add_factor(world.db, world.owner.user_id, "+380501234567")


async def name_phone(world: World) -> None:
    await have_phone(world)
    page = await world.inside.get("/account/phone")
    assert (await world.inside.post("/account/phone", data=filled(page, phone="+380671112233"))).status_code == 303


async def have_another_place(world: World) -> None:
    other = await make_owner(world.db)
    await give_role(world.db, world.owner.user_id, other.client.id, scope=SCOPE)


ADDRESS = f"{CONNECTION}/address"
SESSIONS = """
SELECT count(*) FROM tokens
 WHERE user_id = $1 AND name = 'console_session' AND expires_at > now() AND used_at IS NULL
"""
PHONE = "SELECT factor FROM authentication_factors WHERE user_id = $1"
DONE = 303, AT_ONCE
FORMS = {
    "move": Form(ADDRESS, ["connection.update"], DONE, query=f"?new={NEW}", fields={"days": "0"}),
    "begin a transition": Form(
        ADDRESS, ["connection.begin_transition"], DONE, query=f"?new={NEW}", fields={"days": "3"}
    ),
    "replace a transition": Form(
        ADDRESS,
        ["connection.replace_transition"],
        DONE,
        before=moved((NEW, "3")),
        query=f"?new={NEW}er",
        fields={"days": "3"},
    ),
    "cancel a transition": Form(
        ADDRESS, ["connection.cancel_transition"], DONE, before=moved((NEW, "3")), query=f"?new={OLD}"
    ),
    "end a transition": Form(
        ADDRESS, ["connection.complete_transition"], DONE, before=moved((NEW, "3")), query=f"?new={NEW}"
    ),
    "bring back": Form(
        f"{CONNECTION}/history/{{event_id}}/revert", ["connection.revert"], DONE, before=moved((NEW, "0"))
    ),
    "replace the secret": Form(
        f"{CONNECTION}/secret", ["connection.refresh_secret"], (200, 1), {412}, fields={"days": "1"}
    ),
    "end the previous secret": Form(
        f"{CONNECTION}/previous_secret",
        ["connection.end_previous_secret"],
        (303, 1),
        {404},
        before=replace_secret,
    ),
    "delete": Form(f"{CONNECTION}/delete", ["connection.delete"], (303, 1), {404}, fields={"understood": "yes"}),
    "block": Form(f"{CLIENT}/block", ["client.update"], DONE, fields={"reason": "unpaid"}, is_of_administrator=True),
    "unblock": Form(f"{CLIENT}/block", ["client.update"], DONE, before=block, is_of_administrator=True),
    "end tokens": Form(
        f"{CLIENT}/tokens", ["client.deactivate_tokens"], DONE, before=hold_token, is_of_administrator=True
    ),
    "end the sessions of a user": Form(
        f"{CLIENT}/people/{{user_id}}/sessions",
        ["token.delete"],
        DONE,
        is_of_administrator=True,
        effect=("SELECT count(*) FROM tokens WHERE user_id = $1", 0),
    ),
    # The session, which is with the same client, ends with it (rule ADM-13).
    "withdraw": Form("/account/consents/{consent_id}", ["approval.delete"], (303, 1), {401, 404}, before=allow),
    "password": Form(
        "/account/password",
        ["user.change_password"],
        (303, 1),
        {401, 422},
        fields={"new_password": PASSWORD, "new_password_again": PASSWORD},
        effect=(SESSIONS, 0),
    ),
    "name a phone": Form(
        # Each answer has sent a message, and of these a user gets few.
        "/account/phone",
        [],
        (303, 0),
        {429},
        before=have_phone,
        fields={"phone": "+380671112233"},
        effect=(PHONE, "+380501234567"),
    ),
    "confirm the phone": Form(
        "/account/phone",
        ["authentication_factor.update"],
        DONE,
        before=name_phone,
        fields={"decision": "confirm"},
        effect=(PHONE, "+380671112233"),
    ),
    "end all sessions": Form("/console/session", [], (303, 0), {401}, effect=(SESSIONS, 0)),
    "sign out": Form("/console/sign-out", [], (303, 0), {401}, effect=(SESSIONS, 0)),
    "choose": Form("/console", [], (303, 0), {401}, before=have_another_place, query="?choose", effect=(SESSIONS, 1)),
}


@pytest.fixture
async def world(
    server: Server, db: Db, owner: Owner, inside: httpx.AsyncClient, sent: list[tuple[str, str]]
) -> AsyncIterator[World]:
    admin = await make_owner(db, client_type="MITHRIL ADMIN", scope=ALL, type_scope=ALL)
    async with httpx.AsyncClient(base_url=server.internal_url) as outside:
        assert (await enter(outside, admin.email)).status_code == 303
        yield World(db, owner, inside, outside, sent)


def test_every_form_that_changes_something_is_sent_at_once() -> None:
    posted = {route.path for route in routes.ROUTES if "POST" in (route.methods or ())}
    assert {form.path for form in FORMS.values()} == posted - {sign_in.PATH, forgotten.PATH}


@pytest.mark.parametrize("name", FORMS)
async def test_of_many_submissions_of_a_form_one_makes_the_change(world: World, name: str) -> None:
    form, db = FORMS[name], world.db
    if form.before:
        await form.before(world)
    browser = world.outside if form.is_of_administrator else world.inside
    path = form.path.format(**await world.values())
    page = await browser.get("/console/session" if "sign-out" in path else path + form.query)
    fields = form.fields
    if name == "confirm the phone":
        fields = {**fields, "code": code_in(world.sent[-1][1])}
    last = await db.fetchval("SELECT coalesce(max(id), 0) FROM audit_events")
    data = filled(page, **fields)
    answers = await asyncio.gather(*(browser.post(path, data=data) for _ in range(AT_ONCE)))
    statuses = Counter(answer.status_code for answer in answers)
    rows = await db.fetch("SELECT action FROM audit_events WHERE id > $1", last)
    assert [row["action"] for row in rows] == form.rows, statuses
    status, times = form.made
    assert statuses.pop(status) == (times or AT_ONCE - statuses.total())
    assert statuses.keys() <= set(form.others)
    if form.effect:
        statement, wanted = form.effect
        assert await db.fetchval(statement, world.owner.user_id) == wanted
