"""The pages in both languages."""

import html
import re
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from mithril.pages import texts
from mithril.snapshots import service as snapshots
from support.cases import (
    Case,
    sign_in,
)

pytestmark = pytest.mark.anyio


# Languages


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "uk"),
        ("en-US,en;q=0.9", "en"),
        ("de,uk;q=0.5,en;q=0.8", "en"),
        ("uk-UA,en;q=0.9", "uk"),
        ("de", "uk"),
        ("en;q=0", "uk"),
        ("en;q=x", "uk"),
        ("*", "uk"),
    ],
)
async def test_the_language_is_the_one_that_the_browser_prefers(
    http: httpx.AsyncClient, case: Case, accepted: str, language: str
) -> None:
    page = await http.get(f"/sign-in?{case.changed(lang=None)}", headers={"accept-language": accepted})
    assert f'<html lang="{language}">' in page.text
    assert page.headers["content-language"] == language
    assert texts.words(language)["sign_in_title"] in page.text


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("en", "en"),
        ("uk", "uk"),
        ("en-GB uk", "en"),
        ("uk-UA en", "uk"),
        ("de fr-CA EN-us uk", "en"),
        ("de", "en"),
        ("", "en"),
        (" ", "en"),
        ("  en", "en"),
        ("english", "en"),
        ('e"n uk', "uk"),
        ("de " * 500 + "uk", "en"),
    ],
)
async def test_the_client_may_name_languages_in_order_of_preference(
    http: httpx.AsyncClient, case: Case, wanted: str, language: str
) -> None:
    url = f"/oauth2/authorize?{case.changed(lang=None, ui_locales=wanted)}"
    page = await http.get(url, headers={"accept-language": "en"})
    assert (page.status_code, page.headers["content-language"]) == (200, language)


async def test_the_language_that_the_user_chose_beats_that_of_the_client(http: httpx.AsyncClient, case: Case) -> None:
    page = await http.get(f"/oauth2/authorize?{case.changed(lang='en', ui_locales='uk')}")
    assert page.headers["content-language"] == "en"
    page = await http.get(f"/oauth2/authorize?{case.changed(lang=None, ui_locales='uk')}")
    link = re.search(r'<a href="([^"]+)" lang="en"', page.text)
    assert link
    other = await http.get(httpx.URL(str(http.base_url)).join("/oauth2/authorize").join(html.unescape(link[1])))
    assert other.headers["content-language"] == "en"
    refused = await http.get(f"/oauth2/authorize?{case.changed(lang=None, ui_locales='en', client_id='x')}")
    assert (refused.status_code, refused.headers["content-language"]) == (400, "en")


async def test_the_language_switch_keeps_the_request_and_overrides_the_header(
    http: httpx.AsyncClient, case: Case
) -> None:
    page = await http.get(f"/sign-in?{case.changed(lang='uk')}", headers={"accept-language": "en"})
    link = re.search(r'<a href="([^"]+)" lang="en"', page.text)
    assert link
    other = await http.get(httpx.URL(str(http.base_url)).join("/sign-in").join(html.unescape(link[1])))
    assert '<html lang="en">' in other.text
    assert dict(parse_qsl(urlsplit(str(other.url)).query)) == case.query


async def test_the_language_is_kept_from_form_to_form(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed(lang='en')}"
    response = await sign_in(http, url, email=case.email)
    assert "lang=en" in response.headers["location"]


def test_both_languages_have_the_same_texts() -> None:
    assert texts.words("uk").keys() == texts.words("en").keys()
    for language in texts.LANGUAGES:
        assert all(text.strip() for text in texts.words(language).values())


def test_every_known_scope_has_a_description_in_both_languages() -> None:
    areas = texts.load("scopes.json").values()
    assert all(not area["uk"].isascii() and area["en"].isascii() for area in areas)
    described = [each for area in areas for each in area["scopes"].items()]
    assert len({scope for scope, _ in described}) == len(described)
    for scope, words in described:
        assert re.fullmatch(r"[a-z0-9_]+:[a-z_]+", scope)
        assert words.keys() == texts.LANGUAGES.keys()
        assert not words["uk"].isascii()
        assert words["en"].isascii()


def test_every_scope_of_the_demo_has_words_of_its_own() -> None:
    demo = snapshots.demo()
    scopes = {scope for row in (*demo.client_types, *demo.roles) for scope in row["scope"].split()}
    for language in texts.LANGUAGES:
        words = [texts.scope_words(scope, language) for scope in scopes]
        assert None not in words
        assert len(set(words)) == len(words)
