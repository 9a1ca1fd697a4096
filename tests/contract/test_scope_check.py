"""The check of scopes: it grants exactly what an authorization would grant."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import factories, oauth_world
from support.factories import Db, bearer
from support.oauth_world import ASKED, World, authorize, refusal
from support.servers import Server

pytestmark = pytest.mark.anyio

CHECK = "/api/scopes/check"
FORBIDDEN = (403, "forbidden", "Forbidden")


async def check(
    http: httpx.AsyncClient, client_id: object, headers: dict[str, str], *, scope: str = ASKED
) -> httpx.Response:
    return await http.post(CHECK, json={"client_id": str(client_id), "scope": scope}, headers=headers)


def judged(response: httpx.Response) -> dict[str, str | None]:
    """Return the reason of each scope, in the order of the answer; None where it is granted."""
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"meta", "data"}
    scopes = response.json()["data"].pop("scopes")
    assert all(set(each) == {"scope", "granted", "reason"} for each in scopes)
    assert all(each["granted"] is (each["reason"] is None) for each in scopes)
    return {each["scope"]: each["reason"] for each in scopes}


async def test_each_scope_is_judged_and_nothing_changes(http: httpx.AsyncClient, db: Db, world: World) -> None:
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    await oauth_world.give_role(db, world.user_id, world.clinic.id, scope="legal_entity:read employee:read")
    narrow = """UPDATE clients SET priv_settings = '{"broker_scope": "legal_entity:read"}' WHERE id = $1"""
    await db.execute(narrow, world.mis.id)
    headers = bearer(await oauth_world.session_of(db, world))
    asked = "  no:such  legal_entity:read user:change_password connection:write employee:read no:such "
    assert list(judged(await check(http, world.clinic.id, headers, scope=asked)).items()) == [
        ("no:such", "unknown"),
        ("legal_entity:read", None),
        ("user:change_password", "client_type"),
        ("connection:write", "role"),
        ("employee:read", "broker"),
    ]
    for table in ("apps", "audit_events"):
        column = "user_id" if table == "apps" else "actor_user_id"
        assert await db.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = $1", world.user_id) == 0


async def test_a_session_may_ask_about_any_client_and_another_token_only_about_its_own(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    other = await oauth_world.make(db)
    program = bearer((await oauth_world.tokens_of(http, db, world, scope=f"app:authorize {ASKED}"))[0])
    program["API-key"] = world.key
    by_hand = bearer(await factories.token(db, client=world.front, user_id=world.user_id, scope="client:read"))
    administrator = await factories.client(db, client_type="NHS")
    administrators = bearer(await factories.token(db, client=administrator, scope="client:read"))
    session = bearer(await oauth_world.session_of(db, world))
    assert set(judged(await check(http, world.clinic.id, session)).values()) == {None}
    assert set(judged(await check(http, other.clinic.id, session)).values()) == {"role"}
    assert set(judged(await check(http, str(world.clinic.id).upper(), program)).values()) == {None}
    assert set(judged(await check(http, world.front.id, by_hand)).values()) == {"client_type"}
    for headers in (program, by_hand, administrators):
        for foreign in (other.clinic.id, uuid4(), "no-uuid"):
            assert refusal(await check(http, foreign, headers)) == FORBIDDEN


async def test_it_is_refused_as_an_authorization_is(http: httpx.AsyncClient, db: Db, world: World) -> None:
    session = bearer(await oauth_world.session_of(db, world))
    blocked = await factories.client(db, is_blocked=True)
    assert refusal(await http.post(CHECK, json={})) == (401, "access_denied", "Access denied")
    for unknown in (uuid4(), "no-uuid"):
        assert refusal(await check(http, unknown, session)) == (401, "access_denied", "Invalid client id.")
    assert refusal(await check(http, blocked.id, session)) == (401, "access_denied", "Client is blocked.")
    for empty in ("", "   "):
        same = await authorize(http, world, session["Authorization"].split()[1], scope=empty)
        assert refusal(await check(http, world.clinic.id, session, scope=empty)) == refusal(same)


@pytest.mark.parametrize(
    ("body", "rules"),
    [
        ({}, {"$.client_id": ["required"], "$.scope": ["required"]}),
        ({"client_id": 7, "scope": ["a:read"]}, {"$.client_id": ["cast"], "$.scope": ["cast"]}),
        ({"client_id": "x", "scope": "a:read", "scopes": "", "user_id": None}, {"$.scopes": ["schema"]}),
        ({"client_id": "x", "scope": "a\u00a0b"}, {"$.scope": ["format"]}),
        ({"client_id": "x", "scope": 'a"b\n'}, {"$.scope": ["format"]}),
    ],
)
async def test_an_unknown_or_malformed_property_is_refused(
    http: httpx.AsyncClient, db: Db, world: World, body: dict[str, Any], rules: dict[str, list[str]]
) -> None:
    response = await http.post(CHECK, json=body, headers=bearer(await oauth_world.session_of(db, world)))
    found = oauth_world.invalid(response)
    assert found == rules | ({"$.user_id": ["schema"]} if "user_id" in body else {})


async def test_only_the_connection_of_the_api_key_counts(http: httpx.AsyncClient, db: Db, world: World) -> None:
    """The other MIS may use less, and its client could get the scope only through the first one."""
    narrow = await factories.client(db, client_type="MIS", broker_scope="legal_entity:read")
    key = (await factories.connection(db, client_id=narrow.id)).secret
    uri = "https://narrow.example.com/callback"
    await factories.connection(db, client_id=world.clinic.id, consumer_id=narrow.id, redirect_uri=uri)
    session = await oauth_world.session_of(db, world)
    assert set(judged(await check(http, world.clinic.id, bearer(session))).values()) == {None}
    assert set(judged(await check(http, world.clinic.id, bearer(session, api_key=world.key))).values()) == {None}
    through = judged(await check(http, world.clinic.id, bearer(session, api_key=key)))
    assert through == {"legal_entity:read": None, "connection:write": "broker"}


# Against authorizations


@dataclass(frozen=True)
class Setting:
    """What bounds a client and its user. The last of the names is in none of the bounds."""

    access_type: str
    of_type: frozenset[str]
    of_role: frozenset[str]
    of_global_role: frozenset[str]
    brokers: list[tuple[frozenset[str] | None, bool, bool]]
    """Of each consumer: what it may use as a broker, whether it is blocked, and whether its redirect URI is shared."""
    asked: frozenset[str]


NAMES = [f"property:{number}" for number in range(5)]
SOME = st.frozensets(st.sampled_from(NAMES[:-1]))
MOST = st.builds(frozenset(NAMES[:-1]).difference, st.frozensets(st.sampled_from(NAMES[:-1]), max_size=1))
SETTINGS = st.builds(
    Setting,
    st.sampled_from(["BROKER", "BROKER", "DIRECT"]),
    MOST,
    MOST | SOME,
    SOME,
    st.lists(st.tuples(st.none() | MOST | SOME, st.sampled_from([False, False, True]), st.booleans()), max_size=3),
    st.frozensets(st.sampled_from(NAMES), min_size=1),
)


async def add(db: Db, chosen: Setting) -> tuple[UUID, str, list[str]]:
    """Add all this; return the client, a session of the user, and the client's redirect URIs."""
    kind = f"Type {uuid4()}"
    await db.execute("INSERT INTO client_types (name, scope) VALUES ($1, $2)", kind, " ".join(chosen.of_type))
    client = await factories.client(db, client_type=kind, access_type=chosen.access_type)
    front = await factories.client(db, client_type="Auth_FE")
    await oauth_world.give_role(db, client.user_id, client.id, scope=" ".join(chosen.of_role))
    await oauth_world.give_role(db, client.user_id, None, scope=" ".join(chosen.of_global_role))
    await oauth_world.give_role(db, front.user_id, client.id, scope=" ".join(NAMES[:-1]))  # of another user
    uris = []
    for scope, is_blocked, is_shared in chosen.brokers:
        text = None if scope is None else " ".join(scope)
        consumer = await factories.client(db, client_type="MIS", broker_scope=text, is_blocked=is_blocked)
        uris.append("https://shared.example.com" if is_shared else f"https://{uuid4()}.example.com")
        await factories.connection(db, client_id=client.id, consumer_id=consumer.id, redirect_uri=uris[-1])
    session = await factories.token(db, client=front, user_id=client.user_id, scope="app:authorize")
    return client.id, session, uris


