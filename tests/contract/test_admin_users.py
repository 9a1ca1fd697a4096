"""Administration of users, `/admin/users` (rules USR-1 to USR-11)."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import structlog

from mithril import security
from mithril.users import fields
from support import administering, described, factories, oauth_world, racing
from support.administering import (
    HEADERS,
    NOT_FOUND,
    REQUIRED,
    TAKEN,
    cast,
    data_of,
    error_of,
    events,
    invalid,
    is_good,
    wire,
)
from support.factories import Db
from support.oauth_world import PASSWORD, PASSWORD_HASH
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

USERS = "/admin/users"
OTHER_PASSWORD = "Battery-Staple-8"
SHOWN = ("id", "email", "tax_id", "person_id", "settings", "is_blocked", "block_reason", "inserted_at", "updated_at")
MALFORMED = "request_malformed"
NO_EMAIL: dict[str, Any] = {
    "rule": "email",
    "description": "is not a valid email",
    "params": [f"~r/^{fields.EMAIL.pattern}$/"],
}
NO_PHONE: dict[str, Any] = {"rule": "format", "description": "invalid phone", "params": []}
TOO_SHORT: dict[str, Any] = {
    "rule": "length",
    "description": "should be at least 12 character(s)",
    "params": {"min": 12},
}
TOO_SIMPLE: dict[str, Any] = {
    "rule": "format",
    "description": "Password does not meet complexity requirements",
    "params": ["~r/^(?=.*[a-zа-яёїієґ])(?=.*[A-ZА-ЯЁЇIЄҐ])(?=.*\\d)/"],  # noqa: RUF001 -- the text of the original
}
USED: dict[str, Any] = {
    "rule": "password_used",
    "description": "This password has been used recently. Try another one",
    "params": [],
}
NOT_CHANGED: dict[str, Any] = {"rule": "required", "description": "is not changed", "params": []}
MISMATCH: dict[str, Any] = {
    "rule": "password",
    "description": "password does not match password in field current_password",
    "params": [],
}


@pytest.fixture
def single_factor(postgres: str) -> Iterator[Server]:
    """A server that creates a second factor only when it is asked for."""
    with fresh_database(postgres) as url, running_server(database_url=url, user_2fa_enabled=False) as running:
        yield running


def new_email() -> str:
    return f"person-{uuid4()}@clinic.example"


def one(user_id: object) -> str:
    return f"{USERS}/{user_id}"


async def person(db: Db, *, password: str | None = PASSWORD, is_blocked: bool = False, **columns: Any) -> UUID:
    user_id = await factories.user(db, is_blocked=is_blocked)
    columns["password_hash"] = PASSWORD_HASH if password == PASSWORD else password
    for name, value in columns.items():
        await db.execute(f"UPDATE users SET {name} = $2 WHERE id = $1", user_id, value)
    return user_id


async def view_of(db: Db, user_id: object) -> dict[str, Any]:
    """Return the fields of the answers from the database."""
    row = await db.fetchrow("SELECT * FROM users WHERE id = $1", UUID(str(user_id)))
    assert row is not None
    shown = {name: row[name] for name in SHOWN} | {"id": str(row["id"]), "settings": json.loads(row["settings"])}
    return shown | {name: wire(row[name]) for name in ("inserted_at", "updated_at")}


async def factors_of(db: Db, user_id: object) -> list[tuple[Any, ...]]:
    rows = await db.fetch("SELECT * FROM authentication_factors WHERE user_id = $1", UUID(str(user_id)))
    return [(row["type"], row["factor"], row["is_active"]) for row in rows]


async def hash_of(db: Db, user_id: object) -> str:
    found: str = await db.fetchval("SELECT password_hash FROM users WHERE id = $1", UUID(str(user_id)))
    return found


async def tokens_of(db: Db, user_id: UUID) -> list[str]:
    """Add two active tokens with two clients."""
    return [
        await factories.token(db, client=await factories.client(db), user_id=user_id),
        await factories.token(db, client=await factories.client(db), user_id=user_id, name="refresh_token"),
    ]


async def living(db: Db, user_id: UUID) -> int:
    found: int = await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1 AND expires_at > now()", user_id)
    return found


async def create(admin: httpx.AsyncClient, **given: Any) -> httpx.Response:
    return await admin.post(USERS, json={"user": {"email": new_email(), "password": PASSWORD} | given})


async def change(admin: httpx.AsyncClient, user_id: object, **given: Any) -> httpx.Response:
    return await admin.patch(one(user_id), json={"user": given})


async def act(admin: httpx.AsyncClient, user_id: object, action: str, **given: Any) -> httpx.Response:
    return await admin.patch(f"{one(user_id)}/actions/{action}", json={"user": given})


# List and show


async def test_the_list_has_the_published_fields_in_the_envelope(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, _ = await person(db, settings='{"a": [1]}', tax_id="3067305998", person_id="p"), await person(db)
    response = await admin.get(USERS, params={"id": str(user_id).upper()})
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{admin.base_url}{USERS}",
            "type": "list",
            "request_id": administering.REQUEST_ID,
        },
        "data": [await view_of(db, user_id)],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }


async def test_filters_narrow_the_list(admin: httpx.AsyncClient, db: Db) -> None:
    email, tax_id = new_email(), str(uuid4())
    first = await person(db, email=email, tax_id=tax_id)
    second = await person(db, tax_id=tax_id, is_blocked=True)
    await person(db), await person(db, email=f"x{email}", tax_id=f"{tax_id}0")

    async def listed(**query: str) -> list[str]:
        return [row["id"] for row in data_of(await admin.get(USERS, params=query))]

    assert await listed(tax_id=tax_id) == [str(first), str(second)]
    assert await listed(tax_id=tax_id, is_blocked="true") == [str(second)]
    assert await listed(email=email.upper()) == [str(first)]
    assert await listed(email=email[1:]) == []
    assert await listed(ids=f"{second},{str(first).upper()}") == [str(first), str(second)]
    assert await listed(ids=f"{first},{second}", page="2", page_size="1") == [str(second)]


async def test_every_invalid_filter_is_named(admin: httpx.AsyncClient) -> None:
    response = await admin.get(USERS, params={"id": "1", "ids": "1,2", "is_blocked": "perhaps", "page": "0"})
    assert {each["entry"]: each["rules"][0]["params"] for each in response.json()["error"]["invalid"]} == {
        "$.id": ["Elixir.Ecto.UUID"],
        "$.ids": ["Elixir.Core.Ecto.CommaParamsUUID"],
        "$.is_blocked": ["boolean"],
        "$.page": {"greater_than_or_equal_to": 1},
    }


async def test_a_user_is_shown_without_password_fields(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    response = await admin.get(one(user_id))
    assert data_of(response) == await view_of(db, user_id)
    assert tuple(response.json()["data"]) == SHOWN


@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"user": {"tax_id": "1"}}),
        ("PATCH", "", {"user": {"password": PASSWORD}}),
        ("DELETE", "", None),
        ("PATCH", "/actions/block", None),
        ("PATCH", "/actions/unblock", {"user": {}}),
        ("PATCH", "/actions/change_password", {"user": {"password": PASSWORD, "current_password": "x"}}),
    ],
)
async def test_an_unknown_user_is_404_and_a_malformed_id_400(
    admin: httpx.AsyncClient, method: str, tail: str, body: Any
) -> None:
    given = {} if body is None else {"json": body}
    assert error_of(await admin.request(method, one(uuid4()) + tail, **given)) == NOT_FOUND
    status, error = error_of(await admin.request(method, one("me") + tail, **given))
    assert (status, error["type"]) == (400, MALFORMED)


# Create


async def test_a_new_user_has_the_defaults_and_a_second_factor_without_a_phone(
    admin: httpx.AsyncClient, db: Db
) -> None:
    email = new_email()
    response = await create(admin, email=email.upper(), id=str(uuid4()))
    made = data_of(response, 201)
    assert made == await view_of(db, made["id"])
    assert (made["email"], made["tax_id"], made["settings"], made["is_blocked"]) == (email, "", {}, False)
    assert response.headers["location"] == one(made["id"])
    assert security.is_password(PASSWORD, await hash_of(db, made["id"]))
    assert await factors_of(db, made["id"]) == [("SMS", None, True)]


async def test_all_fields_of_a_new_user_are_stored_and_audited(admin: httpx.AsyncClient, db: Db) -> None:
    given = {"tax_id": "3067305998", "person_id": "p-1", "settings": {"a": {}}, "is_blocked": True}
    given |= {"block_reason": "not yet"}
    made = data_of(await create(admin, **given), 201)
    assert {name: made[name] for name in given} == given
    (event,) = await events(db, made["id"])
    assert (event["action"], event["old"]) == ("user.create", None)
    assert event["new"].items() >= (given | {"email": made["email"]}).items()
    assert not {"password", "password_hash"} & event["new"].keys()


@pytest.mark.parametrize(
    ("given", "factors"),
    [
        ({"2fa_enable": True, "factor": "+380501234567", "otp": 1}, [("SMS", "+380501234567", True)]),
        ({"factor": "+380501234567"}, [("SMS", "+380501234567", True)]),
        ({"2fa_enable": None}, [("SMS", None, True)]),
        ({"2fa_enable": False, "factor": "+380501234567"}, []),
        ({"2fa_enable": "true"}, []),
    ],
)
async def test_a_second_factor_is_created_with_the_user_when_asked_for(
    admin: httpx.AsyncClient, db: Db, given: dict[str, Any], factors: list[Any]
) -> None:
    made = data_of(await create(admin, **given), 201)
    assert await factors_of(db, made["id"]) == factors
    for row in await db.fetch("SELECT id FROM authentication_factors WHERE user_id = $1", UUID(made["id"])):
        assert [event["action"] for event in await events(db, row["id"])] == ["authentication_factor.create"]


async def test_without_the_setting_a_second_factor_is_created_only_when_asked_for(single_factor: Server) -> None:
    db: Db = await asyncpg.connect(single_factor.database_url)
    async with described.client(single_factor.internal_url, headers=HEADERS) as admin:
        plain = data_of(await create(admin), 201)
        asked = data_of(await create(admin, **{"2fa_enable": True}), 201)
        await change(admin, plain["id"], factor="+380501234567")
    assert await factors_of(db, plain["id"]) == []
    assert await factors_of(db, asked["id"]) == [("SMS", None, True)]
    await db.close()


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({"email": None, "password": " "}, {"email": REQUIRED, "password": REQUIRED}),
        ({"email": "no address"}, {"email": NO_EMAIL}),
        ({"email": "a@b"}, {"email": NO_EMAIL}),
        ({"email": "a@clinic.example\n"}, {"email": NO_EMAIL}),
        ({"email": "ІВАН@clinic.example"}, {"email": NO_EMAIL}),  # noqa: RUF001 -- Cyrillic
        ({"password": "short"}, {"password": [TOO_SHORT, TOO_SIMPLE]}),
        ({"password": "all-small-letters-1"}, {"password": TOO_SIMPLE}),
        ({"factor": "0501234567"}, {"factor": NO_PHONE}),
        ({"factor": "+380501234567\n", "tax_id": 7}, {"factor": NO_PHONE, "tax_id": cast("string")}),
        ({"settings": None, "is_blocked": None}, {"is_blocked": REQUIRED, "settings": REQUIRED}),
        ({"settings": [], "is_blocked": "yes"}, {"is_blocked": cast("boolean"), "settings": cast("map")}),
        ({"block_reason": "\0", "settings": {"a": "\0"}}, {"block_reason": cast("string"), "settings": cast("string")}),
        ({"email": 1, "password": 2, "factor": 3}, dict.fromkeys(("email", "factor", "password"), cast("string"))),
    ],
)
async def test_every_violated_rule_of_a_new_user_is_named(
    admin: httpx.AsyncClient, given: dict[str, Any], rules: dict[str, Any]
) -> None:
    assert error_of(await create(admin, **given)) == invalid(**rules)


async def test_a_too_long_email_is_refused_for_its_length(admin: httpx.AsyncClient) -> None:
    rule = {"rule": "length", "description": "should be at most 255 character(s)", "params": {"max": 255}}
    assert error_of(await create(admin, email="a" * 60_000)) == invalid(email=rule)


async def test_a_body_without_the_wrapper_is_malformed(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    for response in (
        await admin.post(USERS, json={"email": new_email()}),
        await admin.put(one(user_id), json={"user": []}),
        await admin.patch(f"{one(user_id)}/actions/change_password", json={}),
    ):
        status, error = error_of(response)
        assert (status, error["type"]) == (400, MALFORMED)


async def test_an_email_is_unique_in_any_letter_case(admin: httpx.AsyncClient, db: Db) -> None:
    email = new_email()
    await person(db, email=email)
    other = await person(db)
    assert error_of(await create(admin, email=email.upper())) == invalid(email=TAKEN)
    assert error_of(await change(admin, other, email=email.title())) == invalid(email=TAKEN)


async def test_of_simultaneous_users_with_one_email_one_is_created(admin: httpx.AsyncClient, db: Db) -> None:
    email = new_email()
    answers = await asyncio.gather(*(create(admin, email=email) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422, 422]
    # A refusal leaves no user, no second factor and no audit row.
    assert await db.fetchval("SELECT count(*) FROM audit_events WHERE new ->> 'email' = $1", email) == 1


# Change


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_change_changes_nothing_else(admin: httpx.AsyncClient, db: Db, method: str) -> None:
    user_id = await person(db, tax_id="1", person_id="2", settings='{"a": 1}', block_reason="once")
    before, email = dict(await view_of(db, user_id)), new_email()
    body = {"user": {"email": email.upper(), "settings": {"b": None}, "id": str(uuid4()), "unknown": 1}}
    changed = data_of(await admin.request(method, one(user_id), json=body))
    assert changed == await view_of(db, user_id)
    assert changed == before | {"email": email, "settings": {"b": None}, "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > before["updated_at"]
    assert await hash_of(db, user_id) == PASSWORD_HASH
    assert await factors_of(db, user_id) == []
    assert await events(db, user_id) == [
        {
            "action": "user.update",
            "client_id": None,
            "old": {"email": before["email"], "settings": {"a": 1}},
            "new": {"email": email, "settings": {"b": None}},
        }
    ]


async def test_a_change_without_a_difference_leaves_no_audit_row(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db, tax_id="1")
    before = await view_of(db, user_id)
    assert data_of(await change(admin, user_id, tax_id="1")) == before
    assert data_of(await change(admin, user_id)) == before
    assert await events(db, user_id) == []


async def test_blank_text_is_empty_and_required_fields_cannot_be_blank(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db, tax_id="1", person_id="2", block_reason="once")
    changed = data_of(await change(admin, user_id, tax_id=None, person_id="", block_reason=None))
    assert (changed["tax_id"], changed["person_id"], changed["block_reason"]) == ("", "", None)
    blank = dict.fromkeys(("email", "password", "settings", "is_blocked"))
    assert error_of(await change(admin, user_id, **blank)) == invalid(
        email=REQUIRED, is_blocked=REQUIRED, password=REQUIRED, settings=REQUIRED
    )


async def test_a_given_phone_becomes_the_second_factor(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, other = await person(db), await person(db)
    await db.execute("INSERT INTO authentication_factors (user_id, type) VALUES ($1, 'SMS')", other)
    await change(admin, user_id, factor="+380501234567")
    assert await factors_of(db, user_id) == [("SMS", "+380501234567", True)]
    await change(admin, user_id, factor="+380671234567")
    assert await factors_of(db, user_id) == [("SMS", "+380671234567", True)]
    await change(admin, user_id, factor="+380991234567", **{"2fa_enable": False})
    await change(admin, user_id, tax_id="1")
    assert await factors_of(db, user_id) == [("SMS", "+380671234567", True)]
    await change(admin, user_id, factor=None)
    assert await factors_of(db, user_id) == [("SMS", None, True)]
    assert await factors_of(db, other) == [("SMS", None, True)]


async def test_a_new_password_revokes_the_tokens_and_is_not_in_the_audit_trail(
    admin: httpx.AsyncClient, db: Db
) -> None:
    user_id, bystander = await person(db), await person(db)
    token, _ = await tokens_of(db, user_id)
    await tokens_of(db, bystander)
    assert await is_good(admin, token)
    assert data_of(await change(admin, user_id, password=OTHER_PASSWORD)) == await view_of(db, user_id)
    assert not await is_good(admin, token)
    assert (await living(db, user_id), await living(db, bystander)) == (0, 2)
    assert security.is_password(OTHER_PASSWORD, await hash_of(db, user_id))
    (event,) = await events(db, user_id)
    assert event == {"action": "user.change_password", "client_id": None, "old": None, "new": None}


async def test_a_used_password_is_refused_and_nothing_changes(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    token, _ = await tokens_of(db, user_id)
    assert error_of(await change(admin, user_id, password=PASSWORD, tax_id="9")) == invalid(password=USED)
    assert error_of(await change(admin, user_id, password="weak")) == invalid(password=[TOO_SHORT, TOO_SIMPLE])
    assert (await view_of(db, user_id))["tax_id"] == ""
    assert await is_good(admin, token)
    data_of(await change(admin, user_id, password=OTHER_PASSWORD))
    assert error_of(await change(admin, user_id, password=PASSWORD)) == invalid(password=USED)


async def test_a_change_that_blocks_a_user_revokes_the_tokens(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, bystander = await person(db), await person(db)
    token, _ = await tokens_of(db, user_id)
    await tokens_of(db, bystander)
    changed = data_of(await change(admin, user_id, is_blocked=True, block_reason="fraud", email=new_email()))
    assert (changed["is_blocked"], changed["block_reason"]) == (True, "fraud")
    assert not await is_good(admin, token)
    assert (await living(db, user_id), await living(db, bystander)) == (0, 2)


# Delete


async def test_a_deleted_user_leaves_only_audit_rows(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db, tax_id="77")
    client = await factories.client(db)
    own = await factories.client(db, user_id=user_id)
    token = await factories.token(db, client=client, user_id=user_id)
    await db.execute("INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, 'a')", user_id, client.id)
    await db.execute("INSERT INTO authentication_factors (user_id, type) VALUES ($1, 'SMS')", user_id)
    response = await admin.delete(one(user_id))
    assert (response.status_code, response.content) == (204, b"")
    assert not await is_good(admin, token)
    for table in ("tokens", "apps", "authentication_factors", "clients"):
        assert await db.fetchval(f"SELECT count(*) FROM {table} WHERE user_id = $1", user_id) == 0
    assert await db.fetchval("SELECT count(*) FROM clients WHERE id = ANY ($1)", [client.id, own.id]) == 1
    (event,) = await events(db, user_id)
    assert (event["action"], event["old"]["tax_id"], event["new"]) == ("user.delete", "77", None)
    assert "password_hash" not in event["old"]
    assert error_of(await admin.delete(one(user_id))) == NOT_FOUND


# Block and unblock


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"json": {"user": {"block_reason": "fraud"}}}, "fraud"),
        ({"json": {"user": {}}}, None),
        ({"json": {"user": "malformed"}}, None),
        ({"json": []}, None),
        ({}, None),
    ],
)
async def test_blocking_revokes_every_token_at_once(
    admin: httpx.AsyncClient, db: Db, given: dict[str, Any], reason: str | None
) -> None:
    user_id, bystander = await person(db), await person(db)
    token, _ = await tokens_of(db, user_id)
    kept, _ = await tokens_of(db, bystander)
    blocked = data_of(await admin.patch(f"{one(user_id)}/actions/block", **given))
    assert blocked == await view_of(db, user_id)
    assert (blocked["is_blocked"], blocked["block_reason"]) == (True, reason)
    assert not await is_good(admin, token)
    assert await is_good(admin, kept)
    assert (await living(db, user_id), await living(db, bystander)) == (0, 2)
    (event,) = await events(db, user_id)
    assert event["action"] == "user.block"
    assert event["new"]["is_blocked"] is True
    assert event["new"].get("block_reason") == reason


async def test_a_blocked_user_cannot_be_blocked_again(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db, is_blocked=True, block_reason="first")
    conflict = (409, {"type": "request_conflict", "message": "user already blocked"})
    assert error_of(await act(admin, user_id, "block", block_reason="second")) == conflict
    assert (await view_of(db, user_id))["block_reason"] == "first"
    assert error_of(await act(admin, user_id, "block", block_reason=1)) == invalid(block_reason=cast("string"))
    assert error_of(await act(admin, user_id, "block", block_reason="\0")) == invalid(block_reason=cast("string"))
    assert await events(db, user_id) == []


async def test_of_simultaneous_blocks_one_succeeds(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    answers = await asyncio.gather(*(act(admin, user_id, "block") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(await events(db, user_id)) == 1


@pytest.mark.parametrize("way", ["action", "change"])
async def test_unblocking_resets_failures_and_restores_no_token(admin: httpx.AsyncClient, db: Db, way: str) -> None:
    user_id = await person(db, is_blocked=True, block_reason="codes", otp_error_count=3)
    email = (await view_of(db, user_id))["email"]
    others = [f"login:x{email}", f"login-at:x{email} 192.0.2.1", f"login-at:{email}x 192.0.2.1"]
    own = [f"login:{email}", f"otp-send:{user_id}", f"login-at:{email} 192.0.2.1", f"login-at:{email} 2001:db8::/64"]
    counters = own + others
    await db.executemany("INSERT INTO attempts (key, count) VALUES ($1, 10)", [(key,) for key in counters])
    # An administrator may add tokens of a blocked user.
    token, _ = await tokens_of(db, user_id)
    if way == "action":
        unblocked = data_of(await act(admin, user_id, "unblock", block_reason="is honest"))
    else:
        unblocked = data_of(await change(admin, user_id, is_blocked=False, block_reason="is honest"))
    assert unblocked == await view_of(db, user_id)
    assert (unblocked["is_blocked"], unblocked["block_reason"]) == (False, "is honest")
    assert await db.fetchval("SELECT otp_error_count FROM users WHERE id = $1", user_id) == 0
    left = await db.fetch("SELECT key FROM attempts WHERE key = ANY ($1)", counters)
    assert {row["key"] for row in left} == set(others)
    assert not await is_good(admin, token)
    (event,) = await events(db, user_id)
    assert event["action"] == ("user.unblock" if way == "action" else "user.update")
    assert event["old"] == {"is_blocked": True, "block_reason": "codes"}
    assert event["new"] == {"is_blocked": False, "block_reason": "is honest"}


async def test_an_active_user_cannot_be_unblocked(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    token, _ = await tokens_of(db, user_id)
    conflict = (409, {"type": "request_conflict", "message": "user already unblocked"})
    assert error_of(await act(admin, user_id, "unblock")) == conflict
    assert await is_good(admin, token)


async def test_a_block_waits_for_a_code_exchange_and_revokes_its_tokens(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db
) -> None:
    world = await oauth_world.make(db)
    code = await oauth_world.code_of(http, db, world)
    # The exchange waits at the code, with the rows of user and approval locked.
    async with db.transaction():
        await db.execute("SELECT FROM tokens WHERE digest = $1 FOR UPDATE", security.digest(code))
        exchanging = await racing.sent(db, oauth_world.exchange(http, world, code), waiting=1)
        blocking = await racing.sent(db, act(admin, world.user_id, "block"), waiting=2)
    exchanged = await exchanging
    assert (exchanged.status_code, (await blocking).status_code) == (201, 200)
    assert await living(db, world.user_id) == 0
    data_of(await act(admin, world.user_id, "unblock"))
    assert not await is_good(admin, exchanged.json()["data"]["value"], api_key=world.key)


async def test_a_login_that_waits_for_a_block_issues_nothing(
    http: httpx.AsyncClient, admin: httpx.AsyncClient, db: Db
) -> None:
    world = await oauth_world.make(db)
    async with db.transaction():
        await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", world.user_id)
        logging_in = await racing.sent(db, oauth_world.login(http, world), waiting=1)
    assert oauth_world.refusal(await logging_in) == (401, "user_blocked", "User blocked.")
    assert await living(db, world.user_id) == 0


# Change of password


async def test_a_password_is_changed_with_the_current_one(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    token, _ = await tokens_of(db, user_id)
    given = {"password": OTHER_PASSWORD, "current_password": PASSWORD, "is_blocked": True, "email": new_email()}
    before = await view_of(db, user_id)
    changed = data_of(await act(admin, user_id, "change_password", **given))
    assert changed == before | {"updated_at": changed["updated_at"]}
    assert not await is_good(admin, token)
    assert await living(db, user_id) == 0
    assert security.is_password(OTHER_PASSWORD, await hash_of(db, user_id))
    assert [event["action"] for event in await events(db, user_id)] == ["user.change_password"]


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({}, {"current_password": REQUIRED, "password": NOT_CHANGED}),
        ({"current_password": PASSWORD}, {"password": NOT_CHANGED}),
        ({"current_password": PASSWORD, "password": PASSWORD}, {"password": NOT_CHANGED}),
        ({"current_password": PASSWORD, "password": "weak"}, {"password": [TOO_SHORT, TOO_SIMPLE]}),
        ({"current_password": 1, "password": OTHER_PASSWORD}, {"current_password": cast("string")}),
        ({"current_password": "wrong", "password": OTHER_PASSWORD}, {"current_password": MISMATCH}),
        ({"current_password": "wrong", "password": PASSWORD}, {"current_password": MISMATCH, "password": USED}),
    ],
)
async def test_a_refused_password_changes_nothing(
    admin: httpx.AsyncClient, db: Db, given: dict[str, Any], rules: dict[str, Any]
) -> None:
    user_id = await person(db)
    token, _ = await tokens_of(db, user_id)
    assert error_of(await act(admin, user_id, "change_password", **given)) == invalid(**rules)
    assert await is_good(admin, token)
    assert await hash_of(db, user_id) == PASSWORD_HASH
    assert await events(db, user_id) == []


async def test_a_user_without_a_password_cannot_change_it(admin: httpx.AsyncClient, db: Db) -> None:
    given = {"current_password": "None", "password": OTHER_PASSWORD}
    answer = await act(admin, await person(db, password=None), "change_password", **given)
    assert error_of(answer) == invalid(current_password=MISMATCH)


async def test_of_two_simultaneous_password_changes_one_succeeds(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await person(db)
    given = [{"current_password": PASSWORD, "password": f"{OTHER_PASSWORD}-{number}"} for number in range(2)]
    answers = await asyncio.gather(*(act(admin, user_id, "change_password", **each) for each in given))
    assert sorted(answer.status_code for answer in answers) == [200, 422]


# Secrets


async def test_no_password_and_no_hash_is_in_log_audit_or_answers(admin: httpx.AsyncClient, db: Db) -> None:
    with structlog.testing.capture_logs() as logged:
        made = await create(admin, password="Very-Secret-Horse-1")
        user_id = made.json()["data"]["id"]
        given = {"current_password": "Very-Secret-Horse-1", "password": "Very-Secret-Horse-2"}
        answers = [
            made,
            await create(admin, password="very-secret-horse"),
            await act(admin, user_id, "change_password", **given),
            await change(admin, user_id, password="Very-Secret-Horse-3"),
            await admin.get(one(user_id)),
        ]
    trail = await db.fetch("SELECT concat(old::text, new::text) FROM audit_events WHERE subject_id = $1", UUID(user_id))
    seen = " ".join([repr(logged), *(answer.text for answer in answers), *(row[0] for row in trail)]).lower()
    assert "very-secret" not in seen
    assert "argon2" not in seen
    assert len(trail) == 3


async def test_no_user_route_answers_on_the_public_listener(http: httpx.AsyncClient) -> None:
    assert (await http.get(USERS)).status_code == 404
