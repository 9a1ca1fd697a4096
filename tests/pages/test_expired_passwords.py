"""The page for a new password in place of one that is too old: it stands between sign-in and consent."""

import asyncio

import httpx
import pytest

from support.cases import PASSWORD, Case, approve, code_in, decide, form_token, redeem, sent_back, sign_in
from support.factories import Db

pytestmark = pytest.mark.anyio

NEW = "Another-Horse-8"
ACTIVE = """
SELECT array_agg(name ORDER BY name) FROM tokens
 WHERE user_id = $1 AND token_scope(tokens) IS NOT NULL AND expires_at > now()
"""
ADD = """
INSERT INTO tokens (name, digest, user_id, client_id, expires_at)
SELECT name, sha256(gen_random_uuid()::text::bytea), $1, $2, now() + interval '1 day' FROM unnest($3::text[]) AS name
"""


@pytest.fixture
async def case(case: Case, db: Db) -> Case:
    """A user whose password is too old."""
    await db.execute("UPDATE users SET password_set_at = now() - interval '91 days' WHERE id = $1", case.user_id)
    return case


async def password_page(http: httpx.AsyncClient, url: str, case: Case) -> httpx.Response:
    response = await sign_in(http, url, email=case.email)
    assert response.status_code == 303, response.text
    page = await http.get(url)
    assert "Your password has expired." in page.text
    return page


def filled(page: httpx.Response, password: str = NEW, again: str | None = None, **more: str) -> dict[str, str]:
    passwords = {"password": password, "password_again": password if again is None else again}
    return {"form_token": form_token(page), "decision": "password", **passwords, **more}


@pytest.mark.parametrize("entrance", ["/sign-in", "/oauth2/authorize"])
async def test_a_user_whose_password_has_expired_sets_another_and_goes_on(
    http: httpx.AsyncClient, db: Db, case: Case, entrance: str
) -> None:
    url = f"{entrance}?{case.changed()}"
    page = await password_page(http, url, case)
    assert (await http.post(url, data=filled(page))).status_code == 303
    consent = await http.get(url)
    code = sent_back(await decide(http, url, consent, "allow"), case)["code"]
    assert (await redeem(http, case, code)).status_code == 200
    http.cookies.clear()
    assert (await sign_in(http, url, email=case.email)).status_code == 401
    assert (await sign_in(http, url, email=case.email, password=NEW)).status_code == 303
    assert await db.fetchval("SELECT count(*) FROM password_hstr WHERE user_id = $1", case.user_id) == 2


async def test_a_new_password_revokes_all_tokens_but_the_login_session_that_follows(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    await db.execute(ADD, case.user_id, case.client_id, ["access_token", "refresh_token", "sign_in_visit"])
    url = f"/sign-in?{case.changed()}"
    page = await password_page(http, url, case)
    assert (await http.post(url, data=filled(page))).status_code == 303
    assert await db.fetchval(ACTIVE, case.user_id) == ["sign_in_visit"]
    actions = "SELECT actor_user_id FROM audit_events WHERE subject_id = $1 AND action = 'user.change_password'"
    assert await db.fetchval(actions, case.user_id) == case.user_id


@pytest.mark.parametrize(
    ("password", "again", "words"),
    [
        (NEW, "Another-Horse-9", "The two passwords differ."),
        ("Short-1", "Short-1", "does not meet the requirements"),
        ("only-small-letters", "only-small-letters", "does not meet the requirements"),
        ("", "", "does not meet the requirements"),
        (PASSWORD, PASSWORD, "You have used this password recently."),
    ],
)
async def test_a_refused_password_changes_nothing_and_can_be_corrected(  # noqa: PLR0917 -- cases
    http: httpx.AsyncClient, db: Db, case: Case, password: str, again: str, words: str
) -> None:
    url, stored = f"/sign-in?{case.changed()}", "SELECT password_hash FROM users WHERE id = $1"
    page, before = await password_page(http, url, case), await db.fetchval(stored, case.user_id)
    refused = await http.post(url, data=filled(page, password, again))
    assert refused.status_code == 422
    assert words in refused.text
    assert not password or password not in refused.text
    assert await db.fetchval(stored, case.user_id) == before
    assert (await http.post(url, data=filled(refused))).status_code == 303


@pytest.mark.parametrize("decision", ["allow", "deny", "confirm"])
async def test_nothing_is_given_before_the_password_is_changed(
    http: httpx.AsyncClient, db: Db, case: Case, decision: str
) -> None:
    await approve(db, case, "legal_entity:read employee:read")
    url = f"/sign-in?{case.changed()}"
    page = await password_page(http, url, case)
    form = {"form_token": form_token(page), "decision": decision, "scope": case.query["scope"]}
    answer = await http.post(url, data=form)
    assert "code=" not in answer.headers.get("location", "")
    assert "Your password has expired." in (await http.get(url)).text


async def test_a_second_factor_comes_before_the_new_password(
    demo: httpx.AsyncClient, case: Case, phone: list[str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    assert (await sign_in(demo, url, email=case.email)).status_code == 303
    page = await demo.get(url)
    assert "Code from the message" in page.text
    assert (await demo.post(url, data=filled(page))).status_code == 401
    confirmed = {"form_token": form_token(page), "decision": "confirm", "code": code_in(phone[-1])}
    assert (await demo.post(url, data=confirmed)).status_code == 303
    page = await demo.get(url)
    assert (await demo.post(url, data=filled(page))).status_code == 303
    assert 'value="allow"' in (await demo.get(url)).text


async def test_a_form_that_comes_again_is_told_that_the_password_is_changed(
    http: httpx.AsyncClient, case: Case
) -> None:
    """The browser of a user who clicked twice shows the second answer only."""
    url = f"/sign-in?{case.changed()}"
    page = await password_page(http, url, case)
    old = httpx.Cookies(http.cookies)
    answers = await asyncio.gather(*(http.post(url, data=filled(page)) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [303, 401, 401]
    assert all("Your password has been changed." in each.text for each in answers if each.status_code == 401)
    follower = await http.post(url, data=filled(page))  # with the cookie of the first answer
    assert follower.status_code == 303
    assert 'value="allow"' in (await http.get(url)).text
    http.cookies = old
    other = await http.post(url, data=filled(page, "Yet-Another-Horse-9"))
    assert other.status_code == 401
    assert "This took too long." in other.text


async def test_the_form_is_good_for_the_browser_that_signed_in(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await password_page(http, url, case)
    assert (await http.post(url, data=filled(page, form_token="A" * 32))).status_code == 403


async def test_a_block_during_the_form_ends_it(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await password_page(http, url, case)
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", case.user_id)
    assert (await http.post(url, data=filled(page))).status_code == 401
