"""The prose of docstrings, comments and documents uses plain words, and one term for each thing."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from support import repository

# Folders and files whose prose is held to these rules.
CLEAN = [
    *("src/mithril", "benchmarks", "tests", "docs", "examples"),
    *("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"),
]
# Each pattern with the words to use instead.
AVOIDED = {
    r"as good as": "counts as, like",
    r"anew": "again",
    r"who(so)?ever": "any caller, the user",
    r"(any|every|some|no)body('?s)?": "a caller, no user",
    r"for who is|what is over": "a noun",
    r"(?<!IP[ \n])(?<!IPv[46][ \n])(?<!e-mail[ \n])address(es)?": "redirect URI, IP address, e-mail address, URL",
    r"sweep(s|ing)?|housekeeping": "cleanup, clean up",
    r"living|lives on|(dead|revive) (token|code|secret|session)s?": "active, expired, revoked",
    r"visit(s|ed|or)?": "login session",
    r"persons?|people": "user",
    r"you(rs?|rself)?": "the operator, the caller",
    r"dearer|lest|whence": "a plain word",
}
# A quoted message of the API, a setting, a path or a piece of code keeps its own words.
QUOTED = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|^\| `[a-z0-9_]+` \| [^\n]*$", re.DOTALL | re.MULTILINE)
# One search finds whether there is anything to look for: most texts have none.
ANY = re.compile(rf"\b(?:{'|'.join(f'(?:{avoided})' for avoided in AVOIDED)})\b", re.IGNORECASE)
INSTALLED = {".venv", ".site", "node_modules"}
NOT_PROSE = re.compile(r"# (?:noqa|type:|fmt:).*")


def files() -> Iterator[Path]:
    for name in CLEAN:
        path = repository() / name
        found = [path] if path.is_file() else (p for p in path.rglob("*") if p.suffix in {".py", ".md", ".mako"})
        yield from sorted(p for p in found if not INSTALLED & set(p.parts) and p != Path(__file__))


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings and comments with their line numbers; a document is prose from its first line on."""
    text = path.read_text()
    if not ANY.search(text):
        return
    if path.suffix != ".py":
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], NOT_PROSE.sub("", token.string)


def test_prose_uses_plain_words_and_the_projects_terms() -> None:
    found = []
    for path in files():
        for first, text in prose_of(path):
            plain = QUOTED.sub(lambda quoted: "\n" * quoted[0].count("\n"), text)
            for avoided, instead in AVOIDED.items() if ANY.search(plain) else ():
                for match in re.finditer(rf"\b(?:{avoided})\b", plain, re.IGNORECASE):
                    line = first + plain.count("\n", 0, match.start())
                    found.append(f"{path.relative_to(repository())}:{line}: {match[0]!r}; instead: {instead}")
    assert not found, "\n".join(found)
