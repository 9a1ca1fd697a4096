"""A row that stays locked under load: verification, other rows and readiness keep their speed.

The figures are in docs/reliability.md. How few of the callers wait in the database is tested, without any clock, in
tests/contract/test_locked_rows.py.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import asyncpg
import httpx
import pytest

from support import factories
from support.clusters import Cluster
from support.factories import Db, bearer
from support.processes import serving

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

ROUNDS = 4
SECONDS = 1.5  # of each state in each round, in turn: so a busy machine slows both
CALLERS = 24
PAUSE_SECONDS = 0.05  # of a measured caller after each answer, so that the processors are not the limit
# 0.9 and more on a quiet machine; without connections of their own it is 0.05.
LEAST_SHARE = 0.6

Ask = Callable[[], Awaitable[httpx.Response]]
Statuses = Counter[int]


@asynccontextmanager
async def asking(*asks: tuple[Ask, Statuses], pause_seconds: float = 0) -> AsyncIterator[None]:
    """Ask again and again, each in a task of its own, until the end of the block; count the statuses."""
    is_over = False

    async def run(ask: Ask, statuses: Statuses) -> None:
        while not is_over:
            statuses[(await ask()).status_code] += 1
            await asyncio.sleep(pause_seconds)

    tasks = [asyncio.create_task(run(*each)) for each in asks]
    try:
        yield
    finally:
        is_over = True
        await asyncio.gather(*tasks)


async def patch(http: httpx.AsyncClient, connection: factories.Connection, token: str) -> httpx.Response:
    body = {"redirect_uri": f"https://{uuid4().hex}.example.com/callback"}
    return await http.patch(connection.path, json=body, headers=bearer(token))


async def test_a_locked_row_under_load_slows_no_one_else(cluster: Cluster) -> None:
    db: Db = await asyncpg.connect(cluster.url)
    token = await factories.token(db, client=await factories.client(db, client_type="NHS"))
    locked, *others = [await factories.connection(db, client_id=(await factories.client(db)).id) for _ in range(4)]
    refused: Statuses = Counter()
    free: dict[str, Statuses] = {"verify": Counter(), "write": Counter(), "ready": Counter()}
    held: dict[str, Statuses] = {name: Counter() for name in free}

    with serving("--database-url", cluster.url) as process:
        unlimited = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=process.public, limits=unlimited) as http,
            httpx.AsyncClient(base_url=process.internal, limits=unlimited) as internal,
        ):

            async def measure(counts: dict[str, Statuses]) -> None:
                verify, ready = partial(internal.get, f"/admin/tokens/{token}/verify"), partial(http.get, "/readyz")
                asks = [(verify, counts["verify"])] * 3 + [(ready, counts["ready"])]
                asks += [(partial(patch, http, other, token), counts["write"]) for other in others]
                async with asking(*asks, pause_seconds=PAUSE_SECONDS):
                    await asyncio.sleep(SECONDS)

            await measure({name: Counter() for name in free})  # opens the connections
            for _ in range(ROUNDS):
                await measure(free)
                async with db.transaction():
                    await db.execute("SELECT FROM connections WHERE id = $1 FOR UPDATE", locked.id)
                    before = refused[503]
                    async with asking(*[(partial(patch, http, locked, token), refused)] * CALLERS):
                        while refused[503] == before:
                            await asyncio.sleep(0.01)
                        await measure(held)
    await db.close()

    seconds, shares = ROUNDS * SECONDS, {}
    for name, statuses in free.items():
        assert set(statuses) == set(held[name]) == {200}, (name, statuses, held[name])
        shares[name] = held[name][200] / statuses[200]
        rates = f"{statuses[200] / seconds:.0f}/s before, {held[name][200] / seconds:.0f}/s during"
        print(f"{name}: {rates}, {shares[name]:.0%}")
    print(f"callers of the locked row: {dict(refused)}")
    assert set(refused) == {503}
    assert min(shares.values()) > LEAST_SHARE, shares
