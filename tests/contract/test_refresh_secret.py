"""API-009-001-006-0340, Refresh client secret: the new secret, the required API-key, and the overlap of two secrets."""

import asyncio
import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mithril import security
from support import factories, racing
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

SCOPE = "connection:refresh_secret"
OVERLAP = {"previous_secret_expires_in": 3600}
ENTRY = "$.previous_secret_expires_in"
TYPES_PINNED_TO_THEMSELVES = ["MSP", "MIS", "PHARMACY", "MSP_LIMITED", "CABINET", "Auth_FE", "No such type"]
ADMINISTRATIVE_TYPES = ["NHS", "NHS ADMIN", "MITHRIL ADMIN", "Mithril ADMIN"]


def path_of(connection: factories.Connection) -> str:
    return f"{connection.path}/actions/refresh_secret"


async def caller(db: Db, client: factories.Client, *, scope: str | None = SCOPE) -> dict[str, str]:
    """The headers of a caller who acts through that client."""
    return bearer(await factories.token(db, client=client, scope=scope))


async def own(db: Db, *, scope: str = SCOPE, **client: Any) -> tuple[factories.Connection, dict[str, str]]:
    """Add a new client's connection to itself, which needs no API-key, and return a caller's headers too."""
    owner = await factories.client(db, **client)
    return await factories.connection(db, client_id=owner.id), await caller(db, owner, scope=scope)


async def refreshed(
    http: httpx.AsyncClient, connection: factories.Connection, headers: dict[str, str], body: Any = None
) -> dict[str, Any]:
    """Return the data of a refresh that succeeds."""
    response = await http.patch(path_of(connection), json=body, headers=headers)
    assert response.status_code == 200, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


async def row_of(db: Db, connection_id: UUID) -> dict[str, Any]:
    row = await db.fetchrow("SELECT * FROM connections WHERE id = $1", connection_id)
    assert row is not None
    return dict(row)


async def audit_of(db: Db, connection_id: UUID) -> list[dict[str, Any]]:
    """Return the audit rows, with `old` and `new` as parsed JSON."""
    rows = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1 ORDER BY id", connection_id)
    return [dict(row) | {name: json.loads(row[name]) for name in ("old", "new")} for row in rows]


async def now(db: Db) -> datetime:
    """The time by the clock of the database, also within a transaction."""
    moment: datetime = await db.fetchval("SELECT clock_timestamp()")
    return moment


