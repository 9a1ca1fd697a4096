"""Servers are killed with SIGKILL again and again while they deliver notifications of a stream of changes."""

import asyncio
import os
import signal
from collections import defaultdict
from functools import partial

import asyncpg
import httpx
import pytest

from support.clusters import Cluster, workers_of
from support.processes import Process
from support.receiving import Receiver, receiving
from support.writing import report, writing

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.timeout(900)]

KILLS = 6
KEY = "key of the tests, of 32 characters and more"


def has_more(receiver: Receiver, count: int) -> bool:
    return len(receiver.requests) > count


async def test_each_change_arrives_in_order_however_often_servers_are_killed(cluster: Cluster) -> None:
    settings = {"MITHRIL_WEBHOOK_KEY": KEY, "MITHRIL_WEBHOOK_TARGETS": "any", "MITHRIL_DATABASE_URL": cluster.url}
    process = Process("--workers", "2", **settings)
    async with receiving() as receiver:
        async with httpx.AsyncClient(base_url=process.internal) as internal:
            made = await internal.post("/admin/webhooks", json={"webhook": {"url": receiver.url}})
            secret = made.json()["data"]["secret"]
        async with writing(process.public, cluster.url) as stream:
            for number in range(KILLS):
                await receiver.until(partial(has_more, receiver, len(receiver.requests) + 50))
                if number % 2:
                    process.kill()
                    process = Process("--workers", "2", **settings)
                    stream.url = process.public
                else:
                    os.kill(workers_of(process)[0], signal.SIGKILL)
        db = await asyncpg.connect(cluster.url)
        rows = await db.fetch("SELECT id, subject_id FROM audit_events WHERE action = 'connection.update' ORDER BY id")
        expected: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            expected[str(row["subject_id"])].append(row["id"])
        async with asyncio.timeout(600):
            while len({body["data"]["event_id"] for body in receiver.bodies}) < len(rows):
                receiver.verify(secret)
                await asyncio.sleep(5)
        arrived: dict[str, dict[int, None]] = defaultdict(dict)
        for body in receiver.bodies:
            arrived[body["data"]["connection_id"]].setdefault(body["data"]["event_id"])
        await db.close()
        process.stop()
    assert {connection: list(ids) for connection, ids in arrived.items()} == expected
    receiver.verify(secret)
    assert len(stream.acknowledged) <= len(rows)
    report(f"{KILLS} kills, {len(rows)} changes, {len(receiver.requests)} notifications", stream)
