"""API-009-001-006-0339, Update client connection: every check in its order, and what the method changes."""

import asyncio
import json
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from support import factories
from support.factories import Db, bearer
from support.servers import Server

pytestmark = pytest.mark.anyio

NEW = {"redirect_uri": "https://new.example.com/callback"}
TYPES_PINNED_TO_THEMSELVES = ["MSP", "MIS", "PHARMACY", "MSP_LIMITED", "CABINET", "Auth_FE", "No such type"]
ADMINISTRATIVE_TYPES = ["NHS", "NHS ADMIN", "MITHRIL ADMIN", "Mithril ADMIN"]


def error_of(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert body["meta"]["code"] == response.status_code
    assert body["meta"]["type"] == "object"
    assert body["meta"]["request_id"] == response.headers["x-request-id"]
    assert set(body) == {"meta", "error"}
    error: dict[str, Any] = body["error"]
    return error


async def row_of(db: Db, connection_id: UUID) -> dict[str, Any]:
    row = await db.fetchrow("SELECT * FROM connections WHERE id = $1", connection_id)
    assert row is not None
    return dict(row)


async def audit_of(db: Db, connection_id: UUID) -> list[dict[str, Any]]:
    rows = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1 ORDER BY id", connection_id)
    return [dict(row) for row in rows]


async def own(db: Db, **client: Any) -> tuple[factories.Connection, str]:
    """Add a connection of a new client, and return it with a token that may change it."""
    owner = await factories.client(db, **client)
    connection = await factories.connection(db, client_id=owner.id)
    return connection, await factories.token(db, client=owner)


# Effects


async def test_the_redirect_uri_is_replaced_and_the_connection_is_returned(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    before = await row_of(db, connection.id)

    response = await http.patch(connection.path, json=NEW, headers=bearer(token))

    after = await row_of(db, connection.id)
    assert response.status_code == 200
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{http.base_url}{connection.path}",
            "type": "object",
            "request_id": response.headers["x-request-id"],
        },
        "data": {
            "id": str(connection.id),
            "client_id": str(connection.client_id),
            "consumer_id": str(connection.consumer_id),
            "redirect_uri": NEW["redirect_uri"],
            "inserted_at": f"{before['inserted_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
            "updated_at": f"{after['updated_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
        },
    }
    assert response.headers["etag"] == '"2"'
    assert response.headers["content-type"] == "application/json; charset=utf-8"


