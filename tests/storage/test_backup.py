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


def commands(heading: str, page: str = "backup") -> list[str]:
    """Return the shell blocks of that part of the page; without a heading, of what stands before the first."""
    text = (repository() / f"docs/{page}.md").read_text()
    part = text.partition(f"\n## {heading}\n")[2] if heading else text
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


UTF8 = "--encoding=UTF8 --locale=C.UTF-8 --template=template0"


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
        as_postgres(f"pg_ctlcluster 15 main start && createdb {UTF8} mithril", variables)
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


@pytest.mark.parametrize("is_two_roles", [False, True], ids=["one role", "two roles"])
def test_the_owner_dumps_and_a_new_machine_without_the_roles_restores(
    debian: dict[str, str], tmp_path: Path, *, is_two_roles: bool
) -> None:
    at = f"@/mithril?host={debian['PGHOST']}&port={debian['PGPORT']}"
    owner, serving = (f"postgresql://{role}{at}" for role in ("mithril_owner", "mithril"))
    urls = {"SUPERUSER_URL": f"postgresql://postgres{at}", "OWNER_URL": owner, "SERVING_URL": serving}
    variables = debian | urls | {"PGUSER": "postgres"}
    path = variables.pop("PATH").partition(":")[0]

    def shell_on_debian(script: str, **others: str) -> subprocess.CompletedProcess[str]:
        typed = "a password\n" * 4  # of at most two roles, twice
        return in_shell(f"PATH={path}:$PATH\n{script}", folder=tmp_path, typed=typed, **(variables | others))

    def done(script: str) -> str:
        ran = shell_on_debian(script)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    as_postgres("mkdir -p /backup/wal", debian)  # or the doctor complains
    (make,) = commands("The database", page="install")
    two_roles = commands("Two roles", page="configure")[0].splitlines()
    dump, restore = commands("")

    def make_database() -> None:
        done("dropdb mithril; dropuser --if-exists mithril; dropuser --if-exists mithril_owner")
        done(make)
        if is_two_roles:
            done("\n".join(two_roles[:2]))

    make_database()
    encoding = done("psql -Atc 'SHOW server_encoding' mithril")
    assert encoding == "UTF8\n"
    done("\n".join(two_roles[2:4]) if is_two_roles else two_roles[2])
    done('mithril role create KEPT --scope employee:read --database-url "$OWNER_URL"')
    before = content(urls["SUPERUSER_URL"])
    for wrong in ("", serving):
        assert shell_on_debian(dump, OWNER_URL=wrong).returncode
        assert not (tmp_path / "mithril.dump").exists(), "nothing that looks like a dump"
    done(dump)

    make_database()
    done(restore)
    if is_two_roles:
        done(two_roles[3])
    assert content(urls["SUPERUSER_URL"]) == before
    used = '"$SERVING_URL"' if is_two_roles else '"$OWNER_URL"'
    done(f"mithril doctor --port 0 --internal-port 0 --database-url {used}")


