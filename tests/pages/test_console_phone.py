"""Another phone for the second factor, named by its user in the console (rule CSL-21)."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from mithril import errors, logs
from mithril.console import rendering
from mithril.sms import messenger
from support.cases import PASSWORD, add_factor, code_in, form_token
from support.console import Owner, filled, sign_in
from support.factories import Db
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

OLD, NEW = "+380501234567", "+380671112233"
PATH = "/account/phone"
STORED = "SELECT factor FROM authentication_factors WHERE user_id = $1"


@pytest.fixture
async def inside(http: httpx.AsyncClient, db: Db, owner: Owner, sent: list[tuple[str, str]]) -> httpx.AsyncClient:
    """A browser in which an owner with a second factor has signed in."""
    await add_factor(db, owner.user_id, OLD)
    await sign_in(http, owner.email)
    page = await http.get("/console/sign-in")
    data = {"form_token": form_token(page), "decision": "confirm", "code": code_in(sent[-1][1])}
    assert (await http.post("/console/sign-in", data=data)).status_code == 303
    sent.clear()
    return http


async def named(inside: httpx.AsyncClient, phone: str = NEW, **fields: Any) -> httpx.Response:
    return await inside.post(PATH, data=filled(await inside.get(PATH), phone=phone, **fields))


def confirming(page: httpx.Response, code: str, decision: str = "confirm") -> dict[str, str]:
    return {"form_token": form_token(page), "decision": decision, "code": code}


async def test_a_user_names_another_phone(
    inside: httpx.AsyncClient, db: Db, owner: Owner, sent: list[tuple[str, str]]
) -> None:
    assert f'href="{PATH}"' in (await inside.get("/account")).text
    assert "•••67" in (await inside.get(PATH)).text
    assert (await named(inside)).headers["location"] == PATH
    ((number, text),) = sent
    assert number == NEW
    page = await inside.get(PATH)
    assert ("•••33" in page.text, NEW in page.text) == (True, False)
    assert await db.fetchval(STORED, owner.user_id) == OLD
    data = confirming(page, code_in(text))
    answers = await asyncio.gather(*(inside.post(PATH, data=data) for _ in range(3)))
    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {(303, "/account")}
    assert await db.fetchval(STORED, owner.user_id) == NEW
    assert "•••33" in (await inside.get("/account")).text
    assert [phone for phone, _ in sent] == [NEW, OLD], "the old phone is told, once"
    assert sent[1][1] == rendering.words("uk")["phone_told"]
    rows = await db.fetch(
        "SELECT actor_user_id, actor_client_id FROM audit_events"
        " WHERE action = 'authentication_factor.update' AND actor_user_id = $1",
        owner.user_id,
    )
    assert [tuple(row) for row in rows] == [(owner.user_id, owner.client.id)]
    assert (await inside.post(PATH, data=data)).status_code == 422, "the cookie is gone"
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("phone", "fields", "problem"),
    [
        ("0671112233", {}, "phone"),
        ("+48671112233", {}, "phone"),
        (OLD, {}, "same_phone"),
        (NEW, {"password": "wrong"}, "password_wrong"),
        (NEW, {"password": None}, "no_password"),
    ],
)
async def test_a_refused_phone_gets_no_message(
    inside: httpx.AsyncClient, sent: list[tuple[str, str]], phone: str, fields: dict[str, Any], problem: str
) -> None:
    page = await named(inside, phone, **fields)
    assert (page.status_code, rendering.words("uk")[f"problem_{problem}"] in page.text) == (422, True)
    assert not sent


async def test_only_the_right_code_counts_and_only_while_the_factor_stays_as_it_was(
    inside: httpx.AsyncClient, db: Db, owner: Owner, sent: list[tuple[str, str]]
) -> None:
    await named(inside)
    page, code = await inside.get(PATH), code_in(sent[0][1])
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    refused = await inside.post(PATH, data=confirming(page, wrong))
    assert (refused.status_code, rendering.words("uk")["problem_code_wrong"] in refused.text) == (422, True)
    third = "+380509998877"
    change = "UPDATE authentication_factors SET factor = $2, updated_at = clock_timestamp() WHERE user_id = $1"
    await db.execute(change, owner.user_id, third)
    for decision in ("confirm", "again"):
        over = await inside.post(PATH, data=confirming(page, code, decision))
        assert (over.status_code, rendering.words("uk")["problem_phone_over"] in over.text) == (422, True)
    assert await db.fetchval(STORED, owner.user_id) == third
    assert len(sent) == 1


async def test_another_code_and_another_number(
    inside: httpx.AsyncClient, db: Db, owner: Owner, sent: list[tuple[str, str]]
) -> None:
    await named(inside)
    page = await inside.get(PATH)
    assert (await inside.post(PATH, data=confirming(page, "", "again"))).status_code == 303
    assert [number for number, _ in sent] == [NEW, NEW]
    first = code_in(sent[0][1])
    if first != code_in(sent[1][1]):
        assert (await inside.post(PATH, data=confirming(page, first))).status_code == 422
    assert (await inside.post(PATH, data=confirming(page, "", "other"))).status_code == 303
    assert 'name="phone"' in (await inside.get(PATH)).text
    third = "+380509998877"
    assert (await named(inside, third)).status_code == 429, "messages are counted, with that of the sign-in"
    await db.execute("DELETE FROM attempts WHERE key LIKE 'otp-send:%'")
    assert (await named(inside, third)).status_code == 303
    assert (await inside.post(PATH, data=confirming(await inside.get(PATH), code_in(sent[-1][1])))).status_code == 303
    assert await db.fetchval(STORED, owner.user_id) == third


async def test_a_phone_that_cannot_be_told_is_replaced_all_the_same(
    inside: httpx.AsyncClient, db: Db, owner: Owner, sent: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await named(inside)
    page = await inside.get(PATH)

    async def fail(*_: object) -> None:
        raise errors.MessageNotSent(detail="away")

    monkeypatch.setattr(messenger.NoMessenger, "send", fail)
    assert (await inside.post(PATH, data=confirming(page, code_in(sent[0][1])))).headers["location"] == "/account"
    assert await db.fetchval(STORED, owner.user_id) == NEW
    assert (await named(inside, OLD)).status_code == 503


async def test_a_forged_form_changes_no_phone(
    inside: httpx.AsyncClient, server: Server, db: Db, owner: Owner, sent: list[tuple[str, str]]
) -> None:
    data = filled(await inside.get(PATH), phone=NEW)
    for forged in ({**data, "form_token": "x" * 32}, {k: v for k, v in data.items() if k != "form_token"}):
        assert (await inside.post(PATH, data=forged)).status_code == 403
    assert (await inside.post(PATH, data=data, headers={"sec-fetch-site": "cross-site"})).status_code == 403
    assert (await inside.post(PATH, json=data)).status_code == 415
    assert not sent
    await named(inside)
    confirm = confirming(await inside.get(PATH), code_in(sent[0][1]))
    assert (await inside.post(PATH, data={**confirm, "form_token": "x" * 32})).status_code == 403
    value = inside.cookies["mithril-console-phone"]
    async with httpx.AsyncClient(base_url=server.url, cookies={"mithril-console": value}) as browser:
        assert (await browser.get("/account")).status_code == 303, "what waits for a code is no session"
    assert (await inside.get(owner.connection.path, headers={"authorization": f"Bearer {value}"})).status_code == 401
    assert await db.fetchval(STORED, owner.user_id) == OLD


async def test_without_a_second_factor_there_is_no_phone_to_change(
    http: httpx.AsyncClient, owner: Owner, sent: list[tuple[str, str]]
) -> None:
    await sign_in(http, owner.email)
    assert (await http.get(PATH)).status_code == 404
    assert PATH not in (await http.get("/account")).text
    data = filled(await http.get("/account/password"), phone=NEW, password=PASSWORD)
    assert (await http.post(PATH, data=data)).status_code == 404
    assert not sent


async def test_codes_passwords_and_cookies_are_in_no_log_audit_row_or_later_page(  # noqa: PLR0917 -- fixtures
    server: Server,
    db: Db,
    owner: Owner,
    sent: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines: list[logs.Answered] = []
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    monkeypatch.setattr(logs, "request_writer", lambda **_: lines.append)
    new = {"new_password": "Another-Password-9", "new_password_again": "Another-Password-9"}
    with running_server(database_url=server.database_url, log_level="debug") as running:
        async with httpx.AsyncClient(base_url=running.url) as browser:
            await sign_in(browser, owner.email)
            await add_factor(db, owner.user_id, OLD)
            await named(browser)
            page, code = await browser.get(PATH), code_in(sent[0][1])
            cookies = [browser.cookies[name] for name in ("mithril-console", "mithril-console-phone")]
            wrong = f"{(int(code) + 1) % 1_000_000:06}"
            assert (await browser.post(PATH, data=confirming(page, wrong))).status_code == 422
            assert (await browser.post(PATH, data=confirming(page, code))).status_code == 303
            shown = [await browser.get(path) for path in ("/account", PATH, "/console/session")]
            form = await browser.get("/account/password")
            assert (await browser.post("/account/password", data=filled(form, **new))).status_code == 303
    rows = str(await db.fetch("SELECT old, new FROM audit_events"))
    assert "authentication_factor" in str(await db.fetch("SELECT action FROM audit_events"))
    assert "/account/password" in repr(lines)
    for place in (repr(lines), capfd.readouterr().out, rows, *(page.text for page in shown)):
        assert not [word for word in (PASSWORD, new["new_password"], *cookies) if word in place]
        assert not re.search(rf"(?<![0-9]){code}(?![0-9])", place)
    assert NEW not in repr(lines)