async def test_every_other_column_and_row_stays_as_it_was(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    other = await factories.connection(db, client_id=(await factories.client(db)).id)
    before, other_before = await row_of(db, connection.id), await row_of(db, other.id)

    await http.patch(connection.path, json=NEW, headers=bearer(token))

    after = await row_of(db, connection.id)
    changed = {column for column in after if after[column] != before[column]}
    assert changed == {"redirect_uri", "redirect_uri_since", "version", "updated_at"}
    assert after["version"] == before["version"] + 1
    assert after["updated_at"] > before["updated_at"]
    assert await row_of(db, other.id) == other_before


async def test_the_change_leaves_one_audit_row_with_its_actor(http: httpx.AsyncClient, db: Db) -> None:
    mis = await factories.client(db, client_type="MIS", broker_scope="connection:write")
    mis_own = await factories.connection(db, client_id=mis.id)
    clinic = await factories.client(db, access_type="BROKER")
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    headers = bearer(await factories.token(db, client=clinic), api_key=mis_own.secret)
    request_id = "a-request-id-of-the-caller#1"

    await http.patch(connection.path, json=NEW, headers=headers | {"X-Request-ID": request_id})

    (event,) = await audit_of(db, connection.id)
    assert event["action"] == "connection.update"
    assert event["client_id"] == clinic.id
    assert event["actor_user_id"] == clinic.user_id
    assert event["actor_client_id"] == clinic.id
    assert event["api_key_client_id"] == mis.id
    assert event["request_id"] == request_id
    assert event["network_address"] == "127.0.0.1"
    assert json.loads(event["old"]) == {"redirect_uri": "https://old.example.com/callback"}
    assert json.loads(event["new"]) == NEW


async def test_setting_the_current_redirect_uri_changes_nothing(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    before = await row_of(db, connection.id)

    response = await http.patch(connection.path, json={"redirect_uri": before["redirect_uri"]}, headers=bearer(token))

    assert response.status_code == 200
    assert response.headers["etag"] == '"1"'
    assert await row_of(db, connection.id) == before
    assert await audit_of(db, connection.id) == []


async def test_the_secret_is_nowhere_in_the_answer(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    row = await row_of(db, connection.id)
    assert connection.secret not in response.text
    assert row["secret_digest"].hex() not in response.text
    assert "secret" not in response.text


async def test_identifiers_compare_by_value_not_by_letter_case(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    path = f"/api/clients/{str(connection.client_id).upper()}/connections/{str(connection.id).upper()}"
    response = await http.patch(path, json=NEW, headers=bearer(token))
    assert response.status_code == 200


# Rules ACC-1 to ACC-6: who is calling


async def test_without_a_token_the_challenge_names_only_the_scheme(http: httpx.AsyncClient, db: Db) -> None:
    connection, _ = await own(db)
    response = await http.patch(connection.path, json=NEW)
    assert response.status_code == 401
    assert error_of(response) == {"type": "access_denied", "message": "Access denied"}
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer no-such-token",
        "bearer  no-such-token",
        "Bearer",
        "Bearer two words",
        "Bearer ключ",
    ],
)
async def test_an_unknown_token_is_refused(http: httpx.AsyncClient, db: Db, authorization: str) -> None:
    connection, _ = await own(db)
    headers = [(b"Authorization", authorization.encode())]
    response = await http.patch(connection.path, json=NEW, headers=headers)
    assert response.status_code == 401
    assert error_of(response) == {"type": "access_denied", "message": "Access denied"}


async def test_the_challenge_says_what_is_wrong_with_the_token(http: httpx.AsyncClient, db: Db) -> None:
    connection, _ = await own(db)
    response = await http.patch(connection.path, json=NEW, headers=bearer("no-such-token"))
    assert response.headers["www-authenticate"] == (
        'Bearer error="invalid_token", error_description="The access token is unknown."'
    )


@pytest.mark.parametrize("credentials", ["Basic {}", "{}", "Bearer{}", "Bearer", ""])
async def test_another_scheme_or_none_counts_as_no_token(http: httpx.AsyncClient, db: Db, credentials: str) -> None:
    connection, token = await own(db)
    response = await http.patch(connection.path, json=NEW, headers={"Authorization": credentials.format(token)})
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_scheme_may_be_written_in_any_case(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    response = await http.patch(connection.path, json=NEW, headers={"Authorization": f"bEARER {token}"})
    assert response.status_code == 200


async def test_two_authorization_headers_are_refused(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    pair = [("Authorization", f"Bearer {token}")] * 2
    response = await http.patch(connection.path, json=NEW, headers=pair)
    assert response.status_code == 401
    assert 'error="invalid_request"' in response.headers["www-authenticate"]


async def test_an_expired_token_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, expires_in=0)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    assert response.status_code == 401
    assert "expired" in response.headers["www-authenticate"]


@pytest.mark.parametrize("name", ["refresh_token", "authorization_code", "2fa_access_token", "change_password_token"])
async def test_only_an_access_token_is_accepted(http: httpx.AsyncClient, db: Db, name: str) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, name=name)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    assert response.status_code == 401


async def test_a_blocked_client_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db, is_blocked=True)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    assert response.status_code == 401


async def test_a_blocked_user_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, user_id=await factories.user(db, is_blocked=True))
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    assert response.status_code == 401


async def test_a_client_without_an_access_type_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db, access_type=None)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    assert response.status_code == 401


# Rules ACC-7 to ACC-9: the broker


class Brokered:
    """A BROKER clinic with a connection to its MIS, and that MIS with its own connection."""

    def __init__(self, db: Db) -> None:
        self.db = db

    async def make(self, **mis: Any) -> "Brokered":
        self.mis = await factories.client(self.db, client_type="MIS", **{"broker_scope": "connection:write", **mis})
        self.key = (await factories.connection(self.db, client_id=self.mis.id)).secret
        self.clinic = await factories.client(self.db, access_type="BROKER")
        self.connection = await factories.connection(self.db, client_id=self.clinic.id, consumer_id=self.mis.id)
        self.token = await factories.token(self.db, client=self.clinic)
        return self


