"""A forgotten password: a link to the phone, or else by e-mail, and the page of the link."""

import asyncio
import re
import time

import httpx
import pytest

from mithril import errors
from mithril.sms import mailer, messenger
from support.cases import PASSWORD, PASSWORD_HASH, Case, add_factor, form_token, sign_in
from support.factories import Db
from support.servers import Server

pytestmark = pytest.mark.anyio

NEW = "Another-Horse-8"
PHONE = "+380501234567"
LINKS = "SELECT count(*) FROM tokens WHERE user_id = $1 AND name = 'password_link'"
Sent = list[tuple[str, str]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """What was sent: to which phone or e-mail address, and the text."""
    received: Sent = []

    async def send(_: messenger.ConsoleMessenger, phone: str, text: str) -> None:
        received.append((phone, text))

    async def mail(_: mailer.ConsoleMailer, recipient: str, *, subject: str, text: str) -> None:
        assert subject == "New password"
        received.append((recipient, text))

    monkeypatch.setattr(messenger.ConsoleMessenger, "send", send)
    monkeypatch.setattr(mailer.ConsoleMailer, "send", mail)
    return received


@pytest.fixture(autouse=True)
async def nothing_is_counted(db: Db) -> None:
    await db.execute("TRUNCATE attempts")


async def ask(http: httpx.AsyncClient, case: Case, email: str | None = None) -> httpx.Response:
    url = f"/sign-in?{case.changed()}&step=forgotten"
    page = await http.get(url)
    data = {"form_token": form_token(page), "decision": "link", "email": case.email if email is None else email}
    return await http.post(url, data=data)


async def link_to(http: httpx.AsyncClient, case: Case, sent: Sent) -> str:
    """Ask for a link, and return its path and query when it has been sent."""
    before = len(sent)
    assert (await ask(http, case)).status_code == 303
    for _ in range(500):
        if len(sent) > before:
            break
        await asyncio.sleep(0.01)
    found = re.search(
        rf"{re.escape(str(http.base_url).rstrip('/'))}(/new-password\?link=[A-Za-z0-9_-]{{32}}) ", sent[-1][1]
    )
    assert found, sent
    return found[1]


async def opened(http: httpx.AsyncClient, link: str) -> httpx.Response:
    """Open the link as a browser does, in English."""
    moved = await http.get(f"{link}&lang=en")
    assert moved.status_code == 303, moved.text
    assert "link=" not in moved.headers["location"]
    return await http.get(moved.headers["location"])


def filled(page: httpx.Response, password: str = NEW, again: str | None = None) -> dict[str, str]:
    return {"form_token": form_token(page), "password": password, "password_again": again or password}


async def change(http: httpx.AsyncClient, page: httpx.Response, *passwords: str) -> httpx.Response:
    return await http.post("/new-password?lang=en", data=filled(page, *passwords))


async def actions(db: Db, case: Case) -> list[str]:
    """Return the actions of the trail about the user."""
    found = await db.fetch("SELECT action FROM audit_events WHERE subject_id = $1 ORDER BY id", case.user_id)
    return [row["action"] for row in found]


@pytest.mark.parametrize("entrance", ["/sign-in", "/oauth2/authorize"])
async def test_the_sign_in_form_leads_to_the_form_and_back(demo: httpx.AsyncClient, case: Case, entrance: str) -> None:
    url = f"{entrance}?{case.changed()}"
    page = await demo.get(url)
    assert "Forgotten password?" in page.text
    assert f"{page.request.url.raw_path.decode()}&step=forgotten".replace("&", "&amp;") in page.text
    form = await demo.get(f"{url}&step=forgotten")
    assert url.replace("&", "&amp;") in form.text
    assert 'type="password"' not in form.text


@pytest.mark.parametrize("phone", [PHONE, None, ""])
async def test_a_link_goes_to_the_phone_or_else_by_email(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent, phone: str | None
) -> None:
    if phone is not None:
        await add_factor(db, case.user_id, phone or None)
    page = await opened(demo, await link_to(demo, case, sent))
    assert [to for to, _ in sent] == [phone or case.email]
    assert case.email in page.text
    changed = await change(demo, page)
    assert (changed.status_code, changed.headers["location"]) == (303, "/new-password?lang=en&step=changed")
    assert "Your password is changed" in (await demo.get(changed.headers["location"])).text
    url = f"/sign-in?{case.changed()}"
    assert (await sign_in(demo, url, email=case.email)).status_code == 401
    assert (await sign_in(demo, url, email=case.email, password=NEW)).status_code == 303


async def test_an_unknown_or_blocked_user_gets_the_same_answer_and_no_message(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent
) -> None:
    known = await ask(demo, case)
    unknown = await ask(demo, case, "nobody@example.com")
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", case.user_id)
    blocked = await ask(demo, case)
    own = ("date", "x-request-id", "set-cookie")
    answers = [
        (a.status_code, a.text, {n: v for n, v in a.headers.items() if n not in own}) for a in (known, unknown, blocked)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert known.headers["location"].endswith("&step=sent")
    assert "If there is such an account" in (await demo.get(known.headers["location"])).text
    await asyncio.sleep(0.3)
    assert [to for to, _ in sent] == [case.email]
    assert await db.fetchval(LINKS, case.user_id) == 1


async def test_the_answer_does_not_wait_for_the_message(
    demo: httpx.AsyncClient, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its time would show who is a user."""
    sending = 0

    async def send(_: mailer.ConsoleMailer, recipient: str, *, subject: str, text: str) -> None:
        nonlocal sending
        sending += 1
        await asyncio.sleep(1.5)
        sending += 1

    monkeypatch.setattr(mailer.ConsoleMailer, "send", send)
    began = time.monotonic()
    assert (await ask(demo, case)).status_code == 303
    assert sending < 2
    assert time.monotonic() - began < 1.5


async def test_a_link_works_once(demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent) -> None:
    link = await link_to(demo, case, sent)
    page = await opened(demo, link)
    answers = await asyncio.gather(*(change(demo, page, f"Another-Horse-{number}") for number in range(4)))
    assert sorted(answer.status_code for answer in answers) == [303, 410, 410, 410]
    assert (await demo.get(link)).status_code == 410
    used = "SELECT count(*) FROM tokens WHERE user_id = $1 AND name = 'password_link' AND used_at IS NOT NULL"
    changed = "SELECT count(*) FROM users WHERE id = $1 AND password_hash <> $2"
    assert await db.fetchval(used, case.user_id) == 1
    assert await db.fetchval(changed, case.user_id, PASSWORD_HASH) == 1
    assert await actions(db, case) == ["user.change_password"]


async def test_the_form_may_come_again(demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent) -> None:
    page = await opened(demo, await link_to(demo, case, sent))
    answers = await asyncio.gather(*(change(demo, page) for _ in range(3)))
    assert [answer.status_code for answer in (*answers, await change(demo, page))] == [303] * 4
    assert await actions(db, case) == ["user.change_password"]


async def test_opening_a_link_uses_nothing_up(demo: httpx.AsyncClient, case: Case, sent: Sent) -> None:
    link = await link_to(demo, case, sent)
    for _ in range(3):
        demo.cookies.clear()
        assert (await demo.head(link)).status_code == 303
        page = await opened(demo, link)
    assert (await change(demo, page)).status_code == 303


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tokens SET expires_at = now() WHERE user_id = $1 AND name = 'password_link'",
        "UPDATE users SET email = gen_random_uuid() || '@example.com', updated_at = now() WHERE id = $1",
        "UPDATE users SET is_blocked = true WHERE id = $1",
        "UPDATE authentication_factors SET factor = '+380509998877', updated_at = now() WHERE user_id = $1",
        "UPDATE authentication_factors SET factor = NULL, updated_at = now() WHERE user_id = $1",
        "UPDATE authentication_factors SET is_active = false, updated_at = now() WHERE user_id = $1",
        "DELETE FROM authentication_factors WHERE user_id = $1",
        "SELECT revoke_of_user($1, NULL)",
        "DELETE FROM users WHERE id = $1",
    ],
)
@pytest.mark.parametrize("is_open", [False, True])
async def test_a_change_of_the_user_ends_the_link(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent, statement: str, *, is_open: bool
) -> None:
    await add_factor(db, case.user_id, PHONE)
    link = await link_to(demo, case, sent)
    page = await opened(demo, link) if is_open else None
    await db.execute(statement, case.user_id)
    answer = await (change(demo, page) if page else demo.get(link))
    assert answer.status_code == 410
    assert "The link has been used, or its time is over." in (await demo.get(f"{link}&lang=en")).text


async def test_a_change_by_an_administrator_ends_the_link(
    demo: httpx.AsyncClient, server: Server, case: Case, sent: Sent
) -> None:
    link = await link_to(demo, case, sent)
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        user = {"user": {"password": "Set-By-An-Admin-1"}}
        assert (await internal.patch(f"/admin/users/{case.user_id}", json=user)).status_code == 200
    assert (await demo.get(link)).status_code == 410


async def test_a_new_password_revokes_all_tokens_and_other_links(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent
) -> None:
    first, second = [await link_to(demo, case, sent) for _ in range(2)]
    await sign_in(demo, f"/sign-in?{case.changed()}", email=case.email)
    assert (await change(demo, await opened(demo, first))).status_code == 303
    assert (await demo.get(second)).status_code == 410
    active = "SELECT count(*) FROM tokens WHERE user_id = $1 AND token_scope(tokens) IS NOT NULL AND expires_at > now()"
    assert await db.fetchval(active, case.user_id) == 0


@pytest.mark.parametrize(
    ("passwords", "words"),
    [
        ((NEW, "Another-Horse-9"), "The two passwords differ."),
        (("short",), "does not meet the requirements"),
        ((PASSWORD,), "You have used this password recently."),
    ],
)
async def test_a_refused_password_leaves_the_link(
    demo: httpx.AsyncClient, case: Case, sent: Sent, passwords: tuple[str, ...], words: str
) -> None:
    page = await opened(demo, await link_to(demo, case, sent))
    refused = await change(demo, page, *passwords)
    assert refused.status_code == 422
    assert words in refused.text
    assert (await change(demo, refused)).status_code == 303


async def test_a_form_of_another_browser_or_link_is_refused(demo: httpx.AsyncClient, case: Case, sent: Sent) -> None:
    first, second = [await link_to(demo, case, sent) for _ in range(2)]
    page = await opened(demo, first)
    await opened(demo, second)
    assert (await change(demo, page)).status_code == 403


@pytest.mark.parametrize("link", ["", "?link=", "?link=x", f"?link={'A' * 32}", f"?link={'A' * 32}&link={'B' * 32}"])
async def test_what_is_no_link_is_explained(demo: httpx.AsyncClient, link: str) -> None:
    demo.cookies.clear()
    answer = await demo.get(f"/new-password{link}")
    assert (answer.status_code, answer.headers["content-type"]) == (410, "text/html; charset=utf-8")


async def test_a_token_of_another_kind_is_no_link(demo: httpx.AsyncClient, case: Case) -> None:
    await sign_in(demo, f"/sign-in?{case.changed()}", email=case.email)
    value = next(cookie.value for cookie in demo.cookies.jar if cookie.name == "mithril-visit")
    assert (await demo.get(f"/new-password?link={value}")).status_code == 410


async def test_a_link_is_no_token_of_an_api(demo: httpx.AsyncClient, case: Case, sent: Sent) -> None:
    value = (await link_to(demo, case, sent)).partition("=")[2]
    answer = await demo.get("/oauth/user", headers={"authorization": f"Bearer {value}"})
    assert answer.status_code == 401


async def test_only_a_digest_of_a_link_is_stored_and_for_a_quarter_of_an_hour(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent
) -> None:
    value = (await link_to(demo, case, sent)).partition("=")[2]
    row = await db.fetchrow(
        "SELECT t::text AS row, expires_at - inserted_at AS lives FROM tokens t"
        " WHERE name = 'password_link' AND user_id = $1",
        case.user_id,
    )
    assert row is not None
    assert value not in row["row"]
    assert row["lives"].total_seconds() == 900


async def test_messages_to_one_user_are_limited_also_where_there_is_none(
    demo: httpx.AsyncClient, case: Case, sent: Sent
) -> None:
    for email in (case.email, "nobody@example.com"):
        answers = [await ask(demo, case, email) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [303, 303, 303, 429]
        assert "Too many links were asked for." in answers[3].text
        assert int(answers[3].headers["retry-after"]) > 3_000
    await asyncio.sleep(0.2)
    assert len(sent) == 3


async def test_messages_from_one_place_are_limited(demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent) -> None:
    await db.execute("INSERT INTO attempts (key, count) VALUES ('link-from:127.0.0.1', 30)")
    assert (await ask(demo, case)).status_code == 429
    assert await db.fetchval("SELECT count(*) FROM attempts WHERE key = $1", f"link:{case.email}") == 0
    assert not sent


async def test_where_the_phone_cannot_be_reached_the_link_goes_by_email(
    demo: httpx.AsyncClient, db: Db, case: Case, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: messenger.ConsoleMessenger, phone: str, text: str) -> None:
        raise errors.MessageNotSent

    monkeypatch.setattr(messenger.ConsoleMessenger, "send", fail)
    await add_factor(db, case.user_id, PHONE)
    await link_to(demo, case, sent)
    assert [to for to, _ in sent] == [case.email]


async def test_without_a_way_to_send_links_none_is_offered(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    page = await http.get(f"/sign-in?{case.changed()}")
    assert "Forgotten password?" not in page.text
    form = {"form_token": form_token(page), "decision": "link", "email": case.email}
    assert (await http.post(f"/sign-in?{case.changed()}", data=form)).status_code == 303
    assert 'type="password"' in (await http.get(f"/sign-in?{case.changed()}&step=forgotten")).text
    assert await db.fetchval(LINKS, case.user_id) == 0


async def test_a_request_for_a_link_needs_a_form_of_ours_and_an_email(
    demo: httpx.AsyncClient, case: Case, sent: Sent
) -> None:
    url = f"/sign-in?{case.changed()}&step=forgotten"
    page = await demo.get(url)
    foreign = {"form_token": "A" * 32, "decision": "link", "email": case.email}
    assert (await demo.post(url, data=foreign)).status_code == 403
    assert (await demo.post(url, data=foreign | {"form_token": form_token(page), "email": ""})).status_code == 422
    assert not sent
