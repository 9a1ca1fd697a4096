"""A caller with too many refusals gets 429, on every worker, and other callers do not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from mithril.throttling import callers
from mithril.throttling import service as throttling
from support import oauth_world
from support.factories import Db
from support.oauth_world import World
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

LIMITS: dict[str, Any] = {
    "max_failures": 3,
    "max_failures_per_address": 6,
    "trusted_proxies": "127.0.0.1",
    "jwt_secret": "a secret of more than sixty-four bytes, which signs the nonces of a test " * 2,
}


@pytest.fixture(scope="module")
def servers(postgres: str) -> Iterator[tuple[Server, Server]]:
    """Two servers on one database."""
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, **LIMITS) as one,
        running_server(database_url=url, **LIMITS) as two,
    ):
        yield one, two


@pytest.fixture
async def db(servers: tuple[Server, Server]) -> AsyncIterator[Db]:
    """A connection to the database, in which no request has been counted."""
    connection = await asyncpg.connect(servers[0].database_url)
    await connection.execute("TRUNCATE attempts, nonces")
    throttling._over.clear()
    yield connection
    await connection.close()


@pytest.fixture
async def http(servers: tuple[Server, Server], db: Db) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=servers[0].url, headers=at("192.0.2.1")) as client:
        yield client


@pytest.fixture
async def other(servers: tuple[Server, Server]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=servers[1].url, headers=at("192.0.2.1")) as client:
        yield client


def at(address: str) -> dict[str, str]:
    """The headers of a caller with that IP address."""
    return {"X-Forwarded-For": address}


async def guess(http: httpx.AsyncClient, client_id: object, **headers: str) -> httpx.Response:
    """Send a token request with a wrong secret."""
    credentials = {"client_id": str(client_id), "client_secret": str(uuid4())}
    data = {"grant_type": "authorization_code", **credentials}
    return await http.post("/oauth2/token", data=data, headers=headers)


async def test_wrong_secrets_are_answered_until_the_quota_is_used_up(http: httpx.AsyncClient, world: World) -> None:
    answers = [await oauth_world.exchange(http, world, "x", client_secret=f"wrong-{n}") for n in range(4)]
    assert [each.status_code for each in answers] == [401, 401, 401, 429]
    assert answers[0].headers["ratelimit-policy"] == '"client";q=3;w=60, "address";q=6;w=60'
    assert answers[0].headers["ratelimit"] == '"client";r=2;t=60, "address";r=5;t=60'
    refused = answers[3]
    assert refused.json() == {
        "meta": {
            "code": 429,
            "url": f"{http.base_url}/oauth/tokens",
            "type": "object",
            "request_id": refused.headers["x-request-id"],
        },
        "error": {"type": "too_many_requests", "message": "Too many failed attempts. Try again later."},
    }
    assert refused.headers["ratelimit-policy"] == '"client";q=3;w=60'
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["ratelimit"] == f'"client";r=0;t={refused.headers["retry-after"]}'


async def test_beyond_the_quota_a_correct_secret_is_refused_until_the_window_ends(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    code = await oauth_world.code_of(http, db, world)
    for _ in range(3):
        assert (await guess(http, world.clinic.id)).status_code == 400
    assert (await oauth_world.exchange(http, world, code)).status_code == 429
    throttling._over.clear()  # as if the window were over for the worker, which does not read the database
    assert (await oauth_world.exchange(http, world, code)).status_code == 201


async def test_other_clients_and_other_ip_addresses_are_not_limited(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    neighbour = await oauth_world.make(db)
    codes = [await oauth_world.code_of(http, db, each) for each in (world, neighbour)]
    for _ in range(4):
        await guess(http, world.clinic.id)
    assert (await oauth_world.exchange(http, neighbour, codes[1])).status_code == 201
    http.headers.update(at("192.0.2.2"))
    assert (await oauth_world.exchange(http, world, codes[0])).status_code == 201


async def test_an_ip_address_that_tries_many_clients_is_limited(http: httpx.AsyncClient) -> None:
    statuses = [(await guess(http, uuid4())).status_code for _ in range(8)]
    assert statuses == [400] * 6 + [429] * 2


async def test_all_nodes_share_the_counters(http: httpx.AsyncClient, other: httpx.AsyncClient, world: World) -> None:
    nodes = [http, other, http, other, http]
    assert [(await guess(node, world.clinic.id)).status_code for node in nodes] == [400, 400, 400, 429, 429]


async def test_simultaneous_guesses_are_all_counted(http: httpx.AsyncClient, world: World) -> None:
    answers = await asyncio.gather(*(guess(http, world.clinic.id) for _ in range(12)))
    assert sorted(each.status_code for each in answers).count(400) == 3


async def test_successful_requests_are_never_limited_and_cost_no_statement(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    for _ in range(8):
        assert (await oauth_world.login(http, world)).status_code == 201
        await oauth_world.tokens_of(http, db, world)
    assert await db.fetch("SELECT key FROM attempts WHERE starts_with(key, 'refused')") == []


async def test_a_refusal_with_a_correct_secret_is_not_counted(http: httpx.AsyncClient, db: Db, world: World) -> None:
    statuses = [(await oauth_world.exchange(http, world, "no-such-code")).status_code for _ in range(8)]
    assert statuses == [401] * 8
    assert await db.fetch("SELECT key FROM attempts WHERE starts_with(key, 'refused')") == []


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"])
async def test_the_standard_routes_answer_429_in_their_own_format(
    http: httpx.AsyncClient, world: World, path: str
) -> None:
    form = {"client_id": str(world.clinic.id), "client_secret": "wrong", "token": "x", "grant_type": "refresh_token"}
    answers = [await http.post(path, data=form) for _ in range(4)]
    assert [each.status_code for each in answers] == [400, 400, 400, 429]
    assert answers[3].json()["error"] == "temporarily_unavailable"
    assert int(answers[3].headers["retry-after"]) >= 1


@pytest.mark.parametrize("action", ["init_factor", "approve_factor", "update_password"])
async def test_guessing_tokens_of_the_second_factor_is_limited(http: httpx.AsyncClient, action: str) -> None:
    url = f"/oauth/users/actions/{action}"
    headers = {"Authorization": "Bearer guessed"}
    statuses = [(await http.post(url, json={}, headers=headers)).status_code for _ in range(8)]
    assert statuses == [401] * 6 + [429] * 2


async def test_failed_logins_are_also_limited_after_the_pause_of_the_user(
    http: httpx.AsyncClient, world: World
) -> None:
    statuses = [(await oauth_world.login(http, world, password="wrong")).status_code for _ in range(8)]
    assert statuses == [401] * 6 + [429] * 2


async def ask_for_nonce(http: httpx.AsyncClient, world: World) -> httpx.Response:
    return await http.post("/oauth/nonce", json={"client_id": str(world.front.id)})


async def test_each_nonce_counts_against_the_ip_address(
    http: httpx.AsyncClient, other: httpx.AsyncClient, db: Db, world: World
) -> None:
    answers = [await ask_for_nonce(node, world) for node in (http, other, http, other, http, http, http, other)]
    assert [each.status_code for each in answers] == [200] * 6 + [429] * 2
    assert answers[6].json()["error"]["type"] == "too_many_requests"
    assert answers[6].headers["ratelimit-policy"] == '"address";q=6;w=60'
    assert 1 <= int(answers[6].headers["retry-after"]) <= 61
    assert await db.fetchval("SELECT count(*) FROM nonces") == 6
    http.headers.update(at("192.0.2.2"))
    assert (await ask_for_nonce(http, world)).status_code == 200


async def test_simultaneous_requests_for_nonces_are_all_counted(http: httpx.AsyncClient, db: Db, world: World) -> None:
    answers = await asyncio.gather(*(ask_for_nonce(http, world) for _ in range(12)))
    assert sorted(each.status_code for each in answers) == [200] * 6 + [429] * 6
    assert await db.fetchval("SELECT count(*) FROM nonces") == 6


async def test_requests_for_nonces_that_are_refused_count_once(http: httpx.AsyncClient, db: Db, world: World) -> None:
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", world.front.id)
    unknown = {"client_id": str(uuid4())}
    statuses = [(await http.post("/oauth/nonce", json=body)).status_code for body in (unknown, {}, unknown)]
    statuses += [(await ask_for_nonce(http, world)).status_code for _ in range(4)]
    assert statuses == [404, 422, 404, 401, 401, 401, 429]


@pytest.mark.parametrize(
    ("network_address", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("a name", "aname"),
        ("", ""),
        (None, "None"),
    ],
)
def test_an_ipv6_network_is_one_caller(network_address: str | None, place: str) -> None:
    assert callers.place_of(network_address) == place
