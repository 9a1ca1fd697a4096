"""A refused scope is named, with the first reason for which it is refused."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from mithril import refusals
from mithril.oauth.scopes import REFUSALS, Reason
from support import factories, oauth_world
from support.factories import Db
from support.oauth_world import World, authorize, login, refusal

pytestmark = pytest.mark.anyio

OF_TYPE = (422, "request_malformed", "Scope is not allowed by client type.")
OF_ROLES = (422, "request_malformed", "User requested scope that is not allowed by role based access policies.")
OF_BROKER = (422, "request_malformed", "Scope is not allowed by broker.")
WORDS = {
    "unknown": "no client type and no role has the scope",
    "client_type": "the type of the client does not have the scope",
    "role": "no role of the user has the scope",
    "broker": "the broker scope of the consumer does not have the scope",
}


def refused(response: httpx.Response) -> dict[str, str]:
    """Return the reason of each refused scope. The error must name nothing else."""
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert set(error) == {"type", "message", "invalid"}
    (entry,) = error["invalid"]
    assert (entry["entry"], entry["entry_type"], set(entry)) == (
        "$.scope",
        "json_data_property",
        {"entry", "entry_type", "rules"},
    )
    found = {rule["params"]["scope"]: rule["params"]["reason"] for rule in entry["rules"]}
    assert entry["rules"] == [
        {"rule": "scope", "description": WORDS[reason], "params": {"scope": name, "reason": reason}}
        for name, reason in found.items()
    ]
    return found


async def set_role(db: Db, world: World, scope: str) -> None:
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", world.user_id)
    await oauth_world.give_role(db, world.user_id, world.clinic.id, scope=scope)


async def set_broker(db: Db, world: World, scope: str | None) -> None:
    statement = "UPDATE clients SET priv_settings = priv_settings || jsonb_build_object('broker_scope', $2::text)"
    await db.execute(f"{statement} WHERE id = $1", world.mis.id, scope)


async def test_each_refused_scope_has_its_first_reason_and_granted_ones_are_not_listed(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    """Each scope is within fewer bounds than the one before it."""
    of_other_type, of_other_role = f"other:{uuid4()}", f"other:{uuid4()}"
    await db.execute("INSERT INTO client_types (name, scope) VALUES ($1, $2)", str(uuid4()), f"x {of_other_type}  y")
    await db.execute("INSERT INTO roles (name, scope) VALUES ($1, $2)", str(uuid4()), of_other_role)
    await set_role(db, world, "legal_entity:read employee:read")
    await set_broker(db, world, "legal_entity:read connection:write")
    session, unknown = await oauth_world.session_of(db, world), f"no:{uuid4()}"
    asked = ["legal_entity:read", "employee:read", "connection:write", "connection:read", of_other_type, of_other_role]
    response = await authorize(http, world, session, scope=" ".join([*asked, unknown]))
    assert refusal(response) == OF_TYPE
    assert list(refused(response).items()) == [
        ("employee:read", "broker"),
        ("connection:write", "role"),
        ("connection:read", "role"),
        (of_other_type, "client_type"),
        (of_other_role, "client_type"),
        (unknown, "unknown"),
    ]
    response = await authorize(http, world, session, scope="connection:write employee:read legal_entity:read")
    assert refusal(response) == OF_ROLES
    assert refused(response) == {"connection:write": "role", "employee:read": "broker"}
    response = await authorize(http, world, session, scope="employee:read legal_entity:read")
    assert refusal(response) == OF_BROKER
    assert refused(response) == {"employee:read": "broker"}
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", world.user_id) == 0
    assert (await authorize(http, world, session, scope="legal_entity:read")).status_code == 201


async def test_the_broker_of_the_connection_counts_and_no_other(http: httpx.AsyncClient, db: Db, world: World) -> None:
    await set_broker(db, world, "legal_entity:read")
    other = await factories.client(db, client_type="MIS", broker_scope=oauth_world.CLINIC_SCOPE)
    elsewhere = "https://other-mis.example.com/callback"
    await factories.connection(db, client_id=world.clinic.id, consumer_id=other.id, redirect_uri=elsewhere)
    session = await oauth_world.session_of(db, world)
    assert refused(await authorize(http, world, session)) == {"connection:write": "broker"}
    assert (await authorize(http, world, session, redirect_uri=elsewhere)).status_code == 201


@pytest.mark.parametrize("broker_scope", [None, "", "  "])
async def test_a_consumer_that_is_no_broker_bounds_nothing(
    http: httpx.AsyncClient, db: Db, world: World, broker_scope: str | None
) -> None:
    await set_broker(db, world, broker_scope)
    assert (await authorize(http, world, await oauth_world.session_of(db, world))).status_code == 201


async def test_a_client_that_needs_no_broker_is_bounded_by_none(http: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db, is_brokered=False)
    await set_broker(db, world, "legal_entity:read")
    assert (await authorize(http, world, await oauth_world.session_of(db, world))).status_code == 201


async def test_an_empty_or_malformed_scope_keeps_the_published_refusal(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    response = await authorize(http, world, await oauth_world.session_of(db, world), scope="")
    assert response.json()["error"]["invalid"] == [{"entry_type": "request", "rules": [{"rule": "json"}]}]


async def test_a_login_names_what_the_client_type_does_not_have(http: httpx.AsyncClient, world: World) -> None:
    response = await login(http, world, scope="app:authorize legal_entity:read no:such-scope")
    assert refusal(response) == OF_TYPE
    assert refused(response) == {"legal_entity:read": "client_type", "no:such-scope": "unknown"}


async def test_a_back_end_is_told_too(internal: httpx.AsyncClient, world: World) -> None:
    token = {"client_id": str(world.front.id), "scope": "legal_entity:read"}
    response = await internal.post(f"/admin/users/{world.user_id}/tokens/access", json={"token": token})
    assert refusal(response) == OF_TYPE
    assert refused(response) == {"legal_entity:read": "client_type"}


def test_each_reason_has_a_refusal_and_words() -> None:
    assert {str(reason): words for reason, words in zip(Reason, WORDS.values(), strict=True)} == refusals.SCOPE_REASONS
    assert list(REFUSALS) == list(Reason)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, "Refused: s0:read (role)."),
        (5, "Refused: s0:read (role), s1:read (role), s2:read (role), s3:read (role), s4:read (role)."),
        (7, "Refused: s0:read (role), s1:read (role), s2:read (role), s3:read (role), s4:read (role) and 2 more."),
    ],
)
def test_a_description_lists_up_to_five(count: int, told: str) -> None:
    found = refusals.ScopeNotOfRoles({f"s{number}:read": Reason.ROLE for number in range(count)})
    assert found.oauth_description == f"{OF_ROLES[2]} {told}"
    assert len(found.invalid[0].rules) == count


def test_a_long_name_is_cut_in_a_description() -> None:
    found: Any = refusals.ScopeNotOfClientType({"x" * 5000: Reason.UNKNOWN})
    assert found.oauth_description == f"{OF_TYPE[2]} Refused: {'x' * 100} (unknown)."
