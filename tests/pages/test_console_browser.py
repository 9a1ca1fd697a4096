"""The console in a real browser: whole journeys at two widths, by keyboard, without a script, held to WCAG by axe."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Error, Page, expect

from mithril.console import rendering
from support import chromium
from support.servers import Server, demo_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OWNER, PASSWORD = "owner@clinic.example", "Demo-Password-1"
CLINIC = "1380df72-275a-11e7-93ae-92361f002671"
CONNECTION = f"/console/clients/{CLINIC}/connections/e5372365-d47a-467f-81d0-f35117864352"
OLD = "https://example2.com"
RESTORE = """
UPDATE connections SET redirect_uri = $2, transition_redirect_uri = NULL, transition_since = NULL,
       transition_began_at = NULL, transition_ends_at = NULL WHERE client_id = $1
"""
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
# The texts of a page twice as large, and a screen as narrow as WCAG 1.4.10 has it.
TWICE = "document.documentElement.style.fontSize = '200%'"
FITS = "document.documentElement.scrollWidth <= innerWidth"
FOCUS = "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'"
FOCUSED = "(e => e.id || e.name || e.innerText)(document.activeElement)"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The backend of the whole file, so that its tests share one browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium.launched() as browser:
        yield browser


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
    await connection.close()


@dataclass
class Journey:
    """A user with a browser, who looks at each page."""

    page: Page
    server: Server
    language: str
    has_script: bool
    complaints: list[str] = field(default_factory=list)
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
        await self.page.set_viewport_size(size)

    async def press(self, target: str, name: str) -> None:
        """Go by Tab to what has this id or these words, see the focus at each stop, press Enter, look at the page."""
        for _ in range(40):
            await self.page.keyboard.press("Tab")
            assert await self.page.evaluate(FOCUS), f"no visible focus on {await self.page.evaluate(FOCUSED)!r}"
            if (await self.page.evaluate(FOCUSED)).startswith(target):
                break
        else:
            pytest.fail(f"{target} is not reached by Tab on {self.seen[-1]}")
        async with self.page.expect_navigation():
            await self.page.keyboard.press("Enter")
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
        async with self.page.expect_navigation():
            await self.page.keyboard.press("Enter")
        await self.look(name)

    async def sign_in(self, email: str = OWNER) -> None:
        """Sign in by keyboard; the field of the e-mail address has the focus."""
        await self.page.keyboard.type(email)
        await self.page.keyboard.press("Tab")
        await self.page.keyboard.type(PASSWORD)
        async with self.page.expect_navigation():
            await self.page.keyboard.press("Enter")


@asynccontextmanager
async def journey(
    browser: Browser, server: Server, *, width: int, language: str, has_script: bool = True
) -> AsyncIterator[Journey]:
    context = await browser.new_context(
        viewport={"width": width, "height": 740},
        locale="uk-UA" if language == "uk" else "en-GB",
        java_script_enabled=has_script,
    )
    context.set_default_timeout(chromium.PATIENCE)
    page = await context.new_page()
    made = Journey(page, server, language, has_script)
    page.on("console", lambda message: made.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: made.complaints.append(str(error)))
    yield made
    await context.close()
    assert not [text for text in made.complaints if "status of 4" not in text]


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
        await user.send("undo begun")
        await user.press(words["complete_now"], "completion of the undo")
        await user.type_into("password", PASSWORD)
        await user.send("undone")
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
        stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert await page.evaluate(stored) == '[{},{},""]'
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
        await page.keyboard.type(PASSWORD)
        await user.send("client")
        for path in ("/console?choose", "/console/session", "/console/clients/x", "/console/x", "/account/password"):
            await user.open(path)
        for path in ("/console/forgotten", "/console/forgotten?sent"):
            await user.open(path)
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


@pytest.mark.parametrize("way", [(360, "uk"), (1280, "en")])
async def test_an_administrator_finds_blocks_and_unblocks_a_client(
    browser: Browser, server: Server, way: tuple[int, str]
) -> None:
    width, language = way
    pharmacy = "Аптека 199"
    async with journey(browser, server, width=width, language=language) as user:
        page, words = user.page, user.words
        await user.open("/console")
        await user.sign_in("admin@mithril.example")
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
        await user.open("/console/clients?q=nothing")
