"""The page at `/`, and the callback page of the demo (rules PAG-30 to PAG-33)."""

import html
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mithril.snapshots import demo
from support.servers import Server, demo_server

CALLBACK = demo.CALLBACK_PATH
KEY = "the-key-of-the-internal-listener"


@pytest.fixture(scope="module")
def demo_running(postgres: str) -> Iterator[Server]:
    """A server with demo data and an internal key."""
    with demo_server(postgres, internal_key=KEY) as running:
        yield running


@pytest.fixture
def browser(demo_running: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo_running.url, headers={"accept-language": "en"}) as client:
        yield client


def field(page: str, name: str) -> str:
    found: list[str] = re.findall(rf'name="{name}" value="([^"]*)"', page)
    return found[0]


def commands(page: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r"<pre><code>(curl.*?)</code></pre>", page, re.DOTALL)]


def shown_answer(page: str) -> Any:
    (found,) = re.findall(r'role="status">.*?<pre><code>(.*?)</code></pre>', page, re.DOTALL)
    return json.loads(html.unescape(found))


def come_back(browser: httpx.Client, server: Server) -> httpx.Response:
    """Sign in by the printed link, and return the page to which it leads."""
    url = demo.sign_in_url(server.url)
    form = {"form_token": field(browser.get(url).text, "form_token"), "email": demo.USER, "password": "Demo-Password-1"}
    answer = browser.post(url, data=form)
    if not answer.headers["location"].startswith(server.url):
        page = browser.get(answer.headers["location"]).text
        given = {name: field(page, name) for name in ("form_token", "scope")}
        answer = browser.post(url, data=given | {"decision": "allow"})
    return browser.get(answer.headers["location"])


def press(browser: httpx.Client, page: httpx.Response, step: str) -> httpx.Response:
    found = re.findall(r'name="(form_token|access_token|refresh_token)" value="([^"]*)"', page.text)
    return browser.post(page.url, data=dict(found) | {"step": step})


def test_the_printed_link_leads_to_a_code_and_its_requests_work_when_pressed(
    browser: httpx.Client, demo_running: Server
) -> None:
    page = come_back(browser, demo_running)
    assert (page.status_code, page.url.path) == (200, CALLBACK)
    assert page.text.count("<button") == 1
    page = press(browser, page, "exchange")
    issued = shown_answer(page.text)["data"]
    assert issued["details"]["scope"] == demo.SCOPE
    page = press(browser, page, "refresh")
    renewed = shown_answer(page.text)["data"]
    assert renewed["value"] != issued["value"]
    page = press(browser, page, "verify")
    assert shown_answer(page.text)["data"]["user_id"] == issued["user_id"]
    assert KEY not in page.text
    page = press(browser, page, "change")
    assert shown_answer(page.text)["data"]["redirect_uri"] == demo_running.url + CALLBACK
    again = press(browser, page, "exchange")
    assert (again.status_code, shown_answer(again.text)["error"]["type"]) == (200, "access_denied")


def test_the_commands_work_when_pasted(browser: httpx.Client, demo_running: Server) -> None:
    def paste(command: str) -> Any:
        ran = subprocess.run(["sh", "-ec", command], capture_output=True, check=True)
        return json.loads(ran.stdout)

    exchange, *others = commands(come_back(browser, demo_running).text)
    issued = paste(exchange)["data"]
    placed = {
        "ACCESS_TOKEN": issued["value"],
        "REFRESH_TOKEN": issued["details"]["refresh_token"],
        "INTERNAL_KEY": KEY,
    }
    for name, value in placed.items():
        others = [command.replace(name, value) for command in others]
    assert [paste(command)["meta"]["code"] for command in others] == [201, 200, 200]


@pytest.mark.parametrize("code", ["';reboot;'", "$(reboot)aaaaaaaaaaaaaaaaaaaaaa", "short", "a" * 200])
def test_only_what_looks_like_a_code_gets_into_a_command(browser: httpx.Client, code: str) -> None:
    page = browser.get(CALLBACK, params={"code": code})
    assert page.status_code == 200
    assert commands(page.text) == []
    assert "There is no code here" in page.text


def test_a_refusal_is_shown_and_escaped(browser: httpx.Client) -> None:
    page = browser.get(CALLBACK, params={"error": "access_denied", "error_description": "<b>No</b>"})
    assert "<code>access_denied</code>: &lt;b&gt;No&lt;/b&gt;" in page.text
    assert "form-action 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("taken", ["form_token", "cookie", "site"])
def test_a_button_of_another_site_is_refused(browser: httpx.Client, taken: str) -> None:
    url = f"{CALLBACK}?code={'a' * 32}"
    token = field(browser.get(url).text, "form_token")
    if taken == "cookie":
        browser.cookies.clear()
    form = {"step": "exchange"} | ({} if taken == "form_token" else {"form_token": token})
    headers = {"sec-fetch-site": "cross-site"} if taken == "site" else {}
    refused = browser.post(url, data=form, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (403, "text/html; charset=utf-8")


def test_a_step_without_its_value_is_refused(browser: httpx.Client) -> None:
    url = f"{CALLBACK}?code={'a' * 32}"
    form = {"form_token": field(browser.get(url).text, "form_token"), "step": "verify"}
    assert browser.post(url, data=form | {"access_token": "'; reboot"}).status_code == 400


@pytest.mark.anyio
async def test_without_the_demo_there_is_no_callback_page(http: httpx.AsyncClient) -> None:
    for method in ("GET", "POST"):
        answer = await http.request(method, f"{CALLBACK}?code={'a' * 32}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


@pytest.mark.anyio
@pytest.mark.parametrize("accept", ["text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "application/json, text/html"])
async def test_the_root_is_a_page(http: httpx.AsyncClient, accept: str) -> None:
    page = await http.get("/", headers={"accept": accept, "accept-language": "en"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-language"] == "en"
    links = re.findall(r'href="(/[^"?]*)"', page.text)
    assert set(links) >= {"/docs", "/openapi.json"}
    for link in {*links} - {"/"}:
        assert (await http.get(link)).status_code == 200, link
    assert "/demo/callback" not in page.text
    head = await http.head("/", headers={"accept": accept})
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "accept", ["application/json", "application/json, text/plain, */*", "application/problem+json"]
)
async def test_to_a_program_the_root_is_not_found(http: httpx.AsyncClient, accept: str) -> None:
    answer = await http.get("/", headers={"accept": accept})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


def test_the_root_leads_on_to_the_sign_in_of_the_demo(browser: httpx.Client, demo_running: Server) -> None:
    assert f'href="{html.escape(demo.sign_in_url(demo_running.url))}"' in browser.get("/").text


@pytest.mark.anyio
async def test_the_icon_is_kept_by_browsers(http: httpx.AsyncClient) -> None:
    icon = await http.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/x-icon")
    assert icon.content[:4] == b"\0\0\1\0"
    again = await http.get("/favicon.ico", headers={"if-none-match": icon.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
