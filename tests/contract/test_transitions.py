"""A redirect URI moves without a gap, and a move is taken back (rules CON-27 to CON-39)."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from mithril.cleanup import service as cleanup
from mithril.settings import Settings
from support import factories, granting, moving
from support.factories import Db, bearer
from support.moving import NEW, OLD, THIRD, Clinic
from support.oauth_world import invalid, refusal
from support.servers import Server

pytestmark = pytest.mark.anyio
MISMATCH = 401


@pytest.fixture
async def clinic(server: Server, db: Db) -> Any:
    async with httpx.AsyncClient(base_url=server.url) as http:
        yield await moving.clinic(server, http, db)


async def sweep(server: Server) -> dict[str, int]:
    async with granting.database_of(server) as database:
        return await cleanup.clean_up(database, Settings())


# Two redirect URIs


async def test_two_redirect_uris_are_good_until_a_transition_ends(clinic: Clinic) -> None:
    assert await clinic.good() == [OLD]
    begun = await clinic.begin(seconds=3600)
    assert begun.status_code == 200
    assert begun.json()["data"] == await clinic.details()
    assert await clinic.good() == [OLD, NEW]
    await clinic.pass_time(3590)
    assert await clinic.good() == [OLD, NEW]
    await clinic.pass_time(10)
    assert await clinic.good() == [NEW]


async def test_a_redirect_uri_is_compared_exactly_during_a_transition(clinic: Clinic) -> None:
    await clinic.begin()
    near = [NEW + "/", NEW + "?", NEW.upper(), NEW[:-1], OLD + "/x", f"{OLD},{NEW}", f"{OLD}\n{NEW}", ""]
    assert await clinic.good(*near) == []


async def test_a_code_belongs_to_the_redirect_uri_that_it_was_asked_for(clinic: Clinic) -> None:
    await clinic.begin()
    old, new = await clinic.code(OLD), await clinic.code(NEW)
    assert await clinic.redeem(old, NEW) == await clinic.redeem(new, OLD) == MISMATCH
    assert await clinic.redeem(old, OLD) == await clinic.redeem(new, NEW) == 201


async def test_codes_stay_good_while_their_redirect_uri_does(clinic: Clinic) -> None:
    before = await clinic.code(OLD)
    await clinic.begin()
    early = await clinic.code(NEW)
    await clinic.begin(seconds=60)  # the same one again
    assert await clinic.redeem(before, OLD) == 201
    late = [await clinic.code(NEW) for _ in range(3)]
    await clinic.pass_time()
    assert await clinic.redeem(late[0], NEW) == 201, "through the end"
    await sweep(clinic.server)
    assert await clinic.redeem(late[1], NEW) == await clinic.redeem(early, NEW) == 201, "and what the cleanup stores"


async def test_the_end_revokes_the_codes_of_the_old_redirect_uri_for_good(clinic: Clinic) -> None:
    await clinic.begin()
    codes = [await clinic.code(OLD) for _ in range(3)]
    await clinic.pass_time()
    assert await clinic.redeem(codes[0], OLD) == MISMATCH
    assert (await clinic.update(OLD)).status_code == 200
    assert await clinic.redeem(codes[1], OLD) == MISMATCH, "it came back, its codes do not"
    await clinic.begin(NEW)
    assert await clinic.redeem(codes[2], OLD) == MISMATCH
    assert await clinic.redeem(await clinic.code(OLD), OLD) == 201


async def test_a_cancelled_transition_leaves_the_old_one_and_its_codes(clinic: Clinic) -> None:
    await clinic.begin()
    old, new = await clinic.code(OLD), await clinic.code(NEW)
    response = await clinic.cancel()
    assert (response.status_code, set(response.json())) == (200, {"meta"})
    assert await clinic.good() == [OLD]
    assert await clinic.redeem(new, NEW) == MISMATCH
    await clinic.begin()
    assert await clinic.redeem(new, NEW) == MISMATCH, "a code never comes back"
    assert await clinic.redeem(old, OLD) == 201
    assert (await clinic.cancel()).status_code == 200
    assert refusal(await clinic.cancel()) == (404, "not_found", "Not Found")


async def test_a_second_transition_replaces_the_first(clinic: Clinic) -> None:
    await clinic.begin(NEW)
    given_up = await clinic.code(NEW)
    await clinic.begin(THIRD)
    assert await clinic.good() == [OLD, THIRD]
    assert await clinic.redeem(given_up, NEW) == MISMATCH
    await clinic.begin(NEW)
    assert await clinic.redeem(given_up, NEW) == MISMATCH


@pytest.mark.parametrize(
    ("target", "good", "action"),
    [(NEW, [NEW], "complete_transition"), (OLD, [OLD], "cancel_transition"), (THIRD, [THIRD], "update")],
)
async def test_after_an_update_exactly_one_is_good(clinic: Clinic, target: str, good: list[str], action: str) -> None:
    await clinic.begin()
    old, new = await clinic.code(OLD), await clinic.code(NEW)
    response = await clinic.update(target)
    shown = await clinic.details()
    assert (response.status_code, shown["transition"], shown["redirect_uri"]) == (200, None, target)
    assert set(response.json()["data"]) == {
        *("id", "client_id", "consumer_id", "redirect_uri", "inserted_at", "updated_at")
    }
    assert await clinic.good() == good
    assert await clinic.redeem(old, OLD) == (201 if target == OLD else MISMATCH)
    assert await clinic.redeem(new, NEW) == (201 if target == NEW else MISMATCH)
    assert (await clinic.actions())[1:] == [action]


async def test_an_update_after_the_end_has_a_row_for_the_end_and_one_of_its_own(clinic: Clinic) -> None:
    await clinic.begin()
    await clinic.pass_time()
    tag = await clinic.tag()
    assert (await clinic.update(THIRD, if_match=tag)).status_code == 200
    assert await clinic.actions() == ["begin_transition", "complete_transition", "update"]
    assert (await clinic.history())[-1]["old"] == {"redirect_uri": NEW}


async def test_an_update_to_the_new_one_after_the_end_changes_nothing(clinic: Clinic) -> None:
    await clinic.begin()
    await clinic.pass_time()
    tag = await clinic.tag()
    assert (await clinic.update(NEW)).headers["etag"] == await clinic.tag() == tag


async def test_tokens_go_on_through_every_change(clinic: Clinic) -> None:
    token = await factories.token(
        clinic.db,
        client=factories.Client(clinic.party.client_id, clinic.party.user_id),
        scope="connection:read",
        connection_id=clinic.party.connection.id,
    )
    await clinic.begin()
    await clinic.pass_time()
    await sweep(clinic.server)
    assert (await clinic.http.get(clinic.path, headers=bearer(token))).status_code == 200


# What is refused


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        ({"redirect_uri": OLD}, ["redirect_uri"]),
        ({"redirect_uri": "http://new.example.com/"}, ["format", "redirect_uri"]),
        ({"redirect_uri": "https://New.example.com/#x"}, ["redirect_uri", "redirect_uri"]),
        ({}, ["required"]),
        ({"redirect_uri": NEW, "lasts_seconds": 59}, ["number"]),
        ({"redirect_uri": NEW, "lasts_seconds": 2_592_001}, ["number"]),
        ({"redirect_uri": NEW, "lasts_seconds": "60"}, ["cast"]),
        ({"redirect_uri": NEW, "lasts_seconds": None}, ["cast"]),
        ({"redirect_uri": NEW, "ends_at": "2030-01-01T00:00:00Z"}, ["schema"]),
    ],
)
async def test_a_transition_that_breaks_a_rule_is_refused(clinic: Clinic, body: Any, rules: list[str]) -> None:
    response = await clinic.ask("PUT", "/transition", json=body)
    assert list(invalid(response).values()) == [rules]
    assert await clinic.good() == [OLD]
    assert await clinic.history() == []


async def test_the_present_redirect_uri_is_refused_as_unchanged(clinic: Clinic) -> None:
    await clinic.begin(NEW)
    for _ in range(2):
        present = (await clinic.details())["redirect_uri"]
        response = await clinic.begin(present, if_match='"99"')
        (rule,) = response.json()["error"]["invalid"][0]["rules"]
        assert (response.status_code, rule["params"]) == (422, {"reason": "unchanged"})
        await clinic.pass_time()


@pytest.mark.parametrize("seconds", [60, None, 2_592_000])
async def test_a_transition_lasts_as_long_as_was_asked(clinic: Clinic, seconds: int | None) -> None:
    shown = (await clinic.begin(seconds=seconds)).json()["data"]
    lasts = datetime.fromisoformat(shown["transition"]["ends_at"]) - datetime.fromisoformat(shown["updated_at"])
    assert abs(lasts - timedelta(seconds=seconds or 86_400)) < timedelta(seconds=1)


async def test_the_checks_come_in_the_order_of_the_update(clinic: Clinic, db: Db) -> None:
    stranger = bearer(await factories.token(db, client=await factories.client(db)))
    reader = factories.Client(clinic.party.client_id, clinic.party.user_id)
    weak = bearer(await factories.token(db, client=reader, scope="connection:read"))
    admin = bearer(await factories.token(db, client=await factories.client(db, client_type="NHS")))
    missing = f"/api/clients/{clinic.party.client_id}/connections/{uuid4()}/transition"
    here, bad, version = f"{clinic.path}/transition", {"redirect_uri": 1}, {"If-Match": '"9"'}
    for path, body, headers, status in [
        (here, bad, {}, 401),
        (here, bad, weak, 403),
        (here, bad, stranger, 403),
        (missing, bad, admin, 422),
        (missing, {"redirect_uri": NEW}, admin | version, 404),
        (here, {"redirect_uri": NEW}, clinic.headers | version, 412),
        (here, {"redirect_uri": NEW}, clinic.headers | {"If-Match": '"1"'}, 200),
    ]:
        response = await clinic.http.put(path, json=body, headers=headers)
        assert response.status_code == status, response.text
    text = await clinic.http.put(here, content="{}", headers=clinic.headers | {"Content-Type": "text/plain"})
    assert text.status_code == 415


async def test_a_cancel_and_an_update_keep_to_the_version_that_is_named(clinic: Clinic) -> None:
    await clinic.begin()
    for tag in ('"1"', '"9"', 'W/"2"'):
        assert (await clinic.cancel(if_match=tag)).status_code == 412
        assert (await clinic.update(NEW, if_match=tag)).status_code == 412
    assert await clinic.good() == [OLD, NEW]
    assert (await clinic.cancel(if_match=await clinic.tag())).status_code == 200


async def test_the_database_refuses_half_a_transition(clinic: Clinic) -> None:
    await clinic.begin()
    for change in (
        "transition_redirect_uri = redirect_uri",
        "transition_ends_at = NULL",
        "transition_redirect_uri = ''",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await clinic.db.execute(f"UPDATE connections SET {change} WHERE id = $1", clinic.party.connection.id)


# What is shown


async def test_details_and_list_show_the_transition_beside_the_published_fields(clinic: Clinic) -> None:
    before = await clinic.details()
    assert before["transition"] is None
    shown = (await clinic.begin()).json()["data"]
    assert shown["redirect_uri"] == OLD
    assert set(shown["transition"]) == {"redirect_uri", "ends_at"}
    assert shown["transition"]["redirect_uri"] == NEW
    list_path = clinic.path.rpartition("/")[0]
    for _ in range(2):
        listed = (await clinic.http.get(list_path, headers=clinic.headers)).json()["data"]
        assert listed == [await clinic.details()]
        await clinic.pass_time()
    assert (listed[0]["redirect_uri"], listed[0]["transition"]) == (NEW, None)


async def test_the_list_is_filtered_by_both_redirect_uris(clinic: Clinic) -> None:
    async def found(text: str) -> int:
        response = await clinic.ask("GET", "/..", params={"redirect_uri": text})
        return len(response.json()["data"])

    await clinic.begin()
    assert [await found(text) for text in (OLD, NEW, THIRD)] == [1, 1, 0]
    await clinic.pass_time()
    assert [await found(text) for text in (OLD, NEW, THIRD)] == [0, 1, 0]


async def test_the_etag_changes_with_what_is_shown_and_only_then(clinic: Clinic) -> None:
    """Also when only time has passed; a cleanup changes neither."""
    seen = []

    async def look() -> None:
        seen.append(((await clinic.ask("GET")).headers["etag"], await clinic.details()))

    for step in (
        clinic.begin,
        clinic.pass_time,
        lambda: sweep(clinic.server),
        lambda: clinic.begin(OLD),
        clinic.cancel,
    ):
        await look()
        await step()
    await look()
    assert seen[2] == seen[3]
    tags = [tag for tag, _ in seen]
    assert len(set(tags)) == len(tags) - 1
    assert all((tag == other) == (shown == another) for tag, shown in seen for other, another in seen)
    for tag in tags[:-1]:
        assert (await clinic.ask("GET", headers={"If-None-Match": tag})).status_code == 200
    assert (await clinic.ask("GET", headers={"If-None-Match": tags[-1]})).status_code == 304


async def test_no_number_of_a_version_is_used_twice_when_the_clock_is_set_back(clinic: Clinic) -> None:
    await clinic.begin()
    await clinic.pass_time()
    ended = await clinic.tag()
    await clinic.pass_time(-86_400)
    await clinic.ask("PATCH", "/actions/refresh_secret")
    assert await clinic.tag() not in (ended, '"2"')


async def test_the_transition_says_who_signs_in_where(clinic: Clinic) -> None:
    assert refusal(await clinic.ask("GET", "/transition")) == (404, "not_found", "Not Found")
    assert await clinic.redeem(await clinic.code(OLD), OLD) == 201, "before it began"
    await clinic.begin()
    await clinic.code(OLD)  # is not redeemed
    for name, times in ((OLD, 1), (NEW, 2)):
        for _ in range(times):
            assert await clinic.redeem(await clinic.code(name), name) == 201
    await clinic.begin(seconds=120)
    response = await clinic.ask("GET", "/transition")
    shown = response.json()["data"]
    assert shown["sign_ins"] == [{"redirect_uri": OLD, "sign_ins": 1}, {"redirect_uri": NEW, "sign_ins": 2}]
    assert (shown["redirect_uri"], shown["ends_at"]) == (NEW, (await clinic.details())["transition"]["ends_at"])
    await clinic.begin(THIRD)
    again = (await clinic.ask("GET", "/transition")).json()["data"]
    assert again["sign_ins"] == [{"redirect_uri": OLD, "sign_ins": 0}, {"redirect_uri": THIRD, "sign_ins": 0}]
    await clinic.pass_time()
    assert (await clinic.ask("GET", "/transition")).status_code == 404


async def test_codes_and_tokens_remember_their_redirect_uri(clinic: Clinic) -> None:
    await clinic.begin()
    assert await clinic.redeem(await clinic.code(NEW), NEW) == 201
    kept = "SELECT DISTINCT name FROM tokens WHERE connection_id = $1 AND details ->> 'redirect_uri' = $2 ORDER BY 1"
    names = [row[0] for row in await clinic.db.fetch(kept, clinic.party.connection.id, NEW)]
    assert names == ["access_token", "authorization_code", "refresh_token"]


# The history


def replayed(events: list[dict[str, Any]], state: dict[str, Any]) -> dict[str, Any]:
    """The state that the events lead to; each begins where the one before it ended."""
    for event in events:
        for name, value in (event["old"] or {}).items():
            assert name not in state or state[name] == value, event
        state |= {name: value for name, value in event["new"].items() if name in state}
    return state


async def test_the_history_has_one_row_for_each_step_and_leads_to_the_present(clinic: Clinic) -> None:
    ends_at = (await clinic.begin()).json()["data"]["transition"]["ends_at"]
    await clinic.begin(THIRD)
    await clinic.cancel()
    await clinic.begin()
    await clinic.update(NEW)
    assert await clinic.actions() == [
        *("begin_transition", "replace_transition", "cancel_transition", "begin_transition", "complete_transition")
    ]
    events = await clinic.history()
    begun = {"redirect_uri": OLD, "transition": {"redirect_uri": NEW, "ends_at": ends_at}}
    assert (events[0]["old"], events[0]["new"]) == ({"redirect_uri": OLD, "transition": None}, begun)
    assert {event["actor_user_id"] for event in events} == {str(clinic.party.user_id)}
    shown = await clinic.details()
    present = {"redirect_uri": shown["redirect_uri"], "transition": shown["transition"]}
    assert replayed(events, {"redirect_uri": OLD, "transition": None}) == present


async def test_the_cleanup_stores_the_end_and_when_it_took_effect(clinic: Clinic) -> None:
    await sweep(clinic.server)  # what other tests have left
    await clinic.begin()
    await clinic.pass_time()
    ended, before = (await clinic.stored())["transition_ends_at"], (await clinic.tag(), await clinic.details())
    assert (await sweep(clinic.server))["transitions_completed"] == 1
    assert (await sweep(clinic.server))["transitions_completed"] == 0
    assert (await clinic.tag(), await clinic.details()) == before
    assert (await clinic.stored())["redirect_uri"] == NEW
    event = (await clinic.history())[-1]
    assert event["action"] == "connection.complete_transition"
    assert datetime.fromisoformat(event["new"].pop("took_effect_at")) == datetime.fromisoformat(ended)
    assert event["new"] == {"redirect_uri": NEW, "transition": None}
    assert (event["actor_user_id"], event["actor_client_id"]) == (None, None)


async def test_once_it_is_stored_a_clock_that_is_set_back_revives_nothing(clinic: Clinic) -> None:
    await clinic.begin()
    code = await clinic.code(OLD)
    await clinic.pass_time()
    await sweep(clinic.server)
    await clinic.pass_time(-86_400)
    assert await clinic.good() == [NEW]
    assert await clinic.redeem(code, OLD) == MISMATCH


async def test_a_cleanup_leaves_transitions_that_were_prolonged_or_go_on(clinic: Clinic) -> None:
    await clinic.begin()
    await clinic.pass_time(86_000)
    await clinic.begin(seconds=3600)
    await clinic.pass_time(1000)
    assert (await sweep(clinic.server))["transitions_completed"] == 0
    assert await clinic.good() == [OLD, NEW]
    await clinic.cancel()
    await clinic.pass_time()
    assert (await sweep(clinic.server))["transitions_completed"] == 0
    left = "SELECT count(*) FROM transitions_due WHERE connection_id = $1"
    assert await clinic.db.fetchval(left, clinic.party.connection.id) == 0


@pytest.mark.slow
async def test_what_waits_for_a_lock_sees_that_the_transition_has_ended(clinic: Clinic) -> None:
    """A redemption that began in time, and was kept waiting until the old redirect URI was dead, gets nothing."""
    await clinic.begin()
    code = await clinic.code(OLD)
    other = await asyncpg.connect(clinic.server.database_url)
    ends = "UPDATE connections SET transition_ends_at = clock_timestamp() + interval '2 seconds' WHERE id = $1"
    left = "SELECT transition_ends_at > clock_timestamp() FROM connections WHERE id = $1"
    async with other.transaction():
        await other.execute("SELECT FROM apps WHERE user_id = $1 FOR UPDATE", clinic.party.user_id)
        await clinic.db.execute(ends, clinic.party.connection.id)
        redeeming = asyncio.create_task(clinic.redeem(code, OLD))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not await clinic.db.fetchval(waits):  # noqa: ASYNC110 -- a lock, no event
            await asyncio.sleep(0.02)
        while await clinic.db.fetchval(left, clinic.party.connection.id):  # noqa: ASYNC110 -- time, no event
            await asyncio.sleep(0.02)
    await other.close()
    assert await redeeming == MISMATCH
    used = "SELECT count(*) FROM tokens WHERE connection_id = $1 AND used_at IS NOT NULL"
    assert await clinic.db.fetchval(used, clinic.party.connection.id) == 0


# Taking a change back


async def test_a_change_is_taken_back_as_a_new_version(clinic: Clinic) -> None:
    code = await clinic.code(OLD)
    await clinic.update(NEW)
    event = (await clinic.history())[-1]
    secret = (await clinic.stored())["secret_digest"]
    response = await clinic.revert(event["id"], await clinic.tag(), content=b"{ no body is judged")
    assert (response.status_code, response.json()["data"]["redirect_uri"]) == (200, OLD)
    assert response.headers["etag"] == await clinic.tag() == '"3"'
    last = (await clinic.history())[-1]
    assert last["action"] == "connection.revert"
    assert (last["old"], last["new"]) == ({"redirect_uri": NEW}, {"redirect_uri": OLD, "reverts": event["id"]})
    assert (await clinic.stored())["secret_digest"] == secret
    assert await clinic.redeem(code, OLD) == MISMATCH, "codes that were revoked stay revoked"


async def test_a_revert_ends_a_transition(clinic: Clinic) -> None:
    await clinic.update(NEW)
    event = (await clinic.history())[-1]["id"]
    await clinic.begin(THIRD)
    assert (await clinic.revert(event)).status_code == 200
    assert await clinic.good() == [OLD]
    assert (await clinic.revert(event)).headers["etag"] == await clinic.tag()
    assert await clinic.actions() == ["update", "begin_transition", "revert"], "the present one changes nothing"


async def test_a_completion_is_taken_back(clinic: Clinic) -> None:
    await clinic.begin()
    await clinic.pass_time()
    await sweep(clinic.server)
    assert (await clinic.revert((await clinic.history())[-1]["id"])).status_code == 200
    assert await clinic.good() == [OLD]


async def test_a_revert_says_which_version_it_is_about(clinic: Clinic) -> None:
    await clinic.update(NEW)
    event = (await clinic.history())[-1]["id"]
    response = await clinic.revert(event, None)
    assert refusal(response)[:2] == (428, "precondition_required")
    assert (await clinic.revert(event, '"1"')).status_code == 412
    assert await clinic.good() == [NEW]


async def test_a_revert_of_what_changed_no_redirect_uri_is_a_conflict(clinic: Clinic) -> None:
    await clinic.ask("PATCH", "/actions/refresh_secret")
    await clinic.begin()
    for event in await clinic.history():
        response = await clinic.revert(event["id"], '"99"')
        assert refusal(response)[:2] == (409, "request_conflict")
    assert await clinic.good() == [OLD, NEW]


async def test_a_revert_to_what_the_rules_of_today_refuse_names_the_reasons(clinic: Clinic, db: Db) -> None:
    await db.execute(
        "UPDATE connections SET redirect_uri = 'https://10.0.0.1/#x' WHERE id = $1", clinic.party.connection.id
    )
    await clinic.update(NEW)
    response = await clinic.revert((await clinic.history())[-1]["id"])
    assert response.status_code == 422
    rules = response.json()["error"]["invalid"][0]["rules"]
    assert {rule["params"]["reason"] for rule in rules} == {"fragment", "ip_literal"}
    assert await clinic.good() == [NEW]


async def test_an_event_of_another_connection_is_not_found(clinic: Clinic, server: Server, db: Db) -> None:
    other = await moving.clinic(server, clinic.http, db)
    await other.update(NEW)
    await clinic.update(NEW)
    for event in ((await other.history())[-1]["id"], 99_999_999, 0, "01", "x", "9" * 30):
        assert refusal(await clinic.revert(event)) == (404, "not_found", "Not Found")


# Simultaneous changes, and changes from elsewhere


@pytest.mark.parametrize("has_transition", [False, True])
async def test_of_racing_changes_with_one_version_one_wins(clinic: Clinic, *, has_transition: bool) -> None:
    await clinic.update(THIRD)
    event = (await clinic.history())[-1]["id"]
    if has_transition:
        await clinic.begin()
    tag, before = await clinic.tag(), await clinic.actions()
    answers = await asyncio.gather(
        *(clinic.begin(moving.uri(f"a{number}"), if_match=tag) for number in range(12)),
        *(clinic.update(moving.uri(f"b{number}"), if_match=tag) for number in range(12)),
        *(clinic.revert(event, tag) for _ in range(8)),
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 31]
    assert len(await clinic.actions()) == len(before) + 1
    (winner,) = (answer for answer in answers if answer.status_code == 200)
    assert winner.json()["data"].items() <= (await clinic.details()).items()


async def test_a_process_of_the_release_before_ends_a_transition_too(clinic: Clinic) -> None:
    """It knows neither transitions nor since when a redirect URI is good; a trigger keeps both right."""
    code = await clinic.code(OLD)
    update = "UPDATE connections SET redirect_uri = $2, version = version + 1 WHERE id = $1"
    await clinic.begin()
    new = await clinic.code(NEW)
    tag = await clinic.tag()
    await clinic.db.execute(update, clinic.party.connection.id, NEW)
    assert await clinic.good() == [NEW]
    assert await clinic.tag() > tag
    assert await clinic.redeem(new, NEW) == 201
    await clinic.db.execute(update, clinic.party.connection.id, OLD)
    assert await clinic.redeem(code, OLD) == MISMATCH
    assert await clinic.good() == [OLD]


async def test_an_administrator_ends_a_transition_by_an_upsert(clinic: Clinic, internal: httpx.AsyncClient) -> None:
    path = f"/admin/clients/{clinic.party.client_id}/connections"
    body = {"consumer_id": str(clinic.party.client_id)}
    await clinic.begin()
    for redirect_uri, good in ((None, [OLD, NEW]), (NEW, [NEW])):
        given = body if redirect_uri is None else body | {"redirect_uri": redirect_uri}
        assert (await internal.put(path, json=given)).status_code == 200
        assert await clinic.good() == good
    assert await clinic.actions() == ["begin_transition", "complete_transition"]
