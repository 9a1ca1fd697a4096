"""The list of refusals: each has one name, its own message, and a text when a page shows it."""

import ast
import json
import re
from pathlib import Path

import pytest

import mithril
from mithril import errors, refusals

ROOT = Path(mithril.__file__).parent
NAMED = {name: found for name, found in vars(refusals).items() if isinstance(found, type) and name[0].isupper()}
RAISED = {
    name
    for path in ROOT.rglob("*.py")
    if path.name != "refusals.py"
    for name in re.findall(r"\brefusals\.(\w+)\b", path.read_text())
}
OWN = {name: found for name, found in NAMED.items() if found.__module__ == "mithril.refusals"}


@pytest.mark.parametrize("name", OWN)
def test_a_refusal_is_called_as_it_is_found(name: str) -> None:
    assert OWN[name].__name__ == name


@pytest.mark.parametrize("name", OWN)
def test_a_refusal_is_raised_somewhere(name: str) -> None:
    """A name that nothing raises, and that is no base class, would mislead its reader."""
    is_base = any(found.__base__ is OWN[name] for found in OWN.values())
    assert is_base or name in RAISED


@pytest.mark.parametrize("language", ["uk", "en"])
def test_every_text_of_a_page_exists(language: str) -> None:
    texts = json.loads((ROOT / "pages" / "texts.json").read_text())[language]
    for found in [*NAMED.values(), *vars(errors).values()]:
        if isinstance(found, type) and issubclass(found, errors.MithrilError) and found.page:
            assert {f"problem_{found.page}", f"error_{found.page}"} & texts.keys(), found.__name__


def test_the_log_has_the_name_in_the_field_of_words() -> None:
    assert refusals.ClientBlocked().name == "client_blocked"
    assert errors.MithrilError().name == "mithril_error"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_decided_by_the_words_of_a_refusal(path: Path) -> None:
    """Code decides by the class of a refusal, never by its message."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and not isinstance(node.ops[0], ast.Is | ast.IsNot):
            compared = [node.left, *node.comparators]
            assert not [
                part
                for part in compared
                if re.search(r"\b(refusal|error|refused)\.(type|message)\b", ast.unparse(part))
            ]
