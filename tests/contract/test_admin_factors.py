"""Administration of second factors and one-time passwords (rules USR-18 to USR-22)."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from support import administering, factories
from support.administering import NOT_FOUND, REQUIRED, TAKEN, cast, data_of, error_of, events, invalid, wire
from support.factories import Db

pytestmark = pytest.mark.anyio

PHONE, MASKED = "+380881234530", "+38088*****30"
OTPS = "/admin/otps"
NO_PHONE: dict[str, Any] = {"rule": "format", "description": "invalid phone", "params": []}
NOT_SMS: dict[str, Any] = {"rule": "inclusion", "description": "is invalid", "params": ["SMS"]}
USER_FIELDS = ("id", "email", "tax_id", "person_id", "settings", "is_blocked", "block_reason")


def factors_of(user_id: object) -> str:
    return f"/admin/users/{user_id}/authentication_factors"


async def factor(db: Db, user_id: UUID, *, phone: str | None = PHONE, is_active: bool = True) -> UUID:
    made: UUID = await db.fetchval(
        "INSERT INTO authentication_factors (user_id, type, factor, is_active) VALUES ($1, 'SMS', $2, $3) RETURNING id",
        user_id,
        phone,
        is_active,
    )
    return made


async def view_of(db: Db, factor_id: object, *, masked: str | None = MASKED) -> dict[str, Any]:
    """Return the fields of the answers from the database."""
    row = await db.fetchrow("SELECT * FROM authentication_factors WHERE id = $1", UUID(str(factor_id)))
    assert row is not None
    person = await db.fetchrow("SELECT * FROM users WHERE id = $1", row["user_id"])
    assert person is not None
    times = ("inserted_at", "updated_at")
    user = {name: person[name] for name in USER_FIELDS} | {name: wire(person[name]) for name in times}
    return {
        "id": str(row["id"]),
        "factor": masked,
        "is_active": row["is_active"],
        "type": row["type"],
        "user_id": str(row["user_id"]),
        **{name: wire(row[name]) for name in times},
        "user": user | {"id": str(person["id"]), "settings": json.loads(person["settings"])},
    }


async def act(admin: httpx.AsyncClient, user_id: object, factor_id: object, action: str) -> httpx.Response:
    return await admin.patch(f"{factors_of(user_id)}/{factor_id}/actions/{action}")


# List and show


async def test_the_list_has_only_the_factors_of_the_user_with_masked_phones(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await factories.user(db)
    factor_id, _ = await factor(db, user_id), await factor(db, await factories.user(db))
    response = await admin.get(factors_of(user_id))
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{admin.base_url}{factors_of(user_id)}",
            "type": "list",
            "request_id": administering.REQUEST_ID,
        },
        "data": [await view_of(db, factor_id) | {"user": {}}],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }


async def test_filters_narrow_the_list(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await factories.user(db)
    await factor(db, user_id, is_active=False)

    async def listed(**query: str) -> int:
        return len(data_of(await admin.get(factors_of(user_id), params=query)))

    assert await listed(type="SMS", is_active="false") == 1
    assert await listed(is_active="true") == 0
    assert await listed(type="sms") == 0
    bad = await admin.get(factors_of(user_id), params={"is_active": "perhaps"})
    assert error_of(bad) == invalid(is_active=cast("boolean"))


async def test_a_factor_is_shown_with_its_user(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await factories.user(db)
    factor_id = await factor(db, user_id)
    assert data_of(await admin.get(f"{factors_of(user_id)}/{factor_id}")) == await view_of(db, factor_id)


@pytest.mark.parametrize(
    ("method", "tail"),
    [("GET", ""), ("PATCH", "/actions/reset"), ("PATCH", "/actions/disable"), ("PATCH", "/actions/enable")],
)
async def test_the_factor_of_another_user_is_404(admin: httpx.AsyncClient, db: Db, method: str, tail: str) -> None:
    user_id, other = await factories.user(db), await factories.user(db)
    factor_id = await factor(db, other)
    before = await view_of(db, factor_id)
    for path in (f"{factors_of(user_id)}/{factor_id}", f"{factors_of(other)}/{uuid4()}"):
        assert error_of(await admin.request(method, path + tail)) == NOT_FOUND
    for path in (f"{factors_of(user_id)}/x", f"{factors_of('x')}/{factor_id}"):
        status, error = error_of(await admin.request(method, path + tail))
        assert (status, error["type"]) == (400, "request_malformed")
    assert await view_of(db, factor_id) == before


# Create


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"factor": PHONE}, (PHONE, True)),
        ({"factor": PHONE, "is_active": False, "user_id": str(uuid4())}, (PHONE, False)),
        ({"factor": ""}, (None, True)),
        ({}, (None, True)),
    ],
)
async def test_a_new_factor_may_be_without_a_phone(
    admin: httpx.AsyncClient, db: Db, given: dict[str, Any], stored: tuple[Any, ...]
) -> None:
    user_id = await factories.user(db)
    response = await admin.post(factors_of(user_id), json={"type": "SMS"} | given)
    made = data_of(response, 201)
    assert made == await view_of(db, made["id"], masked=MASKED if stored[0] else None)
    assert response.headers["location"] == f"{factors_of(user_id)}/{made['id']}"
    row = await db.fetchrow("SELECT * FROM authentication_factors WHERE user_id = $1", user_id)
    assert row is not None
    assert (row["factor"], row["is_active"]) == stored
    (event,) = await events(db, made["id"])
    assert (event["action"], event["old"]) == ("authentication_factor.create", None)
    assert event["new"] == {"user_id": str(user_id), "type": "SMS", "factor": stored[0], "is_active": stored[1]}


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({}, {"type": REQUIRED}),
        ({"type": "EMAIL"}, {"type": NOT_SMS}),
        ({"type": 1, "factor": 2}, {"factor": cast("string"), "type": NOT_SMS}),
        ({"type": "SMS", "factor": "0501234567"}, {"factor": NO_PHONE}),
        ({"type": "SMS", "is_active": "yes"}, {"is_active": cast("boolean")}),
        ({"type": "SMS", "is_active": None}, {"is_active": REQUIRED}),
    ],
)
async def test_every_violated_rule_is_named(
    admin: httpx.AsyncClient, db: Db, given: dict[str, Any], rules: dict[str, Any]
) -> None:
    assert error_of(await admin.post(factors_of(await factories.user(db)), json=given)) == invalid(**rules)


async def test_a_user_has_one_factor_of_each_type(admin: httpx.AsyncClient, db: Db) -> None:
    user_id = await factories.user(db)
    answers = await asyncio.gather(*(admin.post(factors_of(user_id), json={"type": "SMS"}) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 422, 422]
    assert [error_of(each) for each in answers if each.status_code == 422] == [invalid(user_id=TAKEN)] * 2


async def test_an_unknown_user_gets_no_factor(admin: httpx.AsyncClient) -> None:
    assert error_of(await admin.post(factors_of(uuid4()), json={"type": "SMS"})) == NOT_FOUND
    status, error = error_of(await admin.post(factors_of("x"), json={"type": "SMS"}))
    assert (status, error["type"]) == (400, "request_malformed")


# Actions


async def test_reset_removes_the_phone_of_an_active_factor(admin: httpx.AsyncClient, db: Db) -> None:
    user_id, other = await factories.user(db), await factories.user(db)
    factor_id, untouched = await factor(db, user_id), await factor(db, other, is_active=False)
    assert data_of(await act(admin, user_id, factor_id, "reset")) == await view_of(db, factor_id, masked=None)
    assert await events(db, factor_id) == [
        {
            "action": "authentication_factor.update",
            "client_id": None,
            "old": {"factor": PHONE},
            "new": {"factor": None},
        }
    ]
    assert data_of(await act(admin, user_id, factor_id, "reset"))["factor"] is None
    assert len(await events(db, factor_id)) == 1
    assert error_of(await act(admin, other, untouched, "reset")) == NOT_FOUND
    assert await db.fetchval("SELECT factor FROM authentication_factors WHERE id = $1", untouched) == PHONE


@pytest.mark.parametrize(("action", "is_active"), [("disable", False), ("enable", True)])
async def test_a_factor_is_disabled_and_enabled_once(
    admin: httpx.AsyncClient, db: Db, action: str, *, is_active: bool
) -> None:
    user_id = await factories.user(db)
    factor_id = await factor(db, user_id, is_active=not is_active)
    answers = await asyncio.gather(*(act(admin, user_id, factor_id, action) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    (changed,) = (answer for answer in answers if answer.status_code == 200)
    assert data_of(changed) == await view_of(db, factor_id)
    assert data_of(changed)["is_active"] == is_active
    message = f"user authentication factor already {action}d"
    assert error_of(await act(admin, user_id, factor_id, action)) == (
        409,
        {"type": "request_conflict", "message": message},
    )
    (event,) = await events(db, factor_id)
    assert (event["old"], event["new"]) == ({"is_active": not is_active}, {"is_active": is_active})


# One-time passwords


async def test_one_time_passwords_are_listed_without_the_code(admin: httpx.AsyncClient, db: Db) -> None:
    mark = str(uuid4())
    rows = [
        await db.fetchrow(
            "INSERT INTO otp (key, code_digest, code_expired_at, status, active, attempts_count)"
            " VALUES ($1, $2, now(), $3, $4, 2) RETURNING *",
            f"{mark}==={phone}",
            b"the-digest-of-a-code",
            status,
            status == "NEW",
        )
        for phone, status in (("+380501", "NEW"), ("+380502", "EXPIRED"), ("+38050_", "EXPIRED"))
    ]
    views = [
        {
            "id": str(row["id"]),
            "key": row["key"],
            "code_expired_at": wire(row["code_expired_at"]),
            "status": row["status"],
            "active": row["active"],
            "attempts_count": 2,
            "inserted_at": wire(row["inserted_at"]),
        }
        for row in rows
        if row is not None
    ]

    async def listed(**query: str) -> list[Any]:
        response = await admin.get(OTPS, params={"key": mark.upper(), **query})
        assert "digest" not in response.text
        return list(data_of(response))

    assert await listed() == views
    assert await listed(status="EXPIRED") == views[1:]
    assert await listed(active="true", status="NEW") == views[:1]
    assert await listed(active="true", status="EXPIRED") == []
    assert await listed(key=f"{mark}===+38050_") == views[2:]
    assert await listed(page_size="1", page="2") == views[1:2]
    assert error_of(await admin.get(OTPS, params={"active": "x"})) == invalid(active=cast("boolean"))
