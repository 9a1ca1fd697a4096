"""The pages in a real browser: by keyboard, on a phone and a desktop, and under the content security policy.

Skipped with a reason when the machine has no Chromium.
"""

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, Error, Page, expect

from mithril import security
from mithril.pages import texts
from mithril.sms import mailer, messenger
from mithril.snapshots import service as snapshots
from support import chromium
from support.cases import code_in
from support.judging import signed
from support.servers import Server, demo_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CLINIC, PIS = "1380df72-275a-11e7-93ae-92361f002671", "5b1d7a60-93c4-4f0e-8d2b-6c1e0f3a7c04"
OWNER, DOCTOR, PASSWORD = "owner@clinic.example", "doctor@clinic.example", "Demo-Password-1"
WIDTHS = [360, 1280]
AT_BOTH_WIDTHS = pytest.mark.parametrize("page", WIDTHS, indirect=True)
ENTRANCES = ["/sign-in", "/oauth2/authorize"]


@dataclass
class Callback:
    """The client's own server, to which the browser must return."""

    origin: str
    moved_to: str = ""
    seconds: float = 0
    """How long it takes to answer."""
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.origin}/callback"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection of the browser; it may also open one in advance and never use it."""
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.seen.append(head.split(" ")[1])
            await asyncio.sleep(self.seconds)
            status = f"302 Found\r\nlocation: {self.moved_to}" if self.moved_to else "200 OK"
            body = "<h1>Back at the clinic</h1>"
            lines = ["content-type: text/html", f"content-length: {len(body)}", "connection: close"]
            writer.write("\r\n".join([f"HTTP/1.1 {status}", *lines, "", body]).encode())
            await writer.drain()

    @property
    def answers(self) -> list[dict[str, list[str]]]:
        """The queries with which the browser returned."""
        return [parse_qs(urlsplit(target).query) for target in self.seen if target.startswith("/callback")]


