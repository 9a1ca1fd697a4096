"""The console in a real browser: whole journeys at two widths, by keyboard, without a script, held to WCAG by axe."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Error, Page, expect

from mithril.console import rendering, routes
from mithril.database import lists
from mithril.sightings.sign_in_store import ALL
from mithril.sms import messenger
from support import chromium
from support.cases import code_in
from support.servers import Server, demo_server, execute

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OWNER, ADMIN, PASSWORD = "owner@clinic.example", "admin@mithril.example", "Demo-Password-1"
CLINIC = "1380df72-275a-11e7-93ae-92361f002671"
CONNECTION = f"/console/clients/{CLINIC}/connections/e5372365-d47a-467f-81d0-f35117864352"
OLD = "https://example2.com"
RESTORE = """
UPDATE connections SET redirect_uri = $2, transition_redirect_uri = NULL, transition_since = NULL,
       transition_began_at = NULL, transition_ends_at = NULL WHERE client_id = $1
"""
# Sign-ins and refusals of some hours: of all, of the clinic, through its connection.
COUNT = f"""
INSERT INTO sign_in_counts (hour, subject_id, outcome, times)
SELECT date_trunc('hour', now(), 'UTC') - h * interval '1 h', s, o, 1000 * h + 1
  FROM generate_series(0, 20, 3) h, unnest(ARRAY['', 'password_wrong', 'other']) o,
       (SELECT unnest(ARRAY['{ALL}', $1, id]) FROM connections WHERE client_id = $1) c (s)
    ON CONFLICT DO NOTHING
"""
ADD_FACTOR = """
INSERT INTO authentication_factors (user_id, type, factor) SELECT id, 'SMS', '+380501234567' FROM users WHERE email = $1
"""
SET_BLOCK = "UPDATE clients SET is_blocked = $2::text IS NOT NULL, block_reason = $2 WHERE id = $1"
REMOVE_FACTORS = "DELETE FROM authentication_factors"
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
# The texts of a page twice as large, and a screen as narrow as WCAG 1.4.10 has it.
TWICE = "document.documentElement.style.fontSize = '200%'"
FITS = "document.documentElement.scrollWidth <= innerWidth"
FOCUS = "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'"
STORED, NOTHING_STORED = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])", '[{},{},""]'
FOCUSED = "(e => e.id || e.name || e.innerText)(document.activeElement)"


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server with demo data, whose console administrators may use too."""
    with demo_server(postgres, console="all") as running:
        yield running


@pytest.fixture(autouse=True)
async def _as_in_the_demo(server: Server) -> None:
    """The connection of the clinic as it was, and nothing counted against anyone."""
    connection = await asyncpg.connect(server.database_url)
    await connection.execute(RESTORE, CLINIC, OLD)
    await connection.execute("DELETE FROM attempts")
    await connection.execute(COUNT, CLINIC)
    await connection.close()


@dataclass
class Journey:
    """A user with a browser, who looks at each page."""

    page: Page
    server: Server
    language: str
    has_script: bool
    seen: list[str] = field(default_factory=list)

    @property
    def words(self) -> dict[str, str]:
        """What the pages say in the language of the browser."""
        return rendering.words(self.language)

    async def open(self, path: str) -> None:
        """Open a page, and look at it."""
        await self.page.goto(f"{self.server.url}{path}")
        await self.look(path)

    async def look(self, name: str) -> None:
        """Hold the page to WCAG, and to the width of the screen, also of a narrow one and with large text."""
        self.seen.append(name)
        if self.has_script:  # without scripts axe does not run either, and the pages are the same
            found = await Axe().run(self.page, options=WCAG)
            assert not found.violations_count, f"{name}: {found.generate_report()}"
        assert await self.page.get_attribute("html", "lang") == self.language
        assert await self.page.locator("h1").count() == 1, name
        size = self.page.viewport_size
        assert size is not None
        assert await self.page.evaluate(FITS), f"{name} scrolls sideways"
        await self.page.set_viewport_size({"width": 320, "height": 640})
        assert await self.page.evaluate(FITS), f"{name} scrolls sideways at 320 px"
        await self.page.evaluate(TWICE)
        assert await self.page.evaluate(FITS), f"{name} scrolls sideways at 320 px with large text"
        await self.page.evaluate(TWICE.replace("200%", ""))
        await self.page.set_viewport_size(size)

    async def show_tables(self) -> None:
        """Open the tables below the pictures, and look at the page again."""
        assert await self.page.get_by_role("img").count() >= 1
        for summary in await self.page.locator("main summary").all():
            await summary.click()
        await expect(self.page.get_by_role("table").first).to_be_visible()
        await self.look("the tables of the pictures")

    async def press(self, target: str, name: str) -> None:
        """Go by Tab to what has this id or these words, see the focus at each stop, press Enter, look at the page."""
        for _ in range(40):
            await self.page.keyboard.press("Tab")
            assert await self.page.evaluate(FOCUS), f"no visible focus on {await self.page.evaluate(FOCUSED)!r}"
            if (await self.page.evaluate(FOCUSED)).startswith(target):
                break
        else:
            pytest.fail(f"{target} is not reached by Tab on {self.seen[-1]}")
        await chromium.enter(self.page)
        await self.look(name)

    async def type_into(self, target: str, text: str) -> None:
        """Go by Tab to a field, and put the text in place of what is there."""
        for _ in range(40):
            if await self.page.evaluate(FOCUSED) == target:
                break
            await self.page.keyboard.press("Tab")
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.type(text)

    async def send(self, name: str) -> None:
        """Send the form of the field with Enter, and look at the page that follows."""
        await chromium.enter(self.page)
        await self.look(name)

    async def sign_in(self, email: str = OWNER) -> None:
        """Sign in by keyboard; the field of the e-mail address has the focus."""
        await chromium.await_focus(self.page)
        await self.page.keyboard.type(email)
        await self.page.keyboard.press("Tab")
        await self.page.keyboard.type(PASSWORD)
        await chromium.enter(self.page)


