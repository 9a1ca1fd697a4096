"""Webhooks: their administration, what they are told, and how it is delivered (rules NTF-1 to NTF-13)."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from mithril.notifications import delivery, fields, messages, store
from support import administering, described, factories, granting
from support.administering import cast, data_of, error_of, invalid
from support.factories import Db, bearer
from support.receiving import Receiver, delay, outcomes, receiving
from support.servers import Server, fresh_database, running_server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEY = "key of the tests, of 32 characters and more"
SCOPE = "connection:read connection:write connection:refresh_secret connection:delete"


@pytest.fixture(scope="module", autouse=True)
def hurry() -> Iterator[None]:
    """Let the servers of this process look for what is due at once, and announce what ends with each look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "POLL_SECONDS", 0.02)
        patch.setattr(delivery, "ANNOUNCE_SECONDS", 0.02)
        patch.setattr(delivery, "MEASURE_SECONDS", 0.02)
        yield


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, webhook_key=KEY, webhook_targets="any", sweep_interval=0) as running,
    ):
        yield running


@pytest.fixture
async def receiver(admin: httpx.AsyncClient) -> AsyncIterator[Receiver]:
    """A receiver that no webhook is left for."""
    async with receiving() as running:
        yield running
    for each in data_of(await admin.get("/admin/webhooks")):
        assert (await admin.delete(f"/admin/webhooks/{each['id']}")).status_code == 204


@pytest.fixture
async def party(db: Db) -> granting.Party:
    return await granting.party(db, scope=SCOPE)


