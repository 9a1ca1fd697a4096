"""The page on which a user with a second factor and no phone names one, to receive the one-time password."""

import asyncio

import httpx
import pytest

from support.cases import Case, add_factor, code_in, decide, form_token, redeem, sent_back, sign_in
from support.factories import Db

pytestmark = pytest.mark.anyio

PHONE = "+380671112233"
STORED = "SELECT factor FROM authentication_factors WHERE user_id = $1"


@pytest.fixture
async def case(case: Case, db: Db) -> Case:
    """A user with a second factor that has no phone."""
    await add_factor(db, case.user_id, None)
    return case


async def phone_page(http: httpx.AsyncClient, url: str, case: Case) -> httpx.Response:
    response = await sign_in(http, url, email=case.email)
    assert response.status_code == 303, response.text
    page = await http.get(url)
    assert "Name your phone" in page.text
    return page


def naming(page: httpx.Response, phone: str = PHONE) -> dict[str, str]:
    return {"form_token": form_token(page), "decision": "phone", "phone": phone}


def confirming(page: httpx.Response, code: str) -> dict[str, str]:
    return {"form_token": form_token(page), "decision": "confirm", "code": code}


async def code_page(http: httpx.AsyncClient, url: str, case: Case) -> httpx.Response:
    assert (await http.post(url, data=naming(await phone_page(http, url, case)))).status_code == 303
    return await http.get(url)


@pytest.mark.parametrize("entrance", ["/sign-in", "/oauth2/authorize"])
async def test_a_user_without_a_phone_names_one_and_goes_on(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]], entrance: str
) -> None:
    url = f"{entrance}?{case.changed()}"
    page = await code_page(demo, url, case)
    assert "•••33" in page.text
    assert await db.fetchval(STORED, case.user_id) is None
    ((number, text),) = sent
    assert number == PHONE
    assert (await demo.post(url, data=confirming(page, code_in(text)))).status_code == 303
    assert await db.fetchval(STORED, case.user_id) == PHONE
    code = sent_back(await decide(demo, url, await demo.get(url), "allow"), case)["code"]
    assert (await redeem(demo, case, code)).status_code == 200
    actors = (
        "SELECT actor_user_id FROM audit_events WHERE action = 'authentication_factor.update' AND new ->> 'factor' = $1"
    )
    assert case.user_id in {row[0] for row in await db.fetch(actors, PHONE)}


@pytest.mark.parametrize(
    "phone", ["", "380671112233", "+38067111223", "+3806711122334", "+380 671112233", "+48671112233"]
)
async def test_what_is_no_phone_is_refused_and_nothing_is_sent(
    demo: httpx.AsyncClient, case: Case, sent: list[tuple[str, str]], phone: str
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await phone_page(demo, url, case)
    refused = await demo.post(url, data=naming(page, phone))
    assert refused.status_code == 422
    assert "must begin with +380" in refused.text
    assert not sent
    assert (await demo.post(url, data=naming(refused))).status_code == 303


async def test_a_wrong_code_does_not_make_a_phone_the_factor(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]]
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await code_page(demo, url, case)
    wrong = f"{(int(code_in(sent[0][1])) + 1) % 1_000_000:06}"
    assert (await demo.post(url, data=confirming(page, wrong))).status_code == 401
    assert await db.fetchval(STORED, case.user_id) is None


@pytest.mark.parametrize("decision", ["allow", "password", "confirm"])
async def test_nothing_is_given_before_a_phone_is_confirmed(
    demo: httpx.AsyncClient, case: Case, sent: list[tuple[str, str]], decision: str
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await phone_page(demo, url, case)
    form = {"form_token": form_token(page), "decision": decision, "scope": case.query["scope"], "code": "000000"}
    answer = await demo.post(url, data=form)
    assert "location" not in answer.headers
    assert not sent


async def test_a_phone_that_was_named_meanwhile_is_not_replaced(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]]
) -> None:
    """Else a password alone would be enough to take the place of the second factor."""
    url = f"/sign-in?{case.changed()}"
    page, named = await code_page(demo, url, case), "+380509998877"
    change = "UPDATE authentication_factors SET factor = $2, updated_at = clock_timestamp() WHERE user_id = $1"
    await db.execute(change, case.user_id, named)
    for form in (confirming(page, code_in(sent[0][1])), {**confirming(page, ""), "decision": "again"}):
        assert (await demo.post(url, data=form)).status_code == 401
    assert await db.fetchval(STORED, case.user_id) == named
    assert len(sent) == 1


async def test_a_user_who_has_a_phone_cannot_name_another(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]]
) -> None:
    await db.execute("UPDATE authentication_factors SET factor = $2 WHERE user_id = $1", case.user_id, "+380509998877")
    url = f"/sign-in?{case.changed()}"
    assert (await sign_in(demo, url, email=case.email)).status_code == 303
    assert (await demo.post(url, data=naming(await demo.get(url)))).status_code == 401
    assert [number for number, _ in sent] == ["+380509998877"]


async def test_another_code_goes_to_the_phone_that_was_named(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]]
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await code_page(demo, url, case)
    assert (await demo.post(url, data={**confirming(page, ""), "decision": "again"})).status_code == 303
    assert [number for number, _ in sent] == [PHONE, PHONE]
    page = await demo.get(url)
    assert (await demo.post(url, data=confirming(page, code_in(sent[-1][1])))).status_code == 303
    assert await db.fetchval(STORED, case.user_id) == PHONE


async def test_forms_that_are_sent_twice_lead_on(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]]
) -> None:
    url = f"/sign-in?{case.changed()}"
    first = await phone_page(demo, url, case)
    assert (await demo.post(url, data=naming(first))).status_code == 303
    assert (await demo.post(url, data=naming(first))).status_code == 303  # with the cookie of the first answer
    assert len(sent) == 1
    page = await demo.get(url)
    answers = await asyncio.gather(*(demo.post(url, data=confirming(page, code_in(sent[0][1]))) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [303] * 3
    assert await db.fetchval(STORED, case.user_id) == PHONE
    assert 'value="allow"' in (await demo.get(url)).text


async def test_messages_to_new_phones_are_limited(
    demo: httpx.AsyncClient, case: Case, sent: list[tuple[str, str]]
) -> None:
    url = f"/sign-in?{case.changed()}"
    statuses = []
    for _ in range(4):
        demo.cookies.clear()
        statuses.append((await demo.post(url, data=naming(await phone_page(demo, url, case)))).status_code)
    assert statuses == [303, 303, 303, 429]
    assert len(sent) == 3


async def test_another_number_can_be_named_before_the_code(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: list[tuple[str, str]]
) -> None:
    url, other = f"/sign-in?{case.changed()}", "+380509998877"
    page = await code_page(demo, url, case)
    assert "Another number" in page.text
    page = await demo.post(url, data={"form_token": form_token(page), "decision": "phone"})
    assert (await demo.post(url, data=naming(page, other))).status_code == 303
    page = await demo.get(url)
    assert (await demo.post(url, data=confirming(page, code_in(sent[-1][1])))).status_code == 303
    assert await db.fetchval(STORED, case.user_id) == other
