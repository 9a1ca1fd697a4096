"""POST /auth/login: the answer to a correct password, each refusal in its order, and the limits on guessing."""

import asyncio
import threading
import time
from collections.abc import Iterator
from unittest.mock import AsyncMock
from uuid import uuid4

import argon2
import httpx
import pytest

from mithril import security
from mithril.throttling import store as throttling
from mithril.users import service as users
from support import factories, oauth_world
from support.factories import Db
from support.oauth_world import PASSWORD, World, authorize, invalid, login, refusal
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

WRONG = (401, "access_denied", "Identity, password combination is wrong.")
TOO_MANY = (401, "access_denied", "You reached login attempts limit. Try again later")
WRONG_CLIENT = (401, "invalid_client", "Invalid client id.")
NOT_OF_ROLES = "User requested scope that is not allowed by role based access policies."
ATTEMPTS = 10
PER_ADDRESS = 25
PER_USER = 30
LIMITS = {"max_failed_logins_per_address": PER_ADDRESS, "max_failed_logins_per_user": PER_USER}
HERE = "127.0.0.1"
ELSEWHERE = [f"192.0.2.{number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server whose limits for one IP address and for all are low enough for a test."""
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, trusted_proxies=HERE, **LIMITS) as running,
    ):
        yield running


@pytest.fixture
async def world(db: Db) -> World:
    await db.execute("DELETE FROM attempts")  # all tests share one IP address
    return await oauth_world.make(db)


def at(http: httpx.AsyncClient, network_address: str) -> httpx.AsyncClient:
    """Return a client that calls from that IP address."""
    return httpx.AsyncClient(base_url=http.base_url, headers={"X-Forwarded-For": network_address}, timeout=60)


async def count_of(db: Db, key: str) -> int | None:
    counted: int | None = await db.fetchval("SELECT count FROM attempts WHERE key = $1", key)
    return counted


async def administrative(db: Db) -> factories.Client:
    client = await factories.client(db, client_type="NHS ADMIN")
    scope = "app:authorize connection:write user:change_password"
    await db.execute("UPDATE client_types SET scope = $1 WHERE name = 'NHS ADMIN'", scope)
    await oauth_world.set_settings(db, client.id, allowed_grant_types=["password"])
    return client


async def fail(http: httpx.AsyncClient, world: World, times: int) -> None:
    for _ in range(times):
        assert refusal(await login(http, world, password="wrong")) == WRONG


# A correct password


async def test_a_correct_password_issues_a_session_token(http: httpx.AsyncClient, world: World) -> None:
    began = int(time.time())
    response = await login(http, world, unknown="ignored")
    body = response.json()
    assert response.status_code == 201
    assert set(body) == {"meta", "data", "urgent"}
    assert body["urgent"] == {"next_step": "REQUEST_APPS"}
    assert list(body["data"]) == ["id", "name", "value", "expires_at", "user_id", "details"]
    assert body["data"]["name"] == "access_token"
    assert body["data"]["user_id"] == str(world.user_id)
    assert began + 3600 <= body["data"]["expires_at"] <= time.time() + 3600
    assert list(body["data"]["details"].items()) == [
        ("grant_type", "password"),
        ("client_id", str(world.front.id)),
        ("scope", "app:authorize"),
    ]
    assert (await authorize(http, world, body["data"]["value"])).status_code == 201