def test_the_database_comes_back_to_a_point_in_time(debian: dict[str, str]) -> None:
    begin, base, go_back = commands("To a point in time")
    url = f"postgresql://postgres@/mithril?host={debian['PGHOST']}&port={debian['PGPORT']}"

    def mithril(*arguments: str) -> str:
        ran = run(*arguments, "--database-url", url)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def create(*names: str) -> None:
        for name in names:
            mithril("role", "create", name, "--scope", "employee:read")

    def is_archiving() -> bool:
        answer = mithril("doctor", "--port", "0", "--internal-port", "0", "--json")
        return '"archive","level":"ok"' in re.sub(r"\s", "", answer)

    def go_back_to(moment: str, script: str) -> str:
        return script.replace("2026-11-30 08:30:00 UTC", moment)

    def roles() -> set[str]:
        return {role["name"] for role in json.loads(mithril("role", "list", "--json"))}

    as_postgres(f"psql -c \"ALTER SYSTEM SET wal_keep_size = '1GB'\"\n{begin}", debian)
    as_postgres("psql -c 'CREATE TABLE before_the_base ()' -c 'SELECT pg_switch_wal()'", debian)
    as_postgres(f"{base}sleep 1\n{base}", debian)  # the second one a week later
    mithril("migrate")
    create("KEPT", "MISTAKEN")
    mithril("role", "delete", "MISTAKEN", "--yes")
    *_, mistake = map(json.loads, mithril("audit", "--json").splitlines())
    assert mistake["action"] == "role.delete"
    create("AFTER", "LAST")
    *_, last = map(json.loads, mithril("audit", "--json").splitlines())
    assert is_archiving()
    # From here on nothing is archived, and the machine dies.
    crash = """
psql -c "ALTER SYSTEM SET archive_command = 'false'" -c 'SELECT pg_reload_conf()'
psql -c 'SELECT pg_switch_wal()' -c 'CREATE TABLE unfinished ()'
pg_ctlcluster 15 main stop -m immediate
"""
    as_postgres(crash, debian)
    stop, begins, recover = go_back.partition("cp -a ")
    as_postgres(stop.replace("pg_ctlcluster 15 main stop", ""), debian)

    # Nothing was committed so late.
    again = begins + recover
    as_postgres(f"set +e\n{go_back_to('2099-01-01 00:00:00 UTC', again)}\ntest $? = 2", debian)
    reason = "recovery ended before configured recovery target was reached"
    assert reason in (Path(debian["PGHOST"]) / "log").read_text()

    # An attempt to another moment does not follow the one before, neither to a later nor to an earlier moment.
    anew = f"pg_ctlcluster 15 main stop || true\nrm -r /var/lib/postgresql/15/main\n{again}"
    before = {
        event["id"]: str(datetime.fromisoformat(event["occurred_at"]) - timedelta(milliseconds=1))
        for event in (mistake, last)
    }
    as_postgres(go_back_to(before[mistake["id"]], anew), debian)
    assert roles() == {"KEPT", "MISTAKEN"}
    as_postgres(go_back_to(before[last["id"]], anew), debian)
    assert roles() == {"KEPT", "AFTER"}
    as_postgres(go_back_to(before[mistake["id"]], anew), debian)

    assert roles() == {"KEPT", "MISTAKEN"}
    assert [json.loads(line)["action"] for line in mithril("audit", "--json").splitlines()] == ["role.create"] * 2
    create("AGAIN")
    left = (Path(debian["PGHOST"]) / "main/postgresql.auto.conf").read_text()
    assert not re.search("restore_command|recovery_target", left)
    archive_two_segments(debian)
    assert is_archiving()
    as_postgres(base, debian)
    back = "rm -r main; mv main.lost main; sed -i /archive_command/d main/postgresql.auto.conf"
    as_postgres(f"pg_ctlcluster 15 main stop; {back}; pg_ctlcluster 15 main start", debian)
    assert roles() == {"KEPT", "AFTER", "LAST"}
    archive_two_segments(debian)


def archive_two_segments(debian: dict[str, str]) -> None:
    """See to it that what was archived before does not keep what comes now from being archived."""
    for _ in range(2):
        as_postgres("psql -c 'ALTER SYSTEM SET wal_keep_size = 0' -c 'SELECT pg_reload_conf()' -c CHECKPOINT", debian)
        segment = as_postgres("psql -Atc 'SELECT pg_walfile_name(pg_switch_wal())'", debian).strip()
        archived = f"until cmp -s main/pg_wal/{segment} /backup/wal/{segment}; do sleep 0.1; done"
        as_postgres(f"timeout 60 bash -c '{archived}'", debian)
        as_postgres(f"psql -c 'CREATE TABLE \"{segment}\" ()'", debian)
    assert as_postgres("psql -Atc 'SELECT failed_count FROM pg_stat_archiver'", debian) == "0\n"
