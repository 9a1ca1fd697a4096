"""The console beside a million clients: the time that the server takes for a page, and how large the page is."""

import statistics
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import pytest

from mithril import logs
from support.console import Owner, make_owner, sign_in
from support.servers import Server, fresh_database, running_server

pytestmark = [pytest.mark.anyio, pytest.mark.size, pytest.mark.timeout(900)]

CLIENTS = 1_000_000
MOST_MILLISECONDS, MOST_BYTES = 50.0, 20_000
# A million clients of as many owners, and counts of sign-ins for twenty thousand of them in each of 24 hours.
FILL = (
    f"INSERT INTO users (email) SELECT n || '@size.example' FROM generate_series(1, {CLIENTS}) n",
    f"""
INSERT INTO clients (name, client_type_id, user_id)
SELECT 'Clinic ' || u.email, (SELECT id FROM client_types LIMIT 1), u.id FROM users u LIMIT {CLIENTS}
""",
    """
INSERT INTO sign_in_counts (hour, subject_id, outcome, times)
SELECT date_trunc('hour', now(), 'UTC') - h * interval '1 h', c.id, CASE n % 4 WHEN 0 THEN 'password_wrong' ELSE '' END,
       n
  FROM (SELECT id, row_number() OVER () AS n FROM clients LIMIT 20000) c, generate_series(0, 23) h
""",
    "VACUUM ANALYZE",
)


@pytest.fixture(scope="module")
def lines() -> list[logs.Answered]:
    """What the server has logged of its answers."""
    return []


@pytest.fixture(scope="module")
def server(postgres: str, lines: list[logs.Answered]) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patched, fresh_database(postgres) as url:
        patched.setattr(logs, "configure", lambda **_: None)
        patched.setattr(logs, "request_writer", lambda **_: lines.append)
        with running_server(database_url=url, log_level="info", statement_timeout=600, sweep_interval=0) as running:
            yield running


@pytest.fixture
async def admin(server: Server) -> AsyncIterator[Owner]:
    db = await asyncpg.connect(server.database_url)
    admin = await make_owner(db, client_type="MITHRIL ADMIN")
    await db.execute("ALTER TABLE users DISABLE TRIGGER USER; ALTER TABLE clients DISABLE TRIGGER USER")
    for statement in FILL:
        await db.execute(statement)
    await db.execute("ALTER TABLE users ENABLE TRIGGER USER; ALTER TABLE clients ENABLE TRIGGER USER")
    yield admin
    await db.close()


async def test_pages_are_quick_and_small_beside_a_million_clients(
    server: Server, admin: Owner, lines: list[logs.Answered]
) -> None:
    async with httpx.AsyncClient(base_url=server.internal_url, timeout=60) as browser:
        assert (await sign_in(browser, admin.email)).status_code == 303
        for path in (admin.path, "/console/clients", "/console?choose", admin.page):
            sizes, times = [], []
            for _ in range(20):
                page = await browser.get(path)
                assert page.status_code == 200, page.text
                sizes.append(len(page.content))
                times.append(lines[-1].milliseconds)
            print(f"{path}: {statistics.median(times):.1f} ms, at most {max(times):.1f} ms, {max(sizes)} bytes")
            assert statistics.median(times) < MOST_MILLISECONDS, path
            assert max(sizes) < MOST_BYTES, path
        for path in (f"{admin.path}/activity", "/console/activity"):
            page = await browser.get(path)
            print(f"{path}: {lines[-1].milliseconds:.1f} ms, {len(page.content)} bytes")
            assert page.status_code == 200
            assert lines[-1].milliseconds < 1_000, path
