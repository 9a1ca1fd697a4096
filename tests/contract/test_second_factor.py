"""The second factor: messages, one-time passwords and session tokens; each refusal in its order."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril import security
from mithril.otp import service as codes
from mithril.otp.store import OpenCode
from mithril.sms import messenger
from support import factories, oauth_world, racing
from support.cases import wait_until
from support.factories import Db, bearer
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

PASSWORD = "Right-Password-1"
PASSWORD_HASH = security.hash_password(PASSWORD)
PHONE, OTHER_PHONE = "+380501234567", "+380677654321"
INIT, APPROVE, UPDATE = (
    f"/oauth/users/actions/{action}" for action in ("init_factor", "approve_factor", "update_password")
)
INVALID = {"type": "otp_invalid", "message": "Invalid OTP code."}
EXPIRED = {"type": "otp_expired", "message": "OTP expired."}
REACHED = {"type": "otp_reached_max_attempts", "message": "Reached max OTP verify attempts"}
USER_BLOCKED = {"type": "user_blocked", "message": "User blocked."}
TOKEN_EXPIRED = {"type": "token_expired", "message": "Token expired."}
TOKEN_INVALID = {"type": "token_invalid", "message": "Invalid token."}
NO_HEADER = {"type": "access_denied", "message": "Authorization header required."}
WRONG_KIND = {"type": "access_denied", "message": "Invalid token type"}
INIT_FIRST = {"type": "access_denied", "message": "Invalid token type. Init factor at first"}
NOT_SET = {"type": "request_conflict", "message": "Factor not set"}
NOT_OF_ROLES = "User requested scope that is not allowed by role based access policies."
NOT_SENT = {"type": "internal_error", "message": "SMS not sent. Try later"}
ATTEMPTS, ERRORS, SENDS = 3, 5, 3


@dataclass
class SmsService:
    """A stand-in for the SMS service. `status`: of its answers; `is_slow`: it answers too late."""

    url: str = ""
    status: int = 200
    is_slow: bool = False
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)

    def code_for(self, phone: str) -> str:
        """Return the code in the last message to that phone."""
        text = [document["body"] for _, document in self.requests if document["phone_number"] == phone][-1]
        (code,) = re.findall(r"\d+", text)
        return str(code)


@contextmanager
def sms_service() -> Iterator[SmsService]:
    service = SmsService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            service.requests.append((self.path, json.loads(body)))
            service.arrived.set()
            if service.is_slow:
                service.ending.wait(60)
            self.send_response(service.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        service.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service
        service.ending.set()
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def sms() -> Iterator[SmsService]:
    with sms_service() as service:
        yield service


@pytest.fixture(scope="module")
def server(postgres: str, sms: SmsService) -> Iterator[Server]:
    """Five wrong codes block a user here, not three, to show that one code allows three attempts."""
    with (
        fresh_database(postgres) as url,
        running_server(database_url=url, otp_endpoint=sms.url + "/", user_otp_error_max=ERRORS) as running,
    ):
        yield running


@pytest.fixture(autouse=True)
def working_service(sms: SmsService) -> None:
    sms.status, sms.is_slow = 200, False
    sms.ending.clear()


@dataclass(frozen=True)
class Person:
    """A user with a second factor, and the client through which they log in."""

    id: UUID
    email: str
    phone: str
    client: factories.Client


_numbers = iter(range(1_000_000, 9_999_999))


async def person(db: Db, *, has_factor: bool = True, has_phone: bool = True) -> Person:
    user_id = await factories.user(db)
    email = await db.fetchval(
        "UPDATE users SET password_hash = $2 WHERE id = $1 RETURNING email", user_id, PASSWORD_HASH
    )
    client = await factories.client(db, client_type="Front end")
    await db.execute("UPDATE client_types SET scope = 'app:authorize user:change_password' WHERE name = 'Front end'")
    await db.execute(
        """UPDATE clients SET settings = '{"allowed_grant_types": ["password"]}' WHERE id = $1""", client.id
    )
    phone = f"+38050{next(_numbers)}"
    if has_factor:
        statement = "INSERT INTO authentication_factors (user_id, type, factor) VALUES ($1, 'SMS', $2)"
        await db.execute(statement, user_id, phone if has_phone else None)
    return Person(user_id, email, phone, factories.Client(client.id, user_id))


async def log_in(
    http: httpx.AsyncClient, who: Person, *, grant_type: str = "password", scope: str = "app:authorize"
) -> httpx.Response:
    fields = {"email": who.email, "password": PASSWORD, "client_id": str(who.client.id), "scope": scope}
    return await http.post("/auth/login", json={"token": {"grant_type": grant_type, **fields}})


async def started(http: httpx.AsyncClient, who: Person, **changes: str) -> str:
    """Return the two-factor token that a correct password gives."""
    response = await log_in(http, who, **changes)
    assert response.status_code == 201, response.text
    value: str = response.json()["data"]["value"]
    return value


async def authorize(http: httpx.AsyncClient, token: str | None, otp: object) -> httpx.Response:
    body = {"token": {"grant_type": "authorize_2fa_access_token", "otp": otp}}
    return await http.post("/auth/login", json=body, headers=bearer(token) if token else {})


async def refresh(http: httpx.AsyncClient, token: str | None) -> httpx.Response:
    body = {"token": {"grant_type": "refresh_2fa_access_token"}}
    return await http.post("/auth/login", json=body, headers=bearer(token) if token else {})


async def init(http: httpx.AsyncClient, token: str | None, **fields: object) -> httpx.Response:
    body = {"type": "SMS", "factor": OTHER_PHONE} | fields
    return await http.post(INIT, json=body, headers=bearer(token) if token else {})


async def approve(http: httpx.AsyncClient, token: str | None, otp: object) -> httpx.Response:
    return await http.post(APPROVE, json={"otp": otp}, headers=bearer(token) if token else {})


def refused(response: httpx.Response) -> tuple[int, dict[str, Any]]:
    return response.status_code, response.json()["error"]


def wrong(code: str) -> int:
    return (int(code) + 1) % int("1" + "0" * len(code))


async def row_of(db: Db, token: str) -> dict[str, Any]:
    statement = "SELECT *, expires_at > now() AS is_living FROM tokens WHERE digest = $1"
    row = await db.fetchrow(statement, security.digest(token))
    assert row is not None
    return dict(row)


async def code_row(db: Db, token: str) -> dict[str, Any]:
    token_id = (await row_of(db, token))["id"]
    rows = await db.fetch("SELECT * FROM otp WHERE key LIKE $1", f"{token_id}===%")
    (row,) = rows
    return dict(row)


async def everything(db: Db) -> dict[str, list[Any]]:
    tables = ("tokens", "otp", "users", "authentication_factors", "password_hstr", "audit_events")
    return {table: await db.fetch(f"SELECT * FROM {table} ORDER BY id") for table in tables}


@asynccontextmanager
async def another_server(postgres: str, **settings: object) -> AsyncIterator[tuple[httpx.AsyncClient, Db]]:
    """Run a server with other settings on its own database."""
    database = fresh_database(postgres)
    url = await asyncio.to_thread(database.__enter__)
    running = running_server(database_url=url, **settings)
    server = await asyncio.to_thread(running.__enter__)
    connection = await asyncpg.connect(url)
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client, connection
    await connection.close()
    await asyncio.to_thread(running.__exit__, None, None, None)
    await asyncio.to_thread(database.__exit__, None, None, None)


# A correct password


async def test_a_user_with_a_phone_gets_a_message_and_a_token_without_access(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    response = await log_in(http, who)
    body = response.json()
    assert response.status_code == 201
    assert body["urgent"] == {"next_step": "REQUEST_OTP"}
    assert body["data"]["name"] == "2fa_access_token"
    assert body["data"]["user_id"] == str(who.id)
    assert body["data"]["details"] == {
        "grant_type": "password",
        "client_id": str(who.client.id),
        "scope": "",
        "scope_request": "app:authorize",
    }
    path, document = sms.requests[-1]
    code = sms.code_for(who.phone)
    assert path == "/sms/send"
    assert document == {"phone_number": who.phone, "body": f"Код підтвердження: {code}", "type": "2FA"}
    assert re.fullmatch(r"\d{6}", code)
    assert code not in response.text


async def test_a_user_without_a_phone_is_asked_for_it(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    before = len(sms.requests)
    response = await log_in(http, await person(db, has_phone=False))
    assert response.status_code == 201
    assert response.json()["urgent"] == {"next_step": "REQUEST_FACTOR"}
    assert response.json()["data"]["name"] == "2fa_access_token"
    assert len(sms.requests) == before


async def test_a_user_without_an_active_factor_gets_no_message(http: httpx.AsyncClient, db: Db) -> None:
    who = await person(db)
    await db.execute("UPDATE authentication_factors SET is_active = false WHERE user_id = $1", who.id)
    response = await log_in(http, who)
    assert response.json()["data"]["name"] == "access_token"
    assert response.json()["urgent"] == {"next_step": "REQUEST_APPS"}


async def test_the_code_and_the_token_are_stored_as_digests(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    row, code = await code_row(db, token), sms.code_for(who.phone)
    stored = row["code_digest"].decode()
    assert stored.startswith("$argon2id$")
    assert not security.is_password(code, stored)  # the code alone, tried against a dump, does not match
    assert security.is_password(f"{token}:{code}", stored)
    assert (row["status"], row["attempts_count"], row["active"]) == ("NEW", 0, True)
    assert row["key"] == f"{(await row_of(db, token))['id']}==={who.phone}"


async def test_a_new_login_revokes_the_older_sessions_with_the_same_client(http: httpx.AsyncClient, db: Db) -> None:
    who = await person(db)
    session = await factories.token(db, client=who.client)
    elsewhere = await factories.token(db, client=await factories.client(db, user_id=who.id))
    first = await started(http, who)
    second = await started(http, who)
    living = [(await row_of(db, token))["is_living"] for token in (session, elsewhere, first, second)]
    assert living == [False, True, False, True]


# authorize_2fa_access_token


async def test_a_correct_code_issues_the_session_token(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    response = await authorize(http, token, int(sms.code_for(who.phone)))
    body = response.json()
    assert response.status_code == 201
    assert body["urgent"] == {"next_step": "REQUEST_APPS"}
    assert body["data"]["name"] == "access_token"
    assert body["data"]["details"] == {
        "grant_type": "password",
        "client_id": str(who.client.id),
        "scope": "app:authorize",
    }
    session = await row_of(db, body["data"]["value"])
    assert (session["user_id"], session["client_id"], session["scope"]) == (who.id, who.client.id, "app:authorize")
    assert not (await row_of(db, token))["is_living"]
    assert (await code_row(db, token))["status"] == "VERIFIED"


async def test_the_code_may_be_sent_as_text_with_leading_zeros(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    token = await started(http, who)
    assert (await authorize(http, token, sms.code_for(who.phone))).status_code == 201


async def test_a_code_that_begins_with_zeros_may_be_sent_as_a_number(
    http: httpx.AsyncClient, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mithril.otp.service.secrets.randbelow", lambda _: 42)
    token = await started(http, await person(db))
    assert (await authorize(http, token, 42)).status_code == 201


async def test_a_code_issues_a_session_token_once(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    answers = await asyncio.gather(*(authorize(http, token, code) for _ in range(4 * ERRORS)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * (4 * ERRORS - 1)
    assert refused(await authorize(http, token, code)) == (401, TOKEN_EXPIRED)
    (session,) = (answer.json()["data"]["value"] for answer in answers if answer.status_code == 201)
    assert (await row_of(db, session))["is_living"], "a user who repeats a right code is not guessing"
    assert await db.fetchval("SELECT otp_error_count FROM users WHERE id = $1", who.id) == 0
    row = await code_row(db, token)
    assert (row["status"], row["active"], row["attempts_count"]) == ("VERIFIED", False, 1)


async def test_changing_a_password_goes_through_the_second_factor_too(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    token = await started(http, who, grant_type="change_password", scope="user:change_password")
    response = await authorize(http, token, sms.code_for(who.phone))
    data = response.json()["data"]
    assert data["name"] == "change_password_token"
    assert data["details"] == {
        "grant_type": "change_password",
        "client_id": str(who.client.id),
        "scope": "user:change_password",
        "scope_request": "user:change_password",
    }
    assert not (await row_of(db, token))["is_living"]
    body = {"user": {"password": "Another-Password-2"}}
    assert (await http.post(UPDATE, json=body, headers=bearer(data["value"]))).status_code == 200


async def test_a_code_works_only_with_the_token_that_it_was_sent_for(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    one, other = await person(db), await person(db)
    token, _ = await started(http, one), await started(http, other)
    code = sms.code_for(other.phone)
    if code != sms.code_for(one.phone):
        assert refused(await authorize(http, token, code)) == (401, INVALID)


@pytest.mark.parametrize(
    ("otp", "rule"),
    [
        (None, {"rule": "required", "description": "can't be blank", "params": []}),
        ("", {"rule": "required", "description": "can't be blank", "params": []}),
        ("12a456", {"rule": "cast", "description": "is invalid", "params": ["integer"]}),
        ("٤٢٤٢٤٢", {"rule": "cast", "description": "is invalid", "params": ["integer"]}),
        ([], {"rule": "cast", "description": "is invalid", "params": ["integer"]}),
        (True, {"rule": "cast", "description": "is invalid", "params": ["integer"]}),
        (1.5, {"rule": "cast", "description": "is invalid", "params": ["integer"]}),
    ],
)
async def test_a_malformed_code_is_refused_before_the_token_is_read(
    http: httpx.AsyncClient, db: Db, otp: object, rule: dict[str, Any]
) -> None:
    status, error = refused(await authorize(http, None, otp))
    assert status == 422
    assert error["invalid"] == [{"entry": "$.otp", "entry_type": "json_data_property", "rules": [rule]}]


@pytest.mark.parametrize("otp", [-1, 0, 10**30, 1e300, "0" * 20])
async def test_a_number_that_is_not_the_code_is_refused(
    http: httpx.AsyncClient, db: Db, sms: SmsService, otp: object
) -> None:
    who = await person(db)
    token = await started(http, who)
    if int(sms.code_for(who.phone)) != 0:
        assert refused(await authorize(http, token, otp)) == (401, INVALID)


async def test_a_code_expires(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    await db.execute("UPDATE otp SET code_expired_at = now() WHERE id = $1", (await code_row(db, token))["id"])
    answers = [await authorize(http, token, sms.code_for(who.phone)) for _ in range(2)]
    assert [refused(answer) for answer in answers] == [(401, EXPIRED)] * 2
    row = await code_row(db, token)
    assert (row["status"], row["active"], row["attempts_count"]) == ("EXPIRED", False, 0)


async def test_a_code_allows_three_attempts(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    wrong_ones = [await authorize(http, token, wrong(code)) for _ in range(ATTEMPTS)]
    right_one = await authorize(http, token, code)
    assert [refused(answer) for answer in wrong_ones] == [(401, INVALID)] * ATTEMPTS
    assert refused(right_one) == (401, REACHED)
    row = await code_row(db, token)
    assert (row["status"], row["active"], row["attempts_count"]) == ("UNVERIFIED", False, ATTEMPTS)


async def test_of_simultaneous_attempts_at_most_three_count(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    answers = await asyncio.gather(*(authorize(http, token, wrong(code) + number) for number in range(16)))
    assert {answer.status_code for answer in answers} == {401}
    assert sum(answer.json()["error"] == INVALID for answer in answers) <= ATTEMPTS
    assert (await code_row(db, token))["attempts_count"] == ATTEMPTS


async def test_a_correct_code_after_three_wrong_ones_is_refused(
    http: httpx.AsyncClient, db: Db, sms: SmsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    is_there, may_go_on = threading.Event(), threading.Event()
    judge = codes._is_right

    async def judge_the_right_one_last(tried: OpenCode, holder: str, given: str) -> bool:
        if given == code:
            is_there.set()
            assert await asyncio.to_thread(may_go_on.wait, 30)
        return await judge(tried, holder, given)

    monkeypatch.setattr(codes, "_is_right", judge_the_right_one_last)
    right = asyncio.create_task(authorize(http, token, code))
    assert await asyncio.to_thread(is_there.wait, 30)
    wrong_ones = [await authorize(http, token, wrong(code)) for _ in range(ATTEMPTS)]
    may_go_on.set()
    assert [refused(answer) for answer in wrong_ones] == [(401, INVALID)] * ATTEMPTS
    assert refused(await right) == (401, INVALID)
    assert await db.fetchval("SELECT otp_error_count FROM users WHERE id = $1", who.id) == ATTEMPTS


async def test_a_token_without_a_code_is_not_a_server_error(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    await db.execute("DELETE FROM otp WHERE id = $1", (await code_row(db, token))["id"])
    assert refused(await authorize(http, token, sms.code_for(who.phone))) == (401, INVALID)


# Too many wrong codes


async def test_too_many_wrong_codes_block_the_user_and_revoke_all_tokens(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who, other = await person(db), await person(db)
    elsewhere = await factories.token(db, client=await factories.client(db, user_id=who.id))
    strangers = await factories.token(db, client=other.client)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    tries = [await authorize(http, token, wrong(code)) for _ in range(ERRORS)]
    assert [refused(answer)[1]["type"] for answer in tries] == ["otp_invalid"] * 3 + ["otp_reached_max_attempts"] * 2
    assert refused(await authorize(http, token, code)) == (401, USER_BLOCKED)
    assert refused(await log_in(http, who)) == (401, USER_BLOCKED)
    row = await db.fetchrow("SELECT is_blocked, block_reason FROM users WHERE id = $1", who.id)
    assert tuple(row or ()) == (True, "Passed invalid OTP more than USER_OTP_ERROR_MAX")
    living = [(await row_of(db, value))["is_living"] for value in (token, elsewhere, strangers)]
    assert living == [False, False, True]
    assert not await db.fetchval("SELECT is_blocked FROM users WHERE id = $1", other.id)


async def test_blocking_leaves_one_audit_row(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    await asyncio.gather(*(authorize(http, token, wrong(code)) for _ in range(12)))
    (event,) = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1", who.id)
    assert event["action"] == "user.block"
    assert (event["actor_user_id"], event["actor_client_id"]) == (who.id, who.client.id)
    assert (event["network_address"], len(event["request_id"])) == ("127.0.0.1", 24)
    assert json.loads(event["old"]) == {"is_blocked": False}
    reason = "Passed invalid OTP more than USER_OTP_ERROR_MAX"
    assert json.loads(event["new"]) == {"is_blocked": True, "block_reason": reason}


async def test_a_correct_code_resets_the_counter_of_wrong_ones(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    for otp in (wrong(code), wrong(code), code):
        await authorize(http, token, otp)
    assert await db.fetchval("SELECT otp_error_count FROM users WHERE id = $1", who.id) == 0


@pytest.mark.slow
async def test_wrong_codes_are_counted_across_tokens(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    for _ in range(2):
        token = await started(http, who)
        for _ in range(ATTEMPTS):
            last = await authorize(http, token, wrong(sms.code_for(who.phone)))
    assert refused(last) == (401, USER_BLOCKED)


# refresh_2fa_access_token


async def test_another_code_may_be_requested(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    first = await started(http, who)
    first_code = sms.code_for(who.phone)
    response = await refresh(http, first)
    body = response.json()
    assert response.status_code == 201
    assert body["urgent"] == {"next_step": "REQUEST_OTP"}
    assert body["data"]["name"] == "2fa_access_token"
    assert body["data"]["details"]["scope_request"] == "app:authorize"
    assert body["data"]["details"]["scope"] == ""
    assert refused(await authorize(http, first, first_code)) == (401, TOKEN_EXPIRED)
    old_code = await code_row(db, first)
    assert (old_code["status"], old_code["active"]) == ("CANCELED", False)
    second = body["data"]["value"]
    assert (await authorize(http, second, sms.code_for(who.phone))).status_code == 201


async def test_of_simultaneous_requests_for_another_code_one_gets_a_token(http: httpx.AsyncClient, db: Db) -> None:
    token = await started(http, await person(db))
    answers = await asyncio.gather(*(refresh(http, token) for _ in range(SENDS - 1)))
    assert sorted(answer.status_code for answer in answers) == [201, 401]


# The order of refusals


@pytest.mark.parametrize("grant", ["authorize", "refresh"])
async def test_the_grants_refuse_in_the_order_of_the_contract(
    http: httpx.AsyncClient, db: Db, sms: SmsService, grant: str
) -> None:
    async def ask(token: str | None) -> tuple[int, dict[str, Any]]:
        answer = authorize(http, token, 123456) if grant == "authorize" else refresh(http, token)
        return refused(await answer)

    who = await person(db)
    token = await started(http, who)
    session = await factories.token(db, client=who.client, expires_in=-1)
    await db.execute("UPDATE authentication_factors SET factor = NULL WHERE user_id = $1", who.id)
    await db.execute("UPDATE tokens SET expires_at = now() WHERE digest = $1", security.digest(token))
    await factories.quietly(db, "UPDATE users SET is_blocked = true WHERE id = $1", who.id)
    await factories.quietly(db, "UPDATE clients SET is_blocked = true WHERE id = $1", who.client.id)

    assert await ask(None) == (401, NO_HEADER)
    assert await ask("no-such-token") == (401, TOKEN_INVALID)
    assert await ask(session) == (401, USER_BLOCKED)
    await factories.quietly(db, "UPDATE users SET is_blocked = false WHERE id = $1", who.id)
    assert await ask(session) == (401, {"type": "access_denied", "message": "Client is blocked."})
    await factories.quietly(db, "UPDATE clients SET is_blocked = false WHERE id = $1", who.client.id)
    assert await ask(session) == (401, WRONG_KIND)
    assert await ask(token) == (401, TOKEN_EXPIRED)
    await db.execute("UPDATE tokens SET expires_at = now() + interval '1 h' WHERE digest = $1", security.digest(token))
    assert await ask(token) == (409, NOT_SET)
    await db.execute("DELETE FROM authentication_factors WHERE user_id = $1", who.id)
    assert await ask(token) == (409, NOT_SET)


@pytest.mark.parametrize("authorization", ["", "Basic YTpi", "Token x"])
async def test_another_authorization_scheme_counts_as_no_header(http: httpx.AsyncClient, authorization: str) -> None:
    for path in (INIT, APPROVE, UPDATE):
        response = await http.post(path, json={}, headers={"Authorization": authorization})
        assert refused(response) == (401, NO_HEADER)


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer two words", "Bearer ключ"])
async def test_a_header_without_a_token_is_an_invalid_token(http: httpx.AsyncClient, authorization: str) -> None:
    for path in (INIT, APPROVE, UPDATE):
        response = await http.post(path, json={}, headers=[(b"Authorization", authorization.encode())])
        assert refused(response) == (401, TOKEN_INVALID)


# init_factor and approve_factor


async def test_a_user_sets_the_first_phone(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db, has_phone=False)
    token = await started(http, who)
    begun = await init(http, token, factor=who.phone)
    assert begun.status_code == 201
    assert begun.json()["urgent"] == {"next_step": "APPROVE_FACTOR"}
    assert set(begun.json()["data"]) == {"id", "name", "value", "expires_at", "user_id"}
    assert begun.json()["data"]["name"] == "2fa_access_token"
    assert not (await row_of(db, token))["is_living"]

    approved = await approve(http, begun.json()["data"]["value"], sms.code_for(who.phone))
    assert approved.status_code == 201
    assert "urgent" not in approved.json()
    assert approved.json()["data"]["name"] == "access_token"
    assert approved.json()["data"]["details"] == {
        "grant_type": "password",
        "client_id": str(who.client.id),
        "scope": "app:authorize",
        "scope_request": "app:authorize",
    }
    factor = await db.fetchrow("SELECT * FROM authentication_factors WHERE user_id = $1", who.id)
    assert factor is not None
    assert factor["factor"] == who.phone
    assert (await log_in(http, who)).json()["urgent"] == {"next_step": "REQUEST_OTP"}


async def test_a_new_phone_leaves_an_audit_row(http: httpx.AsyncClient, db: Db, sms: SmsService) -> None:
    who = await person(db)
    begun = await init(http, await factories.token(db, client=who.client, scope="app:authorize"))
    await approve(http, begun.json()["data"]["value"], sms.code_for(OTHER_PHONE))
    factor_id = await db.fetchval("SELECT id FROM authentication_factors WHERE user_id = $1", who.id)
    (event,) = await db.fetch("SELECT * FROM audit_events WHERE subject_id = $1", factor_id)
    assert (event["action"], event["actor_user_id"]) == ("authentication_factor.update", who.id)
    assert json.loads(event["old"]) == {"factor": who.phone}
    assert json.loads(event["new"]) == {"factor": OTHER_PHONE}


async def test_a_new_phone_requires_the_code_that_was_sent_to_it(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    begun = await init(http, await factories.token(db, client=who.client))
    token = begun.json()["data"]["value"]
    assert refused(await approve(http, token, wrong(sms.code_for(OTHER_PHONE)))) == (401, INVALID)
    assert await db.fetchval("SELECT factor FROM authentication_factors WHERE user_id = $1", who.id) == who.phone


async def test_a_new_phone_does_not_widen_the_scope_of_the_session(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    connection = await factories.connection(db, client_id=who.client.id)
    session = await factories.token(db, client=who.client, scope="legal_entity:read", connection_id=connection.id)
    begun = await init(http, session)
    approved = await approve(http, begun.json()["data"]["value"], sms.code_for(OTHER_PHONE))
    row = await row_of(db, approved.json()["data"]["value"])
    assert (row["scope"], row["connection_id"]) == ("legal_entity:read", connection.id)


@pytest.mark.parametrize(
    ("fields", "invalid"),
    [
        ({"type": None, "factor": None}, [("$.factor", "required"), ("$.type", "required")]),
        ({"type": "EMAIL"}, [("$.type", "inclusion")]),
        ({"factor": "0501234567"}, [("$.factor", "format")]),
        ({"factor": "+380501234567\n"}, [("$.factor", "format")]),
        ({"factor": "+3805012345678"}, [("$.factor", "format")]),
        ({"factor": 380501234567}, [("$.factor", "cast")]),
        ({"type": "EMAIL", "factor": "x"}, [("$.factor", "format"), ("$.type", "inclusion")]),
    ],
)
async def test_type_and_phone_are_checked(
    http: httpx.AsyncClient, db: Db, fields: dict[str, object], invalid: list[tuple[str, str]]
) -> None:
    who = await person(db, has_factor=False)  # 404 comes later
    status, error = refused(await init(http, await factories.token(db, client=who.client), **fields))
    assert status == 422
    assert error["type"] == "validation_failed"
    assert [(entry["entry"], rule["rule"]) for entry in error["invalid"] for rule in entry["rules"]] == invalid


async def test_a_malformed_phone_is_named(http: httpx.AsyncClient, db: Db) -> None:
    who = await person(db)
    _, error = refused(await init(http, await factories.token(db, client=who.client), factor="1"))
    rule = {"rule": "format", "description": "invalid phone", "params": []}
    assert error["invalid"] == [{"entry": "$.factor", "entry_type": "json_data_property", "rules": [rule]}]


async def test_init_factor_refuses_in_the_order_of_the_contract(http: httpx.AsyncClient, db: Db) -> None:
    who = await person(db)
    refresh_token = await factories.token(db, client=who.client, name="refresh_token")
    expired = await factories.token(db, client=who.client, expires_in=-1)
    await factories.quietly(db, "UPDATE users SET is_blocked = true WHERE id = $1", who.id)
    await db.execute("UPDATE authentication_factors SET is_active = false WHERE user_id = $1", who.id)
    assert refused(await init(http, None, type=1)) == (401, NO_HEADER)
    assert refused(await init(http, "no-such-token", type=1)) == (401, TOKEN_INVALID)
    assert refused(await init(http, expired, type=1)) == (401, TOKEN_EXPIRED)
    assert refused(await init(http, refresh_token, type=1)) == (401, USER_BLOCKED)
    await factories.quietly(db, "UPDATE users SET is_blocked = false WHERE id = $1", who.id)
    assert refused(await init(http, refresh_token, type=1))[0] == 422
    assert refused(await init(http, refresh_token)) == (404, {"type": "not_found", "message": "Not Found"})
    await db.execute("UPDATE authentication_factors SET is_active = true WHERE user_id = $1", who.id)
    assert refused(await init(http, refresh_token)) == (
        401,
        {"type": "token_invalid_type", "message": "Invalid token type."},
    )


@pytest.mark.parametrize(
    ("grant_type", "scope", "status"),
    [
        ("password", "app:authorize", 201),
        ("authorization_code", "app:authorize", 401),
        ("refresh_token", "app:authorize", 401),
        ("authorization_code", "legal_entity:read user:request_factor", 201),
    ],
)
async def test_a_token_from_a_code_or_refresh_cannot_set_the_phone_without_its_scope(
    http: httpx.AsyncClient, db: Db, grant_type: str, scope: str, status: int
) -> None:
    who = await person(db)
    token = await factories.token(db, client=who.client, scope=scope)
    statement = "UPDATE tokens SET details = jsonb_build_object('grant_type', $2::text) WHERE digest = $1"
    await db.execute(statement, security.digest(token), grant_type)
    assert (await init(http, token)).status_code == status


@pytest.mark.parametrize(("kind", "has_phone"), [("2fa_access_token", True), ("access_token", False)])
async def test_a_password_alone_cannot_change_a_set_phone(
    http: httpx.AsyncClient, db: Db, kind: str, *, has_phone: bool
) -> None:
    who = await person(db, has_phone=has_phone)
    token = await factories.token(db, client=who.client, name=kind)
    assert refused(await init(http, token))[1]["type"] == "token_invalid_type"


async def test_approve_factor_refuses_in_the_order_of_the_contract(http: httpx.AsyncClient, db: Db) -> None:
    who = await person(db)
    session = await factories.token(db, client=who.client)
    token = (await init(http, session)).json()["data"]["value"]
    two_factor = await factories.token(db, client=who.client, name="2fa_access_token")
    await factories.quietly(db, "UPDATE users SET is_blocked = true WHERE id = $1", who.id)
    await db.execute("UPDATE authentication_factors SET is_active = false WHERE user_id = $1", who.id)
    assert refused(await approve(http, None, None)) == (401, NO_HEADER)
    assert refused(await approve(http, "no-such-token", None)) == (401, TOKEN_INVALID)
    assert refused(await approve(http, session, None)) == (401, TOKEN_EXPIRED)
    assert refused(await approve(http, two_factor, None)) == (401, INIT_FIRST)
    assert refused(await approve(http, token, None)) == (401, USER_BLOCKED)
    await factories.quietly(db, "UPDATE users SET is_blocked = false WHERE id = $1", who.id)
    assert refused(await approve(http, token, None))[0] == 422
    assert refused(await approve(http, token, 1)) == (404, {"type": "not_found", "message": "Not Found"})


async def test_a_phone_that_was_named_first_is_not_replaced_by_a_password_alone(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    """Who knows the password only begins while there is no phone; the user names theirs through another client."""
    who = await person(db, has_phone=False)
    elsewhere = replace(who, client=(await person(db)).client)
    thief = (await init(http, await started(http, who))).json()["data"]["value"]
    code = sms.code_for(OTHER_PHONE)
    own = (await init(http, await started(http, elsewhere), factor=who.phone)).json()["data"]["value"]
    assert (await approve(http, own, sms.code_for(who.phone))).status_code == 201

    assert refused(await approve(http, thief, code)) == (401, INIT_FIRST)
    await db.execute("UPDATE authentication_factors SET factor = NULL, updated_at = now() WHERE user_id = $1", who.id)
    assert refused(await approve(http, thief, code)) == (401, INIT_FIRST)
    assert await db.fetchval("SELECT factor FROM authentication_factors WHERE user_id = $1", who.id) is None


async def test_a_phone_that_is_named_at_the_same_moment_is_not_replaced(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db, has_phone=False)
    thief = (await init(http, await started(http, who))).json()["data"]["value"]
    async with db.transaction():
        await db.execute("UPDATE authentication_factors SET factor = $2 WHERE user_id = $1", who.id, who.phone)
        waiting = await racing.sent(db, approve(http, thief, sms.code_for(OTHER_PHONE)), waiting=1)
    assert refused(await waiting) == (401, INIT_FIRST)
    assert await db.fetchval("SELECT factor FROM authentication_factors WHERE user_id = $1", who.id) == who.phone


async def test_of_simultaneous_approvals_of_different_phones_one_wins(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db, has_phone=False)
    elsewhere = replace(who, client=(await person(db)).client)
    begun = {}
    for one, phone in ((who, who.phone), (elsewhere, OTHER_PHONE)):
        begun[phone] = (await init(http, await started(http, one), factor=phone)).json()["data"]["value"]
    answers = await asyncio.gather(*(approve(http, token, sms.code_for(phone)) for phone, token in begun.items()))
    assert sorted(answer.status_code for answer in answers) == [201, 401]
    won = next(phone for phone, answer in zip(begun, answers, strict=True) if answer.status_code == 201)
    assert await db.fetchval("SELECT factor FROM authentication_factors WHERE user_id = $1", who.id) == won


async def test_a_second_factor_opens_no_more_of_an_administrative_client_than_the_roles_allow(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    await db.execute(
        "INSERT INTO client_types (name, scope) VALUES ('NHS ADMIN', 'app:authorize connection:write')"
        " ON CONFLICT (name) DO UPDATE SET scope = excluded.scope"
    )
    administrative = "(SELECT id FROM client_types WHERE name = 'NHS ADMIN')"
    await db.execute(f"UPDATE clients SET client_type_id = {administrative} WHERE id = $1", who.client.id)
    scope = "app:authorize connection:write"
    role = await oauth_world.give_role(db, who.id, who.client.id, scope="app:authorize")
    token = await started(http, who, scope=scope)
    opened = await authorize(http, token, sms.code_for(who.phone))
    assert opened.json()["data"]["details"]["scope"] == "app:authorize"

    token = await started(http, who, scope=scope)
    await db.execute("DELETE FROM roles WHERE id = $1", role)
    late = await authorize(http, token, sms.code_for(who.phone))
    assert late.json()["error"]["message"] == NOT_OF_ROLES
    named = [rule["params"] for rule in late.json()["error"]["invalid"][0]["rules"]]
    assert named == [{"scope": "app:authorize", "reason": "role"}]
    assert (await log_in(http, who, scope=scope)).json()["error"]["message"] == NOT_OF_ROLES


# Failed messages


@pytest.mark.slow
async def test_at_most_three_messages_a_minute_are_sent_to_one_user(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who, other = await person(db), await person(db)
    tokens = [await started(http, who) for _ in range(SENDS)]
    sent = len(sms.requests)
    before = await everything(db)
    response = await log_in(http, who)
    assert refused(response) == (429, {"type": "otp_timeout", "message": "Sending OTP timeout. Try later."})
    assert response.headers["retry-after"] == "60"
    assert refused(await refresh(http, tokens[-1]))[0] == 429
    assert await everything(db) == before
    assert len(sms.requests) == sent
    assert (await log_in(http, other)).status_code == 201
    await db.execute("UPDATE attempts SET started_at = now() - interval '61 s' WHERE key LIKE $1", f"%{who.id}")
    assert (await refresh(http, tokens[-1])).status_code == 201


async def test_simultaneous_requests_for_messages_are_all_counted(
    http: httpx.AsyncClient, db: Db, sms: SmsService
) -> None:
    who = await person(db)
    answers = await asyncio.gather(*(log_in(http, who) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * SENDS + [429] * (8 - SENDS)
    assert sum(document["phone_number"] == who.phone for _, document in sms.requests) == SENDS


@pytest.mark.parametrize("status", [302, 400, 500, "slow"])
async def test_a_failed_message_leaves_no_token_and_no_code(
    http: httpx.AsyncClient, db: Db, sms: SmsService, status: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await person(db)
    token = await started(http, who)
    session = await factories.token(db, client=await factories.client(db, user_id=who.id))
    before = await everything(db)
    if isinstance(status, int):
        sms.status = status
    else:
        sms.is_slow = True
        monkeypatch.setattr(messenger.HttpMessenger, "_timeout_seconds", property(lambda _: 0.2), raising=False)
    requests = [log_in(http, who), refresh(http, token)]
    for request in requests:
        response = await request
        assert refused(response) == (503, NOT_SENT)
        assert int(response.headers["retry-after"]) > 0
    assert refused(await init(http, session)) == (503, NOT_SENT)
    assert await everything(db) == before
    monkeypatch.undo()
    sms.status, sms.is_slow = 200, False
    for _ in range(SENDS - 1):
        response = await refresh(http, token)
        assert response.status_code == 201
        token = response.json()["data"]["value"]
    assert refused(await refresh(http, token))[0] == 429


@pytest.mark.slow
async def test_a_slow_sms_service_does_not_delay_other_requests(
    postgres: str, sms: SmsService, http: httpx.AsyncClient
) -> None:
    sms.is_slow = True
    settings = {"otp_endpoint": sms.url, "otp_request_timeout": 60_000, "db_pool_size": 2}
    async with another_server(postgres, **settings) as (client, db):
        who = await person(db)
        sms.arrived.clear()
        waiting = asyncio.create_task(log_in(client, who))
        assert await asyncio.to_thread(sms.arrived.wait, 60)
        assert (await client.get("/readyz")).status_code == 200
        assert not waiting.done()
        sms.status = 500
        sms.ending.set()
        assert (await waiting).status_code == 503


async def test_an_unreachable_sms_service_is_a_failed_message(postgres: str) -> None:
    async with another_server(postgres, otp_endpoint="http://127.0.0.1:9") as (client, db):
        assert refused(await log_in(client, await person(db))) == (503, NOT_SENT)


async def test_without_an_sms_service_a_second_factor_cannot_be_passed(postgres: str) -> None:
    async with another_server(postgres) as (client, db):
        assert refused(await log_in(client, await person(db))) == (503, NOT_SENT)


async def test_messages_can_be_disabled(postgres: str, sms: SmsService) -> None:
    before = len(sms.requests)
    async with another_server(postgres, otp_endpoint=sms.url, sms_enabled=False) as (client, db):
        assert (await log_in(client, await person(db))).status_code == 201
    assert len(sms.requests) == before


# The console


async def test_a_demo_prints_the_message_to_the_console(postgres: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with another_server(postgres, demo=True, log_level="info") as (client, db):
        who = await person(db)
        token = await started(client, who)
        out, err = capfd.readouterr()
        (code,) = re.findall(rf"SMS to {re.escape(who.phone)}: Код підтвердження: (\d{{6}})\n", out)
        assert (await authorize(client, token, code)).status_code == 201
        _, more_err = capfd.readouterr()
    for line in (err + more_err).splitlines():
        assert not {code, token, PASSWORD} & set(re.findall(r"[\w-]+", line))


async def test_no_log_line_shows_a_code(
    http: httpx.AsyncClient,
    db: Db,
    sms: SmsService,
    logged: CapturingLogger,
    capfd: pytest.CaptureFixture[str],
) -> None:
    who = await person(db)
    token = await started(http, who)
    code = sms.code_for(who.phone)
    sms.status = 500
    for request in (refresh(http, token), authorize(http, token, wrong(code)), authorize(http, token, code)):
        await request
    wait_until(lambda: repr(logged.calls).count("/auth/login") >= 4)
    told = "".join(capfd.readouterr()) + repr(logged.calls)
    assert told.count("/auth/login") >= 4
    assert "SMS service: status 500" in told
    assert not any(secret in re.findall(r"[\w+-]+", told) for secret in (code, token, who.phone))


# Settings


async def test_length_template_and_limits_are_settings(postgres: str, sms: SmsService) -> None:
    settings = {"otp_length": 4, "otp_sms_template": "no place for it", "otp_max_attempts": 1, "otp_lifetime": 60}
    async with another_server(postgres, otp_endpoint=sms.url, **settings) as (client, db):
        who = await person(db)
        token = await started(client, who)
        text = sms.requests[-1][1]["body"]
        assert re.fullmatch(r"\d{4}", text)
        row = await code_row(db, token)
        assert (row["code_expired_at"] - row["inserted_at"]).total_seconds() == 60
        assert refused(await authorize(client, token, wrong(text))) == (401, INVALID)
        assert refused(await authorize(client, token, text)) == (401, REACHED)


async def test_by_default_the_third_wrong_code_blocks(postgres: str, sms: SmsService) -> None:
    async with another_server(postgres, otp_endpoint=sms.url) as (client, db):
        who = await person(db)
        token = await started(client, who)
        tries = [await authorize(client, token, wrong(sms.code_for(who.phone))) for _ in range(4)]
        assert [refused(answer) for answer in tries] == [(401, INVALID)] * 3 + [(401, USER_BLOCKED)]


async def test_an_unknown_token_is_counted_against_no_user(http: httpx.AsyncClient, db: Db) -> None:
    before = await everything(db)
    assert refused(await authorize(http, str(uuid4()), 123456)) == (401, TOKEN_INVALID)
    assert await everything(db) == before
