"""The pages in both languages."""

import html
import re
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from mithril.pages import texts
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
    for scope, words in texts._load("scopes.json").items():
        assert re.fullmatch(r"[a-z0-9_]+:[a-z_]+", scope)
        assert words.keys() == texts.LANGUAGES.keys()
        assert not words["uk"].isascii()
        assert words["en"].isascii()
