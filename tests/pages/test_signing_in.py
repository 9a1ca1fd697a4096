"""The sign-in form: passwords, and the second factor."""

import asyncio

import httpx
import pytest

from mithril import errors
from mithril.sms import messenger
from support import factories
from support.cases import (
    ENTRANCES,
    Case,
    add_factor,
    code_in,
    consent_page,
    decide,
    form_token,
    make_case,
    sent_back,
    sign_in,
)
from support.factories import Db

pytestmark = pytest.mark.anyio


# Signing in


async def test_an_unknown_user_and_a_wrong_password_get_the_same_page(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed(lang='en')}"
    wrong = await sign_in(http, url, email=case.email, password="wrong")
    unknown = await sign_in(http, url, email="nobody@example.com", password="wrong")
    assert wrong.status_code == unknown.status_code == 401
    assert "The e-mail or the password is wrong." in wrong.text
    different = "nobody@example.com", case.email
    assert unknown.text.replace(*different) == wrong.text
    assert "mithril-visit" not in http.cookies


async def test_a_password_is_never_shown_again(http: httpx.AsyncClient, case: Case) -> None:
    response = await sign_in(http, f"/sign-in?{case.changed()}", email=case.email, password="wrong-secret-word")
    assert "wrong-secret-word" not in response.text
    assert case.email in response.text