def wire(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


def error_of(response: httpx.Response) -> tuple[int, dict[str, Any]]:
    body = response.json()
    assert "secret" not in body.get("data", {})
    return response.status_code, body["error"]


FORBIDDEN = (403, {"type": "forbidden", "message": "Forbidden"})
NOT_FOUND = (404, {"type": "not_found", "message": "Not Found"})


# Effects


async def test_the_connection_is_returned_with_its_new_secret(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    response = await http.patch(path_of(connection), headers=headers)
    row = await row_of(db, connection.id)
    data = response.json()["data"]
    assert response.status_code == 200
    assert response.json()["meta"] == {
        "code": 200,
        "url": f"{http.base_url}{path_of(connection)}",
        "type": "object",
        "request_id": response.headers["x-request-id"],
    }
    assert data == {
        "id": str(connection.id),
        "client_id": str(connection.client_id),
        "consumer_id": str(connection.consumer_id),
        "redirect_uri": "https://old.example.com/callback",
        "inserted_at": wire(row["inserted_at"]),
        "updated_at": wire(row["updated_at"]),
        "secret_tail": data["secret"][-4:],
        "previous_secret_expires_at": None,
        **factories.UNMOVED,
        "secret": data["secret"],
    }
    assert row["secret_digest"] == security.digest(data["secret"])
    assert data["secret"] != connection.secret
    assert len(data["secret"]) >= 32
    assert response.headers["etag"] == '"2"'
    assert response.headers["cache-control"] == "no-store"


async def test_every_other_column_and_row_stays_as_it_was(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    other, _ = await own(db)
    before, other_before = await row_of(db, connection.id), await row_of(db, other.id)
    await refreshed(http, connection, headers)
    after = await row_of(db, connection.id)
    assert {column for column in after if after[column] != before[column]} == {
        "secret_digest",
        "secret_tail",
        "version",
        "updated_at",
    }
    assert after["version"] == before["version"] + 1
    assert after["updated_at"] > before["updated_at"]
    assert await row_of(db, other.id) == other_before


async def test_every_refresh_gives_another_secret(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    secrets = [(await refreshed(http, connection, headers))["secret"] for _ in range(5)]
    assert len({*secrets, connection.secret}) == 6


async def test_the_secret_is_shown_once(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db, scope=f"{SCOPE} connection:read connection:write")
    secret = (await refreshed(http, connection, headers, OVERLAP))["secret"]
    again = [
        await http.get(connection.path, headers=headers),
        await http.get(connection.path.rpartition("/")[0], headers=headers),
        await http.get(f"{connection.path}/history", headers=headers),
        await http.patch(connection.path, json={"redirect_uri": "https://new.example.com/"}, headers=headers),
    ]
    assert [answer.status_code for answer in again] == [200] * 4
    assert not [answer for answer in again if secret in answer.text or connection.secret in answer.text]
    kept = await db.fetchval("SELECT c::text FROM connections c WHERE id = $1", connection.id)
    assert secret not in kept


async def test_list_and_details_show_the_secret_tail(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db, scope=f"{SCOPE} connection:read")
    data = await refreshed(http, connection, headers, OVERLAP)
    expected = {name: value for name, value in data.items() if name != "secret"}
    shown = (await http.get(connection.path, headers=headers)).json()["data"]
    (row,) = (await http.get(connection.path.rpartition("/")[0], headers=headers)).json()["data"]
    assert shown == row == expected
    assert shown["secret_tail"] == data["secret"][-4:]


async def test_issued_tokens_stay_active(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, scope=SCOPE, connection_id=connection.id)
    await refreshed(http, connection, bearer(token))
    await refreshed(http, connection, bearer(token))


async def test_a_refresh_changes_the_etag(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db, scope=f"{SCOPE} connection:read")
    await refreshed(http, connection, headers)
    response = await http.get(connection.path, headers=headers | {"If-None-Match": '"1"'})
    assert (response.status_code, response.headers["etag"]) == (200, '"2"')


@pytest.mark.parametrize(
    ("if_match", "status"),
    [('"1"', 200), ("*", 200), ('"7", "1"', 200), ('"2"', 412), ('"01"', 412), ('W/"1"', 412), ("", 412)],
)
async def test_if_match_names_the_version(http: httpx.AsyncClient, db: Db, if_match: str, status: int) -> None:
    connection, headers = await own(db)
    before = await row_of(db, connection.id)
    response = await http.patch(path_of(connection), headers=headers | {"If-Match": if_match})
    assert response.status_code == status
    if status == 412:
        assert error_of(response)[1]["type"] == "precondition_failed"
        assert await row_of(db, connection.id) == before
        assert await audit_of(db, connection.id) == []


# Access


@pytest.mark.parametrize("client_type", TYPES_PINNED_TO_THEMSELVES)
async def test_non_administrative_types_may_name_only_their_own_client(
    http: httpx.AsyncClient, db: Db, client_type: str
) -> None:
    mine, headers = await own(db, client_type=client_type)
    foreign, _ = await own(db)
    before = await row_of(db, foreign.id)
    refused = await http.patch(path_of(foreign), headers=headers)
    assert error_of(refused) == FORBIDDEN
    assert "www-authenticate" not in refused.headers
    assert await row_of(db, foreign.id) == before
    await refreshed(http, mine, headers)


@pytest.mark.parametrize("client_type", ADMINISTRATIVE_TYPES)
async def test_an_administrative_type_may_name_any_client(http: httpx.AsyncClient, db: Db, client_type: str) -> None:
    mine, headers = await own(db, client_type=client_type)
    foreign, _ = await own(db)
    for connection in (mine, foreign):
        await refreshed(http, connection, headers)


@pytest.mark.parametrize("scope", [None, "", "connection:read connection:write", "xconnection:refresh_secret"])
async def test_the_token_must_have_the_scope(http: httpx.AsyncClient, db: Db, scope: str | None) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    response = await http.patch(path_of(connection), headers=await caller(db, owner, scope=scope))
    assert error_of(response) == (403, {"type": "forbidden", "message": "Invalid scopes"})
    assert response.headers["www-authenticate"].endswith(f'scope="{SCOPE}"')


async def test_an_unknown_connection_is_not_found(http: httpx.AsyncClient, db: Db) -> None:
    mine, headers = await own(db)
    foreign, _ = await own(db)
    _, admin = await own(db, client_type="NHS")
    for connection_id in (uuid4(), foreign.id, "not-a-uuid"):
        path = f"/api/clients/{mine.client_id}/connections/{connection_id}/actions/refresh_secret"
        assert error_of(await http.patch(path, headers=headers)) == NOT_FOUND
        assert error_of(await http.patch(path, headers=admin)) == NOT_FOUND


# The API-key: a connection that a MIS consumes is refreshed with an API-key of that MIS


class Clinic:
    """A clinic with a connection to its MIS, that MIS with its own connection, and another MIS with one."""

    def __init__(self, db: Db) -> None:
        self.db = db

    async def make(self, *, access_type: str = "DIRECT", **mis: Any) -> "Clinic":
        broker: dict[str, Any] = {"client_type": "MIS", "broker_scope": SCOPE}
        self.mis = await factories.client(self.db, **(broker | mis))
        self.other_mis = await factories.client(self.db, **broker)
        self.key = await factories.connection(self.db, client_id=self.mis.id)
        self.other_key = await factories.connection(self.db, client_id=self.other_mis.id)
        self.clinic = await factories.client(self.db, access_type=access_type)
        self.connection = await factories.connection(self.db, client_id=self.clinic.id, consumer_id=self.mis.id)
        self.headers = await caller(self.db, self.clinic)
        self.reading = await caller(self.db, self.clinic, scope="connection:read")
        return self

    def with_key(self, key: str) -> dict[str, str]:
        return self.headers | {"API-key": key}


NO_KEY = (401, {"type": "access_denied", "message": "api-key header not set"})
BAD_KEY = (401, {"type": "access_denied", "message": "invalid api-key header"})


async def test_the_api_key_must_be_that_of_the_connections_consumer(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    before = await row_of(db, case.connection.id)

    async def answer(headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        return error_of(await http.patch(path_of(case.connection), headers=headers))

    assert await answer(case.headers) == NO_KEY
    assert await answer(case.with_key("wrong")) == BAD_KEY
    assert await answer(case.with_key("")) in (NO_KEY, BAD_KEY)
    assert await answer(case.with_key(case.other_key.secret)) == FORBIDDEN
    assert await answer(case.with_key(case.connection.secret)) == BAD_KEY
    assert await row_of(db, case.connection.id) == before
    assert await audit_of(db, case.connection.id) == []
    await refreshed(http, case.connection, case.with_key(case.key.secret))


async def test_a_refused_api_key_gets_a_challenge(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    without = await http.patch(path_of(case.connection), headers=case.headers)
    wrong = await http.patch(path_of(case.connection), headers=case.with_key("wrong"))
    assert without.headers["www-authenticate"].startswith("Bearer")
    assert wrong.headers["www-authenticate"].startswith("Bearer")
    assert "wrong" not in wrong.headers["www-authenticate"]


async def test_only_the_secret_of_the_own_connection_of_the_consumer_is_its_api_key(
    http: httpx.AsyncClient, db: Db
) -> None:
    case = await Clinic(db).make()
    second = await factories.connection(db, client_id=case.mis.id, consumer_id=case.other_mis.id)
    response = await http.patch(path_of(case.connection), headers=case.with_key(second.secret))
    assert error_of(response) == BAD_KEY
    await refreshed(http, case.connection, case.with_key(case.key.secret))


async def test_the_secret_of_a_connection_that_the_consumer_only_uses_is_not_its_api_key(
    http: httpx.AsyncClient, db: Db
) -> None:
    case = await Clinic(db).make()
    pharmacy = await factories.client(db, client_type="PHARMACY")
    used = await factories.connection(db, client_id=pharmacy.id, consumer_id=case.mis.id)
    response = await http.patch(path_of(case.connection), headers=case.with_key(used.secret))
    assert error_of(response) == BAD_KEY


async def test_two_api_keys_are_refused(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    pair = [*case.headers.items(), ("API-key", case.key.secret), ("API-key", case.key.secret)]
    assert error_of(await http.patch(path_of(case.connection), headers=pair)) == BAD_KEY


async def test_the_api_key_of_a_blocked_consumer_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make(is_blocked=True)
    response = await http.patch(path_of(case.connection), headers=case.with_key(case.key.secret))
    assert error_of(response) == BAD_KEY


async def test_the_consumer_of_a_direct_client_need_not_be_a_broker(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make(broker_scope=None)
    await refreshed(http, case.connection, case.with_key(case.key.secret))


@pytest.mark.parametrize("key", [None, "", "wrong"])
async def test_the_own_connection_needs_no_api_key_and_ignores_a_wrong_one(
    http: httpx.AsyncClient, db: Db, key: str | None
) -> None:
    connection, headers = await own(db)
    await refreshed(http, connection, headers if key is None else headers | {"API-key": key})


async def test_an_administrator_needs_the_api_key_of_the_consumer_too(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    _, admin = await own(db, client_type="NHS")
    assert error_of(await http.patch(path_of(case.connection), headers=admin)) == NO_KEY
    await refreshed(http, case.connection, admin | {"API-key": case.key.secret})


async def test_a_mis_cannot_rotate_a_clinics_secret_with_its_own_token(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    headers = await caller(db, case.mis) | {"API-key": case.key.secret}
    assert error_of(await http.patch(path_of(case.connection), headers=headers)) == FORBIDDEN


async def test_a_clinic_behind_a_broker_rotates_with_its_brokers_key(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make(access_type="BROKER")
    without = await http.patch(path_of(case.connection), headers=case.headers)
    other = await http.patch(path_of(case.connection), headers=case.with_key(case.other_key.secret))
    assert error_of(without) == (401, {"type": "access_denied", "message": "Access denied"})
    assert error_of(other) == FORBIDDEN
    await refreshed(http, case.connection, case.with_key(case.key.secret))


async def test_the_broker_must_have_the_scope_too(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make(access_type="BROKER", broker_scope="connection:read")
    response = await http.patch(path_of(case.connection), headers=case.with_key(case.key.secret))
    assert error_of(response) == (403, {"type": "forbidden", "message": "Invalid scopes"})


# The order of checks


async def test_checks_come_in_the_order_of_the_contract(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    foreign, _ = await own(db)
    reader = await caller(db, case.clinic, scope="connection:read")
    unknown = factories.Connection(uuid4(), case.clinic.id, case.mis.id, "")
    good, wrong = json.dumps(OVERLAP).encode(), b'{"previous_secret_expires_in": -1}'
    as_json, stale = {"Content-Type": "application/json"}, {"If-Match": '"9"'}

    async def status(connection: factories.Connection, content: bytes, *headers: dict[str, str]) -> int:
        merged = {key: value for part in (stale, *headers) for key, value in part.items()}
        return (await http.patch(path_of(connection), content=content, headers=merged)).status_code

    text = {"Content-Type": "text/plain"}
    assert await status(foreign, wrong, text) == 401
    assert await status(foreign, wrong, text, reader) == 403
    assert await status(foreign, wrong, text, case.headers) == 403
    assert await status(unknown, wrong, text, case.headers) == 415
    assert await status(unknown, b" " * 70_000, as_json, case.headers) == 413
    assert await status(unknown, b"{", as_json, case.headers) == 400
    assert await status(unknown, wrong, as_json, case.headers) == 422
    assert await status(unknown, good, as_json, case.headers) == 404
    assert await status(case.connection, good, as_json, case.headers) == 401
    assert await status(case.connection, good, as_json, case.with_key(case.other_key.secret)) == 403
    assert await status(case.connection, good, as_json, case.with_key(case.key.secret)) == 412
    assert await audit_of(db, case.connection.id) == []


async def test_the_scope_is_checked_before_the_context(http: httpx.AsyncClient, db: Db) -> None:
    foreign, _ = await own(db)
    _, reader = await own(db, scope="connection:read")
    assert error_of(await http.patch(path_of(foreign), headers=reader))[1]["message"] == "Invalid scopes"


# The body


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}, {"Content-Length": "0"}]
)
async def test_no_body_is_needed_whatever_the_headers_say(
    http: httpx.AsyncClient, db: Db, headers: dict[str, str]
) -> None:
    connection, caller_headers = await own(db)
    response = await http.patch(path_of(connection), headers=caller_headers | headers)
    assert (response.status_code, response.json()["data"]["previous_secret_expires_at"]) == (200, None)


@pytest.mark.parametrize("seconds", ["0", "-0", "0.0", "1", "60.0", "1e2", "604799", "604800"])
async def test_the_previous_secret_may_stay_active_for_up_to_seven_days(
    http: httpx.AsyncClient, db: Db, seconds: str
) -> None:
    connection, headers = await own(db)
    body = f'{{"previous_secret_expires_in": {seconds}}}'
    json_headers = headers | {"Content-Type": "application/json"}
    before = await now(db)
    response = await http.patch(path_of(connection), content=body, headers=json_headers)
    assert response.status_code == 200
    expires_at = response.json()["data"]["previous_secret_expires_at"]
    if float(seconds) == 0:
        assert expires_at is None
    else:
        assert before <= datetime.fromisoformat(expires_at) - timedelta(seconds=float(seconds)) <= await now(db)


def cast(actual: str) -> dict[str, Any]:
    description = f"type mismatch. Expected integer but got {actual}"
    return {"rule": "cast", "description": description, "params": {"expected": "integer", "actual": actual}}


TOO_SMALL = {
    "rule": "number",
    "description": "expected the value to be >= 0",
    "params": {"greater_than_or_equal_to": 0},
}
TOO_LARGE = {
    "rule": "number",
    "description": "expected the value to be <= 604800",
    "params": {"less_than_or_equal_to": 604800},
}


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (-1, TOO_SMALL), (604_801, TOO_LARGE), (10**30, TOO_LARGE), (1.5, cast("number")), ("60", cast("string")),
        (True, cast("boolean")), (None, cast("null")), ([60], cast("array")), ({}, cast("object")),
    ],
)  # fmt: skip
async def test_an_invalid_overlap_is_refused_and_changes_nothing(
    http: httpx.AsyncClient, db: Db, value: Any, rule: dict[str, Any]
) -> None:
    connection, headers = await own(db)
    before = await row_of(db, connection.id)
    response = await http.patch(path_of(connection), json={"previous_secret_expires_in": value}, headers=headers)
    invalid = [{"entry": ENTRY, "entry_type": "json_data_property", "rules": [rule]}]
    expected = {"type": "validation_failed", "message": "Validation failed", "invalid": invalid}
    assert error_of(response) == (422, expected)
    assert await row_of(db, connection.id) == before
    assert await audit_of(db, connection.id) == []


@pytest.mark.parametrize(
    ("content", "status", "entries"),
    [
        (b"null", 200, None), (b"[]", 200, None), (b"[[]]", 422, ["$"]), (b"60", 422, ["$"]),
        (b'{"secret": "a-chosen-one"}', 422, ["$.secret"]), (b'{"secret": "x", "consumer_id": "y"}', 422, None),
        (b"", 200, None), (b"{}", 200, None), (b" ", 400, None), (b"{", 400, None),
        (b'{"previous_secret_expires_in": 1, "previous_secret_expires_in": 2}', 400, None),
        (b'{"previous_secret_expires_in": NaN}', 400, None), (b'{"previous_secret_expires_in": 1e400}', 400, None),
    ],
)  # fmt: skip
async def test_a_body_that_is_sent_must_be_valid(
    http: httpx.AsyncClient, db: Db, content: bytes, status: int, entries: list[str] | None
) -> None:
    connection, headers = await own(db)
    json_headers = headers | {"Content-Type": "application/json"}
    response = await http.patch(path_of(connection), content=content, headers=json_headers)
    assert response.status_code == status
    if entries:
        assert [entry["entry"] for entry in response.json()["error"]["invalid"]] == entries
    assert "a-chosen-one" not in response.text


# The overlap of two secrets


async def is_key(http: httpx.AsyncClient, case: Clinic, secret: str) -> bool:
    """Return whether the secret is an API-key of the MIS: a clinic behind it lists its connections."""
    response = await http.get(f"/api/clients/{case.clinic.id}/connections", headers=case.reading | {"API-key": secret})
    assert response.status_code in (200, 401)
    return response.status_code == 200


@pytest.fixture
async def mis(db: Db) -> Clinic:
    """A MIS that can refresh its own secret, and a clinic behind it that shows which secret works."""
    case = await Clinic(db).make(access_type="BROKER", broker_scope="connection:read")
    case.headers = await caller(db, case.mis)
    return case


async def keys(http: httpx.AsyncClient, case: Clinic, *secrets: str) -> list[bool]:
    return [await is_key(http, case, secret) for secret in secrets]


async def end_overlap(db: Db, connection_id: UUID) -> None:
    """Move the end of the overlap into the past."""
    await db.execute("UPDATE connections SET previous_secret_expires_at = now() WHERE id = $1", connection_id)


async def test_without_an_overlap_the_old_secret_is_revoked_at_once(http: httpx.AsyncClient, mis: Clinic) -> None:
    assert await keys(http, mis, mis.key.secret) == [True]
    new = (await refreshed(http, mis.key, mis.headers))["secret"]
    assert await keys(http, mis, mis.key.secret, new) == [False, True]


async def test_during_the_overlap_both_secrets_work_and_then_only_the_new_one(
    http: httpx.AsyncClient, db: Db, mis: Clinic
) -> None:
    new = (await refreshed(http, mis.key, mis.headers, OVERLAP))["secret"]
    assert await keys(http, mis, mis.key.secret, new) == [True, True]
    await end_overlap(db, mis.key.id)
    assert await keys(http, mis, mis.key.secret, new) == [False, True]


async def test_the_answer_shows_when_the_previous_secret_expires(http: httpx.AsyncClient, db: Db, mis: Clinic) -> None:
    data = await refreshed(http, mis.key, mis.headers, OVERLAP)
    until = (await row_of(db, mis.key.id))["previous_secret_expires_at"]
    assert data["previous_secret_expires_at"] == wire(until)


async def test_a_second_refresh_revokes_the_oldest_secret(http: httpx.AsyncClient, mis: Clinic) -> None:
    first = (await refreshed(http, mis.key, mis.headers, OVERLAP))["secret"]
    second = (await refreshed(http, mis.key, mis.headers, OVERLAP))["secret"]
    assert await keys(http, mis, mis.key.secret, first, second) == [False, True, True]


async def test_a_second_refresh_without_an_overlap_revokes_both_secrets(
    http: httpx.AsyncClient, db: Db, mis: Clinic
) -> None:
    first = (await refreshed(http, mis.key, mis.headers, OVERLAP))["secret"]
    data = await refreshed(http, mis.key, mis.headers)
    assert await keys(http, mis, mis.key.secret, first, data["secret"]) == [False, False, True]
    assert data["previous_secret_expires_at"] is None
    assert (await row_of(db, mis.key.id))["previous_secret_digest"] is None


async def test_a_second_refresh_sets_a_new_expiry(http: httpx.AsyncClient, mis: Clinic) -> None:
    first = await refreshed(http, mis.key, mis.headers, {"previous_secret_expires_in": 604_800})
    second = await refreshed(http, mis.key, mis.headers, {"previous_secret_expires_in": 60})
    assert second["previous_secret_expires_at"] < first["previous_secret_expires_at"]


async def test_a_past_overlap_is_not_shown(http: httpx.AsyncClient, db: Db, mis: Clinic) -> None:
    await refreshed(http, mis.key, mis.headers, OVERLAP)
    reader = await caller(db, mis.mis, scope="connection:read")
    during = (await http.get(mis.key.path, headers=reader)).json()["data"]
    await end_overlap(db, mis.key.id)
    after = (await http.get(mis.key.path, headers=reader)).json()["data"]
    (row,) = (await http.get(mis.key.path.rpartition("/")[0], headers=reader)).json()["data"]
    assert during["previous_secret_expires_at"] is not None
    assert after["previous_secret_expires_at"] is None
    assert after == row == during | {"previous_secret_expires_at": None}


async def test_an_overlap_changes_only_its_own_columns(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    before = await row_of(db, connection.id)
    await refreshed(http, connection, headers, OVERLAP)
    after = await row_of(db, connection.id)
    assert {column for column in after if after[column] != before[column]} == {
        *("secret_digest", "secret_tail", "version", "updated_at"),
        *("previous_secret_digest", "previous_secret_expires_at"),
    }
    assert after["previous_secret_digest"] == before["secret_digest"]


async def test_an_update_does_not_change_the_overlap(http: httpx.AsyncClient, db: Db, mis: Clinic) -> None:
    new = (await refreshed(http, mis.key, mis.headers, OVERLAP))["secret"]
    writer = await caller(db, mis.mis, scope="connection:write")
    updated = await http.patch(mis.key.path, json={"redirect_uri": "https://new.example.com/"}, headers=writer)
    assert updated.status_code == 200
    assert await keys(http, mis, mis.key.secret, new) == [True, True]


async def test_the_previous_secret_is_accepted_as_the_api_key_of_a_refresh(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    await refreshed(http, case.key, await caller(db, case.mis), OVERLAP)
    await refreshed(http, case.connection, case.with_key(case.key.secret))
    await end_overlap(db, case.key.id)
    response = await http.patch(path_of(case.connection), headers=case.with_key(case.key.secret))
    assert error_of(response) == BAD_KEY


async def test_the_overlap_begins_when_the_secret_changes(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    transaction = db.transaction()
    await transaction.start()
    await db.execute("SELECT 1 FROM connections WHERE id = $1 FOR UPDATE", connection.id)
    request = http.patch(path_of(connection), json={"previous_secret_expires_in": 60}, headers=headers)
    waiting = await racing.sent(db, request, waiting=1)
    before = await now(db)
    await transaction.rollback()
    data = (await waiting).json()["data"]
    assert before <= datetime.fromisoformat(data["updated_at"])
    began = datetime.fromisoformat(data["previous_secret_expires_at"]) - timedelta(seconds=60)
    assert before <= began <= await now(db)


# The audit trail


async def test_a_refresh_leaves_one_audit_row_with_its_actor(http: httpx.AsyncClient, db: Db) -> None:
    case = await Clinic(db).make()
    headers = case.with_key(case.key.secret) | {"X-Request-ID": "a-request-id-of-the-caller#1"}
    secret = (await refreshed(http, case.connection, headers))["secret"]
    (event,) = await audit_of(db, case.connection.id)
    assert event["action"] == "connection.refresh_secret"
    assert event["client_id"] == event["actor_client_id"] == case.clinic.id
    assert event["actor_user_id"] == case.clinic.user_id
    assert event["api_key_client_id"] == case.mis.id
    assert event["request_id"] == "a-request-id-of-the-caller#1"
    assert event["network_address"] == "127.0.0.1"
    assert event["old"]["secret_tail"] == case.connection.secret[-4:]
    assert event["new"]["secret_tail"] == secret[-4:]


async def test_the_audit_row_has_old_and_new_values_of_changed_fields_only(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    for body in (None, OVERLAP, {"previous_secret_expires_in": 60}, None, None):
        await refreshed(http, connection, headers, body)
    events = await audit_of(db, connection.id)
    for event in events:
        assert set(event["old"]) == set(event["new"])
        assert not [name for name in event["old"] if event["old"][name] == event["new"][name]]
    tail_only, both = {"secret_tail"}, {"secret_tail", "previous_secret_expires_at"}
    assert [set(event["new"]) for event in events] == [tail_only, both, both, both, tail_only]


async def test_history_shows_times_in_the_usual_format(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db, scope=f"{SCOPE} connection:read")
    data = await refreshed(http, connection, headers, OVERLAP)
    (event,) = (await http.get(f"{connection.path}/history", headers=headers)).json()["data"]
    assert event["new"]["previous_secret_expires_at"] == data["previous_secret_expires_at"]


async def test_the_audit_trail_shows_no_secrets(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    secrets = [connection.secret, *[(await refreshed(http, connection, headers, OVERLAP))["secret"] for _ in range(2)]]
    trail = await db.fetchval("SELECT string_agg(e::text, '') FROM audit_events e WHERE subject_id = $1", connection.id)
    for secret in secrets:
        assert secret[-4:] in trail
        assert secret not in trail
        assert security.digest(secret).hex() not in trail


# Races


async def test_a_simultaneous_refresh_and_update_are_both_kept_in_one_order(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db, scope=f"{SCOPE} connection:write")
    addresses = [f"https://racer-{number}.example.com/" for number in range(8)]
    updates = [http.patch(connection.path, json={"redirect_uri": a}, headers=headers) for a in addresses]
    rotations = [http.patch(path_of(connection), json=OVERLAP, headers=headers) for _ in addresses]
    mixed = [request for pair in zip(updates, rotations, strict=True) for request in pair]
    answers = await asyncio.gather(*mixed)

    assert {answer.status_code for answer in answers} == {200}
    by_version = {int(answer.headers["etag"].strip('"')): answer for answer in answers}
    assert sorted(by_version) == list(range(2, 18))
    events = await audit_of(db, connection.id)
    in_order = [by_version[version] for version in sorted(by_version)]
    assert [event["request_id"] for event in events] == [answer.headers["x-request-id"] for answer in in_order]
    assert [event["occurred_at"] for event in events] == sorted(event["occurred_at"] for event in events)
    for field in ("redirect_uri", "secret_tail"):
        steps = [(event["old"][field], event["new"][field]) for event in events if field in event["new"]]
        assert len(steps) == 8
        assert all(before[1] == after[0] for before, after in pairwise(steps))
    moments = [answer.json()["data"]["updated_at"] for answer in in_order]
    assert moments == sorted(moments)


async def test_after_a_race_the_last_two_secrets_and_the_last_redirect_uri_are_kept(
    http: httpx.AsyncClient, db: Db
) -> None:
    connection, headers = await own(db, scope=f"{SCOPE} connection:write")
    updates = [
        http.patch(connection.path, json={"redirect_uri": f"https://racer-{n}.example.com/"}, headers=headers)
        for n in range(6)
    ]
    rotations = [http.patch(path_of(connection), json=OVERLAP, headers=headers) for _ in range(6)]
    answers = sorted(
        await asyncio.gather(*rotations, *updates), key=lambda answer: int(answer.headers["etag"].strip('"'))
    )
    data = [answer.json()["data"] for answer in answers]
    row = await row_of(db, connection.id)
    *_, previous, current = [one["secret"] for one in data if "secret" in one]
    assert row["secret_digest"] == security.digest(current)
    assert row["previous_secret_digest"] == security.digest(previous)
    assert row["redirect_uri"] == data[-1]["redirect_uri"]
    assert row["version"] == 13


async def test_of_several_refreshes_of_one_version_one_succeeds(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    headers["If-Match"] = '"1"'
    answers = await asyncio.gather(*(http.patch(path_of(connection), headers=headers) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    (winner,) = [answer for answer in answers if answer.status_code == 200]
    assert (await row_of(db, connection.id))["secret_digest"] == security.digest(winner.json()["data"]["secret"])
    assert len(await audit_of(db, connection.id)) == 1


async def test_a_refresh_that_waits_for_a_deletion_is_not_found(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    transaction = db.transaction()
    await transaction.start()
    await db.execute("DELETE FROM connections WHERE id = $1", connection.id)
    waiting = await racing.sent(db, http.patch(path_of(connection), headers=headers), waiting=1)
    await transaction.commit()
    assert error_of(await waiting) == NOT_FOUND
    assert await audit_of(db, connection.id) == []
