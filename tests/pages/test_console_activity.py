"""The pictures of sign-ins and refusals: what is in them, who sees them, and that they need no colour."""

import html
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from mithril.console import activity_routes, rendering
from mithril.sightings.sign_in_store import ALL, SIGN_IN, Count
from support import factories
from support.cases import HOSTILE
from support.console import SCOPE, Owner, make_owner, sign_in
from support.factories import Db
from support.servers import Server

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 30, 12, 34, 56, tzinfo=UTC)
ADD = """
INSERT INTO sign_in_counts (hour, subject_id, outcome, times)
VALUES (date_trunc('hour', now(), 'UTC') - make_interval(hours => $1), $2, $3, $4)
    ON CONFLICT (subject_id, hour, outcome) DO UPDATE SET times = excluded.times
"""


def count(hours_ago: int, outcome: str, times: int) -> Count:
    hour = NOW.replace(minute=0, second=0) - timedelta(hours=hours_ago)
    return Count(subject_id=ALL, hour=hour, outcome=outcome, times=times)


def test_a_picture_has_a_bar_for_each_of_the_last_hours() -> None:
    made = activity_routes.picture(
        "x", [count(0, SIGN_IN, 3), count(0, "a", 1), count(0, "b", 2), count(23, "a", 1), count(24, "a", 99)], now=NOW
    )
    assert [bar.hour.hour for bar in made.bars] == [*range(13, 24), *range(13)]
    assert (made.sign_ins, made.refusals, made.highest) == (3, 4, 6)
    first, last = made.bars[0], made.bars[-1]
    assert (first.sign_ins, first.refusals, first.refusals_height) == (0, 1, 10)
    assert (last.sign_ins, last.refusals, last.sign_ins_height, last.refusals_height) == (3, 3, 30, 30)
    assert activity_routes.picture("x", [], now=NOW).highest == 0


async def test_an_owner_sees_sign_ins_through_each_connection_and_why_others_were_refused(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    path = f"{owner.path}/activity"
    assert rendering.words("uk")["nothing_counted"] in (await inside.get(path)).text
    mis = await factories.client(db, client_type="MIS")
    other = await factories.connection(
        db, client_id=owner.client.id, consumer_id=mis.id, redirect_uri="https://a.example/b"
    )
    await db.execute("UPDATE clients SET name = $2 WHERE id = $1", mis.id, HOSTILE)
    counts: list[tuple[int, UUID, str, int]] = [
        (0, owner.client.id, SIGN_IN, 5),
        (0, owner.connection.id, SIGN_IN, 2),
        (1, other.id, SIGN_IN, 3),
        (2, owner.client.id, "password_wrong", 4),
        (3, owner.client.id, "not_found", 1),
        (30, owner.client.id, SIGN_IN, 77),
        (0, (await make_owner(db)).client.id, SIGN_IN, 88),
    ]
    for values in counts:
        await db.execute(ADD, *values)
    page = await inside.get(path, headers={"accept-language": "en"})
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == rendering.POLICY
    text = html.unescape(re.sub(r"<[^>]+>", "", page.text))
    assert "Sign-ins: 5. Refusals: 5. Most in one hour: 5" in text
    assert [f"Sign-ins: {n}. Refusals: 0." in text for n in (2, 3)] == [True, True]
    assert "Wrong e-mail address or password4" in text
    assert "Another refusal: not_found1" in text
    assert set(re.findall(r"Sign-ins: ([0-9]+)", text)) == {"5", "2", "3"}, "those of the day before are not counted"
    assert page.text.count('<svg role="img"') == 3
    assert page.text.count("<table>") == 4, "each picture has its table, and the reasons are one"
    assert "<script>alert" not in page.text
    assert "style=" not in page.text
    assert f'href="{path}"' in (await inside.get(owner.path)).text


async def test_administrators_see_all_and_owners_only_their_own(
    http: httpx.AsyncClient, server: Server, db: Db, owner: Owner
) -> None:
    admin = await make_owner(db, client_type="MITHRIL ADMIN")
    name = f"Client {uuid4()}"
    await db.execute("UPDATE clients SET name = $2 WHERE id = $1", owner.client.id, name)
    for values in ((0, owner.client.id, "user_blocked", 1_000_000), (1, owner.client.id, SIGN_IN, 7), (0, ALL, "x", 9)):
        await db.execute(ADD, *values)
    async with httpx.AsyncClient(base_url=server.internal_url, headers={"accept-language": "en"}) as browser:
        await sign_in(browser, admin.email)
        page = await browser.get("/console/activity")
        assert re.search(rf"{name}</bdi></a>.*?<td>7</td><td>1000000</td>", page.text, re.DOTALL)
        assert "Another refusal: <code>x</code>" in page.text
        assert (await browser.get(f"{owner.path}/activity")).status_code == 200
    await sign_in(http, owner.email)
    other = await make_owner(db)
    for path in ("/console/activity", f"{other.path}/activity"):
        assert (await http.get(path)).status_code == 403
    reader = await make_owner(db, scope=SCOPE.replace("connection:read ", ""))
    await sign_in(http, reader.email)
    assert (await http.get(f"{reader.path}/activity")).status_code == 403
    assert "/activity" not in (await http.get(reader.path)).text
