"""Dependencies: all are pinned with hashes, all are used, and a finding of the audit fails."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest

from support import repository

PROJECT = tomllib.loads((repository() / "pyproject.toml").read_text())
RUNTIME, DEVELOPMENT = (
    [re.split(r"[<>=!~]", requirement)[0] for requirement in requirements]
    for requirements in (
        [*PROJECT["project"]["dependencies"], *chain(*PROJECT["project"]["optional-dependencies"].values())],
        PROJECT["dependency-groups"]["dev"],
    )
)
LOCKED = re.split(r"\n(?=\S)", (repository() / "requirements.lock").read_text())
# Dependencies that are not imported, and their reasons.
NOT_IMPORTED = {
    "greenlet": "SQLAlchemy needs it to run Alembic over asyncpg",
    "tzdata": "the standard library reads it",
    "httptools": "uvicorn's parser, by its name in the protocol",
    "uvloop": "uvicorn's event loop, by its name in the configuration",
    "anyio": "its pytest plugin",
    "asyncpg-stubs": "types, for mypy",
    "coverage": "a command",
    "hatchling": "the build backend",
    "mypy": "a command",
    "pytest-rerunfailures": "a plugin of pytest",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a command",
    "types-pyyaml": "types, for mypy",
}


@functools.cache
def imported_below(folder: str) -> set[str]:
    """Return the top-level modules that are imported, or looked up by name."""
    found = set()
    for path in (repository() / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


@functools.cache
def installed() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def modules_of(distribution: str) -> set[str]:
    return {
        module
        for module, distributions in installed().items()
        if distribution in {re.sub(r"[-_.]+", "-", each).lower() for each in distributions}
    }


@pytest.mark.parametrize(
    ("distribution", "folder"), [*((d, "src") for d in RUNTIME), *((d, "tests") for d in DEVELOPMENT)]
)
def test_every_dependency_is_used(distribution: str, folder: str) -> None:
    if distribution not in NOT_IMPORTED:
        is_used = bool(modules_of(distribution) & imported_below(folder))  # both are long to print
        assert is_used, f"{distribution} is imported nowhere in {folder}"


def test_no_unused_audit_exception_remains() -> None:
    assert set(NOT_IMPORTED) <= {*RUNTIME, *DEVELOPMENT}


def test_everything_is_pinned_with_hashes() -> None:
    entries = [entry for entry in LOCKED if entry.strip() and not entry.startswith("#")]
    assert len(entries) > 50
    for entry in entries:
        assert re.search(r"^[a-z0-9.\-]+==\S+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


def test_installed_versions_are_the_locked_ones() -> None:
    versions = dict(re.findall(r"^([a-z0-9.\-]+)==([^\s;]+)", "\n".join(LOCKED), re.MULTILINE))
    for distribution in (*RUNTIME, *DEVELOPMENT):
        assert metadata.version(distribution) == versions[distribution]


@pytest.mark.parametrize(
    ("listed", "status", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-0"}]}], 1, "WEAK: a 1: CVE-0"),
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 of 1 dependencies audited, 0 known weaknesses"),
        ([{"name": "a", "skip_reason": "not found"}], 0, "NOT AUDITED"),
        (None, 0, "NOT AUDITED"),
    ],
)
def test_the_audit_fails_only_for_a_finding(
    tmp_path: Path, listed: list[object] | None, status: int, said: str
) -> None:
    """A program that writes given output takes the place of pip-audit."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "python").symlink_to(sys.executable)
    (tmp_path / "report").write_text(json.dumps({"dependencies": listed}) if listed is not None else "")
    (commands / "uv").write_text('#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\ncp report "$2"\n')
    (commands / "uv").chmod(0o755)
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "audit"
    script.write_bytes((repository() / ".ci" / "audit").read_bytes())
    ran = subprocess.run(["bash", script, "1"], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (ran.returncode, said in ran.stdout) == (status, True), ran.stdout + ran.stderr