async def test_a_login_to_change_the_password_issues_a_token_for_that_only(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    await db.execute("UPDATE users SET password_set_at = now() - interval '91 days' WHERE id = $1", world.user_id)
    response = await login(http, world, grant_type="change_password", scope="user:change_password")
    data = response.json()["data"]
    assert response.status_code == 201
    assert data["name"] == "change_password_token"
    assert data["details"]["scope"] == "user:change_password"
    assert refusal(await authorize(http, world, data["value"])) == (401, "access_denied", "Access denied")


async def test_a_login_to_an_administrative_client_gives_no_more_than_the_roles_allow(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    """A user without any role there must not act for every client by a password alone."""
    client = await administrative(db)
    scope = "app:authorize connection:write"
    alone = await login(http, world, client_id=str(client.id), scope=scope)
    assert refusal(alone) == (422, "request_malformed", NOT_OF_ROLES)
    named = [rule["params"] for rule in alone.json()["error"]["invalid"][0]["rules"]]
    assert named == [{"scope": name, "reason": "role"} for name in scope.split()]
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE client_id = $1", client.id) == 0

    await oauth_world.give_role(db, world.user_id, client.id, scope="connection:write")
    there = await login(http, world, client_id=str(client.id), scope=scope)
    assert there.json()["data"]["details"]["scope"] == "connection:write"
    await oauth_world.give_role(db, world.user_id, None, scope="app:authorize client:write")
    both = await login(http, world, client_id=str(client.id), scope=scope)
    assert both.json()["data"]["details"]["scope"] == scope
    new_password = {"grant_type": "change_password", "scope": "user:change_password"}
    assert (await login(http, world, client_id=str(client.id), **new_password)).status_code == 201


async def test_the_letter_case_of_an_email_does_not_matter(http: httpx.AsyncClient, world: World) -> None:
    assert (await login(http, world, email=world.email.upper())).status_code == 201


async def test_a_login_revokes_the_older_sessions_of_the_same_user_and_client(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    other = await oauth_world.make(db)
    first, foreign = await login(http, world), await login(http, other)
    second = await login(http, world)
    sessions = [response.json()["data"]["value"] for response in (first, second)]
    assert [(await authorize(http, world, session)).status_code for session in sessions] == [401, 201]
    assert (await authorize(http, other, foreign.json()["data"]["value"])).status_code == 201


async def test_a_second_factor_is_required_before_a_session(http: httpx.AsyncClient, db: Db, world: World) -> None:
    await db.execute("INSERT INTO authentication_factors (user_id, type) VALUES ($1, 'SMS')", world.user_id)
    body = (await login(http, world)).json()
    assert body["urgent"] == {"next_step": "REQUEST_FACTOR"}
    assert body["data"]["name"] == "2fa_access_token"
    assert list(body["data"]["details"].items()) == [
        ("grant_type", "password"),
        ("client_id", str(world.front.id)),
        ("scope", ""),
        ("scope_request", "app:authorize"),
    ]


# Each refusal, in its order


async def test_all_missing_fields_are_named_at_once(http: httpx.AsyncClient, world: World) -> None:
    response = await login(http, world, email="", password=None, client_id="  ", scope=["app:authorize"])
    assert invalid(response) == {
        "$.client_id": ["required"],
        "$.email": ["required"],
        "$.password": ["required"],
        "$.scope": ["cast"],
    }
    message = response.json()["error"]["message"]
    assert message.startswith("Validation failed. You can find validators description at our API Manifest: ")


@pytest.mark.parametrize(("email", "rule"), [("a\0@b.example", "format"), ("a" * 256, "length")])
async def test_an_impossible_email_is_refused(http: httpx.AsyncClient, world: World, email: str, rule: str) -> None:
    assert invalid(await login(http, world, email=email)) == {"$.email": [rule]}


async def test_the_client_is_checked_before_the_user(http: httpx.AsyncClient, db: Db, world: World) -> None:
    nobody = {"email": "nobody@clinic.example", "scope": "no:such"}
    for client_id in ("no-uuid", str(uuid4())):
        assert refusal(await login(http, world, client_id=client_id, **nobody)) == WRONG_CLIENT
    await oauth_world.set_settings(db, world.front.id, allowed_grant_types=["digital_signature"])
    not_allowed = (401, "access_denied", "Client is not allowed to issue login token.")
    for grant_type in ("password", "change_password"):
        assert refusal(await login(http, world, grant_type=grant_type, **nobody)) == not_allowed
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", world.front.id)
    assert refusal(await login(http, world, **nobody)) == (401, "access_denied", "Client is blocked.")


async def test_unknown_user_wrong_password_and_blocked_user_get_the_same_answer(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    _, without_password = await oauth_world.person(db, password_hash=None)
    for email in ("nobody@clinic.example", world.email, without_password):
        assert refusal(await login(http, world, email=email, password="wrong", scope="no:such")) == WRONG
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", world.user_id)
    assert refusal(await login(http, world, password="wrong")) == WRONG


async def test_with_a_correct_password_each_refusal_is_named_in_its_order(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    """At each step everything that is checked later is wrong too."""
    wrong = {"scope": "no:such"}
    cabinet = await factories.client(db, client_type="CABINET")
    await oauth_world.set_settings(db, cabinet.id, allowed_grant_types=["password"])
    await db.execute(
        "UPDATE users SET is_blocked = true, password_set_at = now() - interval '90 days' WHERE id = $1", world.user_id
    )
    assert refusal(await login(http, world, **wrong)) == (401, "user_blocked", "User blocked.")
    await db.execute("UPDATE users SET is_blocked = false WHERE id = $1", world.user_id)
    not_registered = (403, "forbidden", "User is not registered")
    assert refusal(await login(http, world, client_id=str(cabinet.id), **wrong)) == not_registered
    expired = (401, "password_expired", f"The password expired for user: {world.user_id}")
    assert refusal(await login(http, world, **wrong)) == expired
    of_type = (422, "request_malformed", "Scope is not allowed by client type.")
    assert refusal(await login(http, world, grant_type="change_password", **wrong)) == of_type
    for_change = (401, "access_denied", "Allowed scopes for the token are user:change_password.")
    assert refusal(await login(http, world, grant_type="change_password")) == for_change
    await db.execute("UPDATE users SET password_set_at = now() WHERE id = $1", world.user_id)
    assert refusal(await login(http, world, **wrong)) == of_type
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", world.user_id) == 0


# Limits on guessing


async def test_the_eleventh_attempt_is_refused_even_with_the_correct_password(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    other = await oauth_world.make(db)
    await fail(http, world, ATTEMPTS)
    assert refusal(await login(http, world)) == TOO_MANY
    assert refusal(await login(http, world, email=world.email.upper())) == TOO_MANY
    assert (await login(http, other)).status_code == 201


async def test_an_unknown_user_is_locked_out_like_a_known_one(http: httpx.AsyncClient, world: World) -> None:
    answers = [await login(http, world, email="nobody@clinic.example") for _ in range(ATTEMPTS + 1)]
    assert [refusal(answer) for answer in answers] == [WRONG] * ATTEMPTS + [TOO_MANY]


async def test_logins_succeed_after_the_pause(http: httpx.AsyncClient, db: Db, world: World) -> None:
    await fail(http, world, ATTEMPTS)
    assert refusal(await login(http, world)) == TOO_MANY
    await db.execute("UPDATE attempts SET started_at = started_at - interval '10 minutes'")
    assert (await login(http, world)).status_code == 201


async def test_a_correct_password_resets_the_counter(http: httpx.AsyncClient, world: World) -> None:
    await fail(http, world, ATTEMPTS - 1)
    assert (await login(http, world)).status_code == 201
    await fail(http, world, ATTEMPTS - 1)
    assert (await login(http, world)).status_code == 201


@pytest.mark.slow
async def test_one_ip_address_cannot_try_many_users(http: httpx.AsyncClient, world: World) -> None:
    for number in range(PER_ADDRESS):
        assert refusal(await login(http, world, email=f"person-{number}@guess.example")) == WRONG
    assert refusal(await login(http, world, email="one-more@guess.example")) == TOO_MANY
    assert refusal(await login(http, world)) == TOO_MANY


@pytest.mark.slow
async def test_an_ipv6_network_is_one_place(http: httpx.AsyncClient, world: World) -> None:
    """The caller chooses the last 64 bits."""
    async with at(http, "") as caller:
        for number in range(ATTEMPTS):
            caller.headers["X-Forwarded-For"] = f"2001:db8:1:2:{number + 1:x}::{number:x}"
            await fail(caller, world, 1)
        caller.headers["X-Forwarded-For"] = "2001:db8:1:2:ffff:ffff:ffff:ffff"
        assert refusal(await login(caller, world)) == TOO_MANY
        for number in range(ATTEMPTS, PER_ADDRESS):
            caller.headers["X-Forwarded-For"] = f"2001:db8:1:2::{number:x}"
            assert refusal(await login(caller, world, email=f"person-{number}@guess.example")) == WRONG
        assert refusal(await login(caller, world, email="one-more@guess.example")) == TOO_MANY
        caller.headers["X-Forwarded-For"] = "2001:db8:1:3::1"
        assert (await login(caller, world)).status_code == 201


async def test_an_ipv4_address_that_is_mapped_into_ipv6_is_the_same_place(
    http: httpx.AsyncClient, world: World
) -> None:
    async with at(http, "::ffff:192.0.2.1") as mapped, at(http, "192.0.2.1") as plain:
        await fail(mapped, world, ATTEMPTS)
        assert refusal(await login(plain, world)) == TOO_MANY
    async with at(http, "::ffff:192.0.2.2") as neighbour:
        assert (await login(neighbour, world)).status_code == 201


async def test_wrong_passwords_elsewhere_do_not_lock_a_user_out(http: httpx.AsyncClient, world: World) -> None:
    async with at(http, ELSEWHERE[0]) as attacker:
        await fail(attacker, world, ATTEMPTS)
        assert refusal(await login(attacker, world)) == TOO_MANY
        assert (await login(http, world)).status_code == 201
        assert refusal(await login(attacker, world)) == TOO_MANY


async def test_a_correct_password_resets_the_counter_of_its_own_place_only(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    async with at(http, ELSEWHERE[0]) as attacker:
        await fail(attacker, world, ATTEMPTS - 1)
        await fail(http, world, ATTEMPTS - 1)
        assert (await login(http, world)).status_code == 201
        await fail(http, world, ATTEMPTS - 1)
        await fail(attacker, world, 1)
        assert refusal(await login(attacker, world)) == TOO_MANY
    assert await count_of(db, f"login:{world.email}") == 3 * ATTEMPTS - 2


@pytest.mark.parametrize("who", ["known", "unknown"])
async def test_wrong_passwords_from_many_places_are_limited_for_each_user(
    http: httpx.AsyncClient, db: Db, world: World, who: str
) -> None:
    email = world.email if who == "known" else "nobody@clinic.example"
    for place in ELSEWHERE[:3]:
        async with at(http, place) as attacker:
            for _ in range(PER_USER // 3):
                assert refusal(await login(attacker, world, email=email, password="wrong")) == WRONG
    assert refusal(await login(http, world, email=email)) == TOO_MANY
    assert (await login(http, await oauth_world.make(db))).status_code == 201
    await db.execute("UPDATE attempts SET started_at = started_at - interval '10 minutes'")
    assert refusal(await login(http, world, email=email, password="wrong")) == WRONG


async def test_simultaneous_attempts_from_many_places_are_all_counted(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    callers = [at(http, place) for place in ELSEWHERE]
    answers = await asyncio.gather(
        *(login(caller, world, password="wrong") for caller in callers for _ in range(ATTEMPTS))
    )
    told = [refusal(answer) for answer in answers]
    assert (told.count(WRONG), told.count(TOO_MANY)) == (PER_USER, len(ELSEWHERE) * ATTEMPTS - PER_USER)
    for caller in callers:
        await caller.aclose()


async def test_simultaneous_attempts_from_one_place_do_not_lock_a_user_out_elsewhere(
    http: httpx.AsyncClient, db: Db, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are sent before the first is counted."""
    monkeypatch.setattr(throttling, "is_exhausted", AsyncMock(return_value=False))
    async with at(http, ELSEWHERE[0]) as attacker:
        answers = await asyncio.gather(*(login(attacker, world, password="wrong") for _ in range(PER_USER + 1)))
    assert [refusal(answer) for answer in answers].count(WRONG) == ATTEMPTS
    assert await count_of(db, f"login:{world.email}") == ATTEMPTS
    assert (await login(http, world)).status_code == 201


async def test_no_other_email_address_counts_for_a_user(http: httpx.AsyncClient, db: Db, world: World) -> None:
    """A key has the e-mail address and the place; a caller may send the place as a part of the e-mail address."""
    async with at(http, ELSEWHERE[0]) as attacker:
        for _ in range(ATTEMPTS):
            assert refusal(await login(attacker, world, email=f"{world.email} {HERE}")) == WRONG
    assert (await login(http, world)).status_code == 201


async def test_correct_passwords_do_not_count_against_an_ip_address(http: httpx.AsyncClient, world: World) -> None:
    for _ in range(PER_ADDRESS + 2):
        assert (await login(http, world)).status_code == 201


async def test_simultaneous_attempts_are_all_counted(http: httpx.AsyncClient, db: Db, world: World) -> None:
    answers = await asyncio.gather(*(login(http, world, password="wrong") for _ in range(2 * ATTEMPTS)))
    told = [refusal(answer) for answer in answers]
    assert (told.count(WRONG), told.count(TOO_MANY)) == (ATTEMPTS, ATTEMPTS)
    counted = await count_of(db, f"login-at:{world.email} {HERE}")
    assert counted is not None
    assert ATTEMPTS <= counted <= 2 * ATTEMPTS  # beyond the limit an attempt is refused without counting


async def test_simultaneous_correct_passwords_are_not_counted_as_failures(
    http: httpx.AsyncClient, world: World
) -> None:
    await fail(http, world, ATTEMPTS - 1)
    answers = await asyncio.gather(*(login(http, world) for _ in range(PER_ADDRESS + 2)))
    assert {answer.status_code for answer in answers} == {201}
    await fail(http, world, ATTEMPTS)
    assert refusal(await login(http, world)) == TOO_MANY


async def test_a_correct_guess_among_too_many_simultaneous_ones_is_refused(
    http: httpx.AsyncClient, db: Db, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent before the first wrong one, and checked after the last."""
    is_there, may_go_on = threading.Event(), threading.Event()
    judge = users._is_password

    def judge_the_right_one_last(password: str, known_hash: str | None) -> bool:
        if password == PASSWORD:
            is_there.set()
            assert may_go_on.wait(30)
        return judge(password, known_hash)

    monkeypatch.setattr(users, "_is_password", judge_the_right_one_last)
    right = asyncio.create_task(login(http, world))
    assert await asyncio.to_thread(is_there.wait, 30)
    await fail(http, world, ATTEMPTS)
    may_go_on.set()
    assert refusal(await right) == TOO_MANY
    assert await count_of(db, f"login-at:{world.email} {HERE}") == ATTEMPTS
    assert await count_of(db, f"login:{world.email}") == ATTEMPTS


async def test_an_unknown_user_costs_the_same_time_as_a_wrong_password(
    http: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked by the compared hashes, because a clock would measure other work of the machine."""
    compared: list[str] = []
    compare = security.is_password

    def noted(password: str, password_hash: str) -> bool:
        compared.append(password_hash)
        return compare(password, password_hash)

    monkeypatch.setattr(security, "is_password", noted)
    for email in (world.email, "nobody@clinic.example", "nobody@clinic.example"):
        assert refusal(await login(http, world, email=email, password="wrong")) == WRONG
    assert len(compared) == len(set(compared)) == 3
    assert len({str(argon2.extract_parameters(each)) for each in compared}) == 1


def test_the_random_hash_of_an_unknown_user_costs_as_much_as_a_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_PASSWORDS", argon2.PasswordHasher())
    random, real = security.random_hash(), security.hash_password(PASSWORD)
    assert argon2.extract_parameters(random) == argon2.extract_parameters(real)
    with pytest.raises(argon2.exceptions.VerifyMismatchError):  # it was computed, and not refused for its form
        argon2.PasswordHasher().verify(random, PASSWORD)


def test_no_password_matches_the_random_hash() -> None:
    assert not users._is_password("", None)
    assert not users._is_password(PASSWORD, None)
