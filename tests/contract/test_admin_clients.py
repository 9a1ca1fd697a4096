"""Administration of clients, `/admin/clients` (rules CLI-9 to CLI-14)."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from support import administering, factories, granting
from support.administering import (
    MISSING,
    NO_UUID,
    NOT_FOUND,
    REQUIRED,
    cast,
    data_of,
    error_of,
    events,
    invalid,
    is_good,
    wire,
)
from support.factories import Db
from support.servers import Server

pytestmark = pytest.mark.anyio

LIST = "/admin/clients"
ACCESS_TYPE_REQUIRED: dict[str, Any] = {"rule": None, "description": "access_type required.", "params": []}
ACCESS_TYPE_INVALID: dict[str, Any] = {"rule": None, "description": "access_type is invalid.", "params": []}


@pytest.fixture
async def fields(db: Db) -> dict[str, Any]:
    """Return the required fields of a new client."""
    owner = await factories.client(db)
    type_id = await db.fetchval("SELECT client_type_id FROM clients WHERE id = $1", owner.id)
    return {"name": "Клініка", "user_id": str(owner.user_id), "client_type_id": str(type_id)}


async def row_of(db: Db, client_id: object) -> dict[str, Any]:
    row = await db.fetchrow("SELECT * FROM clients WHERE id = $1", UUID(str(client_id)))
    assert row is not None
    shown = {name: value for name, value in row.items() if name not in ("last_revocation", "type_since")}
    return shown | {name: json.loads(row[name]) for name in ("settings", "priv_settings")}


async def view_of(db: Db, client_id: object) -> dict[str, Any]:
    """Return the fields of the answers from the database."""
    row = await row_of(db, client_id)
    ids = {name: str(row[name]) for name in ("id", "user_id", "client_type_id")}
    return row | ids | {name: wire(row[name]) for name in ("inserted_at", "updated_at")}


async def detailed_view_of(db: Db, client_id: object, type_name: str = "MSP") -> dict[str, Any]:
    return await view_of(db, client_id) | {"client_type_name": type_name}


def one(client_id: object) -> str:
    return f"{LIST}/{client_id}"


async def put(admin: httpx.AsyncClient, client_id: object, **fields: Any) -> httpx.Response:
    return await admin.put(one(client_id), json={"client": fields})


# List and show


async def test_the_list_has_priv_settings_but_no_client_type_name(admin: httpx.AsyncClient, db: Db) -> None:
    client, _ = await factories.client(db, broker_scope="a:b"), await factories.client(db)
    response = await admin.get(LIST, params={"user_id": str(client.user_id)})
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{admin.base_url}{LIST}",
            "type": "list",
            "request_id": administering.REQUEST_ID,
        },
        "data": [await view_of(db, client.id)],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }
    assert response.json()["data"][0]["priv_settings"] == {"access_type": "DIRECT", "broker_scope": "a:b"}


async def test_filters_narrow_the_list(admin: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.user(db)
    blocked = await factories.client(db, user_id=owner, is_blocked=True)
    plain = await factories.client(db, user_id=owner)
    await factories.client(db, is_blocked=True)
    await db.execute("UPDATE clients SET name = 'Моя 50%_ знижка' WHERE id = $1", blocked.id)
    await db.execute("UPDATE clients SET name = 'Моя 50 знижка' WHERE id = $1", plain.id)

    async def listed(**query: str) -> list[str]:
        found = data_of(await admin.get(LIST, params={"user_id": str(owner), **query}))
        return [row["id"] for row in found]

    assert await listed() == [str(blocked.id), str(plain.id)]
    assert await listed(id=str(plain.id).upper()) == [str(plain.id)]
    assert await listed(name="моя 50%_") == [str(blocked.id)]
    assert await listed(is_blocked="false") == [str(plain.id)]
    assert await listed(page="2", page_size="1") == [str(plain.id)]


async def test_every_invalid_filter_is_named(admin: httpx.AsyncClient) -> None:
    response = await admin.get(LIST, params={"user_id": "111", "id": "x", "is_blocked": "perhaps"})
    error = response.json()["error"]
    assert error["message"] == administering.MESSAGE
    assert {(each["entry"], each["rules"][0]["params"][0]) for each in error["invalid"]} == {
        ("$.id", "Elixir.Ecto.UUID"),
        ("$.user_id", "Elixir.Ecto.UUID"),
        ("$.is_blocked", "boolean"),
    }


async def test_a_client_is_shown_with_its_client_type_name(admin: httpx.AsyncClient, db: Db) -> None:
    client, _ = await factories.client(db, client_type="MIS"), await factories.client(db)
    assert data_of(await admin.get(one(client.id))) == await detailed_view_of(db, client.id, "MIS")


async def test_the_details_do_not_have_priv_settings(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db, broker_scope="a:b")
    expected = await detailed_view_of(db, client.id)
    del expected["priv_settings"]
    assert data_of(await admin.get(f"{one(client.id)}/details")) == expected


METHODS = [
    ("GET", "", None),
    ("GET", "/details", None),
    ("DELETE", "", None),
    ("PATCH", "/actions/deactivate_tokens", None),
]


@pytest.mark.parametrize(("verb", "suffix", "body"), METHODS)
async def test_an_unknown_client_is_404_and_a_malformed_id_400(
    admin: httpx.AsyncClient, verb: str, suffix: str, body: object
) -> None:
    assert error_of(await admin.request(verb, one(uuid4()) + suffix)) == NOT_FOUND
    status, error = error_of(await admin.request(verb, one("1380df72") + suffix))
    assert (status, error["type"]) == (400, "request_malformed")


# Add


async def test_a_new_client_gets_the_defaults(admin: httpx.AsyncClient, db: Db, fields: dict[str, Any]) -> None:
    # The caller cannot choose `id`, `settings` is blank, and unknown fields are ignored.
    sent = fields | {"id": str(uuid4()), "settings": "", "secret": "x", "redirect_uri": "https://a.example"}
    response = await admin.post(LIST, json={"client": sent})
    data = data_of(response, 201)
    assert data == await view_of(db, data["id"])
    assert data | {"inserted_at": None, "updated_at": None} == fields | {
        "id": data["id"],
        "settings": {},
        "priv_settings": {"access_type": "BROKER"},
        "is_blocked": False,
        "block_reason": None,
        "inserted_at": None,
        "updated_at": None,
    }
    assert data["id"] != sent["id"]
    assert response.headers["location"] == one(data["id"])
    assert await events(db, data["id"]) == [
        {
            "action": "client.create",
            "client_id": UUID(data["id"]),
            "old": None,
            "new": fields
            | {
                "settings": {},
                "priv_settings": {"access_type": "BROKER"},
                "is_blocked": False,
                "block_reason": None,
            },
        }
    ]


async def test_a_new_client_takes_every_field(admin: httpx.AsyncClient, db: Db, fields: dict[str, Any]) -> None:
    more = {
        "settings": {"allowed_grant_types": ["password"], "public": True, "other": {"a": [1]}},
        "priv_settings": {"access_type": "DIRECT", "broker_scope": "a:b"},
        "is_blocked": True,
        "block_reason": "moved",
    }
    data = data_of(await admin.post(LIST, json={"client": fields | more}), 201)
    assert data == await view_of(db, data["id"])
    assert {name: data[name] for name in more} == more


async def test_nulls_are_named_in_alphabetical_order(admin: httpx.AsyncClient, db: Db) -> None:
    names = ["name", "user_id", "client_type_id", "settings", "priv_settings"]
    before = await db.fetchval("SELECT count(*) FROM clients")
    response = await admin.post(LIST, json={"client": dict.fromkeys(names)})
    assert error_of(response) == invalid(**dict.fromkeys(sorted(names), REQUIRED))
    assert await db.fetchval("SELECT count(*) FROM clients") == before


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "  "}, {"name": REQUIRED}),
        ({"name": 5}, {"name": cast("string")}),
        ({"name": "nul \0"}, {"name": cast("string")}),
        ({"user_id": "1380df72"}, {"user_id": NO_UUID}),
        ({"client_type_id": "MSP"}, {"client_type_id": NO_UUID}),
        ({"user_id": str(uuid4())}, {"user": MISSING}),
        ({"client_type_id": str(uuid4())}, {"client_type": MISSING}),
        ({"settings": []}, {"settings": cast("map")}),
        ({"settings": "text"}, {"settings": cast("map")}),
        ({"settings": {"allowed_grant_types": "password"}}, {"settings__allowed_grant_types": cast("array")}),
        ({"is_blocked": "true"}, {"is_blocked": cast("boolean")}),
        ({"priv_settings": "DIRECT"}, {"priv_settings": cast("map")}),
        ({"priv_settings": {}}, {"priv_settings": ACCESS_TYPE_REQUIRED}),
        ({"priv_settings": {"access_type": None}}, {"priv_settings": ACCESS_TYPE_REQUIRED}),
        ({"priv_settings": {"access_type": "broker"}}, {"priv_settings": ACCESS_TYPE_INVALID}),
        ({"priv_settings": {"access_type": ["DIRECT"]}}, {"priv_settings": ACCESS_TYPE_INVALID}),
        (
            {"priv_settings": {"access_type": "DIRECT", "broker_scope": ["a:b"]}},
            {"priv_settings__broker_scope": cast("string")},
        ),
    ],
)
async def test_every_method_names_an_invalid_field(
    admin: httpx.AsyncClient, db: Db, fields: dict[str, Any], wrong: dict[str, Any], error: dict[str, Any]
) -> None:
    there = await factories.client(db)
    before = await row_of(db, there.id)
    body = {"client": fields | wrong}
    assert error_of(await admin.post(LIST, json=body)) == invalid(**error)
    assert error_of(await admin.put(one(uuid4()), json=body)) == invalid(**error)
    assert error_of(await admin.patch(one(there.id), json={"client": wrong})) == invalid(**error)
    assert await row_of(db, there.id) == before


@pytest.mark.parametrize("body", [{}, {"client": "x"}, [], {"name": "bare"}])
async def test_a_body_without_the_wrapper_is_400(admin: httpx.AsyncClient, db: Db, body: object) -> None:
    client = await factories.client(db)
    for response in (await admin.post(LIST, json=body), await admin.put(one(client.id), json=body)):
        status, error = error_of(response)
        assert (status, error["type"]) == (400, "request_malformed")


# Change, or add by id


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
async def test_a_put_adds_a_missing_client_under_its_id(
    admin: httpx.AsyncClient, db: Db, fields: dict[str, Any], verb: str
) -> None:
    client_id = uuid4()
    response = await admin.request(verb, one(client_id), json={"client": fields})
    assert data_of(response) == await view_of(db, client_id)
    assert response.json()["data"]["priv_settings"] == {"access_type": "BROKER"}
    assert "location" not in response.headers
    assert [event["action"] for event in await events(db, client_id)] == ["client.create"]


async def test_a_put_of_a_missing_client_requires_the_fields_of_a_new_one(admin: httpx.AsyncClient, db: Db) -> None:
    client_id = uuid4()
    error = invalid(client_type_id=REQUIRED, user_id=REQUIRED)
    assert error_of(await put(admin, client_id, name="Half")) == error
    assert not await db.fetchval("SELECT count(*) FROM clients WHERE id = $1", client_id)


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
async def test_a_field_that_is_not_sent_is_not_changed(admin: httpx.AsyncClient, db: Db, verb: str) -> None:
    client, other = await factories.client(db, broker_scope="a:b"), await factories.client(db)
    before, other_before = await row_of(db, client.id), await row_of(db, other.id)
    response = await admin.request(verb, one(str(client.id).upper()), json={"client": {"name": "Інша"}})
    after = await row_of(db, client.id)
    assert data_of(response) == await view_of(db, client.id)
    assert {name for name in after if after[name] != before[name]} == {"name", "updated_at"}
    assert await row_of(db, other.id) == other_before
    assert await events(db, client.id) == [
        {
            "action": "client.update",
            "client_id": client.id,
            "old": {"name": before["name"]},
            "new": {"name": "Інша"},
        }
    ]


async def test_a_value_that_is_already_set_changes_nothing(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    before = await row_of(db, client.id)
    assert data_of(await put(admin, client.id, name=before["name"], settings={})) == await view_of(db, client.id)
    assert await row_of(db, client.id) == before
    assert await events(db, client.id) == []


async def test_a_block_reason_can_be_removed(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    await db.execute("UPDATE clients SET block_reason = 'moved' WHERE id = $1", client.id)
    assert data_of(await put(admin, client.id, block_reason=None))["block_reason"] is None
    assert error_of(await put(admin, client.id, is_blocked=None)) == invalid(is_blocked=REQUIRED)


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
async def test_unblocking_does_not_restore_the_tokens_that_blocking_revoked(
    admin: httpx.AsyncClient, db: Db, verb: str
) -> None:
    client, other = await factories.client(db), await factories.client(db)
    tokens = [await factories.token(db, client=client, name=name) for name in ("access_token", "refresh_token")]
    others = await factories.token(db, client=other, user_id=client.user_id)
    assert await is_good(admin, tokens[0])
    blocked = {"is_blocked": True, "block_reason": "moved"}
    data = data_of(await admin.request(verb, one(client.id), json={"client": blocked}))
    assert {name: data[name] for name in blocked} == blocked
    assert not await is_good(admin, tokens[0])
    assert await is_good(admin, others)
    await put(admin, client.id, is_blocked=False)
    assert not await is_good(admin, tokens[0])
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE client_id = $1 AND expires_at > now()", client.id) == 0
    assert [event["new"] for event in await events(db, client.id)] == [blocked, {"is_blocked": False}]


async def test_blocking_also_revokes_the_tokens_of_a_running_grant(
    admin: httpx.AsyncClient, db: Db, server: Server
) -> None:
    client = await factories.client(db)
    grant = await asyncpg.connect(server.database_url)
    async with grant.transaction():
        token = await factories.token(grant, client=client)
        blocking = asyncio.create_task(put(admin, client.id, is_blocked=True))
        await _waits_for_a_lock(db)
    data_of(await blocking)
    await put(admin, client.id, is_blocked=False)
    assert not await is_good(admin, token)
    await grant.close()


async def test_a_grant_that_waits_for_a_block_issues_nothing(http: httpx.AsyncClient, db: Db, server: Server) -> None:
    party = await granting.party(db)
    form = {
        "grant_type": "authorization_code",
        "code": await granting.code(server, party),
        "redirect_uri": party.redirect_uri,
    }
    blocking = await asyncpg.connect(server.database_url)
    async with blocking.transaction():
        await blocking.execute("SELECT FROM clients WHERE id = $1 FOR UPDATE", party.client_id)
        await blocking.execute("UPDATE clients SET is_blocked = true WHERE id = $1", party.client_id)
        grant = asyncio.create_task(http.post("/oauth2/token", data=form, auth=party.basic))
        await _waits_for_a_lock(db)
    assert (await grant).status_code in (400, 401)
    names = await db.fetch("SELECT name FROM tokens WHERE client_id = $1", party.client_id)
    assert [row["name"] for row in names] == ["authorization_code"]
    await blocking.close()


async def test_other_changes_do_not_revoke_tokens(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    token = await factories.token(db, client=client)
    data_of(await put(admin, client.id, name="Інша", is_blocked=False, block_reason="none"))
    assert await is_good(admin, token)


async def test_of_simultaneous_puts_one_adds_and_the_others_change(
    admin: httpx.AsyncClient, db: Db, fields: dict[str, Any]
) -> None:
    client_id = uuid4()
    names = [f"Name {number}" for number in range(8)]
    answers = await asyncio.gather(*(put(admin, client_id, **fields | {"name": name}) for name in names))
    assert [answer.status_code for answer in answers] == [200] * 8
    recorded = await events(db, client_id)
    assert [event["action"] for event in recorded] == ["client.create"] + ["client.update"] * 7
    assert {event["new"]["name"] for event in recorded} == set(names)
    assert (await row_of(db, client_id))["name"] == recorded[-1]["new"]["name"]


# Delete, and revoke tokens


async def test_deleting_a_client_deletes_everything_that_belongs_to_it(admin: httpx.AsyncClient, db: Db) -> None:
    client, other = await factories.client(db), await factories.client(db)
    own = await factories.connection(db, client_id=client.id)
    used = await factories.connection(db, client_id=client.id, consumer_id=other.id)
    using = await factories.connection(db, client_id=other.id, consumer_id=client.id)
    untouched = await factories.connection(db, client_id=other.id)
    role_id, approval_id = await _role_and_approval(db, client)
    token, through, kept = (
        await factories.token(db, client=client),
        await factories.token(db, client=other, connection_id=using.id),
        await factories.token(db, client=other, connection_id=untouched.id),
    )
    before = await row_of(db, client.id)
    response = await admin.delete(one(client.id))
    assert (response.status_code, response.content) == (204, b"")
    assert error_of(await admin.get(one(client.id))) == NOT_FOUND
    assert [await is_good(admin, each) for each in (token, through, kept)] == [False, False, True]
    left = await db.fetch("SELECT id FROM connections WHERE $1 IN (client_id, consumer_id)", other.id)
    assert [row["id"] for row in left] == [untouched.id]
    [gone] = await events(db, client.id)
    assert (gone["action"], gone["client_id"], gone["new"]) == ("client.delete", client.id, None)
    assert gone["old"] == {
        "name": before["name"],
        "settings": {},
        "priv_settings": {"access_type": "DIRECT"},
        "user_id": str(client.user_id),
        "client_type_id": str(before["client_type_id"]),
        "is_blocked": False,
        "block_reason": None,
    }
    for connection in (own, used, using):
        [gone] = await events(db, connection.id)
        assert gone == {
            "action": "connection.delete",
            "client_id": connection.client_id,
            "old": {
                "client_id": str(connection.client_id),
                "consumer_id": str(connection.consumer_id),
                "redirect_uri": "https://old.example.com/callback",
                "secret_tail": connection.secret[-4:],
            },
            "new": None,
        }
    assert [event["action"] for event in await events(db, role_id)] == ["user_role.delete"]
    assert [event["action"] for event in await events(db, approval_id)] == ["approval.delete"]


async def test_deactivating_revokes_every_active_token_of_the_client(admin: httpx.AsyncClient, db: Db) -> None:
    client, other = await factories.client(db, client_type="MIS"), await factories.client(db)
    token = await factories.token(db, client=client)
    await factories.token(db, client=client, name="refresh_token", user_id=other.user_id)
    await factories.token(db, client=client, expires_in=-60)
    others = await factories.token(db, client=other, user_id=client.user_id)
    response = await admin.patch(f"{one(client.id)}/actions/deactivate_tokens")
    assert data_of(response) == await detailed_view_of(db, client.id, "MIS")
    assert [await is_good(admin, each) for each in (token, others)] == [False, True]
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE client_id = $1 AND expires_at > now()", client.id) == 0
    assert await events(db, client.id) == [
        {"action": "client.deactivate_tokens", "client_id": client.id, "old": None, "new": {"tokens": 2}}
    ]
    # Unlike a blocked client it can have new tokens.
    assert await is_good(admin, await factories.token(db, client=client))


async def _role_and_approval(db: Db, client: factories.Client) -> tuple[UUID, UUID]:
    role = await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, 'a:b') RETURNING id", f"role-{uuid4()}")
    role_id = await db.fetchval(
        "INSERT INTO user_roles (user_id, client_id, role_id) VALUES ($1, $2, $3) RETURNING id",
        client.user_id,
        client.id,
        role,
    )
    approval_id = await db.fetchval(
        "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'a:b') RETURNING id", client.user_id, client.id
    )
    return role_id, approval_id


async def _waits_for_a_lock(db: Db) -> None:
    """Return when another session of this database waits for a lock."""
    waiting = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    while not await db.fetchval(waiting):
        pass