@asynccontextmanager
async def journey(
    browser: Browser, server: Server, *, width: int, language: str, has_script: bool = True
) -> AsyncIterator[Journey]:
    async with chromium.opened(browser, width=width, language=language, has_script=has_script) as page:
        yield Journey(page, server, language, has_script)


@pytest.mark.parametrize("way", [(360, "uk", True), (1280, "en", True), (1280, "uk", False), (360, "en", False)])
async def test_an_owner_moves_the_redirect_uri_and_brings_it_back(
    browser: Browser, server: Server, way: tuple[int, str, bool]
) -> None:
    width, language, has_script = way
    async with journey(browser, server, width=width, language=language, has_script=has_script) as user:
        page, words = user.page, user.words
        await user.open("/console")
        await user.sign_in()
        await user.look("choice")
        await user.press(words["go_on"], "client")
        await user.press(words["open"], "connection")
        await user.press(words["change"], "new redirect URI")
        await user.type_into("new", " https://MIS.example.com/cb ")
        await user.send("refused")
        await expect(page.get_by_role("alert")).to_be_focused()
        await user.press(words["take_this"], "confirmation")
        await expect(page.locator("mark")).to_have_count(2)
        await user.type_into("password", "wrong")
        await user.send("wrong password")
        await expect(page.get_by_role("alert")).to_be_focused()
        await user.type_into("password", PASSWORD)
        await user.send("begun")
        await expect(page.get_by_role("status")).to_contain_text(words["done_connection.begin_transition"])
        for uri in (OLD, "https://mis.example.com/cb"):
            await expect(page.get_by_text(uri, exact=True)).to_be_visible()
        await user.press(words["complete_now"], "completion")
        await user.type_into("password", PASSWORD)
        await user.send("completed")
        await expect(page.get_by_role("status")).to_contain_text(words["done_connection.complete_transition"])
        await expect(page.get_by_text(OLD, exact=True)).to_have_count(0)
        await user.press(words["bring_back"], "undo")
        await user.type_into("password", PASSWORD)
        await user.send("undone")
        await expect(page.get_by_role("status")).to_contain_text(words["done_connection.revert"])
        await expect(page.get_by_text(OLD, exact=True)).to_be_visible()
        await user.press(words["history"], "log")
        await expect(page.get_by_role("listitem")).not_to_have_count(1)
        await expect(page.get_by_role("listitem").first).to_contain_text(OWNER)
        await user.press(words["sign_out"], "signed out")
        await page.go_back()
        await expect(page.get_by_role("heading", level=1)).to_have_text(words["sign_in_title"])


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("language", ["uk", "en"])
async def test_an_owner_replaces_the_secret(browser: Browser, server: Server, width: int, language: str) -> None:
    async with journey(browser, server, width=width, language=language, has_script=width == 1280) as user:
        page, words = user.page, user.words
        await user.open("/console")
        await user.sign_in()
        await user.open(CONNECTION)
        await user.press(words["replace"], "replace")
        await user.type_into("password", PASSWORD)
        await user.send("secret")
        secret = await page.locator("#secret").inner_text()
        assert len(secret) == 32
        await user.press(words["secret_saved"], "saved")
        await expect(page.get_by_text(secret[-4:], exact=True)).to_be_visible()
        assert await page.evaluate(STORED) == NOTHING_STORED
        with pytest.raises(Error, match="ERR_CACHE_MISS"):  # the browser has kept no page to go back to
            await page.go_back()


