"""The system's Chromium, without a window, that reaches this machine only."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Milliseconds for any one step: only a machine with much other work takes more than one of the thirty seconds.
PATIENCE = 100_000


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Yield the browser; skip the test, with a reason, where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    arguments = [
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=arguments, timeout=PATIENCE)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(browser: Browser, *, width: int, language: str, has_script: bool = True) -> AsyncIterator[Page]:
    """Yield a page of a new user. An error in the browser's console fails the test, but for refusals that it names."""
    context = await browser.new_context(
        viewport={"width": width, "height": 740},
        locale="uk-UA" if language == "uk" else "en-GB",
        java_script_enabled=has_script,
    )
    context.set_default_timeout(PATIENCE)
    page, complaints = await context.new_page(), list[str]()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    unexpected = [text for text in complaints if "status of 4" not in text]
    assert not unexpected, unexpected


async def await_focus(page: Page) -> None:
    """Wait until something has the focus: a browser gives it to the field of a new page after the page is loaded."""
    await expect(page.locator(":focus")).to_have_count(1)


async def enter(page: Page) -> None:
    """Press Enter on what has the focus, and wait until the next page has been loaded completely."""
    await await_focus(page)
    async with page.expect_navigation():
        await page.keyboard.press("Enter")
