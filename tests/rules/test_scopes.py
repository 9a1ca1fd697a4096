"""The syntax of scopes: what is folded, what is refused, and that every schema of a scope says the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import mithril
from mithril.validation import scopes

SCHEMAS = sorted(Path(mithril.__file__).parent.rglob("*.json"))
ODD = [*map(chr, range(0x20)), *'"\\', "\x7f", "\x85", "\xa0", "\u2003", "\u200b", "\u3000", "я", "\ud800", "😀"]


@pytest.mark.parametrize(
    ("given", "folded"),
    [
        ("a:read", "a:read"),
        ("  b   a  b a ", "b a"),
        ("", ""),
        ("   ", ""),
        ("!#[]~ $%&", "!#[]~ $%&"),
    ],
)
def test_spaces_and_repeated_names_are_folded(given: str, folded: str) -> None:
    assert scopes.folded(given) == folded


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", ["{}a", "a{}", "a{}b", "a {} b", "{}"])
def test_any_other_character_is_refused(odd: str, place: str) -> None:
    assert scopes.folded(place.format(odd)) is None


def test_every_schema_of_a_scope_has_the_same_syntax() -> None:
    found = [each for path in SCHEMAS for each in scopes_of(json.loads(path.read_text())) if "pattern" in each]
    assert len(found) >= 8
    for each in found:
        for text in ("a", " b  a ", "!#[]~", *(f"a{odd}" for odd in ODD), "a\n"):
            assert bool(re.search(each["pattern"].replace("$", r"\Z"), text)) == (scopes.folded(text) is not None)


def scopes_of(schema: Any) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    named = [each for name, each in schema.get("properties", {}).items() if name in scopes.FIELDS]
    return named + [found for each in schema.get("properties", {}).values() for found in scopes_of(each)]
