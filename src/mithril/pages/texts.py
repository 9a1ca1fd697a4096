"""The words of the pages in both languages, and which language a browser wants."""

from functools import cache
from importlib import resources as package_files
from typing import Any, Final

import msgspec

LANGUAGES: Final = {"uk": "Українська", "en": "English"}
DEFAULT: Final = "uk"
PAGES: Final = "mithril.pages"
MAX_PREFERENCES = 20


def language(chosen: str | None, *, wanted: str, accepted: str) -> str:
    """Return the language that the user chose, else what the client wants, else what the browser prefers, or Ukrainian.

    `wanted`: `ui_locales` of OpenID Connect Core section 3.1.2.1. `accepted`: RFC 9110 section 12.5.4.
    """
    if chosen in LANGUAGES:
        return str(chosen)
    for tag in wanted.split(" ", MAX_PREFERENCES)[:MAX_PREFERENCES]:
        if (name := _without_region(tag)) in LANGUAGES:
            return name
    preferences = [_preference(part) for part in accepted.split(",")[:MAX_PREFERENCES]]
    known = [(weight, tag) for tag, weight in preferences if tag in LANGUAGES and weight > 0]
    # The first of those with the greatest weight.
    return max(known, key=lambda preference: preference[0])[1] if known else DEFAULT


def words(language: str, package: str = PAGES) -> dict[str, str]:
    """Return all texts of a package by their names."""
    found: dict[str, str] = load("texts.json", package)[language]
    return found


def scope_words(scope: str, language: str) -> str | None:
    """Return what a scope allows, in words; None for a scope that has no words."""
    _, found = _scopes().get(scope, (None, None))
    return None if found is None else found[language]


def scope_area(scope: str, language: str) -> tuple[int, str]:
    """Return the area of a scope, its place among the areas and its title, for lists of many scopes."""
    areas = list(load("scopes.json").values())
    place, _ = _scopes().get(scope, (len(areas), None))
    return place, (areas[place][language] if place < len(areas) else words(language)["other_scopes"])


@cache
def _scopes() -> dict[str, tuple[int, dict[str, str]]]:
    """Return the place of the area, and the words, of each scope that has some."""
    return {
        scope: (place, words)
        for place, area in enumerate(load("scopes.json").values())
        for scope, words in area["scopes"].items()
    }


@cache
def load(name: str, package: str = PAGES) -> Any:  # noqa: ANN401 -- JSON; a test holds it to its form
    """Return what is in a JSON file of a package."""
    return msgspec.json.decode(package_files.files(package).joinpath(name).read_bytes())


def _preference(part: str) -> tuple[str, float]:
    """Return a language range without its region, and its weight."""
    tag, _, parameter = part.partition(";")
    name, _, weight = parameter.strip().partition("=")
    try:
        return _without_region(tag), float(weight) if name.lower() == "q" else 1.0
    except ValueError:
        return "", 0.0


def _without_region(tag: str) -> str:
    return tag.strip().partition("-")[0].lower()