async def test_a_double_click_replaces_the_secret_once_and_shows_it(browser: Browser, server: Server) -> None:
    async with journey(browser, server, width=1280, language="en") as user:
        await user.open("/console")
        await user.sign_in()
        await user.open(f"{CONNECTION}/secret")
        await user.page.locator("#password").fill(PASSWORD)
        await user.page.get_by_role("button", name=user.words["replace_secret"]).dblclick(no_wait_after=True)
        await expect(user.page.locator("#secret")).to_be_visible()


async def test_what_is_typed_is_checked_at_once_and_older_lines_are_added(browser: Browser, server: Server) -> None:
    async with journey(browser, server, width=1280, language="en") as user:
        page = user.page
        await user.open("/console")
        await user.sign_in()
        await user.open(f"{CONNECTION}/address")
        await page.locator("#new").fill("https://mis.example.com/#a")
        await expect(page.get_by_role("status")).to_contain_text("fragment")
        await user.look("draft")
        await page.locator("#new").fill("https://mis.example.com/a")
        await expect(page.get_by_role("status")).to_contain_text(user.words["accepted"])
        await expect(page.locator("#new")).to_be_focused()
        connection = await asyncpg.connect(server.database_url)
        await connection.execute(
            "INSERT INTO audit_events (action, subject_id, client_id, new)"
            " SELECT 'connection.update', id, client_id, jsonb_build_object('redirect_uri', 'https://a.example/' || n)"
            "   FROM connections, generate_series(1, 60) n WHERE client_id = $1",
            CLINIC,
        )
        await connection.close()
        await user.open(f"{CONNECTION}/history")
        await expect(page.locator("#log > li")).to_have_count(25)
        await page.get_by_role("link", name=user.words["older"]).click()
        await expect(page.locator("#log > li")).to_have_count(50)
        await user.look("older lines")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("language", ["uk", "en"])
async def test_every_other_page_can_be_used(browser: Browser, server: Server, width: int, language: str) -> None:
    async with journey(browser, server, width=width, language=language) as user:
        page, words = user.page, user.words
        await user.open("/console/sign-in")
        await user.type_into("email", OWNER)
        await page.keyboard.press("Tab")
        await page.keyboard.type("wrong")
        await user.send("wrong sign-in")
        await chromium.await_focus(page)
        await page.keyboard.type(PASSWORD)
        await user.send("client")
        for path in ("/console?choose", "/console/session", "/console/clients/x", "/console/x", "/account/password"):
            await user.open(path)
        for path in ("/console/forgotten", "/console/forgotten?sent"):
            await user.open(path)
        await user.open(f"/console/clients/{CLINIC}/activity")
        await user.show_tables()
        await user.open("/account")
        await user.press(words["withdraw"], "withdrawal")
        await user.open(f"{CONNECTION}/delete")
        await user.type_into("understood", " ")
        await user.type_into("password", "wrong")
        await user.send("wrong password")
        await expect(page.get_by_role("alert")).to_contain_text(words["problem_password_wrong"])
        await user.open(f"{CONNECTION}/address?new=https://mis.example.com/conflict")
        await page.locator("input[name=version]").evaluate("field => { field.value = '1000000' }")
        await user.type_into("password", PASSWORD)
        await user.send("conflict")
        await expect(page.get_by_role("alert")).to_have_text(words["conflict"])
        await page.context.clear_cookies()
        await user.open("/console")
        await user.sign_in("doctor@clinic.example")
        await user.look("no role")
        await expect(page.get_by_text(words["no_role"])).to_be_visible()