def compare(server: Server, *, examples: int) -> dict[str, int]:
    """Compare checks with authorizations; return how often each reason was the answer."""
    counted: dict[str, int] = {}
    with asyncio.Runner() as loop, httpx.Client(base_url=server.url) as http:

        def do(work: Coroutine[Any, Any, Any]) -> Any:
            return loop.run(work)

        db = do(asyncpg.connect(server.database_url))

        def post(path: str, body: dict[str, Any], session: str) -> httpx.Response:
            return http.post(path, json=body, headers=bearer(session))

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(chosen=SETTINGS)
        def is_the_same(chosen: Setting) -> None:
            client_id, session, uris = do(add(db, chosen))
            body = {"client_id": str(client_id), "scope": " ".join(sorted(chosen.asked))}
            found = judged(post(CHECK, body, session))
            assert set(found) == chosen.asked
            refused: dict[str, str | None] = {}
            for name, reason in found.items():
                counted[str(reason)] = counted.get(str(reason), 0) + 1
                app = {"client_id": str(client_id), "scope": name}
                answers = [post("/oauth/apps/authorize", {"app": app | {"redirect_uri": u}}, session) for u in uris]
                assert (reason is None) == (201 in {answer.status_code for answer in answers}), (chosen, name)
                refused |= {name: reason} if reason else {}
            if len(uris) == 1 and not chosen.brokers[0][1]:
                whole = post("/oauth/apps/authorize", {"app": body | {"redirect_uri": uris[0]}}, session)
                assert (whole.status_code == 201) == (not refused)
                rules = whole.json()["error"]["invalid"][0]["rules"] if whole.status_code == 422 else []
                assert {rule["params"]["scope"]: rule["params"]["reason"] for rule in rules} == refused

        is_the_same()
        do(db.close())
    return counted


def test_a_scope_is_granted_exactly_where_an_authorization_grants_it(server: Server) -> None:
    assert {"None", "role"} <= set(compare(server, examples=12))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_scope_is_granted_exactly_where_an_authorization_grants_it_in_long_runs(server: Server) -> None:
    counted = compare(server, examples=250)
    assert min(counted[reason] for reason in ("None", "unknown", "client_type", "role", "broker")) > 10