async def registered(admin: httpx.AsyncClient, url: str, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = data_of(
        await admin.post("/admin/webhooks", json={"webhook": {"url": url, **changes}}), status=201
    )
    return made


async def headers(db: Db, party: granting.Party) -> dict[str, str]:
    owner = factories.Client(party.client_id, party.user_id)
    return bearer(await factories.token(db, client=owner, scope=SCOPE, user_id=party.user_id))


async def shown(admin: httpx.AsyncClient, webhook: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data_of(await admin.get(f"/admin/webhooks/{webhook['id']}"))
    return found


async def move(internal: httpx.AsyncClient, connection: factories.Connection, name: str) -> None:
    path = f"/admin/clients/{connection.client_id}/connections/{connection.id}"
    assert (await internal.patch(path, json={"redirect_uri": f"https://{name}.example.com/"})).status_code == 200


# Administration


async def test_a_webhook_is_added_shown_changed_and_deleted(admin: httpx.AsyncClient, db: Db) -> None:
    answer = await admin.post("/admin/webhooks", json={"webhook": {"url": "http://127.0.0.1:1/"}})
    made = data_of(answer, status=201)
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert answer.headers["location"] == f"/admin/webhooks/{made['id']}"
    assert {name: made[name] for name in ("url", "events", "is_active", "given_up", "failing_since")} == {
        "url": "http://127.0.0.1:1/",
        "events": [],
        "is_active": True,
        "given_up": 0,
        "failing_since": None,
    }
    assert await shown(admin, made) == made
    assert data_of(await admin.get("/admin/webhooks", params={"id": made["id"]})) == [made]

    path = f"/admin/webhooks/{made['id']}"
    changed = data_of(await admin.patch(path, json={"webhook": {"events": ["client.blocked"], "is_active": False}}))
    assert changed == made | {"events": ["client.blocked"], "is_active": False, "updated_at": changed["updated_at"]}
    refreshed = data_of(await admin.patch(f"{path}/actions/refresh_secret"))
    assert refreshed.pop("secret") not in (secret, None)
    left = datetime.fromisoformat(refreshed["previous_secret_expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert (await admin.delete(path)).status_code == 204
    assert error_of(await admin.get(path)) == administering.NOT_FOUND
    assert error_of(await admin.patch(path, json={"webhook": {}})) == administering.NOT_FOUND
    assert error_of(await admin.delete(path)) == administering.NOT_FOUND
    assert error_of(await admin.patch(f"{path}/actions/refresh_secret")) == administering.NOT_FOUND

    trail = await administering.events(db, made["id"])
    assert [event["action"] for event in trail] == [
        *("webhook.create", "webhook.update", "webhook.refresh_secret", "webhook.delete")
    ]
    assert trail[1]["new"] == {"events": ["client.blocked"], "is_active": False}
    assert (trail[2]["old"]["secret_version"], trail[2]["new"]["secret_version"]) == (1, 2)
    assert "digest" not in json.dumps(trail)


async def test_no_secret_is_in_the_database(admin: httpx.AsyncClient, db: Db, receiver: Receiver) -> None:
    secret = (await registered(admin, receiver.url))["secret"].removeprefix("whsec_")
    rows = await db.fetch("SELECT to_jsonb(w)::text FROM webhooks w UNION SELECT to_jsonb(e)::text FROM audit_events e")
    assert rows
    assert not [row for row in rows if secret in row[0] or KEY in row[0]]


async def test_every_invalid_field_is_named(admin: httpx.AsyncClient, receiver: Receiver) -> None:
    made = await registered(admin, receiver.url)

    async def asked(method: str, path: str, given: dict[str, object]) -> tuple[int, dict[str, Any]]:
        return error_of(await admin.request(method, path, json={"webhook": given}))

    assert await asked("POST", "/admin/webhooks", {}) == invalid(url=administering.REQUIRED)
    assert await asked("POST", "/admin/webhooks", {"url": 1, "is_active": "x"}) == invalid(
        is_active=cast("boolean"), url=cast("string")
    )
    one = f"/admin/webhooks/{made['id']}"
    assert await asked("PATCH", one, {"url": None}) == invalid(url=administering.REQUIRED)
    status, error = await asked("PATCH", one, {"events": ["connection.eaten"]})
    assert (status, error["invalid"][0]["entry"]) == (422, "$.events[0]")
    assert (await shown(admin, made))["events"] == []


async def test_a_refused_url_is_422_and_nothing_is_stored(database_url: str) -> None:
    with running_server(database_url=database_url, webhook_key=KEY) as strict:
        async with described.client(strict.internal_url) as internal:
            answer = await internal.post("/admin/webhooks", json={"webhook": {"url": "https://127.0.0.1/"}})
            rule = {"rule": "url", "description": "it leads to an IP address that is not public", "params": []}
            assert error_of(answer) == invalid(url=rule)
            assert data_of(await internal.get("/admin/webhooks")) == []


async def test_without_a_key_webhooks_are_refused_in_one_line(database_url: str) -> None:
    with running_server(database_url=database_url) as off:
        async with described.client(off.internal_url) as internal:
            answer = await internal.post("/admin/webhooks", json={"webhook": {"url": "https://hooks.example.com/"}})
            expected = {"type": "service_unavailable", "message": "Webhooks are off: set MITHRIL_WEBHOOK_KEY."}
            assert error_of(answer) == (503, expected)


async def test_without_the_library_webhooks_are_refused_in_one_line(
    admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    answer = await admin.post("/admin/webhooks", json={"webhook": {"url": "http://127.0.0.1/"}})
    message = "Webhooks need the extra `webhooks`, which is not installed."
    assert error_of(answer) == (503, {"type": "service_unavailable", "message": message})


def test_the_types_are_those_of_the_schema() -> None:
    described_types = fields.WEBHOOK.schema["properties"]["events"]["items"]["enum"]
    assert {*messages.TYPES.values(), messages.CLIENT_BLOCKED} == set(described_types)


# What is told


async def test_a_change_arrives_signed_with_who_made_it(
    admin: httpx.AsyncClient, http: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    webhook = await registered(admin, receiver.url)
    caller = await headers(db, party)
    sent = {"redirect_uri": "https://new.example.com/callback"}
    assert (await http.patch(party.connection.path, json=sent, headers=caller)).status_code == 200
    await receiver.until(lambda: receiver.requests)
    receiver.verify(webhook["secret"])
    event = await db.fetchrow("SELECT * FROM audit_events WHERE subject_id = $1", party.connection.id)
    assert event is not None
    (body,) = receiver.bodies
    assert body == {
        "type": "connection.redirect_uri_changed",
        "timestamp": administering.wire(event["occurred_at"]),
        "data": {
            "event_id": event["id"],
            "client_id": str(party.client_id),
            "connection_id": str(party.connection.id),
            "before": {"redirect_uri": party.redirect_uri},
            "after": sent,
            "by": {
                "user_id": str(party.user_id),
                "client_id": str(party.client_id),
                "api_key_client_id": None,
                "name": party.email,
            },
        },
    }
    head, _ = receiver.requests[0]
    assert head["line"] == "POST /hook?a=b HTTP/1.1"
    assert head["webhook-id"] == f"event_{event['id']}"
    assert head["content-type"] == "application/json"
    assert f"http://{head['host']}" == receiver.url.removesuffix("/hook?a=b")


async def test_each_kind_of_change_has_its_type_and_no_secret(
    admin: httpx.AsyncClient, http: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    await registered(admin, receiver.url)
    caller, path = await headers(db, party), party.connection.path
    transition = {"redirect_uri": "https://new.example.com/", "lasts_seconds": 600}
    for method, suffix, body in (
        ("PUT", "/transition", transition),
        ("DELETE", "/transition", None),
        ("PATCH", "/actions/refresh_secret", {"previous_secret_expires_in": 600}),
        ("DELETE", "/previous_secret", None),
        ("DELETE", "", None),
    ):
        content: dict[str, Any] = {} if body is None else {"json": body}
        answer = await http.request(method, path + suffix, headers=caller | {"if-match": "*"}, **content)
        assert answer.status_code == 200, answer.text
    blocked = await factories.client(db)
    data_of(await admin.patch(f"/admin/clients/{blocked.id}", json={"client": {"name": "another"}}))
    data_of(await admin.patch(f"/admin/clients/{blocked.id}", json={"client": {"is_blocked": True}}))
    await receiver.until(lambda: "client.blocked" in receiver.types)
    assert receiver.types == [
        "connection.transition_begun",
        "connection.transition_canceled",
        "connection.secret_rotated",
        "connection.previous_secret_ended",
        "connection.deleted",
        "client.blocked",
    ]
    begun, canceled, rotated, ended, deleted, block = (body["data"] for body in receiver.bodies)
    assert begun["after"]["transition"]["redirect_uri"] == "https://new.example.com/"
    assert canceled["after"] == {"redirect_uri": party.redirect_uri, "transition": None}
    assert rotated["after"]["previous_secret_expires_at"]
    assert (ended["after"], deleted["after"]) == ({"previous_secret_expires_at": None}, {})
    assert deleted["before"] == {"redirect_uri": party.redirect_uri}
    assert (block["client_id"], block["connection_id"]) == (str(blocked.id), None)
    told = json.dumps(receiver.bodies)
    assert not [word for word in ("secret_tail", "digest", party.connection.secret[-4:]) if word in told]


async def test_a_webhook_gets_the_types_that_it_asks_for_from_its_registration_on(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    await move(internal, party.connection, "before")
    await registered(admin, receiver.url, events=["client.blocked"])
    await move(internal, party.connection, "after")
    client = await factories.client(db)
    data_of(await admin.patch(f"/admin/clients/{client.id}", json={"client": {"is_blocked": True}}))
    await receiver.until(lambda: receiver.requests)
    assert receiver.types == ["client.blocked"]


async def test_both_secrets_sign_after_a_refresh(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, receiver: Receiver, party: granting.Party
) -> None:
    webhook = await registered(admin, receiver.url)
    refreshed = data_of(await admin.patch(f"/admin/webhooks/{webhook['id']}/actions/refresh_secret"))
    await move(internal, party.connection, "moved")
    await receiver.until(lambda: receiver.requests)
    receiver.verify(webhook["secret"])
    receiver.verify(refreshed["secret"])


ANNOUNCED = "SELECT announced_until > $3 FROM announcements WHERE action = $1 AND hours = $2"
CAUGHT_UP = "SELECT min(last_event_id) >= (SELECT max(id) FROM audit_events) FROM notification_cursors"
TRANSITION_ENDS = """
WITH due AS (INSERT INTO transitions_due (connection_id, ends_at) VALUES ($1, $2))
UPDATE connections SET transition_redirect_uri = 'https://new.example/', transition_since = 2,
       transition_began_at = now(), transition_ends_at = $2 WHERE id = $1
"""
SECRET_ENDS = """
UPDATE connections SET previous_secret_digest = sha256(id::text::bytea), previous_secret_expires_at = $2 WHERE id = $1
"""


@pytest.mark.parametrize(
    ("kind", "hours"), [("transition_ending", 24), ("previous_secret_ending", 24), ("previous_secret_ending", 1)]
)
async def test_what_ends_soon_is_announced_once(
    admin: httpx.AsyncClient, db: Db, receiver: Receiver, *, kind: str, hours: int
) -> None:
    """The rows are as a change of long ago has left them. Another connection's end is later, and must wait."""
    await registered(admin, receiver.url)
    soon, later = [await factories.connection(db, client_id=(await factories.client(db)).id) for _ in range(2)]
    action, before = f"notification.{kind}", datetime.now(UTC) + timedelta(hours=hours)
    await receiver.until(lambda: db.fetchval(ANNOUNCED, action, hours, before))
    ends_at = datetime.now(UTC) + timedelta(hours=hours, seconds=1)
    for connection, moment in ((soon, ends_at), (later, ends_at + timedelta(minutes=10))):
        await db.execute(TRANSITION_ENDS if "transition" in kind else SECRET_ENDS, connection.id, moment)
    await receiver.until(lambda: receiver.requests)
    assert datetime.now(UTC) >= ends_at - timedelta(hours=hours)
    await receiver.until(lambda: db.fetchval(ANNOUNCED, action, hours, ends_at + timedelta(seconds=0.2)))
    await receiver.until(lambda: db.fetchval(CAUGHT_UP))
    (body,) = receiver.bodies
    assert (body["type"], body["data"]["connection_id"]) == (f"connection.{kind}", str(soon.id))
    after = body["data"]["after"]
    told = after["transition"]["ends_at"] if "transition" in kind else after["previous_secret_expires_at"]
    assert told == administering.wire(ends_at)
    trail = await db.fetch("SELECT action FROM audit_events WHERE subject_id = $1", soon.id)
    assert [row["action"] for row in trail] == [f"notification.{kind}"]


async def test_an_end_that_was_just_set_is_not_announced(
    admin: httpx.AsyncClient, http: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    await registered(admin, receiver.url)
    path = f"{party.connection.path}/actions/refresh_secret"
    body = {"previous_secret_expires_in": 3600}
    answer = await http.patch(path, json=body, headers=await headers(db, party))
    ends_at = datetime.fromisoformat(data_of(answer)["previous_secret_expires_at"])
    await receiver.until(lambda: db.fetchval(ANNOUNCED, "notification.previous_secret_ending", 1, ends_at))
    await receiver.until(lambda: db.fetchval(CAUGHT_UP))
    assert receiver.types == ["connection.secret_rotated"]


# Delivery


WRITE = """
INSERT INTO audit_events (action, subject_id, client_id, occurred_at, old, new)
VALUES ('connection.update', $1, $2, $3, '{"redirect_uri": "https://a.example/"}', '{"redirect_uri": "https://b.example/"}')
RETURNING id
"""


async def test_what_commits_late_is_neither_lost_nor_overtaken(
    admin: httpx.AsyncClient, server: Server, receiver: Receiver, party: granting.Party
) -> None:
    """Its event has the smaller number, and its transaction the greater one, of two of which the other ends first."""
    await registered(admin, receiver.url)
    first, second = [await asyncpg.connect(server.database_url) for _ in range(2)]
    for connection in (first, second):
        await connection.execute("BEGIN; SELECT pg_current_xact_id()")
    row = (party.connection.id, party.client_id, datetime.now(UTC))
    late = await second.fetchval(WRITE, *row)
    soon = await first.fetchval(WRITE, *row)
    await first.execute("COMMIT")
    assert late < soon
    await asyncio.sleep(0.3)
    assert receiver.requests == []
    await second.execute("COMMIT")
    await receiver.until(lambda: len(receiver.requests) == 2)
    assert [body["data"]["event_id"] for body in receiver.bodies] == [late, soon]
    for connection in (first, second):
        await connection.close()


@pytest.mark.parametrize("answer", ["500 Internal Server Error", "404 Not Found", "302 Found\r\nlocation: /other"])
async def test_what_is_not_taken_is_sent_again_before_what_follows(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, receiver: Receiver, *, answer: str
) -> None:
    connection = await factories.connection(db, client_id=(await factories.client(db)).id)
    webhook = await registered(admin, receiver.url)
    receiver.answer = answer
    for name in ("one", "two"):
        await move(internal, connection, name)
    await receiver.until(lambda: receiver.requests)

    async def is_noted() -> bool:
        return bool((await shown(admin, webhook))["failing_since"])

    await receiver.until(is_noted)
    failing = await shown(admin, webhook)
    assert failing["last_failure"] == f"status {answer[:3]}"
    pause = await db.fetchval("SELECT extract(epoch FROM next_attempt_at - now()) FROM notification_cursors")
    assert 3 < pause < 6
    receiver.answer = "200 OK"
    assert data_of(await admin.patch(f"/admin/webhooks/{webhook['id']}", json={"webhook": {}})) == failing
    await receiver.until(lambda: len(receiver.requests) == 3)
    assert [body["data"]["after"]["redirect_uri"] for body in receiver.bodies] == [
        *("https://one.example.com/", "https://one.example.com/", "https://two.example.com/")
    ]
    assert receiver.requests[0][0]["webhook-id"] == receiver.requests[1][0]["webhook-id"]

    async def is_good_again() -> bool:
        return (await shown(admin, webhook))["failing_since"] is None

    await receiver.until(is_good_again)
    assert await db.fetchval("SELECT attempts FROM notification_cursors") == 0


async def test_pauses_grow_to_an_hour(db: Db, admin: httpx.AsyncClient, receiver: Receiver, server: Server) -> None:
    webhook = await registered(admin, receiver.url)
    one, lease = UUID(webhook["id"]), uuid4()
    pauses = []
    async with granting.database_of(server) as database:
        for attempts in (0, 1, 4, 9, 10, 2_000_000):
            set_up = "UPDATE notification_cursors SET attempts = $2, lease = $3 WHERE id = $1"
            await db.execute(set_up, one, attempts, lease)
            assert not await store.note_failed(database, one, lease, "status 500")
            pauses.append(
                await db.fetchval("SELECT extract(epoch FROM next_attempt_at - now())::float FROM notification_cursors")
            )
    for pause, expected in zip(pauses, (5, 10, 80, 2560, 3600, 3600), strict=True):
        assert 0.85 * expected < pause < 1.15 * expected


async def test_a_target_that_hangs_does_not_hold_up_another(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, receiver: Receiver, party: granting.Party
) -> None:
    async with receiving() as hanging:
        hanging.delay_seconds = 60
        await registered(admin, hanging.url)
        await registered(admin, receiver.url)
        for name in ("one", "two"):
            await move(internal, party.connection, name)
        await receiver.until(lambda: len(receiver.requests) == 2)
        assert hanging.requests == []


async def test_after_three_days_of_failures_what_is_as_old_is_given_up(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    before = await outcomes(internal)
    receiver.answer = "500 Internal Server Error"
    webhook = await registered(admin, receiver.url)
    old, new = datetime.now(UTC) - timedelta(days=3, minutes=1), datetime.now(UTC)
    await db.execute(WRITE, party.connection.id, party.client_id, old)
    await receiver.until(lambda: receiver.requests)

    async def is_noted() -> bool:
        return bool((await shown(admin, webhook))["failing_since"])

    await receiver.until(is_noted)
    assert (await shown(admin, webhook))["given_up"] == 0, "it is tried for three days, however old it is"
    for moment in (old, new):
        await db.execute(WRITE, party.connection.id, party.client_id, moment)
    due = "UPDATE notification_cursors SET failing_since = $1, next_attempt_at = now()"
    await db.execute(due, old)

    async def is_paused() -> bool:
        return bool(await db.fetchval("SELECT next_attempt_at > now() FROM notification_cursors"))

    await receiver.until(is_paused)
    state = await shown(admin, webhook)
    assert (state["given_up"], state["failing_since"]) == (0, webhook["updated_at"]), "it was added a moment ago"
    await db.execute("UPDATE webhooks SET updated_at = $1", old)
    await db.execute(due, old)

    async def is_given_up() -> bool:
        return bool((await shown(admin, webhook))["given_up"])

    await receiver.until(is_given_up)
    assert (await shown(admin, webhook))["given_up"] == 2

    async def is_counted() -> bool:
        return (await outcomes(internal) - before)["webhook given_up"] == 2

    await receiver.until(is_counted)
    receiver.answer = "200 OK"
    receiver.requests.clear()
    await admin.patch(f"/admin/webhooks/{webhook['id']}", json={"webhook": {}})
    await receiver.until(lambda: receiver.requests)
    assert receiver.bodies[-1]["timestamp"] == administering.wire(new)


async def test_an_inactive_webhook_gets_later_what_was_written_meanwhile(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, receiver: Receiver, party: granting.Party
) -> None:
    webhook = await registered(admin, receiver.url, is_active=False)
    await move(internal, party.connection, "meanwhile")
    await asyncio.sleep(0.2)
    assert receiver.requests == []
    data_of(await admin.patch(f"/admin/webhooks/{webhook['id']}", json={"webhook": {"is_active": True}}))
    await receiver.until(lambda: receiver.requests)


DEACTIVATED = """
SELECT old::text, new::text, coalesce(actor_user_id::text, request_id, network_address::text) AS actor
  FROM audit_events WHERE subject_id = $1 AND action = 'webhook.deactivate'
"""


async def test_a_webhook_that_is_gone_is_inactive_until_an_operator_makes_it_active(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    async with receiving() as gone:
        gone.answer = "410 Gone"
        webhook = await registered(admin, gone.url)
        await registered(admin, receiver.url)
        await move(internal, party.connection, "one")

        async def is_inactive() -> bool:
            return not (await shown(admin, webhook))["is_active"]

        await gone.until(is_inactive)
        state = await shown(admin, webhook)
        assert (state["last_failure"], state["given_up"]) == ("status 410", 0)
        await db.execute("UPDATE notification_cursors SET next_attempt_at = '-infinity'")
        await move(internal, party.connection, "two")
        await receiver.until(lambda: len(receiver.requests) == 2)
        await asyncio.sleep(0.2)
        assert len(gone.requests) == 1
        event = await db.fetchrow(DEACTIVATED, UUID(webhook["id"]))
        assert dict(event or {}) == {"old": '{"is_active": true}', "new": '{"is_active": false}', "actor": None}

        gone.answer = "204 No Content"
        data_of(await admin.patch(f"/admin/webhooks/{webhook['id']}", json={"webhook": {"is_active": True}}))
        await gone.until(lambda: len(gone.requests) == 3)
        assert gone.bodies == [receiver.bodies[0], *receiver.bodies]


async def test_an_answer_of_the_url_before_does_not_stop_a_webhook(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, receiver: Receiver, party: granting.Party
) -> None:
    """The answer comes when an operator has changed the URL already."""
    async with receiving() as gone:
        gone.answer, gone.delay_seconds = "410 Gone", 0.5
        webhook = await registered(admin, gone.url)
        await move(internal, party.connection, "moved")
        await gone.until(lambda: gone.arrived)
        data_of(await admin.patch(f"/admin/webhooks/{webhook['id']}", json={"webhook": {"url": receiver.url}}))

        async def is_noted() -> bool:
            return "410" in ((await shown(admin, webhook))["last_failure"] or "")

        await gone.until(is_noted)
        await asyncio.sleep(0.2)
        assert (await shown(admin, webhook))["is_active"]


async def test_what_becomes_of_notifications_is_counted_and_how_late_the_slowest_is_measured(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    async with receiving() as slow:
        slow.answer = "500 Internal Server Error"
        webhook = await registered(admin, slow.url)
        await registered(admin, receiver.url)
        await registered(admin, "http://127.0.0.1:1/", is_active=False)
        before = await outcomes(internal)
        await slow.until(lambda: db.fetchval(CAUGHT_UP + " WHERE webhook_id = $1", UUID(webhook["id"])))
        await db.execute(WRITE, party.connection.id, party.client_id, datetime.now(UTC) - timedelta(hours=1))

        async def is_late() -> bool:
            return await delay(internal) >= 3600

        await slow.until(is_late)
        await slow.until(lambda: slow.requests)  # the delay can be measured before it is tried
        assert await delay(internal) < 3660
        slow.answer = "204 No Content"
        data_of(await admin.patch(f"/admin/webhooks/{webhook['id']}", json={"webhook": {}}))

        async def is_in_time() -> bool:
            return await delay(internal) == 0

        await slow.until(is_in_time)
        slow.answer = "410 Gone"
        await move(internal, party.connection, "moved")

        async def is_counted() -> bool:  # how often it is tried again depends on how long the steps above take
            counted = await outcomes(internal) - before
            return counted.pop("webhook retried", 0) >= 1 and counted == {"webhook ok": 3, "webhook refused": 1}

        await slow.until(is_counted)
        await slow.until(is_in_time)


async def test_another_key_sends_nothing_that_receivers_would_refuse(
    admin: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, receiver: Receiver, party: granting.Party
) -> None:
    webhook = await registered(admin, receiver.url)
    await db.execute("UPDATE webhooks SET secret_digest = sha256('of another key')")
    await move(internal, party.connection, "moved")

    async def is_noted() -> bool:
        return "MITHRIL_WEBHOOK_KEY" in ((await shown(admin, webhook))["last_failure"] or "")

    await receiver.until(is_noted)
    assert receiver.requests == []


async def test_two_processes_do_not_deliver_to_one_target_at_a_time(
    admin: httpx.AsyncClient, server: Server, receiver: Receiver, internal: httpx.AsyncClient, party: granting.Party
) -> None:
    receiver.delay_seconds = 0.05
    with running_server(database_url=server.database_url, webhook_key=KEY, webhook_targets="any", sweep_interval=0):
        await registered(admin, receiver.url)
        for number in range(10):
            await move(internal, party.connection, f"n{number}")
        await receiver.until(lambda: len(receiver.requests) >= 10)
        await asyncio.sleep(0.3)
    ids = [body["data"]["event_id"] for body in receiver.bodies]
    assert len(ids) == 10
    assert ids == sorted(set(ids))
