"""E-mails to the owners of clients about what has changed (rule NTF-11)."""

import email
import email.policy
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from mithril.notifications import delivery
from mithril.settings import SettingsError, load
from support import factories, granting
from support.factories import Db
from support.mailing import MailServer, listening
from support.receiving import Receiver, outcomes
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

SENDER = "no-reply@auth.example.org"
UNTIL = Receiver()


@pytest.fixture(scope="module", autouse=True)
def hurry() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "POLL_SECONDS", 0.02)
        yield


@pytest.fixture
async def mails() -> AsyncIterator[tuple[MailServer, int]]:
    server = MailServer()
    async with listening(server) as port:
        yield server, port


@pytest.fixture
async def mailing(database_url: str, mails: tuple[MailServer, int]) -> AsyncIterator[tuple[Server, Db]]:
    """A server that tells owners, once it has begun to."""
    settings: dict[str, Any] = {"smtp_url": f"smtp://127.0.0.1:{mails[1]}", "smtp_sender": SENDER}
    db = await asyncpg.connect(database_url)
    with running_server(
        database_url=database_url, notify_owners=True, public_url="https://auth.example.org", **settings
    ) as running:
        await UNTIL.until(lambda: db.fetchval("SELECT count(*) FROM notification_cursors"))
        yield running, db
    await db.close()


async def move(server: Server, connection: factories.Connection, name: str) -> None:
    path = f"/admin/clients/{connection.client_id}/connections/{connection.id}"
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        answer = await internal.patch(path, json={"redirect_uri": f"https://{name}.example.com/?a=1&b=2"})
    assert answer.status_code == 200


def read(server: MailServer) -> list[EmailMessage]:
    messages = [email.message_from_bytes(each, policy=email.policy.default) for each in server.messages]
    assert all(isinstance(each, EmailMessage) for each in messages)
    return messages


async def test_an_owner_is_told_in_both_languages_as_text_and_as_html(
    mailing: tuple[Server, Db], mails: tuple[MailServer, int]
) -> None:
    server, db = mailing
    party = await granting.party(db)
    await db.execute("UPDATE clients SET name = $2 WHERE id = $1", party.client_id, "Клініка <№1> & філія")
    owner = await db.fetchval(
        "SELECT email FROM users JOIN clients c ON c.user_id = users.id WHERE c.id = $1", party.client_id
    )
    await move(server, party.connection, "new")
    await UNTIL.until(lambda: mails[0].messages)
    (message,) = read(mails[0])
    assert (message["To"], message["From"]) == (owner, SENDER)
    assert message["Subject"] == "Змінено адресу переспрямування / The redirect URI was changed: Клініка <№1> & філія"
    plain, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert html is not None
    text, page = plain.get_content(), html.get_content()
    for words in (
        "Заклад: Клініка <№1> & філія",
        f"Адреса переспрямування до зміни: {party.redirect_uri}",
        "Redirect URI: https://new.example.com/?a=1&b=2",
        str(party.connection.id),
        "https://auth.example.org/console",
        "негайно зверніться до адміністратора",
    ):
        assert words in text
        assert words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in page
    assert "філія<br>Коли" in page


async def test_an_email_that_cannot_be_sent_now_is_sent_later_and_an_impossible_one_never(
    mailing: tuple[Server, Db], mails: tuple[MailServer, int]
) -> None:
    server, db = mailing
    first, second = [await granting.party(db) for _ in range(2)]
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        before = await outcomes(internal)
    mails[0].replies["RCPT"] = "450 later"
    await move(server, first.connection, "one")
    await UNTIL.until(lambda: db.fetchval("SELECT failing_since IS NOT NULL FROM notification_cursors"))
    assert mails[0].messages == []
    mails[0].replies["RCPT"] = "250 ok"
    await db.execute("UPDATE notification_cursors SET next_attempt_at = now()")
    await UNTIL.until(lambda: mails[0].messages)

    mails[0].replies["RCPT"] = "550 no such user"
    seen = len(mails[0].commands)
    await move(server, first.connection, "two")
    await UNTIL.until(lambda: [line for line in mails[0].commands[seen:] if line.startswith("RCPT")])
    mails[0].replies["RCPT"] = "250 ok"
    await move(server, second.connection, "three")
    await UNTIL.until(lambda: len(mails[0].messages) == 2)
    assert "three.example.com" in read(mails[0])[1].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert await db.fetchval("SELECT failing_since FROM notification_cursors") is None
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        assert await outcomes(internal) - before == {"email ok": 2, "email retried": 1, "email refused": 1}


async def test_a_blocked_owner_and_what_is_late_get_no_email(
    mailing: tuple[Server, Db], mails: tuple[MailServer, int]
) -> None:
    server, db = mailing
    blocked, late, told = [await granting.party(db) for _ in range(3)]
    await db.execute(
        "UPDATE users SET is_blocked = true FROM clients c WHERE c.user_id = users.id AND c.id = $1", blocked.client_id
    )
    await move(server, blocked.connection, "one")
    await db.execute(
        "INSERT INTO audit_events (action, subject_id, client_id, occurred_at) VALUES"
        " ('connection.delete', $1, $2, now() - interval '4 days')",
        late.connection.id,
        late.client_id,
    )
    await move(server, told.connection, "two")
    await UNTIL.until(lambda: mails[0].messages)
    assert "two.example.com" in read(mails[0])[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert await db.fetchval("SELECT id FROM notification_cursors") == UUID(int=0)


def test_owners_are_told_only_where_there_is_a_mail_server() -> None:
    with pytest.raises(SettingsError, match="MITHRIL_SMTP_URL"):
        load({"MITHRIL_NOTIFY_OWNERS": "true"})
    assert not load({"MITHRIL_SMTP_URL": "smtp://localhost", "MITHRIL_SMTP_SENDER": SENDER}).notify_owners
