"""The words of the pages in both languages, and which language a browser wants."""

from functools import cache
from importlib import resources as package_files
from typing import Any, Final

import msgspec

LANGUAGES: Final = {"uk": "Українська", "en": "English"}
DEFAULT: Final = "uk"
MAX_WISHES = 20


def language(chosen: str | None, accepted: str) -> str:
    """`chosen` by the person, else the one that the browser likes best (RFC 9110 section 12.5.4), else Ukrainian."""
    if chosen in LANGUAGES:
        return str(chosen)
    wishes = [_wish(part) for part in accepted.split(",")[:MAX_WISHES]]
    known = [(weight, tag) for tag, weight in wishes if tag in LANGUAGES and weight > 0]
    # The first of those that weigh the most.
    return max(known, key=lambda wish: wish[0])[1] if known else DEFAULT


def words(language: str) -> dict[str, str]:
    """All texts by their names."""
    found: dict[str, str] = _load("texts.json")[language]
    return found


def scope_words(scope: str, language: str) -> str | None:
    """What a scope allows, in words; None for one that we have no words for."""
    known = _load("scopes.json").get(scope)
    return None if known is None else str(known[language])


@cache
def _load(name: str) -> Any:  # noqa: ANN401 -- JSON; a test holds it to its form
    return msgspec.json.decode(package_files.files("mithril.pages").joinpath(name).read_bytes())


def _wish(part: str) -> tuple[str, float]:
    """A language range without its region, and its weight."""
    tag, _, parameter = part.partition(";")
    name, _, weight = parameter.strip().partition("=")
    try:
        return tag.strip().partition("-")[0].lower(), float(weight) if name.lower() == "q" else 1.0
    except ValueError:
        return "", 0.0
