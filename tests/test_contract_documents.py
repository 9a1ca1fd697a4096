"""The rules in docs/contract have unique numbers, and every citation of a rule names one that exists."""

import re
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from starlette.routing import BaseRoute, Match, Route

from mithril import app
from mithril.console import routes as console
from support import repository

CONTRACT = repository() / "docs/contract"
DOCUMENTS = {path.name: path.read_text() for path in sorted(CONTRACT.glob("*.md"))}
NUMBER = r"[A-Z]{2,5}-[0-9]+"
# A rule begins a list item or a row of a table, in bold.
RULE = re.compile(rf"^(?:- |\| )\*\*({NUMBER})\*\*", re.MULTILINE)
# "rule TOK-3", "rules CON-2, ACC-11", "rules SGN-3 to SGN-12", also across lines and in comments.
CITATION = re.compile(rf"\brules?\b((?:(?:[\s#,(]|to\b|and\b)+`?{NUMBER}\b`?)+)", re.IGNORECASE)
OLD_STYLE = re.compile(r"contract\.md|\brows? [0-9]+|\bdesign(?:\.md|: )|\bthe design\b", re.IGNORECASE)
CYRILLIC = re.compile("[а-яіїєґ]", re.IGNORECASE)  # noqa: RUF001 -- Cyrillic
LISTENERS = {
    "Public listener": [app.PUBLIC],
    "Internal listener": [app.INTERNAL],
    "The console": [list[BaseRoute](console.ROUTES)],
    "Both": [app.PUBLIC, app.INTERNAL],
}

RULES = [rule for text in DOCUMENTS.values() for rule in RULE.findall(text)]
KNOWN = frozenset(RULES)
PREFIXES = "|".join(sorted({rule.partition("-")[0] for rule in RULES}))
OURS = re.compile(rf"\b(?:{PREFIXES})-[0-9]+\b")


def files() -> Iterator[Path]:
    """Yield the files that may cite a rule."""
    for folder in ("src", "tests", "docs"):
        for path in sorted((repository() / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".yaml", ".json", ".html"} and path != Path(__file__):
                yield path


def cited(text: str) -> set[str]:
    """Return the numbers that are cited: after the word `rule`, and anywhere where the prefix is one of ours."""
    behind_the_word = {number for part in CITATION.findall(text) for number in re.findall(NUMBER, part)}
    return behind_the_word | set(OURS.findall(text))


def unresolved(text: str) -> set[str]:
    return cited(text) - KNOWN


def rows(document: str) -> list[list[str]]:
    """Return the cells of every row of every table."""
    lines = [line for line in DOCUMENTS[document].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def anonymous(path: str) -> str:
    """Return the path without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def status_of(routes: list[BaseRoute], method: str, path: str) -> int:
    """Return the status with which a listener answers a method of a path, as far as its routes decide."""
    scope = {"type": "http", "method": method, "path": re.sub(r"\{[^}]*\}", "x", path), "headers": []}
    found = {route.matches(scope)[0] for route in routes}
    if Match.FULL in found:
        return HTTPStatus.OK
    return HTTPStatus.METHOD_NOT_ALLOWED if Match.PARTIAL in found else HTTPStatus.NOT_FOUND


def test_every_rule_has_its_own_number() -> None:
    assert [rule for rule, times in Counter(RULES).items() if times > 1] == []


def test_rules_of_one_prefix_are_in_one_document() -> None:
    prefixes = [{rule.partition("-")[0] for rule in RULE.findall(text)} for text in DOCUMENTS.values()]
    assert set(Counter(prefix for found in prefixes for prefix in found).values()) == {1}


def test_every_citation_names_a_rule_that_exists() -> None:
    assert {path: lost for path in files() if (lost := unresolved(path.read_text()))} == {}


def test_rules_are_cited_by_number_only() -> None:
    assert {path: old for path in files() if (old := OLD_STYLE.findall(path.read_text()))} == {}


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("(rule TOK-3)", set()),
        ("(rule TOK-999)", {"TOK-999"}),
        ("Source: rules SGN-3 to\n    # SGN-888.", {"SGN-888"}),
        ("rules CON-2, CON-777 and ACC-11", {"CON-777"}),
        ("(rule NONE-1)", {"NONE-1"}),
        ("TOK-999, without the word", {"TOK-999"}),
        ("in UTF-8 by SHA-256", set()),
    ],
)
def test_a_citation_of_an_unknown_rule_is_found(text: str, lost: set[str]) -> None:
    assert unresolved(text) == lost


@pytest.mark.parametrize("listeners", LISTENERS)
def test_the_tables_of_routes_are_those_of_the_server(listeners: str) -> None:
    section = DOCUMENTS["routes.md"].partition(f"## {listeners}\n")[2].partition("\n## ")[0]
    listed = {
        (method, anonymous(path))
        for methods, path in re.findall(r"^\| ([A-Z, ]+) \| `([^`]+)` \| .+ \|$", section, re.MULTILINE)
        for method in methods.split(", ")
    }
    served = [
        {
            (method, anonymous(route.path))
            for route in routes
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }
        for routes in LISTENERS[listeners]
    ]
    probes = {(method, path) for method, path in served[0] if path in {"/healthz", "/readyz"} or "doc" in path}
    probes |= {("GET", "/openapi.json")}
    assert listed == (probes & served[-1] if listeners == "Both" else served[0] - probes)


def test_what_is_refused_has_no_route() -> None:
    checked = 0
    for number, published, here, _ in (row for row in rows("refused.md") if len(row) == 4):
        if status := re.match(r"40[45]\b", here):
            for methods, path in re.findall(r"`((?:[A-Z]+(?:, )?)+) (/[^`]+)`", published):
                found = {status_of(app.PUBLIC, method, path) for method in methods.split(", ")}
                assert found == {int(status[0])}, (number, path)
                checked += 1
    assert checked >= 9


def test_every_term_has_its_ukrainian_name() -> None:
    terms = rows("glossary.md")[1:]
    assert len(terms) >= 40
    assert [term for term, ukrainian, meaning in terms if not CYRILLIC.search(ukrainian) or not meaning] == []
    assert [term for term, *_ in terms] == sorted((term for term, *_ in terms), key=str.lower)
