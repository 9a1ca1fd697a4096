"""A new password: its rules, its history, and the tokens that it revokes."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from mithril import security
from mithril.users import passwords
from support import factories
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

UPDATE = "/oauth/users/actions/update_password"
OLD, NEW = "Old-Password-1", "New-Password-2"
OLD_HASH = security.hash_password(OLD)
KIND, SCOPE = "change_password_token", "user:change_password"
REQUIRED = {"rule": "required", "description": "can't be blank", "params": []}
CAST = {"rule": "cast", "description": "is invalid", "params": ["string"]}
TOO_SHORT = {"rule": "length", "description": "should be at least 12 character(s)", "params": {"min": 12}}
TOO_SIMPLE = {
    "rule": "format",
    "description": "Password does not meet complexity requirements",
    "params": [r"~r/^(?=.*[a-zа-яёїієґ])(?=.*[A-ZА-ЯЁЇIЄҐ])(?=.*\d)/"],  # noqa: RUF001 -- Cyrillic
}
USED = {
    "rule": "password_used",
    "description": "This password has been used recently. Try another one",
    "params": [],
}


async def person(db: Db) -> tuple[factories.Client, str]:
    """Add a client and a user with a password, and return their token for changing it."""
    client = await factories.client(db, client_type="Front end")
    await db.execute("UPDATE users SET password_hash = $2 WHERE id = $1", client.user_id, OLD_HASH)
    await db.execute("INSERT INTO password_hstr (user_id, password_hash) VALUES ($1, $2)", client.user_id, OLD_HASH)
    return client, await token_for(db, client)


async def token_for(db: Db, client: factories.Client, **changes: Any) -> str:
    return await factories.token(db, **{"client": client, "name": KIND, "scope": SCOPE, **changes})


async def update(http: httpx.AsyncClient, token: str | None, password: object = NEW) -> httpx.Response:
    headers = bearer(token) if token else {}
    return await http.post(UPDATE, json={"user": {"password": password}}, headers=headers)


async def user_of(db: Db, user_id: UUID) -> dict[str, Any]:
    row = await db.fetchrow("SELECT * FROM users WHERE id = $1", user_id)
    assert row is not None
    return dict(row)


def refused(response: httpx.Response) -> tuple[int, dict[str, Any]]:
    return response.status_code, response.json()["error"]


def rules_of(response: httpx.Response) -> list[dict[str, Any]]:
    status, error = refused(response)
    assert status == 422
    assert error["type"] == "validation_failed"
    assert error["message"].startswith("Validation failed. You can find validators description at our API Manifest")
    (entry,) = error["invalid"]
    assert (entry["entry"], entry["entry_type"]) == ("$.password", "json_data_property")
    rules: list[dict[str, Any]] = entry["rules"]
    return rules


# Effects


async def test_the_password_is_changed_and_the_user_is_returned(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    before = await user_of(db, client.user_id)
    response = await update(http, token)
    after = await user_of(db, client.user_id)
    assert response.status_code == 200
    assert response.json()["data"] == {
        "id": str(client.user_id),
        "email": before["email"],
        "tax_id": "",
        "person_id": "",
        "settings": {},
        "is_blocked": False,
        "block_reason": None,
        "inserted_at": f"{before['inserted_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
        "updated_at": f"{after['updated_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
    }
    assert security.is_password(NEW, after["password_hash"])
    changed = {column for column in after if after[column] != before[column]}
    assert changed == {"password_hash", "password_set_at", "updated_at", "last_revocation"}


async def test_no_other_users_password_changes(http: httpx.AsyncClient, db: Db) -> None:
    _, token = await person(db)
    other, others_token = await person(db)
    before = await user_of(db, other.user_id)
    await update(http, token)
    assert await user_of(db, other.user_id) == before
    assert (await update(http, others_token)).status_code == 200


async def test_the_old_password_stops_working_and_the_new_one_works(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    await db.execute("UPDATE client_types SET scope = 'app:authorize' WHERE name = 'Front end'")
    await db.execute(
        """UPDATE clients SET settings = '{"allowed_grant_types": ["password"]}' WHERE id = $1""", client.id
    )
    await db.execute("UPDATE users SET password_set_at = now() - interval '91 days' WHERE id = $1", client.user_id)
    email = (await user_of(db, client.user_id))["email"]

    async def log_in(password: str) -> tuple[int, str]:
        fields = {"email": email, "password": password, "client_id": str(client.id), "scope": "app:authorize"}
        response = await http.post("/auth/login", json={"token": {"grant_type": "password", **fields}})
        return response.status_code, response.json().get("error", {}).get("type", "")

    assert await log_in(OLD) == (401, "password_expired")
    await update(http, token)
    assert await log_in(OLD) == (401, "access_denied")
    assert await log_in(NEW) == (201, "")


async def test_every_token_of_the_user_is_revoked(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    elsewhere = await factories.client(db, user_id=client.user_id)
    names = ["access_token", "refresh_token", "authorization_code", "2fa_access_token", KIND]
    theirs = [await factories.token(db, client=c, name=name) for c in (client, elsewhere) for name in names]
    stranger, _ = await person(db)
    others = await factories.token(db, client=stranger)
    await update(http, token)
    statement = "SELECT digest FROM tokens WHERE expires_at > now()"
    living = {row["digest"] for row in await db.fetch(statement)}
    assert not living & {security.digest(value) for value in [token, *theirs]}
    assert security.digest(others) in living


async def test_the_token_works_once(http: httpx.AsyncClient, db: Db) -> None:
    _, token = await person(db)
    first, second = await update(http, token), await update(http, token, "Third-Password-3")
    assert first.status_code == 200
    assert refused(second) == (401, {"type": "token_expired", "message": "Token expired."})


async def test_of_simultaneous_changes_one_sets_the_password(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    wanted = [f"Racing-Password-{number}" for number in range(6)]
    answers = await asyncio.gather(*(update(http, token, password) for password in wanted))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
    winner = wanted[next(n for n, answer in enumerate(answers) if answer.status_code == 200)]
    assert security.is_password(winner, (await user_of(db, client.user_id))["password_hash"])
    assert await db.fetchval("SELECT count(*) FROM audit_events WHERE subject_id = $1", client.user_id) == 1


async def test_the_audit_row_names_the_actor_and_shows_no_hash(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    await update(http, token)
    (event,) = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1", client.user_id)
    assert event["action"] == "user.change_password"
    assert (event["actor_user_id"], event["actor_client_id"]) == (client.user_id, client.id)
    assert event["network_address"] == "127.0.0.1"
    assert (event["old"], event["new"]) == (None, None)


async def test_neither_password_nor_hash_is_in_the_answer(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    short, good = await update(http, token, "Short-1"), await update(http, token)
    assert "Short-1" not in short.text
    assert NEW not in good.text
    assert (await user_of(db, client.user_id))["password_hash"] not in good.text
    assert "argon2" not in json.dumps(good.json())


# Its rules


@pytest.mark.parametrize(
    ("password", "rules"),
    [
        (None, [REQUIRED]),
        ("", [REQUIRED]),
        ("            ", [REQUIRED]),
        (123456789012, [CAST]),
        (["Good-Password-1"], [CAST]),
        ("Ab3456789-1", [TOO_SHORT]),
        ("Їжак-Ґанок1", [TOO_SHORT]),  # noqa: RUF001 -- Cyrillic
        ("no-capitals-1", [TOO_SIMPLE]),
        ("NO-SMALL-ONES-1", [TOO_SIMPLE]),
        ("No-Digits-In-It", [TOO_SIMPLE]),
        ("No-Digits-In-It-٣", [TOO_SIMPLE]),
        ("ß-ÉÀ-123456789", [TOO_SIMPLE]),
        ("short", [TOO_SHORT, TOO_SIMPLE]),
    ],
)
async def test_a_weak_password_is_refused_with_every_violated_rule(
    http: httpx.AsyncClient, db: Db, password: object, rules: list[dict[str, Any]]
) -> None:
    client, token = await person(db)
    assert rules_of(await update(http, token, password)) == rules
    assert (await user_of(db, client.user_id))["password_hash"] == OLD_HASH


@pytest.mark.parametrize(
    "password",
    ["Abcdefghij-1", "абвгґдеєжзИ1", "1ІЇЄҐіїєґ----", "aБ\n345678901", "x" * 4_000 + "Y1"],  # noqa: RUF001 -- Cyrillic
)
def test_latin_and_cyrillic_letters_count_the_same(password: str) -> None:
    assert passwords.problems(password) == []


async def test_a_refused_password_does_not_use_up_the_token(http: httpx.AsyncClient, db: Db) -> None:
    _, token = await person(db)
    assert (await update(http, token, "short")).status_code == 422
    assert (await update(http, token, OLD)).status_code == 422
    assert (await update(http, token)).status_code == 200


# Its history


async def test_the_current_password_and_the_two_before_it_are_refused(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    for password in ("Second-Password-2", "Third-Password-3"):
        assert (await update(http, token, password)).status_code == 200
        token = await token_for(db, client)
    for password in (OLD, "Second-Password-2", "Third-Password-3"):
        assert rules_of(await update(http, token, password)) == [USED]
    assert (await update(http, token, "Fourth-Password-4")).status_code == 200
    assert (await update(http, await token_for(db, client), OLD)).status_code == 200


async def test_three_passwords_are_remembered_with_the_current_one(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    for number in range(4):
        await update(http, token, f"Password-Number-{number}")
        token = await token_for(db, client)
    statement = "SELECT password_hash FROM password_hstr WHERE user_id = $1 ORDER BY id"
    kept = [row["password_hash"] for row in await db.fetch(statement, client.user_id)]
    assert len(kept) == 3
    assert kept[-1] == (await user_of(db, client.user_id))["password_hash"]


async def test_a_password_without_a_history_is_remembered_when_it_is_replaced(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    await db.execute("DELETE FROM password_hstr WHERE user_id = $1", client.user_id)
    assert rules_of(await update(http, token, OLD)) == [USED]
    assert (await update(http, token)).status_code == 200
    assert rules_of(await update(http, await token_for(db, client), OLD)) == [USED]


async def test_the_password_of_another_user_is_accepted(http: httpx.AsyncClient, db: Db) -> None:
    (_, one), (_, other) = await person(db), await person(db)
    assert [(await update(http, token)).status_code for token in (one, other)] == [200, 200]


# The order of refusals


async def test_update_password_refuses_in_the_order_of_the_contract(http: httpx.AsyncClient, db: Db) -> None:
    client, token = await person(db)
    session = await factories.token(db, client=client)
    expired = await token_for(db, client, expires_in=-1)
    no_header = {"type": "access_denied", "message": "Authorization header required."}
    wrong_kind = {"type": "token_invalid_type", "message": "Invalid token type."}
    await factories.quietly(db, "UPDATE users SET is_blocked = true WHERE id = $1", client.user_id)
    await factories.quietly(db, "UPDATE clients SET is_blocked = true WHERE id = $1", client.id)
    assert refused(await update(http, None, 1)) == (401, no_header)
    assert refused(await update(http, "no-such-token", 1)) == (
        401,
        {"type": "token_invalid", "message": "Invalid token."},
    )
    assert refused(await update(http, expired, 1)) == (401, {"type": "token_expired", "message": "Token expired."})
    assert refused(await update(http, session, 1)) == (401, wrong_kind)
    assert refused(await update(http, token, 1)) == (401, {"type": "user_blocked", "message": "User blocked."})
    await factories.quietly(db, "UPDATE users SET is_blocked = false WHERE id = $1", client.user_id)
    assert refused(await update(http, token, 1)) == (401, {"type": "access_denied", "message": "Client is blocked."})
    await factories.quietly(db, "UPDATE clients SET is_blocked = false WHERE id = $1", client.id)
    assert refused(await update(http, token, 1))[0] == 422


@pytest.mark.parametrize("body", ["{}", '{"user": null}', '{"user": []}', "[]", '{"password": "New-Password-2"}', "{"])
async def test_a_body_without_its_wrapper_is_malformed(http: httpx.AsyncClient, db: Db, body: str) -> None:
    _, token = await person(db)
    headers = bearer(token, Content_Type="application/json")
    status, error = refused(await http.post(UPDATE, content=body, headers=headers))
    assert (status, error["type"]) == (400, "request_malformed")