@pytest.mark.parametrize("way", [(360, "uk", False), (1280, "en", True)])
async def test_a_user_changes_the_phone(
    browser: Browser, server: Server, way: tuple[int, str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    width, language, has_script = way
    texts: list[str] = []

    async def send(_: messenger.ConsoleMessenger, phone: str, text: str) -> None:
        texts.append(text)

    monkeypatch.setattr(messenger.ConsoleMessenger, "send", send)
    async with journey(browser, server, width=width, language=language, has_script=has_script) as user:
        page, words = user.page, user.words
        await user.open("/account")
        await user.sign_in()
        database = await asyncpg.connect(server.database_url)
        user_id = await database.fetchval("SELECT id FROM users WHERE email = $1", OWNER)
        add = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', '+380501234567')"
        await database.execute("DELETE FROM authentication_factors WHERE user_id = $1", user_id)
        await database.execute(add, user_id)
        await user.open("/account")
        await page.get_by_role("link", name=words["phone_what"]).focus()
        await user.send("another phone")
        await user.type_into("phone", "+380671112233")
        await user.type_into("password", "wrong")
        await user.send("wrong password")
        await user.type_into("password", PASSWORD)
        await user.send("code")
        await user.type_into("code", "0")
        await user.send("wrong code")
        await expect(page.get_by_role("alert")).to_be_focused()
        await user.type_into("code", code_in(texts[0]))
        await user.send("changed")
        await expect(page.get_by_text("•••33")).to_be_visible()
        assert not has_script or await page.evaluate(STORED) == NOTHING_STORED
        await database.execute("DELETE FROM authentication_factors WHERE user_id = $1", user_id)
        await database.close()


@pytest.mark.parametrize("way", [(360, "uk"), (1280, "en")])
async def test_an_administrator_finds_blocks_and_unblocks_a_client(
    browser: Browser, server: Server, way: tuple[int, str]
) -> None:
    width, language = way
    pharmacy = "Аптека 199"
    async with journey(browser, server, width=width, language=language) as user:
        page, words = user.page, user.words
        await user.open("/console")
        await user.sign_in(ADMIN)
        await user.look("client")
        await user.press(words["clients"], "clients")
        await user.type_into("q", "199")
        await expect(page.get_by_role("status")).to_have_text(words["found"].format(n=1))
        await user.send("found")
        await user.press(pharmacy, "pharmacy")
        client = page.url.removeprefix(server.url)
        await user.press(words["block"], "block")
        await user.type_into("reason", "несплата")
        await user.type_into("password", PASSWORD)
        await user.send("blocked")
        await expect(page.get_by_text("несплата")).to_be_visible()
        await user.press(words["unblock"], "unblock")
        await user.type_into("password", PASSWORD)
        await user.send("unblocked")
        await expect(page.get_by_text("несплата")).to_have_count(0)
        for act in ("tokens", "people"):
            await user.open(f"{client}/{act}")
        await user.press(words["end_sessions_of"], "the sessions of a user")
        await user.type_into("password", PASSWORD)
        await user.send("the users again")
        await user.open("/console/clients?q=nothing")
        await user.open("/console/activity")
        await user.show_tables()


async def make_everything_there_is(server: Server) -> dict[str, str]:
    """Give the connection of the clinic a previous secret and a former redirect URI; return what paths may name."""
    database = await asyncpg.connect(server.database_url)
    former = (
        "INSERT INTO audit_events (action, subject_id, client_id, old, new) VALUES ('connection.update', $1, $2,"
        """ '{"redirect_uri": "https://mis.example.com/former"}', '{"redirect_uri": "https://example2.com"}')"""
        " RETURNING id::text"
    )
    connection_id = CONNECTION.rpartition("/")[2]
    await database.execute(
        "UPDATE connections SET previous_secret_digest = sha256('x'), previous_secret_expires_at = now() + '1 day'"
        " WHERE id = $1",
        connection_id,
    )
    values = {
        "client_id": CLINIC,
        "connection_id": connection_id,
        "user_id": await database.fetchval("SELECT id::text FROM users WHERE email = $1", OWNER),
        "event_id": await database.fetchval(former, connection_id, CLINIC),
        "consent_id": await database.fetchval(
            "SELECT a.id::text FROM apps a JOIN users u ON u.id = a.user_id WHERE u.email = $1", OWNER
        ),
    }
    await database.close()
    return values


@pytest.mark.parametrize("way", [(360, "uk"), (1280, "en")])
async def test_the_page_of_every_route_can_be_used(browser: Browser, server: Server, way: tuple[int, str]) -> None:
    """By the owner or by an administrator; a new route is looked at too."""
    paths = [route.path for route in routes.ROUTES if "GET" in (route.methods or ()) and "." not in route.path]
    values, left = await make_everything_there_is(server), set(paths)
    for email in (OWNER, ADMIN):
        async with journey(browser, server, width=way[0], language=way[1]) as user:
            await user.open("/console")
            await user.sign_in(email)
            await execute(server.database_url, ADD_FACTOR, OWNER)
            for path in paths:
                answer = await user.page.goto(f"{server.url}{path.format(**values)}")
                if path in left and answer and answer.status == 200:
                    await user.look(path)
                    left.discard(path)
            await execute(server.database_url, REMOVE_FACTORS)
    assert not left


@pytest.mark.parametrize("way", [(360, "uk"), (1280, "en")])
async def test_every_refused_form_can_be_used(browser: Browser, server: Server, way: tuple[int, str]) -> None:
    width, language = way
    values = await make_everything_there_is(server)
    async with journey(browser, server, width=width, language=language) as user:
        page, alert = user.page, user.page.get_by_role("alert")
        await user.open("/console")
        await user.sign_in()
        revert = f"history/{values['event_id']}/revert"
        for form in ("secret", "previous_secret", revert):
            await page.goto(f"{server.url}{CONNECTION}/{form}")
            await user.type_into("password", "wrong")
            await user.send(f"{form}, wrong password")
            await expect(alert).to_be_focused()
        await page.goto(f"{server.url}/account/consents/{values['consent_id']}")
        await user.type_into("password", "wrong")
        await user.send("consent, wrong password")
        await page.goto(f"{server.url}/account/password")
        for field, text in (("password", PASSWORD), ("new_password", "short"), ("new_password_again", "other")):
            await user.type_into(field, text)
        await user.send("password, refused")
        await expect(alert).to_be_focused()
        await page.goto(f"{server.url}{CONNECTION}/address?new=https://mis.example.com/over")
        await execute(server.database_url, "UPDATE tokens SET expires_at = now() WHERE name = 'console_session'")
        await user.type_into("password", PASSWORD)
        await user.send("session over")
        await expect(alert).to_contain_text(user.words["problem_over"])
        await user.type_into("email", ADMIN)
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await user.send("confirmation again")
        for act in ("block", "tokens", f"people/{values['user_id']}/sessions"):
            await page.goto(f"{server.url}/console/clients/{CLINIC}/{act}")
            if act == "block":
                await user.type_into("reason", " ")
            await user.type_into("password", "wrong")
            await user.send(f"{act}, refused")
            await expect(alert).to_be_focused()


@pytest.mark.parametrize("way", [(360, "uk"), (1280, "en")])
async def test_every_other_state_can_be_used(browser: Browser, server: Server, way: tuple[int, str]) -> None:
    """Nothing counted, a connection that is deleted, a blocked clinic, a second factor."""
    width, language = way
    async with journey(browser, server, width=width, language=language) as user:
        page, words = user.page, user.words
        await user.open("/console")
        await user.sign_in()
        await execute(server.database_url, "DELETE FROM sign_in_counts")
        await user.open(f"/console/clients/{CLINIC}/activity")
        await expect(page.get_by_text(words["nothing_counted"])).to_be_visible()
        gone = "00000000-0000-4000-8000-000000000001"
        add = "INSERT INTO audit_events (action, subject_id, client_id) VALUES ('connection.delete', $1, $2)"
        await execute(server.database_url, add, gone, CLINIC)
        await user.open(f"/console/clients/{CLINIC}/connections/{gone}")
        await expect(page.get_by_text(words["gone"])).to_be_visible()
        await user.open(f"/console/clients/{CLINIC}/connections/{gone}/history")
        await user.open("/console/clients")
        await execute(server.database_url, SET_BLOCK, CLINIC, "unpaid")
        await page.context.clear_cookies()
        await user.open("/console")
        await user.sign_in()
        await user.look("all blocked")
        await execute(server.database_url, SET_BLOCK, CLINIC, None)
        await execute(server.database_url, ADD_FACTOR, OWNER)
        await page.context.clear_cookies()
        await user.open("/console")
        await user.sign_in()
        await user.look("second factor")
        await user.type_into("code", "0")
        await user.send("second factor, wrong code")
        await expect(page.get_by_role("alert")).to_contain_text(words["problem_code_wrong"])
        await execute(server.database_url, REMOVE_FACTORS)


@pytest.mark.parametrize("way", [(360, "uk"), (1280, "en")])
async def test_the_page_of_a_search_that_is_too_wide_can_be_used(
    browser: Browser, server: Server, way: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LOOK_LIMIT", 1)
    async with journey(browser, server, width=way[0], language=way[1]) as user:
        await user.open("/console")
        await user.sign_in(ADMIN)
        await user.open("/console/clients")
        await user.type_into("q", "nowhere")
        await user.send("search too wide")
        await expect(user.page.get_by_text(user.words["too_wide"])).to_be_visible()