@asynccontextmanager
async def listening(callback: Callback, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Listen, and yield the origin."""
    listener = await asyncio.start_server(callback.answer, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        # Until Python 3.12 a connection that is accepted just before the end is lost with a warning: so accept no
        # more, and let the accepted ones be handled.
        for taking_in in listener.sockets:
            asyncio.get_running_loop().remove_reader(taking_in.fileno())
        await asyncio.sleep(0)
        listener.close()


def certificate(folder: Path) -> ssl.SSLContext:
    """A context with a self-signed certificate."""
    key, made = folder / "key.pem", folder / "certificate.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(["openssl", *options.split(), "-keyout", key, "-out", made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server with demo data."""
    with demo_server(postgres) as running:
        yield running


@pytest.fixture
def unused(postgres: str) -> Iterator[Server]:
    """A server with demo data as it is at first: other tests take scopes away from the demo's token."""
    with demo_server(postgres) as running:
        yield running


@pytest.fixture
async def callback(server: Server) -> AsyncIterator[Callback]:
    """A server at the registered redirect URI of the clinic, and the clinic's approval as in the demo data.

    A test names it before `page`, for what is named last ends first: the browser may still ask it for an icon.
    """
    made = Callback("")
    connection = await asyncpg.connect(server.database_url)
    await connection.execute("UPDATE apps SET scope = 'legal_entity:read client:read' WHERE client_id = $1", CLINIC)
    async with listening(made) as made.origin:
        await connection.execute("UPDATE connections SET redirect_uri = $2 WHERE client_id = $1", CLINIC, made.url)
        await connection.close()
        yield made


@pytest.fixture
async def page(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Page]:
    """A page, 360 pixels wide unless the test sets another width. An error in the browser's console fails the test."""
    width = getattr(request, "param", WIDTHS[0])
    async with chromium.opened(browser, width=width, language="uk") as opened:
        yield opened


@pytest.fixture
async def doctor(server: Server) -> AsyncIterator[asyncpg.Connection]:
    """A connection for a test that changes the doctor's password or phone: afterwards these are as before."""
    connection = await asyncpg.connect(server.database_url)
    known = await connection.fetchval("SELECT password_hash FROM users WHERE email = $1", DOCTOR)
    yield connection
    changed = "UPDATE users SET password_hash = $2, password_set_at = now() WHERE email = $1 RETURNING id"
    user_id = await connection.fetchval(changed, DOCTOR, known)
    for table in ("authentication_factors", "password_hstr"):
        await connection.execute(f"DELETE FROM {table} WHERE user_id = $1", user_id)
    await connection.execute("TRUNCATE attempts")
    await connection.close()


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are sent to phones and by e-mail."""
    sent: list[str] = []

    async def send(_: messenger.ConsoleMessenger, phone: str, text: str) -> None:
        sent.append(text)

    async def mail(_: mailer.ConsoleMailer, recipient: str, *, subject: str, text: str) -> None:
        sent.append(text)

    monkeypatch.setattr(messenger.ConsoleMessenger, "send", send)
    monkeypatch.setattr(mailer.ConsoleMailer, "send", mail)
    return sent


def address(server: Server, callback: Callback, entrance: str, **changes: str) -> str:
    query = {
        "client_id": CLINIC,
        "redirect_uri": callback.url,
        "response_type": "code",
        "scope": "legal_entity:read employee:read declaration:read",
        "state": "st&te=1",
        **changes,
    }
    return f"{server.url}{entrance}?{urlencode(query)}"


async def look(page: Page, folder: Path, name: str) -> None:
    """Keep a screenshot, and check the width of the page and the words on the buttons."""
    await page.screenshot(path=folder / f"{name}.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
    one_line = "[...document.querySelectorAll('button')].every(b => b.offsetHeight < 60)"
    assert await page.evaluate(one_line), f"{name} has a button whose word is broken"


async def focused(page: Page) -> str:
    await chromium.await_focus(page)
    text: str = await page.evaluate("document.activeElement.id || document.activeElement.innerText")
    return text


@AT_BOTH_WIDTHS
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_signing_in_and_consent_work_by_keyboard(
    server: Server, callback: Callback, page: Page, tmp_path: Path, entrance: str
) -> None:
    await page.goto(address(server, callback, entrance, email=OWNER))
    await expect(page.locator("#password")).to_be_focused()
    await look(page, tmp_path, "sign-in")
    await page.keyboard.type("wrong")
    await chromium.enter(page)
    await expect(page.get_by_role("alert")).to_have_text(texts.words("uk")["problem_wrong"])
    await expect(page.locator("#password")).to_be_focused()
    await look(page, tmp_path, "wrong-password")

    await page.keyboard.type(PASSWORD)
    await chromium.enter(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Дозволити доступ?")
    await expect(page.get_by_role("listitem").first).to_contain_text("Переглядати працівників закладу")
    await look(page, tmp_path, "consent")

    for _ in range(10):
        await page.keyboard.press("Tab")
        if await focused(page) == "Дозволити":
            break
    await look(page, tmp_path, "focus")
    await chromium.enter(page)
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    (answer,) = callback.answers
    assert answer["state"] == ["st&te=1"]
    assert len(answer["code"]) == 1
    assert answer.get("iss") == ([server.url] if entrance == "/oauth2/authorize" else None)


@AT_BOTH_WIDTHS
@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_an_owner_can_allow_all_scopes_of_the_role_at_once(
    server: Server, callback: Callback, page: Page, tmp_path: Path, language: str
) -> None:
    (owner,) = (role for role in snapshots.demo().roles if role["name"] == "OWNER")
    scopes = owner["scope"].split()
    await sign_in(page, address(server, callback, "/sign-in", scope=" ".join(scopes), lang=language))
    await expect(page.get_by_role("button", name=texts.words(language)["allow"])).to_be_visible()
    await look(page, tmp_path, "many-scopes")
    for folded in await page.locator("summary").all():
        await folded.click()
    await look(page, tmp_path, "many-scopes-unfolded")
    assert set(await page.locator("li").all_text_contents()) >= {
        texts.scope_words(name, language) for name in scopes if name not in ("legal_entity:read", "client:read")
    }
    await page.get_by_role("button", name=texts.words(language)["allow"]).click()
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    assert len(callback.answers[0]["code"]) == 1


@AT_BOTH_WIDTHS
@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_the_requests_of_the_demo_can_be_pressed(
    page: Page, server: Server, tmp_path: Path, language: str
) -> None:
    words = texts.words(language)
    await page.goto(f"{server.url}/?lang={language}")
    await look(page, tmp_path, "home")
    await page.get_by_role("link", name=words["demo_sign_in"], exact=True).click()
    await page.fill("#password", PASSWORD)
    await chromium.enter(page)
    button = page.locator("button[value=exchange], button[value=allow]")
    if await button.get_attribute("value") == "allow":
        await button.click()
    await expect(page.locator("button[value=exchange]")).to_be_visible()
    await page.goto(f"{page.url}&lang={language}")
    for step, status in {"exchange": "201", "refresh": "201", "verify": "200", "change": "200"}.items():
        await page.locator(f"button[value={step}]").click()
        await expect(page.locator(f"#{step}").get_by_role("status")).to_contain_text(f"{words['demo_answer']} {status}")
        await look(page, tmp_path, step)


async def test_fields_have_labels_and_a_visible_focus(server: Server, callback: Callback, page: Page) -> None:
    await page.goto(address(server, callback, "/sign-in", lang="en"))
    await expect(page.get_by_label("E-mail")).to_be_focused()
    await page.get_by_label("E-mail").fill(OWNER)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineWidth"
    assert await page.evaluate(outline) == "3px"
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Allow access?")


@pytest.mark.parametrize("seconds", [0, 0.3])
@pytest.mark.parametrize(("button", "decision"), [("Дозволити", "code"), ("Відмовити", "error")])
async def test_a_double_click_returns_to_the_client(  # noqa: PLR0917 -- fixtures
    server: Server, callback: Callback, page: Page, button: str, decision: str, seconds: float
) -> None:
    """A client that answers late lets the page stay, and its button is clicked again."""
    callback.seconds = seconds
    await sign_in(page, address(server, callback, "/oauth2/authorize"))
    await page.get_by_role("button", name=button).dblclick(delay=10, no_wait_after=True)
    if seconds:
        await asyncio.sleep(0.1)
        with suppress(Error):  # the page may be gone by now
            await page.get_by_role("button", name=button).click(timeout=1_000, no_wait_after=True)
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    await expect(page).to_have_url(re.compile(rf"/callback\?{decision}="))
    answers = [answer[decision][0] for answer in callback.answers]
    if decision == "code":
        assert len(set(answers)) == len(answers), "a code was given twice"
        shown = parse_qs(urlsplit(page.url).query)["code"][0]
        connection = await asyncpg.connect(server.database_url)
        good = "SELECT used_at IS NULL AND expires_at > now() FROM tokens WHERE digest = $1"
        assert await connection.fetchval(good, security.digest(shown))
        await connection.close()
    else:
        assert set(answers) == {"access_denied"}


async def test_denying_returns_to_the_client(server: Server, callback: Callback, page: Page) -> None:
    await sign_in(page, address(server, callback, "/sign-in"))
    await page.get_by_role("button", name="Відмовити").click()
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    assert callback.answers[0]["error"] == ["access_denied"]


async def test_another_account_returns_to_the_sign_in_form(server: Server, callback: Callback, page: Page) -> None:
    await sign_in(page, address(server, callback, "/sign-in"))
    await page.get_by_role("button", name="Інший обліковий запис").click()
    await expect(page.get_by_label("Пароль")).to_be_visible()
    assert not callback.seen


async def test_the_language_is_switched_by_a_link(server: Server, callback: Callback, page: Page) -> None:
    await sign_in(page, address(server, callback, "/sign-in"))
    await page.get_by_role("link", name="English").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Allow access?")
    assert await page.get_attribute("html", "lang") == "en"
    await page.get_by_role("link", name="Українська").click()
    await expect(page.get_by_role("button", name="Дозволити")).to_be_visible()


async def test_without_new_scopes_the_browser_returns_at_once(server: Server, callback: Callback, page: Page) -> None:
    await sign_in(page, address(server, callback, "/sign-in", scope="client:read"))
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    assert len(callback.answers[0]["code"]) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_callback_may_redirect_to_another_host(
    server: Server, callback: Callback, page: Page, host: str
) -> None:
    """Chromium applies `form-action` to all redirects after a form."""
    home = Callback("")
    async with listening(home) as home.origin:
        callback.moved_to = f"{home.origin}/home".replace("127.0.0.1", host)
        await sign_in(page, address(server, callback, "/sign-in"))
        await page.get_by_role("button", name="Дозволити").click()
        await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    assert home.seen[0] == "/home"


async def test_a_callback_by_https_may_redirect_to_a_loopback_address(
    browser: Browser, server: Server, callback: Callback, tmp_path: Path
) -> None:
    home = Callback("")
    context = await browser.new_context(ignore_https_errors=True, locale="uk-UA")
    page = await context.new_page()
    async with listening(home) as home.origin, listening(callback, tls=certificate(tmp_path)) as callback.origin:
        callback.moved_to = f"{home.origin}/home"
        connection = await asyncpg.connect(server.database_url)
        await connection.execute("UPDATE connections SET redirect_uri = $2 WHERE client_id = $1", CLINIC, callback.url)
        await connection.close()
        await sign_in(page, address(server, callback, "/sign-in"))
        await page.get_by_role("button", name="Дозволити").click()
        await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    assert home.seen[0] == "/home"
    await context.close()


async def test_a_callback_may_redirect_to_an_app(server: Server, callback: Callback, page: Page) -> None:
    callback.moved_to = "myapp://callback?ok=1"
    await sign_in(page, address(server, callback, "/sign-in"))
    async with page.expect_event("requestfailed") as failed:
        await page.get_by_role("button", name="Дозволити").click(no_wait_after=True)
    # There is no such app here, so the browser stays; blocked by the policy it would say so in its console.
    assert callback.answers
    assert "CSP" not in str((await failed.value).failure)


@AT_BOTH_WIDTHS
@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_a_phone_and_a_new_password_are_set_by_keyboard_on_the_way(  # noqa: PLR0917 -- fixtures
    server: Server,
    callback: Callback,
    page: Page,
    tmp_path: Path,
    doctor: asyncpg.Connection,
    messages: list[str],
    language: str,
) -> None:
    words, phone = texts.words(language), "+380671112233"
    await doctor.execute("UPDATE users SET password_set_at = now() - interval '91 days' WHERE email = $1", DOCTOR)
    add = "INSERT INTO authentication_factors (user_id, type) SELECT id, 'SMS' FROM users WHERE email = $1"
    await doctor.execute(add, DOCTOR)
    await sign_in(page, address(server, callback, "/sign-in", scope="legal_entity:read", lang=language), email=DOCTOR)
    await expect(page.get_by_role("heading", level=1)).to_have_text(words["phone_title"])
    await expect(page.locator("#phone")).to_be_focused()
    await look(page, tmp_path, f"phone-{language}")
    await page.keyboard.press("End")
    await page.keyboard.type(phone.removeprefix("+380"))
    await chromium.enter(page)
    await expect(page.locator("#code")).to_be_focused()
    await look(page, tmp_path, f"code-{language}")
    await page.keyboard.type(code_in(messages[-1]))
    await chromium.enter(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text(words["new_password_title"])
    await look(page, tmp_path, f"password-{language}")
    for again in ("Something-Else-1", "Something-New-1"):
        await expect(page.get_by_label(words["new_password"], exact=True)).to_be_focused()
        await page.keyboard.type("Something-New-1")
        await page.keyboard.press("Tab")
        await page.keyboard.type(again)
        await chromium.enter(page)
        if again != "Something-New-1":
            await expect(page.get_by_role("alert")).to_have_text(words["problem_not_the_same"])
            await look(page, tmp_path, f"password-refused-{language}")
    await page.get_by_role("button", name=words["deny"]).click()
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")


@AT_BOTH_WIDTHS
@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_a_forgotten_password_is_replaced_by_keyboard(  # noqa: PLR0917 -- fixtures
    server: Server,
    callback: Callback,
    page: Page,
    tmp_path: Path,
    doctor: asyncpg.Connection,
    messages: list[str],
    language: str,
) -> None:
    words, new = texts.words(language), "Something-New-1"
    await page.goto(address(server, callback, "/oauth2/authorize", lang=language))
    await look(page, tmp_path, f"sign-in-{language}")
    await page.get_by_role("link", name=words["forgotten"]).focus()
    await chromium.enter(page)
    await expect(page.locator("#email")).to_be_focused()
    await look(page, tmp_path, f"forgotten-{language}")
    await page.keyboard.type(DOCTOR)
    await chromium.enter(page)
    await expect(page.get_by_role("status")).to_have_text(words["link_sent"])
    await look(page, tmp_path, f"sent-{language}")
    while not messages:  # noqa: ASYNC110 -- the message goes out beside the answer
        await asyncio.sleep(0.01)
    (link,) = re.findall(rf"{server.url}/new-password[^ ]+", messages[-1])
    await page.goto(f"{link}&lang={language}")
    await expect(page).to_have_url(f"{server.url}/new-password?lang={language}")
    await expect(page.get_by_label(words["new_password"], exact=True)).to_be_focused()
    await look(page, tmp_path, f"link-{language}")
    await page.keyboard.type(new)
    await page.keyboard.press("Tab")
    await page.keyboard.type(new)
    await chromium.enter(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text(words["password_changed_title"])
    await look(page, tmp_path, f"changed-{language}")
    await page.goto(link + f"&lang={language}")
    await expect(page.get_by_role("alert")).to_have_text(words["error_link_over"])
    await look(page, tmp_path, f"over-{language}")
    hashed = await doctor.fetchval("SELECT password_hash FROM users WHERE email = $1", DOCTOR)
    assert security.is_password(new, hashed)


@AT_BOTH_WIDTHS
async def test_a_wrong_redirect_uri_is_explained_and_not_followed(
    server: Server, callback: Callback, page: Page, tmp_path: Path
) -> None:
    await page.goto(address(server, callback, "/sign-in", redirect_uri=callback.url + "/"))
    await expect(page.get_by_role("alert")).to_contain_text(texts.words("uk")["error_wrong_redirect_uri"])
    await expect(page.get_by_text(callback.url + "/", exact=True)).to_be_hidden()
    await look(page, tmp_path, "wrong-address")
    await page.get_by_text(texts.words("uk")["for_support"]).click()
    await expect(page.get_by_text(callback.url + "/", exact=True)).to_be_visible()
    await look(page, tmp_path, "wrong-address-unfolded")
    assert not callback.seen


@AT_BOTH_WIDTHS
@pytest.mark.parametrize("language", ["uk", "en"])
async def test_what_a_role_does_not_include_is_explained_with_a_way_back_by_keyboard(
    server: Server, callback: Callback, page: Page, tmp_path: Path, language: str
) -> None:
    words, scope = texts.words(language), "legal_entity:read connection:write connection:refresh_secret"
    await sign_in(page, address(server, callback, "/sign-in", scope=scope, lang=language), email=DOCTOR)
    await expect(page.get_by_role("heading", level=1)).to_have_text(words["role_title"])
    await expect(page.get_by_role("alert")).to_contain_text(words["role_lead"])
    lacking = [text.split()[-1] for text in await page.get_by_role("listitem").all_inner_texts()]
    assert lacking == ["connection:write", "connection:refresh_secret"]
    await look(page, tmp_path, f"role-{language}")
    assert not callback.seen
    await page.get_by_role("link", name=words["role_back"]).focus()
    await chromium.enter(page)
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    (answer,) = callback.answers
    assert (answer["error"], answer["state"]) == (["invalid_scope"], ["st&te=1"])


@AT_BOTH_WIDTHS
async def test_long_names_fit_into_the_page(server: Server, callback: Callback, page: Page, tmp_path: Path) -> None:
    connection = await asyncpg.connect(server.database_url)
    name = await connection.fetchval("SELECT name FROM clients WHERE id = $1", CLINIC)
    change = "UPDATE clients SET name = $2 WHERE id = $1"
    await connection.execute(change, CLINIC, "Комунальненекомерційнепідприємство" * 4)
    await sign_in(page, address(server, callback, "/sign-in"))
    await look(page, tmp_path, "long-name")
    await connection.execute(change, CLINIC, name)
    await connection.close()


async def test_the_page_cannot_be_framed(browser: Browser, server: Server, callback: Callback) -> None:
    page = await browser.new_page()
    await page.goto(f"{callback.origin}/other")
    frame = """url => new Promise(loaded => {
        const f = document.createElement('iframe');
        f.onload = loaded;
        f.src = url;
        document.body.append(f);
    })"""
    async with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        await page.evaluate(frame, address(server, callback, "/sign-in"))
    assert len(page.frames) == 2
    assert "password" not in await page.frames[1].content()
    await page.close()


@AT_BOTH_WIDTHS
async def test_a_user_confirms_with_a_code(
    server: Server, callback: Callback, page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await asyncpg.connect(server.database_url)
    owner = await connection.fetchval("SELECT id FROM users WHERE email = $1", OWNER)
    add = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234567')"
    await connection.execute(add, owner)
    await sign_in(page, address(server, callback, "/sign-in"))
    await expect(page.get_by_label("Код із повідомлення")).to_be_focused()
    await look(page, tmp_path, "factor")
    code = "".join(filter(str.isdigit, capsys.readouterr().out.rpartition(":")[2]))
    await page.keyboard.type(code)
    await chromium.enter(page)
    await expect(page.get_by_role("button", name="Дозволити")).to_be_visible()
    await connection.execute("DELETE FROM authentication_factors WHERE user_id = $1", owner)
    await connection.close()


async def test_a_double_click_on_the_second_factor_leads_to_the_consent_form(
    server: Server, callback: Callback, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = await asyncpg.connect(server.database_url)
    owner = await connection.fetchval("SELECT id FROM users WHERE email = $1", OWNER)
    add = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234567')"
    await connection.execute(add, owner)
    await connection.execute("TRUNCATE password_hstr, attempts")
    await sign_in(page, address(server, callback, "/sign-in"))
    code = "".join(filter(str.isdigit, capsys.readouterr().out.rpartition(":")[2]))
    await page.get_by_label("Код із повідомлення").fill(code)
    await page.get_by_role("button", name="Підтвердити").dblclick(delay=10, no_wait_after=True)
    await expect(page.get_by_role("button", name="Дозволити")).to_be_visible()
    await page.get_by_role("button", name="Дозволити").dblclick(no_wait_after=True)
    await expect(page.get_by_role("heading")).to_have_text("Back at the clinic")
    await connection.execute("DELETE FROM authentication_factors WHERE user_id = $1", owner)
    await connection.close()


async def sign_in(page: Page, url: str, *, email: str = OWNER) -> None:
    await page.goto(url)
    await page.locator("#email").fill(email)
    await page.locator("#password").fill(PASSWORD)
    await chromium.enter(page)


CALLS = """async ([server, client]) => {
    const read = async (path, options) => {
        try {
            const answer = await fetch(server + path, options);
            const [id, challenge] = ['x-request-id', 'www-authenticate'].map(name => answer.headers.get(name));
            return [answer.status, id !== null, challenge !== null];
        } catch (error) { return error.name; }
    };
    const form = {method: 'POST', body: new URLSearchParams({client_id: client, token: 'x', grant_type: 'password'})};
    const basic = {method: 'POST', body: 'token=x', headers: {
        'authorization': 'Basic ' + btoa(client + ':wrong'), 'content-type': 'application/x-www-form-urlencoded',
    }};
    return [
        await read('/.well-known/oauth-authorization-server', {}),
        await read('/oauth2/token', form),
        await read('/oauth2/token', basic),
        await read('/oauth2/revoke', basic),
        await read('/oauth2/token', {...basic, credentials: 'include'}),
        await read('/oauth2/introspect', form),
        await read('/oauth2/introspect', basic),
        await read('/api/user/roles', {}),
        await read('/sign-in', {}),
    ];
}"""


async def test_a_page_of_another_origin_may_call_what_a_public_client_needs(
    browser: Browser, server: Server, callback: Callback
) -> None:
    page = await browser.new_page()
    await page.goto(f"{callback.origin}/app")
    refused = "TypeError"  # by the browser: the page may not read the answer
    assert await page.evaluate(CALLS, [server.url, CLINIC]) == [
        [200, True, False],
        [400, True, False],  # credentials in the form (rule STD-19)
        [401, True, True],
        [401, True, True],
        *[refused] * 5,
    ]
    await page.close()


@AT_BOTH_WIDTHS
async def test_a_signature_needs_one_button_and_the_consent(
    server: Server, callback: Callback, page: Page, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(server.database_url)
    await connection.execute("UPDATE connections SET redirect_uri = $2 WHERE client_id = $1", PIS, callback.url)
    await connection.execute("DELETE FROM apps WHERE client_id = $1", PIS)
    await connection.close()
    async with httpx.AsyncClient(base_url=server.url) as http:
        nonce = (await http.post("/oauth/nonce", json={"client_id": PIS})).json()["data"]["token"]
    asked = {"client_id": PIS, "scope": "app:read_pis", "user_data": signed(jwt=nonce, drfo="2874310250")}
    await page.goto(address(server, callback, "/sign-in", **asked))
    button = texts.words("uk")["sign_in"]
    assert await focused(page) == button
    assert await page.locator("input[type=password]").count() == 0
    await look(page, tmp_path, "signature")
    await chromium.enter(page)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Дозволити доступ?")
    await expect(page.locator("main")).to_contain_text("patient@cabinet.example")
    await look(page, tmp_path, "signed")
    await page.get_by_role("button", name="Дозволити").click()
    await page.wait_for_url(f"{callback.url}?*")
    assert set(parse_qs(urlsplit(page.url).query)) == {"code", "state"}
    await page.goto(address(server, callback, "/sign-in", **asked))
    await chromium.enter(page)
    await expect(page.get_by_role("alert")).to_have_text(texts.words("uk")["problem_signature_over"])
    await look(page, tmp_path, "used")


@pytest.mark.parametrize("page", [1280], indirect=True)
async def test_in_a_demo_the_description_is_authorized_and_a_method_fits_on_two_screens(
    unused: Server, page: Page
) -> None:
    await page.goto(f"{unused.url}/docs#/Client%20connections/getClientConnection")
    method = page.locator("[id$=getClientConnection]")
    await method.get_by_role("button", name="Try it out").click()
    await method.get_by_role("button", name="Execute").click()
    await expect(method.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    await page.locator("[id$=updateClientConnection] .opblock-summary-control").click()
    update = page.locator("[id$=updateClientConnection]")
    await expect(update.get_by_text("Show refusals")).to_be_visible()
    box = await update.bounding_box()
    assert box is not None
    assert box["height"] <= 2 * 800
    await update.get_by_text("Show refusals").click()
    await expect(update.locator('.response[data-code="422"]')).to_be_visible()


@pytest.mark.parametrize("page", [1280], indirect=True)
@pytest.mark.parametrize("client_id", [CLINIC, ""])
async def test_a_refusal_of_the_token_endpoint_does_not_make_the_browser_ask(
    server: Server, page: Page, client_id: str
) -> None:
    await page.goto(f"{server.url}/docs#/OAuth%202.0/issueToken")
    method = page.locator("[id$=issueToken]")
    await method.get_by_role("button", name="Try it out").click()
    await method.get_by_role("row", name="client_id").get_by_role("textbox").fill(client_id)
    await method.get_by_role("row", name="client_secret").get_by_role("textbox").fill("wrong" if client_id else "")
    await method.get_by_role("button", name="Execute").click()
    status = "400" if client_id else "401"
    await expect(method.locator(".live-responses-table .response-col_status").last).to_contain_text(status)