async def test_a_broker_client_needs_the_api_key_of_its_broker(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make()
    without = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token))
    wrong = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key="wrong"))
    empty = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=""))
    right = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=case.key))
    assert [r.status_code for r in (without, wrong, empty, right)] == [401, 401, 401, 200]
    assert "API-key" in without.headers["www-authenticate"]


async def test_the_api_key_of_a_blocked_broker_is_refused(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make(is_blocked=True)
    response = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=case.key))
    assert response.status_code == 401


@pytest.mark.parametrize("broker_scope", [None, "", " "])
async def test_the_api_key_of_a_client_without_broker_scope_is_refused(
    http: httpx.AsyncClient, db: Db, broker_scope: str | None
) -> None:
    case = await Brokered(db).make(broker_scope=broker_scope)
    response = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=case.key))
    assert response.status_code == 401


async def test_the_secret_of_the_clinic_is_not_an_api_key_of_the_broker(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make()
    headers = bearer(case.token, api_key=case.connection.secret)
    response = await http.patch(case.connection.path, json=NEW, headers=headers)
    assert response.status_code == 401


async def test_two_api_keys_are_refused(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make()
    headers = [("Authorization", f"Bearer {case.token}"), ("API-key", case.key), ("API-key", case.key)]
    response = await http.patch(case.connection.path, json=NEW, headers=headers)
    assert response.status_code == 401


async def test_a_token_with_a_connection_requires_the_broker_of_that_connection(
    http: httpx.AsyncClient, db: Db
) -> None:
    case, other = await Brokered(db).make(), await Brokered(db).make()
    token = await factories.token(db, client=case.clinic, connection_id=case.connection.id)
    foreign = await http.patch(case.connection.path, json=NEW, headers=bearer(token, api_key=other.key))
    right = await http.patch(case.connection.path, json=NEW, headers=bearer(token, api_key=case.key))
    assert [foreign.status_code, right.status_code] == [401, 200]


async def test_only_the_secret_of_the_brokers_own_connection_is_its_api_key(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make()
    second = await factories.connection(db, client_id=case.mis.id, consumer_id=(await factories.client(db)).id)
    response = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=second.secret))
    assert response.status_code == 401


async def test_a_direct_client_needs_no_api_key_and_a_wrong_one_is_ignored(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token, api_key="wrong"))
    assert response.status_code == 200


async def test_the_previous_secret_is_an_api_key_until_it_expires(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make()
    await db.execute(
        "UPDATE connections SET previous_secret_digest = secret_digest, secret_digest = $2,"
        " previous_secret_expires_at = now() + interval '1 minute' WHERE client_id = $1",
        case.mis.id,
        uuid4().bytes,
    )
    living = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=case.key))
    await db.execute("UPDATE connections SET previous_secret_expires_at = now() WHERE client_id = $1", case.mis.id)
    expired = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=case.key))
    assert [living.status_code, expired.status_code] == [200, 401]


# Rule ACC-10: scope


@pytest.mark.parametrize(
    "scope", ["connection:read", "", None, "connection:writer xconnection:write", "CONNECTION:WRITE"]
)
async def test_the_token_must_have_the_scope(http: httpx.AsyncClient, db: Db, scope: str | None) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, scope=scope)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token))
    assert response.status_code == 403
    assert error_of(response) == {"type": "forbidden", "message": "Invalid scopes"}
    assert response.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope",'
        ' error_description="the access token lacks the scope connection:write", scope="connection:write"'
    )


async def test_the_broker_must_have_the_scope_too(http: httpx.AsyncClient, db: Db) -> None:
    case = await Brokered(db).make(broker_scope="connection:read")
    response = await http.patch(case.connection.path, json=NEW, headers=bearer(case.token, api_key=case.key))
    assert (response.status_code, error_of(response)["message"]) == (403, "Invalid scopes")
    assert 'scope="connection:write"' in response.headers["www-authenticate"]


# Rule ACC-11: whose client


