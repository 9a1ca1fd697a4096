"""The seven steps of CONTRIBUTING, done for a new method in a clone: no other file has to change."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# The new method counts the active tokens that were issued through a connection.
PATH = "/api/clients/{client_id}/connections/{connection_id}/usage"
NOUN = TAG = "connections"

# For each file of the steps, what is replaced and by what; an empty text stands for the end of the file.
STEPS = {
    "src/mithril/openapi/public/connections.yaml": [
        (
            "\npaths:\n",
            f"""
paths:
  {PATH}:
    get:
      operationId: getClientConnectionUsage
      x-esoz-method: null
      x-required-scopes: [connection:read]
      summary: Get the usage of a client connection
      description: |
        Not a method of ESOZ. Scope `connection:read`.

        Counts the active tokens that were issued through a connection.
      parameters: [client_id, connection_id]
      responses:
        "200":
          description: How much the connection is used.
          schema: UsageAnswer
          examples: {{two: {{summary: Two tokens are active, value: {{data: {{active_tokens: 2}}}}}}}}

""",
        ),
        ("\n  x-answers:\n", "\n  x-answers:\n    UsageAnswer: Usage\n"),
        (
            "\n  x-objects:\n",
            """
  x-objects:
    Usage:
      properties:
        active_tokens: {type: integer, minimum: 0, description: Tokens and codes that have not expired.}
""",
        ),
    ],
    "docs/contract/connections.md": [
        (
            "### Not published by ESOZ\n\n",
            f"""### Not published by ESOZ

- **CON-{{rule}}** `GET {PATH}` (`connection:read`): how many active tokens were
  issued through the connection.
""",
        ),
    ],
    "docs/contract/routes.md": [
        ("\n\n## Internal listener", f"\n| GET | `{PATH}` | CON-{{rule}} |\n\n## Internal listener"),
    ],
    "src/mithril/connections/store.py": [
        (
            "",
            '''

class Usage(msgspec.Struct, frozen=True):
    """How much a connection is used."""

    active_tokens: int


USAGE = """
SELECT (SELECT count(*) FROM tokens t WHERE t.connection_id = c.id AND t.expires_at > now()) AS active_tokens
  FROM connections c WHERE c.id = $1 AND c.client_id = $2
"""


async def find_usage(source: Source, connection_id: UUID, *, client_id: UUID) -> Usage | None:
    """Return the usage of this connection of the client, or None."""
    return await find_one(source, Usage, USAGE, connection_id, client_id)
''',
        ),
    ],
    "src/mithril/connections/service.py": [
        (
            "",
            '''

async def get_usage(source: Source, connection_id: UUID, *, client_id: UUID) -> store.Usage:
    """Return the usage of this connection of the client. Raises NotFound (rule CON-{rule})."""
    return errors.found(await store.find_usage(source, connection_id, client_id=client_id))
''',
        ),
    ],
    "src/mithril/connections/view.py": [
        ("store import Connection\n", "store import Connection, Usage\n"),
        (
            "",
            '''

def usage_view(usage: Usage) -> dict[str, object]:
    """Return how much a connection is used."""
    return {"active_tokens": usage.active_tokens}
''',
        ),
    ],
    "src/mithril/connections/routes.py": [
        (
            "ROUTES = [\n",
            '''async def show_usage(request: Request, _: Caller, __: Document) -> Response:
    """Show how much a connection is used; not a published method (rule CON-{rule})."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    database = requests.resources(request).database
    usage = await service.get_usage(database, connection_id, client_id=client_id)
    return envelope.answer(request, view.usage_view(usage))


ROUTES = [
    protected(f"{ONE}/usage", show_usage, scope="connection:read"),
''',
        ),
    ],
    "tests/contract/test_connections.py": [
        (
            "",
            '''

async def test_the_usage_of_a_connection_counts_its_active_tokens(http: httpx.AsyncClient, db: Db) -> None:
    """Rule CON-{rule}."""
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    headers = bearer(await factories.token(db, client=owner, scope="connection:read"))
    await factories.token(db, client=owner, connection_id=connection.id)
    await factories.token(db, client=owner, connection_id=connection.id, expires_in=-1)
    response = await http.get(f"{connection.path}/usage", headers=headers)
    assert (response.status_code, response.json()["data"]) == (200, {"active_tokens": 1})
    unknown = await http.get(f"/api/clients/{owner.id}/connections/{uuid4()}/usage", headers=headers)
    assert unknown.status_code == 404
''',
        ),
    ],
    "CHANGELOG.md": [
        ("## Unreleased\n", "## Unreleased\n\n### Added\n\n- `GET …/connections/{connection_id}/usage`.\n"),
    ],
}


def test_a_method_is_added_in_seven_steps(tmp_path: Path) -> None:
    clone = clone_of_the_working_tree(tmp_path)
    rules = re.findall(r"\*\*CON-(\d+)\*\*", (clone / "docs/contract/connections.md").read_text())
    rule = str(max(map(int, rules)) + 1)
    for name, changes in STEPS.items():
        text = (clone / name).read_text()
        for old, new in changes:
            assert old in text, f"{name} has no {old!r}"
            after = new.replace("{rule}", rule)
            text = text.replace(old, after, 1) if old else text + after
        (clone / name).write_text(text)

    # The tools and libraries are those of this environment; the package is that of the clone.
    installed = Path(sys.prefix)
    make = ["make", "--old-file", f"{installed}/installed", f"VENV={installed}", "lint", "test"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV"))}
    environment["PYTHONPATH"] = str(clone / "src")
    ran = subprocess.run(make, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]

    changed = set(git(clone, "status", "--porcelain", "-z").replace("\0", "\n").split("\n"))
    assert {line[3:] for line in changed if line} == set(STEPS)
    assert set(STEPS) <= named_files()


def clone_of_the_working_tree(folder: Path) -> Path:
    """Clone the checkout, and commit to the clone what has not been committed here."""
    clone = folder / "clone"
    git(folder, "clone", "--quiet", str(repository()), str(clone))
    present = git(repository(), "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    tracked = git(clone, "ls-files", "-z").split("\0")
    for name in filter(None, {*present, *tracked}):
        source, target = repository() / name, clone / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
        else:
            target.unlink(missing_ok=True)
    git(clone, "add", "--all")
    git(
        clone,
        *("-c", "user.name=Test", "-c", "user.email=test@example.com"),
        *("commit", "-qm", "now", "--allow-empty"),
    )
    return clone


def named_files() -> set[str]:
    """Return the files that the seven steps name."""
    text = (repository() / "CONTRIBUTING.md").read_text()
    section = text.partition("## Add a method in seven steps")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d\. .*(?:\n   .*)*", section, re.MULTILINE)
    assert len(steps) == 7
    names = re.findall(r"`([\w.<>/-]+\.(?:md|py|yaml))`", "\n".join(steps))
    return {name.replace("<noun>", NOUN).replace("<tag>", TAG) for name in names}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout
