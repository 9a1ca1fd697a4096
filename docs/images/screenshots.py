"""Make the pictures of this folder: `make screenshots`. Needs Chromium, and starts a server with demo data."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import sync_playwright

from support.processes import DEMO_CLIENT, serving

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUERY = {
    "client_id": DEMO_CLIENT,
    "redirect_uri": "https://example2.com",
    "scope": "legal_entity:read employee:read declaration:read",
    "lang": "en",
}


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
        page.get_by_label("E-mail").fill("owner@clinic.example")
        page.get_by_label("Password").fill("Demo-Password-1")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Allow access?").wait_for()
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=Path(__file__).with_name("consent.png"), full_page=True)


if __name__ == "__main__":
    main()
