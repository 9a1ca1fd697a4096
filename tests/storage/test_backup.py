"""Backup and restore, as in docs/operations.md: the restored data is the same, and a server works with it."""

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import httpx
import pytest

from mithril.database import embedded
from support import factories, oauth_world
from support.factories import bearer
from support.processes import run
from support.servers import execute, running_server, url_of

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


def program(name: str, *arguments: str | Path) -> str:
    command = [embedded.postgres_bin() / name, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def content(url: str) -> str:
    """Return schema and rows in a fixed order."""
    lines = program("pg_dump", "--inserts", f"--dbname={url}").splitlines()
    return "\n".join(sorted(line for line in lines if not line.startswith(("--", "\\restrict", "\\unrestrict"))))


@pytest.fixture
def empty(postgres: str) -> str:
    """An empty database."""
    asyncio.run(execute(postgres, "DROP DATABASE IF EXISTS restored WITH (FORCE)"))
    asyncio.run(execute(postgres, "CREATE DATABASE restored"))
    return url_of(postgres, "restored")


async def test_a_dump_restores_everything(database_url: str, empty: str, tmp_path: Path) -> None:
    db = await asyncpg.connect(database_url)
    world = await oauth_world.make(db, is_brokered=False)
    token = await factories.token(db, client=world.clinic)
    await db.close()
    body = {"redirect_uri": "https://new.example.com/callback"}
    with running_server(database_url=database_url) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            assert (await http.patch(world.link.path, json=body, headers=bearer(token))).status_code == 200
            dump = tmp_path / "mithril.dump"
            program("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={database_url}")  # while it serves
    program("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={empty}", dump)

    assert content(empty) == content(database_url)
    assert run("migrate", "--database-url", empty).returncode == 0
    with running_server(database_url=empty) as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            again = await http.patch(world.link.path, json=body, headers=bearer(token))
            assert (again.status_code, again.headers["etag"]) == (200, '"2"'), "nothing to change: it is there already"
            assert (await oauth_world.login(http, world)).status_code == 201
    restored = await asyncpg.connect(empty)
    with pytest.raises(asyncpg.PostgresError, match="audit"):
        await restored.execute("DELETE FROM audit_events")
    await restored.close()


async def test_a_dump_shows_no_secret(database_url: str) -> None:
    db = await asyncpg.connect(database_url)
    world = await oauth_world.make(db)
    token = await factories.token(db, client=world.clinic)
    await db.close()
    text = content(database_url)
    assert str(world.clinic.id) in text
    for secret in (world.key, world.link.secret, token, oauth_world.PASSWORD):
        assert secret not in text


def test_an_export_that_is_imported_is_exported_again_the_same(database_url: str, empty: str, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    demo = Path(embedded.__file__).parents[1] / "snapshots" / "demo.json"
    assert run("import", str(demo), "--database-url", database_url).returncode == 0
    assert run("export", "-o", str(file), "--database-url", database_url).returncode == 0
    assert run("migrate", "--database-url", empty).returncode == 0
    imported = run("import", str(file), "--database-url", empty)
    assert imported.returncode == 0, imported.stderr
    assert run("export", "--database-url", empty).stdout == file.read_text()
