"""Who gets into the console, for how long, and what ends a session."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from mithril import security
from mithril.console import rendering
from mithril.sms import mailer
from support import factories
from support.cases import PASSWORD, PASSWORD_HASH, code_in, form_token
from support.console import OLD, SCOPE, Owner, filled, give_role, make_owner, sign_in
from support.factories import Db, bearer
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

SESSION, FORM = "mithril-console", "mithril-console-form"


async def is_inside(http: httpx.AsyncClient, owner: Owner) -> bool:
    response = await http.get(owner.path)
    assert response.status_code in (200, 303), response.text
    return response.status_code == 200


# Signing in


async def test_an_owner_signs_in_and_sees_the_connection(http: httpx.AsyncClient, owner: Owner) -> None:
    response = await sign_in(http, owner.email)
    assert (response.status_code, response.headers["location"]) == (303, "/console")
    response = await http.get("/console")
    assert (response.status_code, response.headers["location"]) == (303, owner.path)
    page = await http.get(owner.path, headers={"accept-language": "en"})
    assert OLD in page.text
    assert f"ends in <code>{security.tail(owner.connection.secret)}</code>" in page.text
    page = await http.get(owner.page)
    assert owner.email in page.text
    assert "/address" in page.text


async def test_the_first_page_of_the_server_leads_to_the_console(http: httpx.AsyncClient) -> None:
    assert 'href="/console/sign-in"' in (await http.get("/")).text


async def test_a_page_leads_to_the_form_and_back(http: httpx.AsyncClient, owner: Owner) -> None:
    http.cookies.clear()
    asked = f"{owner.page}/address?new=https%3A%2F%2Fmis.example.com%2Fnew"
    response = await http.get(asked)
    location = response.headers["location"]
    assert (response.status_code, location.partition("?")[0]) == (303, "/console/sign-in")
    page = await http.get(location)
    data = {"form_token": form_token(page), "email": owner.email, "password": PASSWORD}
    response = await http.post(location, data=data)
    assert response.headers["location"] == asked


@pytest.mark.parametrize(
    "hostile",
    [
        "//evil.example",
        "https://evil.example/console",
        "/console/../evil",
        "/console/%2e%2e/evil",
        "/console//evil",
        "/consoles",
        "/console\\evil",
        "/console/%5Cevil",
        "javascript:alert(1)",
        "/console/x\n",
    ],
)
async def test_the_way_back_leads_to_the_console_only(http: httpx.AsyncClient, owner: Owner, hostile: str) -> None:
    response = await sign_in(http, owner.email, next_=str(httpx.QueryParams({"next": hostile})).removeprefix("next="))
    assert (response.status_code, response.headers["location"]) == (303, "/console")


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"password": "wrong"}, 401, "problem_wrong"),
        ({"email": "nobody@clinic.example"}, 401, "problem_wrong"),
        ({"password": ""}, 422, "problem_incomplete"),
        ({"form_token": "x" * 32}, 403, "problem_form"),
    ],
)
async def test_a_refused_sign_in_begins_no_session(
    http: httpx.AsyncClient, owner: Owner, fields: dict[str, str], status: int, text: str
) -> None:
    http.cookies.clear()
    page = await http.get("/console/sign-in")
    data = {"form_token": form_token(page), "email": owner.email, "password": PASSWORD} | fields
    response = await http.post("/console/sign-in", data=data)
    assert response.status_code == status
    assert rendering.words("uk")[text] in response.text
    assert "<title>Помилка:" in response.text
    assert SESSION not in response.cookies


async def test_a_user_without_a_right_role_gets_a_session_that_shows_nothing(http: httpx.AsyncClient, db: Db) -> None:
    owner = await make_owner(db, scope="legal_entity:read")
    await sign_in(http, owner.email)
    page = await http.get("/console")
    assert (page.status_code, rendering.words("uk")["no_role"] in page.text) == (200, True)
    assert (await http.get(owner.path)).status_code == 403


async def test_a_user_of_a_blocked_client_reads_why(http: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    await db.execute("UPDATE clients SET is_blocked = true, block_reason = 'unpaid' WHERE id = $1", owner.client.id)
    assert (await sign_in(http, owner.email)).status_code == 303
    page = await http.get("/console")
    assert (rendering.words("uk")["all_blocked"] in page.text, "unpaid" in page.text) == (True, True)
    assert (await http.get(owner.path)).status_code == 403
    assert (await http.get("/account")).status_code == 200


async def test_a_user_of_no_client_signs_in_to_their_own_account_and_nothing_else(
    http: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    """Also one with a global role: the client whose token it is gives nothing."""
    email = f"{uuid4()}@clinic.example"
    add = "INSERT INTO users (email, password_hash, tax_id) VALUES ($1, $2, '') RETURNING id"
    user_id = await db.fetchval(add, email, PASSWORD_HASH)
    role_id = await db.fetchval(
        "INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", f"Role {uuid4()}", SCOPE
    )
    await db.execute("INSERT INTO global_user_roles (user_id, role_id) VALUES ($1, $2)", user_id, role_id)
    assert (await sign_in(http, email, next_="/account")).headers["location"] == "/account"
    page = await http.get("/account")
    assert (page.status_code, email in page.text, "/console/clients/" in page.text) == (200, True, False)
    page = await http.get("/console")
    assert rendering.words("uk")["no_role"] in page.text
    assert "/console/clients" not in page.text
    carrier = await db.fetchval("SELECT client_id FROM tokens WHERE user_id = $1", user_id)
    for path in (f"/console/clients/{carrier}", owner.path, "/console/clients"):
        assert (await http.get(path)).status_code == 403
    name = await db.fetchval("SELECT name FROM clients WHERE id = $1", carrier)
    assert name not in (await http.get("/console/session")).text
    await give_role(db, user_id, owner.client.id, scope=SCOPE)
    page = await http.get("/console")
    data = {"form_token": form_token(page), "client_id": str(owner.client.id)}
    assert (await http.post("/console", data=data)).headers["location"] == owner.path
    assert (await http.get(owner.path)).status_code == 200
    await db.execute("SELECT revoke_of_user($1, NULL)", user_id)
    assert (await http.get("/account")).status_code == 303


async def test_the_second_factor_comes_first(
    http: httpx.AsyncClient, db: Db, owner: Owner, messages: list[str]
) -> None:
    await add_factor_of(db, owner)
    response = await sign_in(http, owner.email, next_=owner.page)
    url = response.headers["location"]
    assert not await is_inside(http, owner), "the password alone must open nothing"
    page = await http.get(url)
    assert "•••67" in page.text
    wrong = await http.post(url, data={"form_token": form_token(page), "decision": "confirm", "code": "0000"})
    assert (wrong.status_code, rendering.words("uk")["problem_code_wrong"] in wrong.text) == (401, True)
    again = await http.post(url, data={"form_token": form_token(page), "decision": "again"})
    assert again.status_code == 303
    data = {"form_token": form_token(page), "decision": "confirm", "code": code_in(messages[-1])}
    waiting = http.cookies[SESSION]
    right = await http.post(url, data=data)
    assert (right.status_code, right.headers["location"]) == (303, owner.page)
    assert await is_inside(http, owner)
    http.cookies.delete(SESSION)
    http.cookies.set(SESSION, waiting)
    repeated = await http.post(url, data=data)
    assert repeated.status_code == 303, "a double click leads on"
    http.cookies.delete(SESSION)
    http.cookies.set(SESSION, waiting)
    assert (await http.post(url, data=data | {"code": "1234"})).status_code == 401


async def add_factor_of(db: Db, owner: Owner) -> None:
    statement = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234567')"
    await db.execute(statement, owner.user_id)


# Who may use the console


@pytest.mark.parametrize(
    ("settings", "statuses"),
    [
        ({"console": "owners"}, (403, 200)),
        ({"console": "owners", "demo": True}, (403, 200)),
        ({"console": "all"}, (403, 200)),
        ({"console": "all", "demo": True}, (200, 200)),
    ],
)
async def test_an_administrator_gets_in_where_the_setting_says(
    server: Server, db: Db, settings: dict[str, Any], statuses: tuple[int, int]
) -> None:
    """Without a second factor: on the public listener only in a demo."""
    admin = await make_owner(db, client_type="NHS ADMIN")
    with running_server(database_url=server.database_url, **settings) as running:
        for url, status in zip((running.url, running.internal_url), statuses, strict=True):
            async with httpx.AsyncClient(base_url=url) as browser:
                assert (await sign_in(browser, admin.email)).status_code == 303
                assert (await browser.get(admin.path)).status_code == status


async def test_an_administrator_with_a_second_factor_gets_in_on_the_public_listener(
    server: Server, db: Db, messages: list[str]
) -> None:
    admin = await make_owner(db, client_type="NHS ADMIN")
    await add_factor_of(db, admin)
    with running_server(database_url=server.database_url, console="all") as running:
        async with httpx.AsyncClient(base_url=running.url) as browser:
            await sign_in(browser, admin.email)
            data = {"decision": "confirm", "code": code_in(messages[-1])}
            page = await browser.get("/console/sign-in")
            response = await browser.post("/console/sign-in", data=data | {"form_token": form_token(page)})
            assert response.status_code == 303
            other = await make_owner(db)
            assert (await browser.get(admin.path)).status_code == 200
            assert (await browser.get(other.path)).status_code == 200, "an administrator sees any client"


async def test_a_console_that_is_off_is_not_there(server: Server) -> None:
    with running_server(database_url=server.database_url, console="off") as running:
        for url in (running.url, running.internal_url):
            async with httpx.AsyncClient(base_url=url) as browser:
                assert "/console" not in (await browser.get("/")).text
                for path in ("/console", "/console/sign-in", "/console/console.css"):
                    response = await browser.get(path)
                    assert (response.status_code, response.json()["error"]["type"]) == (404, "not_found")


# Sessions


async def test_a_session_is_no_token_of_the_api(inside: httpx.AsyncClient, server: Server, owner: Owner) -> None:
    value = inside.cookies[SESSION]
    assert (await inside.get(owner.connection.path, headers=bearer(value))).status_code == 401
    async with httpx.AsyncClient(base_url=server.internal_url) as gateway:
        assert (await gateway.get(f"/admin/tokens/{value}/verify")).status_code != 200


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE users SET is_blocked = true WHERE id = $1",
        "UPDATE users SET password_set_at = now() - interval '91 days' WHERE id = $1",
        "SELECT revoke_of_user($1, NULL)",
        "UPDATE tokens SET expires_at = now() WHERE user_id = $1",
        "UPDATE tokens SET used_at = now() WHERE user_id = $1",
        "DELETE FROM users WHERE id = $1",
    ],
)
async def test_a_session_ends_with_its_user(inside: httpx.AsyncClient, db: Db, owner: Owner, end: str) -> None:
    assert await is_inside(inside, owner)
    await db.execute(end, owner.user_id)
    assert not await is_inside(inside, owner)
    http = inside
    assert (await http.get(owner.path)).headers["location"].startswith("/console/sign-in")


async def test_a_session_ends_with_its_client(inside: httpx.AsyncClient, db: Db, owner: Owner, server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.internal_url) as admin:
        response = await admin.patch(f"/admin/clients/{owner.client.id}/actions/deactivate_tokens")
        assert response.status_code == 200
        assert not await is_inside(inside, owner)
        await sign_in(inside, owner.email)
        await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", owner.client.id)
        assert not await is_inside(inside, owner)


async def test_a_session_lasts_half_an_hour_from_page_to_page_and_eight_hours_in_all(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    token_id = await db.fetchval("SELECT id FROM tokens WHERE digest = $1", security.digest(inside.cookies[SESSION]))
    left = "SELECT extract(epoch FROM expires_at - now()) FROM tokens WHERE id = $1"
    move = "UPDATE tokens SET expires_at = now() + make_interval(mins => $2) WHERE id = $1"
    began = "UPDATE tokens SET details = details || jsonb_build_object('began_at', $2::text) WHERE id = $1"
    assert 1_790 < await db.fetchval(left, token_id) <= 1_800
    await db.execute(move, token_id, 26)
    assert await is_inside(inside, owner)
    assert await db.fetchval(left, token_id) <= 26 * 60, "extended at most once in five minutes"
    await db.execute(move, token_id, 24)
    assert await is_inside(inside, owner)
    assert await db.fetchval(left, token_id) > 29 * 60
    await db.execute(move, token_id, 2)
    await db.execute(began, token_id, (datetime.now(UTC) - timedelta(hours=8, minutes=-10)).isoformat())
    assert await is_inside(inside, owner)
    assert await db.fetchval(left, token_id) <= 10 * 60
    await db.execute(began, token_id, (datetime.now(UTC) - timedelta(hours=8, seconds=1)).isoformat())
    assert not await is_inside(inside, owner)


@pytest.mark.parametrize("began_at", ["", "yesterday", "2026-11-29T10:00:00"])
async def test_a_session_that_was_stored_by_hand_opens_nothing(
    http: httpx.AsyncClient, db: Db, owner: Owner, began_at: str
) -> None:
    value = await factories.token(db, client=owner.client, name="console_session", scope=None)
    await db.execute(
        "UPDATE tokens SET details = jsonb_build_object('began_at', $2::text) WHERE digest = $1",
        security.digest(value),
        began_at,
    )
    http.cookies.clear()
    http.cookies.set(SESSION, value)
    assert not await is_inside(http, owner)


async def test_a_role_that_is_taken_away_is_gone_with_the_next_click(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    assert (await inside.get(f"{owner.page}/address")).status_code == 200
    await db.execute("UPDATE roles SET scope = 'client:read connection:read' WHERE scope = $1", SCOPE)
    page = await inside.get(f"{owner.page}/address", headers={"accept-language": "en"})
    assert (page.status_code, "Change" in page.text) == (403, True)
    assert "/address" not in (await inside.get(owner.page)).text


async def test_signing_out_ends_the_session_and_takes_the_cookie_back(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    value = inside.cookies[SESSION]
    response = await inside.post("/console/sign-out", data=filled(await inside.get("/console/session")))
    assert (response.status_code, response.headers["location"]) == (303, "/console/sign-in")
    assert response.headers["clear-site-data"] == '"cache", "storage"'
    assert SESSION not in inside.cookies
    inside.cookies.set(SESSION, value)
    assert not await is_inside(inside, owner)


async def test_all_sessions_of_a_user_are_seen_and_ended(
    inside: httpx.AsyncClient, server: Server, owner: Owner
) -> None:
    async with httpx.AsyncClient(base_url=server.url) as other:
        await sign_in(other, owner.email)
        page = await inside.get("/console/session")
        assert "Ваших сеансів консолі: 2" in page.text
        ids = re.findall(r'name="session_id" value="([^"]+)"', page.text)
        await inside.post("/console/session", data={"form_token": form_token(page), "session_id": ids[0]})
        assert not await is_inside(other, owner), "the newest is listed first"
        assert await is_inside(inside, owner)
        await sign_in(other, owner.email)
        response = await inside.post("/console/session", data={"form_token": form_token(page)})
        assert response.status_code == 303
        assert not await is_inside(other, owner)
    page = await inside.get("/console/session")
    assert page.status_code == 303


async def test_another_users_session_is_not_ended(inside: httpx.AsyncClient, server: Server, db: Db) -> None:
    other = await make_owner(db)
    async with httpx.AsyncClient(base_url=server.url) as browser:
        await sign_in(browser, other.email)
        session_id = await db.fetchval("SELECT id FROM tokens WHERE user_id = $1", other.user_id)
        page = await inside.get("/console/session")
        for given in (str(session_id), "x"):
            await inside.post("/console/session", data={"form_token": form_token(page), "session_id": given})
        assert await is_inside(browser, other)


async def test_another_institution_gets_another_session_with_the_same_end(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    other = await make_owner(db)
    await give_role(db, owner.user_id, other.client.id, scope=SCOPE)
    assert (await inside.get(other.path)).status_code == 403
    page = await inside.get("/console")
    names = [await db.fetchval("SELECT name FROM clients WHERE id = $1", one.client.id) for one in (owner, other)]
    assert all(name in page.text for name in names)
    before = inside.cookies[SESSION]
    response = await inside.post("/console", data={"form_token": form_token(page), "client_id": str(other.client.id)})
    assert (response.status_code, response.headers["location"]) == (303, other.path)
    assert (await inside.get(other.path)).status_code == 200
    details = [
        json.loads(await db.fetchval("SELECT details FROM tokens WHERE digest = $1", security.digest(value)))
        for value in (before, inside.cookies[SESSION])
    ]
    assert details[0]["began_at"] == details[1]["began_at"]
    inside.cookies.set(SESSION, before)
    assert not await is_inside(inside, owner), "the one before it is used up"


async def test_a_client_without_a_role_is_no_choice(inside: httpx.AsyncClient, db: Db) -> None:
    other = await make_owner(db)
    page = await inside.get("/console?choose")
    for client_id in (str(other.client.id), "x"):
        data = {"form_token": form_token(page), "client_id": client_id}
        assert (await inside.post("/console", data=data)).status_code == 403


# A forgotten password


async def test_a_user_who_has_forgotten_the_password_is_sent_a_link(
    server: Server, db: Db, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []
    went_out, loop = asyncio.Event(), asyncio.get_running_loop()

    async def mail(_: mailer.ConsoleMailer, recipient: str, *, subject: str, text: str) -> None:
        sent.append((recipient, text))
        loop.call_soon_threadsafe(went_out.set)

    monkeypatch.setattr(mailer.ConsoleMailer, "send", mail)
    await db.execute("UPDATE users SET password_set_at = now() - interval '91 days' WHERE id = $1", owner.user_id)
    with running_server(database_url=server.database_url, demo=True) as running:
        async with httpx.AsyncClient(base_url=running.url) as browser:
            refused = await sign_in(browser, owner.email)
            assert rendering.words("uk")["problem_expired"] in refused.text
            assert 'href="/console/forgotten"' in refused.text
            for email in (owner.email, "nobody@clinic.example"):
                page = await browser.get("/console/forgotten")
                data = {"form_token": form_token(page), "email": email}
                response = await browser.post("/console/forgotten", data=data)
                assert (response.status_code, response.headers["location"]) == (303, "/console/forgotten?sent")
            assert rendering.words("uk")["link_sent"] in (await browser.get("/console/forgotten?sent")).text
            assert (await browser.post("/console/forgotten", data=data | {"email": ""})).status_code == 422
            assert (await browser.post("/console/forgotten", data=data | {"form_token": "x" * 32})).status_code == 403
            refusals = [(await browser.post("/console/forgotten", data=data)).status_code for _ in range(4)]
            assert refusals[-1] == 429
            await asyncio.wait_for(went_out.wait(), 60)  # after the answer
            ((recipient, text),) = sent
            link = text[text.index("/new-password?link=") :].split()[0]
            form = await browser.get(link, follow_redirects=True)
            new = "Another-Password-9"
            data = {"form_token": form_token(form), "password": new, "password_again": new}
            assert (await browser.post("/new-password", data=data)).status_code == 303
            assert (await sign_in(browser, owner.email, password=new)).status_code == 303
    assert recipient == owner.email


async def test_without_a_way_to_send_links_there_is_no_form_for_one(http: httpx.AsyncClient) -> None:
    assert "/console/forgotten" not in (await http.get("/console/sign-in")).text
    assert (await http.get("/console/forgotten")).status_code == 404
    assert (await http.post("/console/forgotten", data={"email": "x"})).status_code == 404