async def test_a_block_is_shown_only_after_a_correct_password(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", case.user_id)
    url = f"/sign-in?{case.changed()}"
    assert "is blocked" in (await sign_in(http, url, email=case.email)).text
    assert "is wrong" in (await sign_in(http, url, email=case.email, password="wrong")).text


async def test_after_too_many_failures_a_correct_password_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    case = await make_case(db)
    await db.execute("INSERT INTO attempts (key, count) VALUES ($1, 10)", f"login-at:{case.email} 127.0.0.1")
    response = await sign_in(http, f"/sign-in?{case.changed()}", email=case.email)
    assert response.status_code == 401
    assert "Too many failed attempts" in response.text


@pytest.mark.parametrize("data", [{"email": "a@b.c"}, {"password": "x"}, {"email": "x" * 300, "password": "x"}])
async def test_an_incomplete_form_is_shown_again(http: httpx.AsyncClient, case: Case, data: dict[str, str]) -> None:
    url = f"/sign-in?{case.changed()}"
    token = form_token(await http.get(url))
    response = await http.post(url, data={"form_token": token, **data})
    assert response.status_code == 422
    assert "Enter your e-mail and your password." in response.text


async def test_the_email_of_the_query_is_filled_in(http: httpx.AsyncClient, case: Case) -> None:
    page = await http.get(f"/sign-in?{case.changed(email='owner+a@clinic.example')}")
    assert 'value="owner+a@clinic.example"' in page.text


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_the_login_hint_fills_the_form(http: httpx.AsyncClient, case: Case, entrance: str) -> None:
    page = await http.get(f"{entrance}?{case.changed(login_hint='owner+a@clinic.example')}")
    assert 'value="owner+a@clinic.example"' in page.text
    page = await http.get(f"{entrance}?{case.changed(login_hint='hint@a.example', email='email@a.example')}")
    assert 'value="email@a.example"' in page.text


@pytest.mark.parametrize(
    "hint",
    [
        "+380501234567",
        "a@",
        "@b",
        "a@b@c",
        "a b@c",
        "x" * 250 + "@a.ua",
        '"><script>@a',
        "<a@b>",
        "a@b c",
        "a,b@c",
        " a@b",
    ],
)
async def test_a_login_hint_that_is_no_email_address_is_ignored(http: httpx.AsyncClient, case: Case, hint: str) -> None:
    page = await http.get(f"/oauth2/authorize?{case.changed(login_hint=hint)}")
    assert page.status_code == 200
    assert 'type="email" value=""' in page.text


# The second factor


async def test_a_user_with_a_second_factor_confirms_with_a_code(
    demo: httpx.AsyncClient, db: Db, case: Case, phone: list[str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    assert (await sign_in(demo, url, email=case.email)).status_code == 303
    page = await demo.get(url)
    assert "•••67" in page.text
    assert "1234567" not in page.text
    data = {"form_token": form_token(page), "decision": "confirm", "code": code_in(phone[0])}
    assert (await demo.post(url, data=data)).status_code == 303
    consent = await demo.get(url)
    assert set(sent_back(await decide(demo, url, consent, "allow"), case)) == {"code", "state"}


async def test_a_wrong_code_is_refused_and_the_correct_one_still_works(
    demo: httpx.AsyncClient, case: Case, phone: list[str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    await sign_in(demo, url, email=case.email)
    page = await demo.get(url)
    right = code_in(phone[0])
    wrong = f"{(int(right) + 1) % 10 ** len(right):0{len(right)}d}"
    data = {"form_token": form_token(page), "decision": "confirm"}
    refused = await demo.post(url, data=data | {"code": wrong})
    assert refused.status_code == 401
    assert "The code is wrong." in refused.text
    assert (await demo.post(url, data=data | {"code": right})).status_code == 303
    assert 'value="allow"' in (await demo.get(url)).text


async def test_a_correct_code_that_is_sent_repeatedly_is_used_once_and_blocks_no_user(
    demo: httpx.AsyncClient, db: Db, case: Case, phone: list[str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    await sign_in(demo, url, email=case.email)
    data = {"form_token": form_token(await demo.get(url)), "decision": "confirm", "code": code_in(phone[0])}
    answers = await asyncio.gather(*(demo.post(url, data=data) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {303}
    otp = "SELECT o.attempts_count FROM otp o JOIN tokens t ON starts_with(o.key, t.id::text) WHERE t.user_id = $1"
    assert await db.fetchval(otp, case.user_id) == 1
    assert not await db.fetchval("SELECT is_blocked FROM users WHERE id = $1", case.user_id)


async def test_a_new_code_replaces_the_old_one(demo: httpx.AsyncClient, case: Case, phone: list[str]) -> None:
    url = f"/sign-in?{case.changed()}"
    await sign_in(demo, url, email=case.email)
    data = {"form_token": form_token(await demo.get(url))}
    old_visit = demo.cookies["mithril-visit"]
    assert (await demo.post(url, data=data | {"decision": "again"})).status_code == 303
    assert len(phone) == 2
    new_visit = demo.cookies["mithril-visit"]
    demo.cookies.set("mithril-visit", old_visit, domain="127.0.0.1", path="/sign-in")
    ended = await demo.post(url, data=data | {"decision": "confirm", "code": code_in(phone[0])})
    assert ended.status_code == 401
    demo.cookies.set("mithril-visit", new_visit, domain="127.0.0.1", path="/sign-in")
    right = await demo.post(url, data=data | {"decision": "confirm", "code": code_in(phone[1])})
    assert right.status_code == 303


async def test_without_the_code_a_login_session_cannot_approve(
    demo: httpx.AsyncClient, db: Db, case: Case, phone: list[str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    await sign_in(demo, url, email=case.email)
    token = form_token(await demo.get(url))
    data = {"form_token": token, "decision": "allow", "scope": case.query["scope"]}
    assert (await demo.post(url, data=data)).status_code == 401
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 0


async def test_after_too_many_wrong_codes_the_user_is_blocked(
    demo: httpx.AsyncClient, db: Db, case: Case, phone: list[str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    await sign_in(demo, url, email=case.email)
    data = {"form_token": form_token(await demo.get(url)), "decision": "confirm", "code": "no"}
    refused = [await demo.post(url, data=data) for _ in range(5)]
    assert {r.status_code for r in refused} == {401}
    assert 'type="password"' in refused[-1].text
    assert await db.fetchval("SELECT is_blocked FROM users WHERE id = $1", case.user_id)


async def test_a_failed_message_is_explained(
    demo: httpx.AsyncClient, db: Db, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise errors.MessageNotSent

    monkeypatch.setattr(messenger.ConsoleMessenger, "send", fail)
    await add_factor(db, case.user_id, "+380501234567")
    response = await sign_in(demo, f"/sign-in?{case.changed()}", email=case.email)
    assert response.status_code == 503
    assert "not available" in response.text
    assert "mithril-visit" not in demo.cookies


async def test_signing_in_on_the_page_revokes_no_token(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    owner = factories.Client(case.client_id, case.user_id)
    token = await factories.token(db, client=owner, scope="client:read")
    await consent_page(http, f"/sign-in?{case.changed()}", case)
    assert (await http.get("/api/clients", headers=factories.bearer(token))).status_code == 200