@pytest.mark.parametrize("client_type", TYPES_PINNED_TO_THEMSELVES)
async def test_non_administrative_types_may_name_only_their_own_client(
    http: httpx.AsyncClient, db: Db, client_type: str
) -> None:
    mine, token = await own(db, client_type=client_type)
    foreign, _ = await own(db)
    refused = await http.patch(foreign.path, json=NEW, headers=bearer(token))
    accepted = await http.patch(mine.path, json=NEW, headers=bearer(token))
    assert refused.status_code == 403
    assert error_of(refused) == {"type": "forbidden", "message": "Forbidden"}
    assert "www-authenticate" not in refused.headers
    assert accepted.status_code == 200


@pytest.mark.parametrize("client_type", ADMINISTRATIVE_TYPES)
async def test_an_administrative_type_may_name_any_client(http: httpx.AsyncClient, db: Db, client_type: str) -> None:
    mine, token = await own(db, client_type=client_type)
    foreign, _ = await own(db)
    answers = [await http.patch(c.path, json=NEW, headers=bearer(token)) for c in (mine, foreign)]
    assert [response.status_code for response in answers] == [200, 200]


@pytest.mark.parametrize("client_id", ["not-a-uuid", "1380df72275a11e793ae92361f002671", "{}", "0"])
async def test_a_malformed_client_id_is_forbidden_or_not_found(http: httpx.AsyncClient, db: Db, client_id: str) -> None:
    connection, token = await own(db)
    _, admin_token = await own(db, client_type="NHS")
    path = f"/api/clients/{client_id}/connections/{connection.id}"
    assert (await http.patch(path, json=NEW, headers=bearer(token))).status_code == 403
    assert (await http.patch(path, json=NEW, headers=bearer(admin_token))).status_code == 404


# Rule CON-6: which connection


async def test_an_unknown_connection_is_not_found(http: httpx.AsyncClient, db: Db) -> None:
    mine, token = await own(db)
    foreign, _ = await own(db)
    for connection_id in (uuid4(), foreign.id, "not-a-uuid", str(mine.id).replace("-", "")):
        path = f"/api/clients/{mine.client_id}/connections/{connection_id}"
        response = await http.patch(path, json=NEW, headers=bearer(token))
        assert response.status_code == 404
        assert error_of(response) == {"type": "not_found", "message": "Not Found"}


async def test_an_administrator_must_name_the_connections_own_client(http: httpx.AsyncClient, db: Db) -> None:
    mine, token = await own(db, client_type="NHS")
    foreign, _ = await own(db)
    path = f"/api/clients/{mine.client_id}/connections/{foreign.id}"
    assert (await http.patch(path, json=NEW, headers=bearer(token))).status_code == 404
    assert (await row_of(db, foreign.id))["version"] == 1


# Rule CNV-38: which version


@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        ('"1"', 200), ("*", 200), ('"7", "1"', 200), ('"1","7"', 200),
        ('"2"', 412), ('"0"', 412), ('W/"1"', 412), ("1", 412), ("", 412), ('"x"', 412), ('"1', 412),
        ('"' + "9" * 40 + '"', 412), ('"x1"', 412), ('"1x"', 412), ('"01"', 412), ('"1" "x"', 412), ('"x""1"', 412),
        ('"1"x', 412), ('"x" , "1" ,', 200),
    ],
)  # fmt: skip
async def test_if_match_names_the_version(http: httpx.AsyncClient, db: Db, if_match: str, status: int) -> None:
    connection, token = await own(db)
    response = await http.patch(connection.path, json=NEW, headers=bearer(token, If_Match=if_match))
    assert response.status_code == status
    assert (await row_of(db, connection.id))["version"] == (2 if status == 200 else 1)
    if status == 412:
        assert error_of(response)["type"] == "precondition_failed"
        assert await audit_of(db, connection.id) == []


