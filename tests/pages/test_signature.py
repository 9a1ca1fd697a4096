"""/sign-in?user_data=…: the user has signed a nonce of the client, and enters no password."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from support.cases import Case, decide, form_token, make_case, redeem, sent_back
from support.factories import Db
from support.judging import Judge, judge, signed
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

JWT_SECRET = "a key of the tests that is long enough for HS512, sixty-four bytes"
GRANTS = {"allowed_grant_types": ["digital_signature"]}


@pytest.fixture(scope="module")
def judging() -> Iterator[Judge]:
    with judge() as services:
        yield services


@pytest.fixture(scope="module")
def server(postgres: str, judging: Judge) -> Iterator[Server]:
    """A server with a signature service."""
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, jwt_secret=JWT_SECRET, digital_signature_endpoint=judging.url) as running,
    ):
        yield running


@pytest.fixture
def services(judging: Judge) -> Judge:
    judging.reset()
    return judging


@pytest.fixture
async def case(db: Db, services: Judge) -> Case:
    made = await make_case(db, settings=GRANTS)
    await be_patient(db, made, drfo := str(uuid4().int)[:10])
    services.signs(drfo)
    return made


async def be_patient(db: Db, case: Case, drfo: str) -> None:
    statement = "UPDATE users SET tax_id = $2, person_id = gen_random_uuid()::text WHERE id = $1"
    await db.execute(statement, case.user_id, drfo)


async def link(http: httpx.AsyncClient, case: Case, *, of: Case | None = None, **more: object) -> str:
    response = await http.post("/oauth/nonce", json={"client_id": str((of or case).client_id)})
    return f"/sign-in?{case.changed(user_data=signed(jwt=response.json()['data']['token'], **more))}"


async def press(http: httpx.AsyncClient, url: str) -> httpx.Response:
    """Open the link, and press its button."""
    page = await http.get(url)
    assert page.status_code == 200
    assert "No password is needed" in page.text
    assert 'type="password"' not in page.text
    return await http.post(url, data={"form_token": form_token(page)})


async def test_a_signature_leads_to_the_consent_and_to_a_code(
    http: httpx.AsyncClient, case: Case, services: Judge
) -> None:
    url = await link(http, case)
    response = await press(http, url)
    assert (response.status_code, response.headers["location"]) == (303, url)
    assert [path for _, path, _ in services.asked] == ["/digital_signatures"]  # by the button alone
    page = await http.get(url)
    assert case.email in page.text
    assert 'value="switch"' not in page.text
    answer = sent_back(await decide(http, url, page, "allow"), case)
    assert (await redeem(http, case, answer["code"])).status_code == 200


async def test_consent_follows_also_when_all_was_allowed_before(http: httpx.AsyncClient, case: Case) -> None:
    for _ in range(2):
        url = await link(http, case)
        assert (await press(http, url)).headers["location"] == url
        assert "code" in sent_back(await decide(http, url, await http.get(url), "allow"), case)


async def test_a_link_signs_one_browser_in(http: httpx.AsyncClient, server: Server, case: Case) -> None:
    url = await link(http, case)
    async with httpx.AsyncClient(base_url=server.url) as other:
        answers = await asyncio.gather(press(http, url), press(other, url))
        assert sorted(answer.status_code for answer in answers) == [303, 401]
        (refused,) = (answer for answer in answers if answer.status_code == 401)
        assert "This signature was used before" in refused.text
        http.cookies.clear()
        assert (await press(http, url)).status_code == 401


async def test_a_second_click_leads_on_as_the_first_one_did(http: httpx.AsyncClient, case: Case) -> None:
    """The browser may have dropped the answer to the first one, with its cookie; another browser gets nothing."""
    url = await link(http, case)
    http.cookies.clear()
    data = {"form_token": form_token(await http.get(url))}
    answers = await asyncio.gather(*(http.post(url, data=data) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.cookies["mithril-visit"] for answer in answers}) == 1
    page = await http.get(url)
    assert "code" in sent_back(await decide(http, url, page, "allow"), case)
    assert (await http.post(url, data=data)).status_code == 401


async def test_opening_a_link_uses_nothing_up(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = await link(http, case)
    for _ in range(3):
        assert (await http.get(url)).status_code == 200
    refused = await http.post(url, data={"form_token": "x" * 32})
    assert refused.status_code == 403
    assert (
        await db.fetchval("SELECT count(*) FROM nonces WHERE client_id = $1 AND used_at IS NULL", case.client_id) == 1
    )
    assert (await press(http, url)).status_code == 303


async def test_each_refusal_of_a_signature_is_shown_on_the_page(
    http: httpx.AsyncClient, db: Db, case: Case, services: Judge
) -> None:
    drfo, other = services.signatures[0]["signer"]["drfo"], await make_case(db, settings=GRANTS)
    url, foreign = await link(http, case), await link(http, case, of=other)
    http.cookies.clear()

    async def attempt(wanted: str, status: int, words: str) -> None:
        response = await press(http, wanted)
        assert response.status_code == status
        assert words in response.text
        assert "mithril-visit" not in http.cookies

    services.signs(drfo, is_valid=False)
    await attempt(url, 422, "The electronic signature was not accepted.")
    services.signs(drfo)
    services.status = 500
    await attempt(url, 503, "not available for the moment")
    services.status = 200
    await attempt(foreign, 401, "This signature was used before, or its time is over.")
    services.signs("0000000000")
    await attempt(url, 401, "There is no account for this electronic signature.")
    services.signs(drfo)
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", case.user_id)
    await attempt(url, 401, "is blocked")
    await db.execute("UPDATE users SET is_blocked = false WHERE id = $1", case.user_id)
    assert (await press(http, url)).status_code == 303


async def test_a_login_session_is_good_for_its_own_link(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    """Else a browser in which one user has just signed in would answer a link of another one."""
    assert (await press(http, await link(http, case))).status_code == 303
    other = await link(http, case, by="another")
    for url in (other, f"/sign-in?{case.changed()}"):
        page = await http.get(url)
        assert case.email not in page.text
        assert 'value="allow"' not in page.text


async def test_where_no_signature_is_offered_the_client_learns_it(
    http: httpx.AsyncClient, server: Server, db: Db, case: Case
) -> None:
    url = await link(http, case)
    other = await make_case(db)
    refused = sent_back(await http.get(f"/sign-in?{other.changed(user_data='e30=')}"), other)
    assert (refused["error"], refused["state"]) == ("unauthorized_client", other.query["state"])
    broken = sent_back(await http.get(f"/sign-in?{case.changed(user_data='no base64')}"), case)
    assert broken["error"] == "invalid_request"
    assert "user_data" in broken["error_description"]
    with running_server(database_url=server.database_url, jwt_secret=JWT_SECRET) as plain:
        async with httpx.AsyncClient(base_url=plain.url) as client:
            assert sent_back(await client.get(url), case)["error"] == "unauthorized_client"
    standard = await http.get(url.replace("/sign-in", "/oauth2/authorize"))
    assert 'type="password"' in standard.text
