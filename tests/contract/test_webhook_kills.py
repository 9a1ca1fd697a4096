"""A server that is killed while it delivers: what it had not noted comes again, and nothing is lost or overtaken."""

from pathlib import Path

import asyncpg
import httpx
import pytest

from mithril.notifications import delivery
from support import factories
from support.processes import Process
from support.receiving import receiving
from support.servers import running_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEY = "key of the tests, of 32 characters and more"


async def test_what_a_killed_server_was_sending_is_sent_by_another(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lease is made to end here, which takes some seconds otherwise."""
    monkeypatch.setattr(delivery, "POLL_SECONDS", 0.02)
    settings = {"MITHRIL_WEBHOOK_KEY": KEY, "MITHRIL_WEBHOOK_TARGETS": "any", "MITHRIL_DATABASE_URL": database_url}
    db = await asyncpg.connect(database_url)
    connection = await factories.connection(db, client_id=(await factories.client(db)).id)
    process = Process(**settings)
    async with receiving() as receiver, httpx.AsyncClient(base_url=process.internal) as internal:
        receiver.delay_seconds = 60
        made = await internal.post("/admin/webhooks", json={"webhook": {"url": receiver.url}})
        path = f"/admin/clients/{connection.client_id}/connections/{connection.id}"
        for name in ("one", "two", "three"):
            answer = await internal.patch(path, json={"redirect_uri": f"https://{name}.example.com/"})
            assert answer.status_code == 200
        await receiver.until(lambda: receiver.arrived)
        process.kill()
        receiver.delay_seconds = 0
        await db.execute("UPDATE notification_cursors SET leased_until = now()")
        with running_server(database_url=database_url, webhook_key=KEY, webhook_targets="any"):
            await receiver.until(lambda: len(receiver.requests) == 3)
    receiver.verify(made.json()["data"]["secret"])
    assert receiver.arrived == 4
    assert [body["data"]["after"]["redirect_uri"] for body in receiver.bodies] == [
        f"https://{name}.example.com/" for name in ("one", "two", "three")
    ]
    await db.close()