async def test_a_wrong_version_is_refused_even_when_nothing_would_change(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    same = {"redirect_uri": "https://old.example.com/callback"}
    response = await http.patch(connection.path, json=same, headers=bearer(token, If_Match='"5"'))
    assert response.status_code == 412


async def test_the_etag_of_one_answer_is_the_if_match_of_the_next(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    first = await http.patch(connection.path, json=NEW, headers=bearer(token))
    again = {"redirect_uri": "https://third.example.com/"}
    headers = bearer(token, If_Match=first.headers["etag"])
    second = await http.patch(connection.path, json=again, headers=headers)
    third = await http.patch(connection.path, json=NEW, headers=headers)
    assert [second.status_code, third.status_code] == [200, 412]


async def test_of_two_changes_to_one_version_one_succeeds(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    headers = bearer(token, If_Match='"1"')
    bodies = [{"redirect_uri": f"https://racer-{number}.example.com/"} for number in range(8)]
    answers = await asyncio.gather(*(http.patch(connection.path, json=b, headers=headers) for b in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    assert len(await audit_of(db, connection.id)) == 1


async def test_simultaneous_changes_form_one_chain_of_versions(http: httpx.AsyncClient, db: Db) -> None:
    connection, token = await own(db)
    bodies = [{"redirect_uri": f"https://racer-{number}.example.com/"} for number in range(16)]
    answers = await asyncio.gather(*(http.patch(connection.path, json=b, headers=bearer(token)) for b in bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(int(answer.headers["etag"].strip('"')) for answer in answers) == list(range(2, 18))
    events = await audit_of(db, connection.id)
    steps = [(json.loads(e["old"])["redirect_uri"], json.loads(e["new"])["redirect_uri"]) for e in events]
    assert steps[0][0] == "https://old.example.com/callback"
    assert all(before[1] == after[0] for before, after in pairwise(steps))
    assert steps[-1][1] == (await row_of(db, connection.id))["redirect_uri"]
    assert [e["occurred_at"] for e in events] == sorted(e["occurred_at"] for e in events)


# Codes and tokens


async def test_issued_tokens_stay_active(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    token = await factories.token(db, client=owner, connection_id=connection.id)
    await http.patch(connection.path, json=NEW, headers=bearer(token))
    again = {"redirect_uri": "https://third.example.com/"}
    assert (await http.patch(connection.path, json=again, headers=bearer(token))).status_code == 200


# The order of checks: a request with several errors gets the answer to the first


async def test_checks_come_in_the_order_of_the_contract(http: httpx.AsyncClient, db: Db) -> None:
    mine, token = await own(db)
    foreign, _ = await own(db)
    reader = await factories.token(
        db, client=factories.Client(mine.client_id, await factories.user(db)), scope="connection:read"
    )
    unknown = f"/api/clients/{mine.client_id}/connections/{uuid4()}"
    large, broken, wrong = b"[" * 70_000, b"{", b"{}"
    text, as_json = {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}
    stale = {"If-Match": '"9"'}

    async def status(path: str, content: bytes, *headers: dict[str, str]) -> int:
        merged = {key: value for part in headers for key, value in part.items()}
        return (await http.patch(path, content=content, headers=merged)).status_code

    assert await status(foreign.path, large, text, stale) == 401
    assert await status(foreign.path, large, text, stale, bearer(reader)) == 403
    assert await status(foreign.path, large, text, stale, bearer(token)) == 403
    assert await status(unknown, large, text, stale, bearer(token)) == 415
    assert await status(unknown, large, as_json, stale, bearer(token)) == 413
    assert await status(unknown, broken, as_json, stale, bearer(token)) == 400
    assert await status(unknown, wrong, as_json, stale, bearer(token)) == 422
    good = json.dumps(NEW).encode()
    assert await status(unknown, good, as_json, stale, bearer(token)) == 404
    assert await status(mine.path, good, as_json, stale, bearer(token)) == 412
    assert await status(mine.path, good, as_json, bearer(token)) == 200


async def test_the_scope_is_checked_before_the_context(http: httpx.AsyncClient, db: Db) -> None:
    foreign, _ = await own(db)
    reader = await factories.token(db, client=await factories.client(db), scope="connection:read")
    response = await http.patch(foreign.path, json=NEW, headers=bearer(reader))
    assert error_of(response)["message"] == "Invalid scopes"


# The audit trail


async def test_the_audit_trail_only_grows(server: Server, db: Db, http: httpx.AsyncClient) -> None:
    connection, token = await own(db)
    await http.patch(connection.path, json=NEW, headers=bearer(token))
    for statement in (
        "UPDATE audit_events SET action = 'x'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute(statement)
