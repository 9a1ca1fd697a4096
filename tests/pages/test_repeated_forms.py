"""A form that is sent twice, as a double click sends it: the repeat leads on as the first one did.

The browser drops the first answer. Whether it has kept that answer's cookies depends on the moment of the second click.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from support.cases import (
    ENTRANCES,
    PASSWORD,
    Case,
    approve,
    code_in,
    consent_page,
    decide,
    form_token,
    redeem,
    sent_back,
    sign_in,
)
from support.factories import Db
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

Form = dict[str, str]


@pytest.fixture(scope="module")
def others(server: Server) -> Iterator[Server]:
    """Another worker on the same database."""
    with running_server(database_url=server.database_url) as running:
        yield running


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without cookies."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client


@pytest.fixture
async def workers(browser: httpx.AsyncClient, others: Server) -> AsyncIterator[list[httpx.AsyncClient]]:
    """The browser, as it reaches one worker and the other."""
    async with httpx.AsyncClient(base_url=others.url, cookies=browser.cookies) as client:
        client.cookies.jar = browser.cookies.jar
        yield [browser, client]


def codes(answers: list[httpx.Response], case: Case) -> list[str]:
    return [sent_back(answer, case)["code"] for answer in answers]


# The consent form


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_allowing_twice_gives_a_good_code_each_time(
    browser: httpx.AsyncClient, case: Case, entrance: str
) -> None:
    url = f"{entrance}?{case.changed()}"
    page = await consent_page(browser, url, case)
    first, second = [sent_back(await decide(browser, url, page, "allow"), case) for _ in range(2)]
    assert first.keys() == second.keys()
    assert (await redeem(browser, case, second["code"])).status_code == 200


async def test_a_repeat_does_not_revoke_what_the_first_code_gave(
    browser: httpx.AsyncClient, db: Db, case: Case
) -> None:
    """The client may have redeemed the first code when the browser comes again."""
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    for _ in range(3):
        code = sent_back(await decide(browser, url, page, "allow"), case)["code"]
        assert (await redeem(browser, case, code)).status_code == 200
    active = "SELECT count(*) FROM tokens WHERE client_id = $1 AND name = 'access_token' AND expires_at > now()"
    assert await db.fetchval(active, case.client_id) == 3


async def test_allowing_at_the_same_moment_in_two_workers_gives_only_good_codes(
    browser: httpx.AsyncClient, workers: list[httpx.AsyncClient], db: Db, case: Case
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    answers = await asyncio.gather(*(decide(worker, url, page, "allow") for worker in workers * 4))
    given = set(codes(answers, case))
    redeemed = await asyncio.gather(*(redeem(browser, case, code) for code in given))
    assert {answer.status_code for answer in redeemed} == {200}
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 1


async def test_denying_twice_gives_the_same_error(
    workers: list[httpx.AsyncClient], browser: httpx.AsyncClient, db: Db, case: Case
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    answers = [sent_back(await decide(browser, url, page, "deny"), case)]
    answers += [
        sent_back(answer, case) for answer in await asyncio.gather(*(decide(w, url, page, "deny") for w in workers))
    ]
    assert [answer["error"] for answer in answers] == ["access_denied"] * 3
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 0


@pytest.mark.parametrize("first", ["allow", "deny"])
async def test_another_decision_after_the_first_gives_no_code(
    browser: httpx.AsyncClient, case: Case, first: str
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    assert (await decide(browser, url, page, first)).status_code == 303
    other = await decide(browser, url, page, "deny" if first == "allow" else "allow")
    assert other.status_code == 401
    assert "location" not in other.headers


@pytest.mark.parametrize("changes", [{"state": "other"}, {"scope": "employee:read"}, {"code_challenge": "x"}])
async def test_a_repeat_for_another_authorization_request_gives_no_code(
    browser: httpx.AsyncClient, case: Case, changes: dict[str, str]
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    assert (await decide(browser, url, page, "allow")).status_code == 303
    other = await decide(
        browser, f"/sign-in?{case.changed(**changes)}", page, "allow", scope=changes.get("scope", case.query["scope"])
    )
    assert "code=" not in other.headers.get("location", "")
    assert "code" in sent_back(await decide(browser, url, page, "allow"), case)


async def test_a_used_login_session_shows_no_form_of_its_user(browser: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    await decide(browser, url, await consent_page(browser, url, case), "allow")
    shown = (await browser.get(url)).text
    assert 'type="password"' in shown
    assert case.email not in shown


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tokens SET expires_at = now() WHERE user_id = $1",
        "UPDATE users SET is_blocked = true WHERE id = $1",
    ],
)
async def test_a_repeat_gives_nothing_once_the_session_is_over(
    browser: httpx.AsyncClient, db: Db, case: Case, change: str
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    assert (await decide(browser, url, page, "allow")).status_code == 303
    await db.execute(change, case.user_id)
    assert (await decide(browser, url, page, "allow")).status_code == 401


async def test_after_another_account_was_chosen_the_form_gives_nothing(browser: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    session = browser.cookies["mithril-visit"]
    assert (await decide(browser, url, page, "switch")).status_code == 303
    assert (await decide(browser, url, page, "switch")).status_code == 303
    browser.cookies.set("mithril-visit", session, domain="127.0.0.1", path="/sign-in")
    assert (await decide(browser, url, page, "allow")).status_code == 401


async def test_a_refused_consent_is_refused_again(browser: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/oauth2/authorize?{case.changed()}"
    page = await consent_page(browser, url, case)
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", case.user_id)
    errors = [sent_back(await decide(browser, url, page, "allow"), case)["error"] for _ in range(2)]
    assert errors == ["invalid_scope"] * 2


async def test_a_refused_consent_is_explained_again(browser: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(browser, url, case)
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", case.user_id)
    for _ in range(2):
        explained = await decide(browser, url, page, "allow")
        assert (explained.status_code, "Your role is not enough" in explained.text) == (403, True)


# The forms before it


async def test_signing_in_twice_leads_to_the_consent_form(browser: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    data = {"form_token": form_token(await browser.get(url)), "email": case.email, "password": PASSWORD}
    answers = await asyncio.gather(*(browser.post(url, data=data) for _ in range(2)))
    answers.append(await browser.post(url, data=data))
    assert [answer.status_code for answer in answers] == [303] * 3
    assert "code" in sent_back(await decide(browser, url, await browser.get(url), "allow"), case)


@pytest.fixture
async def factor_form(demo: httpx.AsyncClient, case: Case, phone: list[str]) -> Form:
    """The form of the second factor with the right code, ready to send."""
    await sign_in(demo, url_of(case), email=case.email)
    token = form_token(await demo.get(url_of(case)))
    return {"form_token": token, "decision": "confirm", "code": code_in(phone[0])}


def url_of(case: Case) -> str:
    return f"/sign-in?{case.changed()}"


def give_back(client: httpx.AsyncClient, session: str) -> None:
    """Let the browser have the cookie that it had before the answer that it dropped."""
    client.cookies.delete("mithril-visit")
    client.cookies.set("mithril-visit", session, domain="127.0.0.1", path="/sign-in")


async def test_confirming_again_with_the_old_cookie_gives_another_login_session(
    demo: httpx.AsyncClient, case: Case, factor_form: Form
) -> None:
    session = demo.cookies["mithril-visit"]
    assert (await demo.post(url_of(case), data=factor_form)).status_code == 303
    give_back(demo, session)
    assert (await demo.post(url_of(case), data=factor_form)).status_code == 303
    assert demo.cookies["mithril-visit"] != session
    consent = await demo.get(url_of(case))
    assert "code" in sent_back(await decide(demo, url_of(case), consent, "allow"), case)


async def test_confirming_again_with_the_new_cookie_leads_to_the_consent_form(
    demo: httpx.AsyncClient, case: Case, factor_form: Form
) -> None:
    for _ in range(2):
        assert (await demo.post(url_of(case), data=factor_form)).status_code == 303
    consent = await demo.get(url_of(case))
    assert "code" in sent_back(await decide(demo, url_of(case), consent, "allow"), case)


async def test_confirming_at_the_same_moment_in_two_workers_succeeds_in_both(
    demo: httpx.AsyncClient, others: Server, db: Db, case: Case, factor_form: Form
) -> None:
    async with httpx.AsyncClient(base_url=others.url) as other:
        other.cookies.jar = demo.cookies.jar
        both = (client.post(url_of(case), data=factor_form) for client in [demo, other] * 3)
        answers = await asyncio.gather(*both)
    assert {answer.status_code for answer in answers} == {303}
    for answer in answers:
        give_back(demo, answer.cookies["mithril-visit"])
        assert 'value="allow"' in (await demo.get(url_of(case))).text
    assert not await db.fetchval("SELECT is_blocked FROM users WHERE id = $1", case.user_id)


async def test_confirming_twice_where_nothing_is_new_gives_a_good_code_each_time(
    demo: httpx.AsyncClient, db: Db, case: Case, factor_form: Form
) -> None:
    await approve(db, case, case.query["scope"])
    for _ in range(2):
        code = sent_back(await demo.post(url_of(case), data=factor_form), case)["code"]
        assert (await redeem(demo, case, code)).status_code == 200


async def test_a_used_second_factor_is_repeated_only_by_the_same_code(
    demo: httpx.AsyncClient, case: Case, factor_form: Form
) -> None:
    session = demo.cookies["mithril-visit"]
    assert (await demo.post(url_of(case), data=factor_form)).status_code == 303
    give_back(demo, session)
    wrong = f"{(int(factor_form['code']) + 1) % 1_000_000:06d}"
    for changes in ({"code": wrong}, {"code": ""}, {"decision": "allow"}):
        refused = await demo.post(url_of(case), data=factor_form | changes)
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers or "mithril-visit" not in refused.headers["set-cookie"]
    other = await demo.post(f"/sign-in?{case.changed(state='other')}", data=factor_form)
    assert other.status_code == 401
    assert (await demo.post(url_of(case), data=factor_form)).status_code == 303


@pytest.mark.parametrize("keeps_cookie", [True, False])
async def test_asking_for_another_message_twice_ends_with_a_good_code(
    demo: httpx.AsyncClient, case: Case, phone: list[str], factor_form: Form, *, keeps_cookie: bool
) -> None:
    again, session = factor_form | {"decision": "again", "code": ""}, demo.cookies["mithril-visit"]
    assert (await demo.post(url_of(case), data=again)).status_code == 303
    if not keeps_cookie:
        give_back(demo, session)
    assert (await demo.post(url_of(case), data=again)).status_code == 303
    assert (await demo.post(url_of(case), data=factor_form | {"code": code_in(phone[-1])})).status_code == 303
    assert 'value="allow"' in (await demo.get(url_of(case))).text


async def test_what_is_noted_of_an_answer_is_not_shown(
    browser: httpx.AsyncClient, server: Server, db: Db, case: Case
) -> None:
    await decide(browser, url_of(case), await consent_page(browser, url_of(case), case), "allow")
    stored = "SELECT details ->> 'answer' FROM tokens WHERE user_id = $1 AND name = 'sign_in_visit'"
    assert await db.fetchval(stored, case.user_id)
    listed = await browser.get(f"{server.internal_url}/admin/tokens", params={"user_id": str(case.user_id)})
    assert {token["name"] for token in listed.json()["data"]} == {"sign_in_visit", "authorization_code"}
    assert "answer" not in listed.text
