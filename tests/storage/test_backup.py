"""Backup and restore, as in docs/backup.md: the restored data is the same, and a server works with it."""

import asyncio
import json
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest

from mithril.database import embedded
from support import clusters, factories, oauth_world, repository
from support.factories import bearer
from support.processes import DEMO_CLIENT, DEMO_HEADERS, in_shell, run, running_postgres, serving
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


# The commands of docs/backup.md


def commands(heading: str) -> list[str]:
    """Return the shell blocks of that part of the page."""
    page = (repository() / "docs/backup.md").read_text()
    part = page.partition(f"\n## {heading}\n")[2]
    return re.findall(r"```sh\n(.*?)```", re.split(r"\n## ", part)[0], re.DOTALL)


def shell(script: str, *, folder: Path, **variables: str) -> str:
    """Run commands as they are pasted; each of them must succeed."""
    ran = in_shell(script, folder=folder, **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_embedded_database_is_dumped_while_it_serves_and_restored_into_another_home(
    demo_home: Path, tmp_path: Path
) -> None:
    dump, restore = commands("The embedded database")
    path = f"/api/clients/{DEMO_CLIENT}/connections"
    with serving("--demo", "--home", str(demo_home)) as server:
        before = httpx.get(server.public + path, headers=DEMO_HEADERS)
        shell(dump, folder=tmp_path, MITHRIL_HOME=str(demo_home))
        assert "is_there" in shell(
            'mithril postgres psql -c "SELECT 1 AS is_there"', folder=tmp_path, MITHRIL_HOME=str(demo_home)
        )
    restore, serve, _ = restore.partition("mithril serve")
    assert serve
    shell(restore, folder=tmp_path)
    with serving("--home", str(tmp_path / "restored")) as server:
        after = httpx.get(server.public + path, headers=DEMO_HEADERS)
    assert (before.status_code, after.json()["data"]) == (200, before.json()["data"])
    assert not running_postgres(tmp_path / "restored")


def test_a_copy_of_the_stopped_embedded_database_is_a_backup(demo_home: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    subprocess.run(["cp", "-a", demo_home / "postgres", tmp_path / "copy"], check=True)
    with serving("--home", str(tmp_path / "copy")) as server:
        found = httpx.get(f"{server.public}/api/clients/{DEMO_CLIENT}/connections", headers=DEMO_HEADERS)
    assert found.status_code == 200


def test_programs_are_those_of_the_embedded_database_only(postgres: str, tmp_path: Path) -> None:
    refused = run("postgres", "--database-url", postgres, "psql")
    assert (refused.returncode, "embedded" in refused.stderr) == (1, True)
    for name in ("nothing", "../bin/psql", "."):
        assert run("postgres", "--home", str(tmp_path / "home"), name).returncode == 3
    assert not (tmp_path / "home").exists()


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What leads Debian's programs, and the commands of the page, to a cluster of this test; it runs at first."""
    created = shutil.which("pg_createcluster")
    if os.geteuid() or created is None or not Path("/usr/lib/postgresql/15").exists():
        pytest.skip("needs root, and Debian's PostgreSQL 15: apt-get install postgresql-15")
    with clusters.folders() as folder:
        shutil.chown(folder, "postgres")
        variables = {
            "PG_CLUSTER_CONF_ROOT": str(folder / "etc"),
            "PGHOST": str(folder),
            "PGPORT": "5499",
            "PATH": f"/usr/lib/postgresql/15/bin:{os.environ['PATH']}",
            "HOME": str(folder),
        }
        where = (
            "--datadir",
            f"{folder}/main",
            "--socketdir",
            str(folder),
            "--logfile",
            f"{folder}/log",
            "--port",
            "5499",
        )
        as_postgres(f"mkdir etc && pg_createcluster 15 main {' '.join(where)} -- --auth=trust", variables)
        conf = folder / "etc/15/main/postgresql.conf"
        page = (repository() / "docs/backup.md").read_text()
        (block,) = re.findall(r"```ini\n(archive_mode.*?)```", page, re.DOTALL)
        with conf.open("a") as file:
            file.write(f"listen_addresses = ''\n{block.replace('/backup', f'{folder}/backup')}")
        as_postgres("pg_ctlcluster 15 main start && createdb mithril", variables)
        yield variables
        as_postgres("pg_ctlcluster 15 main stop -m immediate", variables)


def as_postgres(script: str, variables: dict[str, str]) -> str:
    """Run commands as the user `postgres`, with the paths of the page in the folder of the test."""
    folder = variables["PGHOST"]
    script = script.replace("/var/lib/postgresql/15/main", f"{folder}/main").replace("/backup", f"{folder}/backup")
    account = pwd.getpwnam("postgres")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_database_comes_back_to_a_point_in_time(debian: dict[str, str]) -> None:
    begin, go_back = commands("To a point in time")
    url = f"postgresql://postgres@/mithril?host={debian['PGHOST']}&port={debian['PGPORT']}"

    def mithril(*arguments: str) -> str:
        ran = run(*arguments, "--database-url", url)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    as_postgres(begin, debian)
    mithril("migrate")
    for name in ("KEPT", "MISTAKEN"):
        mithril("role", "create", name, "--scope", "employee:read")
    mithril("role", "delete", "MISTAKEN", "--yes")
    *_, mistake = map(json.loads, mithril("audit", "--json").splitlines())
    assert mistake["action"] == "role.delete"
    mithril("role", "create", "AFTER", "--scope", "employee:read")
    assert '"archive","level":"ok"' in re.sub(
        r"\s", "", mithril("doctor", "--port", "0", "--internal-port", "0", "--json")
    )

    before = str(datetime.fromisoformat(mistake["occurred_at"]) - timedelta(milliseconds=1))
    as_postgres(go_back.replace("2026-11-30 08:30:00 UTC", before), debian)

    assert {role["name"] for role in json.loads(mithril("role", "list", "--json"))} == {"KEPT", "MISTAKEN"}
    assert [json.loads(line)["action"] for line in mithril("audit", "--json").splitlines()] == ["role.create"] * 2
    mithril("role", "create", "AGAIN", "--scope", "employee:read")
    left = (Path(debian["PGHOST"]) / "main/postgresql.auto.conf").read_text()
    assert not re.search("restore_command|recovery_target", left)
