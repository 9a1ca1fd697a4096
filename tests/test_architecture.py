"""The architecture: imports go one way, and each kind of work is done in one place."""

import ast
import functools
import graphlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import mithril
from support import repository

ROOT = Path(mithril.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if "migrations" not in path.parts)

# A module may import from lower floors only. On the floors of rules and of stores it may also import its neighbours, as
# long as no two nouns import each other.
FLOORS = [
    ["__main__"],
    ["cli"],
    ["server.supervisor"],
    ["app", "server"],
    ["routes"],
    ["console"],
    ["pages", "oauth.forms", "oauth.protocol_errors"],
    ["access", "throttling.limits"],
    ["web"],
    ["rule"],
    ["store"],
    ["database.embedded", "connections.redirect_uris", "connections.redirect_uri_hosts", "validation"],
    ["audit.events"],
    ["database", "sms", "identity", "logs", "streams"],
    ["refusals"],
    ["database.fair_pool", "database.connecting", "tokens.kinds"],
    ["tracing"],
    ["errors", "settings", "security"],
    ["meanings"],
    ["identifiers", "metrics", ""],
]
RULES, STORES = FLOORS.index(["rule"]), FLOORS.index(["store"])
AUTHORIZATION_STEPS = {
    "KnownClient": "identify_client",
    "RegisteredRedirect": "match_redirect_uri",
    "KnownUser": "identify_user",
    "GrantableScope": "bound_scope",
}
# Statements that write and may be repeated: counters, and a nonce that no caller has seen.
HARMLESS = {"ADD_NONCE", "CLOSE", "COUNT", "COUNT_ATTEMPT", "FORGET", "FORGIVE"}
FILE_LIMIT = 500
FUNCTION_LIMIT = 60


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def floor_of(module: str) -> int:
    noun, _, name = module.partition(".")
    is_noun = (ROOT / noun).is_dir() and noun
    kind = "routes" if name.endswith("routes") else "store" if name.endswith(("store", "rows")) else "rule"
    patterns = [module, noun, kind] if is_noun else [module]
    return next(number for pattern in patterns for number, floor in enumerate(FLOORS) if pattern in floor)


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Every node of the syntax tree of a module. The tree is read by most tests, and parsed once."""
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def imports_of(path: Path) -> list[str]:
    return list(imported_by(path))


def imported_by(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mithril":
            module = (node.module or "").removeprefix("mithril").removeprefix(".")
            for alias in node.names:
                full = f"{module}.{alias.name}".removeprefix(".")
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
                yield full if is_module or (ROOT / Path(*full.split("."))).is_dir() else module


def test_the_floors_are_those_of_the_documentation() -> None:
    _, _, block = (repository() / "CONTRIBUTING.md").read_text().partition("\n__main__")
    lines = ("__main__" + block.partition("\n```")[0]).splitlines()
    assert [line.partition("  ")[0].split(", ") for line in lines] == [[n for n in floor if n] for floor in FLOORS]


def test_imports_go_one_way() -> None:
    wrong = []
    for here, imported in ((name_of(path), imported) for path in FILES for imported in imports_of(path)):
        is_same_noun = imported.partition(".")[0] == here.partition(".")[0]
        is_neighbour = floor_of(imported) == floor_of(here) in {RULES, STORES}
        if not (floor_of(imported) > floor_of(here) or is_same_noun or is_neighbour):
            wrong.append(f"{here} must not import {imported}")
    assert not wrong


def test_rules_and_stores_know_no_request() -> None:
    """Services, fields, views and stores serve the command line and the import too."""
    wrong = []
    for path in (path for path in FILES if floor_of(name_of(path)) >= RULES):
        nodes = [each for each in nodes_of(path) if isinstance(each, ast.Import | ast.ImportFrom)]
        imported = {alias.name for node in nodes for alias in node.names}
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        wrong += [
            (name_of(path), name) for name in imported | modules if re.match(r"(starlette|mithril\.web)\b", name or "")
        ]
    assert not wrong


def test_the_command_line_imports_no_routes() -> None:
    paths = sorted((ROOT / "cli").glob("*.py"))
    assert paths
    assert not [(path.name, name) for path in paths for name in imports_of(path) if name.endswith("routes")]


def test_no_two_nouns_import_each_other() -> None:
    """A noun is a folder. Modules at the root, such as `access`, belong to a floor instead."""
    nouns: dict[str, set[str]] = {}
    for path in FILES:
        here, *_ = name_of(path).split(".")
        if (ROOT / here).is_dir() and here:
            used = {imported.partition(".")[0] for imported in imports_of(path)}
            nouns.setdefault(here, set()).update(noun for noun in used - {here} if (ROOT / noun).is_dir())
    assert list(graphlib.TopologicalSorter(nouns).static_order())


def test_sql_is_only_in_stores_and_the_database() -> None:
    statement = re.compile(r"\b(SELECT\s.+\sFROM|INSERT INTO|UPDATE \w+\s+SET|DELETE FROM)\b", re.DOTALL)
    wrong = []
    for path in FILES:
        if not path.name.endswith("store.py") and path.parent.name not in ("audit", "database"):
            strings = [node.value for node in nodes_of(path) if isinstance(node, ast.Constant)]
            wrong += [(name_of(path), s) for s in strings if isinstance(s, str) and statement.search(s)]
    assert not wrong


def test_a_change_is_made_where_its_outcome_can_be_found_out() -> None:
    """Not by `fetchrow` and `fetch` of the database itself, which do not know what was done when an answer is lost."""
    asked = set()
    for path in (path for path in FILES if path.name.endswith("store.py")):
        module = importlib.import_module(f"mithril.{name_of(path)}")
        for call in nodes_of(path):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {"database.fetchrow", "database.fetch"}:
                name = ast.unparse(call.args[0])
                asked.add(name)
                statement = str(getattr(module, name, ""))
                is_change = re.search(r"\b(INSERT INTO|UPDATE \w+ |DELETE FROM)", statement)
                assert name in HARMLESS or not is_change, (name_of(path), name)
    assert asked


def files_with(pattern: str) -> list[str]:
    return [name_of(path) for path in FILES if re.search(pattern, path.read_text(), re.MULTILINE)]


def test_the_environment_is_read_in_settings_only() -> None:
    assert files_with(r"os\.(environ|getenv)") == ["settings"]


def test_sqlalchemy_and_alembic_stay_with_the_migrations() -> None:
    assert files_with(r"^\s*(from|import) (sqlalchemy|alembic)") == ["database.database"]


def test_patterns_match_the_whole_string() -> None:
    assert not files_with(r"\bre\.match\(|\.match\(")


def test_files_and_functions_stay_small() -> None:
    assert not [name_of(path) for path in FILES if path.read_text().count("\n") > FILE_LIMIT]
    functions = [
        (name_of(path), node.name, node.lineno, node.end_lineno or node.lineno)
        for path in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert not [name for *name, first, last in functions if last - first >= FUNCTION_LIMIT]


def test_every_module_says_what_lives_in_it() -> None:
    modules = {path: nodes_of(path)[0] for path in FILES}
    assert not [
        name_of(p) for p, node in modules.items() if not (isinstance(node, ast.Module) and ast.get_docstring(node))
    ]


def test_a_step_of_an_authorization_is_taken_in_one_place() -> None:
    """Only the step itself makes its result, so a result proves that the step was taken."""
    made: dict[str, set[str]] = {name: set() for name in AUTHORIZATION_STEPS}
    for path in FILES:
        for function in nodes_of(path):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in ast.walk(function):
                    name = ast.unparse(call.func).rpartition(".")[2] if isinstance(call, ast.Call) else ""
                    if name in made:
                        made[name].add(f"{name_of(path)}.{function.name}")
    assert made == {name: {f"oauth.authorization.{step}"} for name, step in AUTHORIZATION_STEPS.items()}
