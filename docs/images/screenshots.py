"""Make the pictures of this folder: `make screenshots`. Needs Chromium, and starts a server with demo data."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

from support.processes import DEMO_CLIENT, serving

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUERY = {
    "client_id": DEMO_CLIENT,
    "redirect_uri": "https://example2.com",
    "scope": "legal_entity:read employee:read declaration:read",
    "lang": "en",
}
CONNECTION = f"/console/clients/{DEMO_CLIENT}/connections/e5372365-d47a-467f-81d0-f35117864352"
NEW = "https://mis.example.com/oauth/callback"
EMAIL, PASSWORD = "owner@clinic.example", "Demo-Password-1"


def main() -> None:
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        sys.exit("Chromium is not installed.")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        tempfile.TemporaryDirectory() as home,
        serving("--demo", "--home", home) as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=arguments) as browser,
    ):
        page = browser.new_page(viewport={"width": 720, "height": 560})
        page.goto(f"{server.public}/sign-in?{urlencode(QUERY)}")
        page.get_by_label("E-mail").fill(EMAIL)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Allow access?").wait_for()
        keep(page, "consent.png")
        for language in ("uk", "en"):
            show_console(browser, server.public, language)


def show_console(browser: Browser, url: str, language: str) -> None:
    """Keep five pictures of the console: the owner moves a redirect URI, and brings the former one back."""
    page = browser.new_page(viewport={"width": 480, "height": 320}, locale=language)

    def confirm() -> None:
        page.locator("#password").fill(PASSWORD)
        with page.expect_navigation():
            page.locator("#password").press("Enter")

    page.goto(f"{url}/console/sign-in?lang={language}")
    page.locator("#email").fill(EMAIL)
    confirm()
    page.goto(f"{url}{CONNECTION}/address?{urlencode({'new': 'https://MIS.example.com/oauth/callback#'})}")
    keep(page, f"console-refused-{language}.webp")
    page.goto(f"{url}{CONNECTION}/address?{urlencode({'new': NEW})}")
    keep(page, f"console-confirm-{language}.webp")
    confirm()
    keep(page, f"console-connection-{language}.webp")
    page.goto(f"{url}{CONNECTION}/secret")
    keep(page, f"console-secret-{language}.webp")
    page.goto(f"{url}{CONNECTION}/address?{urlencode({'new': NEW})}")
    confirm()
    page.goto(f"{url}{CONNECTION}/history")
    keep(page, f"console-log-{language}.webp", most_height=980)
    page.locator("a[href$='/revert']").first.click()
    confirm()
    page.close()


def keep(page: Page, name: str, *, most_height: int = 10_000) -> None:
    """Keep a picture of the whole page or its beginning, in which nothing has the focus."""
    page.evaluate("document.activeElement.blur()")
    height = min(most_height, page.evaluate("document.documentElement.scrollHeight"))
    width = page.evaluate("innerWidth")
    part: FloatRect = {"x": 0, "y": 0, "width": width, "height": height}
    quality = 50 if name.endswith("webp") else None
    page.screenshot(path=Path(__file__).with_name(name), full_page=True, clip=part, quality=quality)


if __name__ == "__main__":
    main()
