"""The grant digital_signature of POST /auth/login: the answer, each refusal in its order, and the services it asks."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from structlog.testing import CapturingLogger

from mithril.identity import signatures
from support import factories, oauth_world
from support.factories import Db, bearer
from support.judging import Judge, judge, signed
from support.oauth_world import invalid, refusal
from support.servers import Server, demo_server, fresh_database, running_server

pytestmark = pytest.mark.anyio

JWT_SECRET = "a key of the tests that is long enough for HS512, sixty-four bytes"
NOT_ALLOWED = (401, "invalid_grant", "Grant type not allowed.")
JWT_INVALID = (401, "jwt_invalid", "JWT is invalid.")
UNKNOWN = (401, "access_denied", "Person with tax id from digital signature not found.")
PERSON_MISSING = (401, "access_denied", "Person not found.")
UNAVAILABLE = (503, "service_unavailable", "Service is temporarily unavailable. Try again later.")
SCOPE = "app:authorize legal_entity:read"
DEMO_PIS = factories.Client(UUID("5b1d7a60-93c4-4f0e-8d2b-6c1e0f3a7c04"), uuid4())
DEMO_PATIENT, DEMO_OWNER = "2874310250", "3067305998"  # the owner has no `person_id`


@dataclass(frozen=True)
class Patient:
    """A user with a tax id and a `person_id`, and the client through which they sign in."""

    id: UUID
    drfo: str
    person_id: str
    client: factories.Client


@pytest.fixture(scope="module")
def judging() -> Iterator[Judge]:
    with judge() as services:
        yield services


@pytest.fixture(autouse=True)
def services(judging: Judge) -> Judge:
    judging.reset()
    return judging


@pytest.fixture(scope="module")
def server(postgres: str, judging: Judge) -> Iterator[Server]:
    """A server with a signature service, and without a register of patients."""
    with (
        fresh_database(postgres) as url,
        running_server(
            database_url=url,
            jwt_secret=JWT_SECRET,
            digital_signature_endpoint=judging.url + "/",
            max_failures=1000,
            max_failures_per_address=1000,
        ) as running,
    ):
        yield running


async def make_patient(db: Db, *, client_type: str = "PIS", drfo: str | None = None) -> Patient:
    client = await factories.client(db, client_type=client_type)
    await db.execute("UPDATE client_types SET scope = $1 WHERE name = $2", SCOPE, client_type)
    await oauth_world.set_settings(db, client.id, allowed_grant_types=["digital_signature"])
    drfo = drfo or str(uuid4().int)[:10]
    user_id, _ = await oauth_world.person(db, password_hash=None, tax_id=drfo)
    person_id = str(uuid4())
    await db.execute("UPDATE users SET person_id = $2 WHERE id = $1", user_id, person_id)
    return Patient(user_id, drfo, person_id, client)


@pytest.fixture
async def patient(db: Db, services: Judge) -> Patient:
    made = await make_patient(db)
    services.signs(made.drfo)
    return made


async def nonce(http: httpx.AsyncClient, client_id: object, **more: str) -> str:
    response = await http.post("/oauth/nonce", json={"client_id": str(client_id), **more})
    assert response.status_code == 200, response.text
    token: str = response.json()["data"]["token"]
    return token


async def send(http: httpx.AsyncClient, patient: Patient, content: str, **changes: Any) -> httpx.Response:
    fields = {
        "grant_type": "digital_signature",
        "signed_content": content,
        "signed_content_encoding": "base64",
        "client_id": str(patient.client.id),
        "scope": "legal_entity:read",
    }
    return await http.post("/auth/login", json={"token": fields | changes})


async def log_in(http: httpx.AsyncClient, patient: Patient, **changes: Any) -> httpx.Response:
    return await send(http, patient, signed(jwt=await nonce(http, patient.client.id)), **changes)


# A good signature


async def test_a_signed_nonce_gives_a_session(
    http: httpx.AsyncClient, db: Db, patient: Patient, services: Judge
) -> None:
    older = await factories.token(db, client=patient.client, user_id=patient.id, scope="app:authorize")
    content = signed(jwt=await nonce(http, patient.client.id))
    response = await send(http, patient, content)
    body = response.json()
    assert response.status_code == 201
    assert body["urgent"] == {"next_step": "REQUEST_APPS"}
    assert (body["data"]["name"], body["data"]["user_id"]) == ("access_token", str(patient.id))
    assert body["data"]["details"] == {
        "grant_type": "digital_signature",
        "client_id": str(patient.client.id),
        "scope": "app:authorize",
        "scope_request": "legal_entity:read",
    }
    sent = {"signed_content": content, "signed_content_encoding": "base64"}
    assert services.asked == [("POST", "/digital_signatures", sent)]
    for value, status in ((older, 401), (body["data"]["value"], 200)):
        assert (await http.get("/oauth/user", headers=bearer(value))).status_code == status


async def test_the_session_authorizes_a_client(http: httpx.AsyncClient, db: Db, patient: Patient) -> None:
    link = await factories.connection(db, client_id=patient.client.id)
    await oauth_world.give_role(db, patient.id, patient.client.id, scope=SCOPE)
    session = (await log_in(http, patient)).json()["data"]["value"]
    uri = await db.fetchval("SELECT redirect_uri FROM connections WHERE id = $1", link.id)
    app = {"client_id": str(patient.client.id), "redirect_uri": uri, "scope": "legal_entity:read"}
    response = await http.post("/oauth/apps/authorize", json={"app": app}, headers=bearer(session))
    assert response.status_code == 201


async def test_a_nonce_opens_one_session(http: httpx.AsyncClient, db: Db, patient: Patient) -> None:
    content = signed(jwt=await nonce(http, patient.client.id))
    answers = await asyncio.gather(*(send(http, patient, content) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 5
    assert {refusal(each) for each in answers if each.status_code == 401} == {JWT_INVALID}
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE user_id = $1", patient.id) == 1


async def test_two_users_with_one_nonce_get_one_session(http: httpx.AsyncClient, db: Db, patient: Patient) -> None:
    token, other = await nonce(http, patient.client.id), await make_patient(db)
    documents = [signed(jwt=token, by=drfo) for drfo in (patient.drfo, other.drfo)]
    answers = await asyncio.gather(*(send(http, patient, document) for document in documents))
    assert sorted(each.status_code for each in answers) == [201, 401]


# What is refused, in its order


async def test_the_fields_of_a_signature_are_required(http: httpx.AsyncClient, patient: Patient) -> None:
    assert invalid(await http.post("/auth/login", json={"token": {"grant_type": "digital_signature"}})) == {
        "$.client_id": ["required"],
        "$.scope": ["required"],
        "$.signed_content": ["required"],
        "$.signed_content_encoding": ["required"],
    }
    wrong = {"signed_content_encoding": "hex", "client_id": "x"}
    expected = {"$.client_id": ["cast"], "$.signed_content": ["format"], "$.signed_content_encoding": ["inclusion"]}
    for content in ("abc", "YWJj\n", "YWJ-", "=", "YQ==YQ=="):
        assert invalid(await send(http, patient, content, **wrong)) == expected


async def test_each_refusal_of_a_signature_in_its_order(
    http: httpx.AsyncClient, db: Db, patient: Patient, services: Judge
) -> None:
    """Each step repairs what the one before was refused for; all the while one nonce stays unused."""
    token = await nonce(http, patient.client.id)
    content, link = signed(jwt=token), patient.client.id

    async def attempt(document: str = content, **changes: Any) -> tuple[int, str, str | None]:
        return refusal(await send(http, patient, document, **{"scope": "employee:read"} | changes))

    await oauth_world.set_settings(db, link, allowed_grant_types=["password"])
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", patient.id)
    many = "document must be signed by 1 signer but contains {} signatures"
    services.status, services.body = 422, b'{"error": {"message": "Not a\\u0000 signed\\n document"}}'
    assert await attempt(signed()) == (422, "request_malformed", "Not a signed document")
    services.status, services.body, services.signatures = 200, None, []
    assert await attempt(signed()) == (400, "request_malformed", many.format(0))
    services.signs("")
    services.signatures *= 2
    assert await attempt(signed()) == (400, "request_malformed", many.format(2))
    services.signs("", is_valid=False, validation_error_message="The certificate is revoked")
    assert await attempt(signed()) == (422, "request_malformed", "The certificate is revoked")
    services.signs("")
    assert await attempt(signed()) == (401, "jwt_invalid", "Signed content does not contain field jwt.")
    assert await attempt(signed(jwt=f"{token}x")) == JWT_INVALID
    assert await attempt() == (422, "request_malformed", "Digital signature signer does not contain drfo.")
    services.signs("0000000000")
    assert await attempt() == (401, "access_denied", "Client is not allowed to issue login token.")
    await oauth_world.set_settings(db, link, allowed_grant_types=["digital_signature"])
    assert await attempt() == (422, "request_malformed", "Scope is not allowed by client type.")
    assert await attempt(scope="legal_entity:read") == UNKNOWN
    services.signs(patient.drfo)
    assert await attempt(scope="legal_entity:read") == (401, "user_blocked", "User blocked.")
    await db.execute("UPDATE users SET is_blocked = false, person_id = '' WHERE id = $1", patient.id)
    assert await attempt(scope="legal_entity:read") == UNKNOWN
    await db.execute("UPDATE users SET person_id = 'p' WHERE id = $1", patient.id)
    assert (await send(http, patient, content)).status_code == 201


async def test_a_nonce_is_good_for_its_client_and_its_time_only(
    http: httpx.AsyncClient, db: Db, patient: Patient
) -> None:
    other = await make_patient(db)
    key = OctKey.import_key(JWT_SECRET)
    token, expired = await nonce(http, patient.client.id), await nonce(http, patient.client.id)
    claims = jwt.decode(token, key, ["HS512"]).claims
    number = jwt.decode(expired, key, ["HS512"]).claims["nonce"]
    await db.execute("UPDATE nonces SET expires_at = now() WHERE id = $1", UUID(number))
    forged = jwt.encode({"alg": "HS512"}, claims, OctKey.import_key("another key " * 6), ["HS512"])
    of_another_use = jwt.encode({"alg": "HS512"}, claims | {"aud": "cabinet-registration"}, key, ["HS512"])
    unsigned = ".".join(("eyJhbGciOiJub25lIn0", token.split(".")[1], ""))
    tokens: list[object] = [expired, forged, of_another_use, unsigned, await nonce(http, other.client.id), "", None, {}]
    for each in tokens:
        assert refusal(await send(http, patient, signed(jwt=each))) == JWT_INVALID
    assert refusal(await send(http, patient, signed(jwt=token), client_id=str(uuid4()))) == JWT_INVALID
    assert (await send(http, patient, signed(jwt=token))).status_code == 201


async def test_a_blocked_client_signs_no_user_in(http: httpx.AsyncClient, db: Db, patient: Patient) -> None:
    token = await nonce(http, patient.client.id)
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", patient.client.id)
    response = await send(http, patient, signed(jwt=token))
    assert refusal(response) == (401, "access_denied", "Client is blocked.")


@pytest.mark.parametrize("drfo", [None, " ", 2874310250, {}])
async def test_a_signer_needs_a_tax_id(
    http: httpx.AsyncClient, patient: Patient, services: Judge, drfo: object
) -> None:
    services.signs(drfo)
    message = "Digital signature signer does not contain drfo."
    assert refusal(await log_in(http, patient)) == (422, "request_malformed", message)


async def test_no_tax_id_reaches_the_database_that_it_cannot_hold(
    http: httpx.AsyncClient, patient: Patient, services: Judge
) -> None:
    services.signs("28743\0")
    assert refusal(await log_in(http, patient)) == UNKNOWN


async def test_a_tax_id_of_two_patients_signs_none_of_them_in(
    http: httpx.AsyncClient, db: Db, patient: Patient
) -> None:
    """A user without a `person_id`, such as the account of a doctor, is no second one."""
    await oauth_world.person(db, tax_id=patient.drfo)
    assert (await log_in(http, patient)).status_code == 201
    await make_patient(db, drfo=patient.drfo)
    assert refusal(await log_in(http, patient)) == UNKNOWN


async def test_the_header_drfo_is_not_believed(http: httpx.AsyncClient, patient: Patient, services: Judge) -> None:
    services.signs(None)
    http.headers["drfo"] = patient.drfo
    assert (await log_in(http, patient)).status_code == 422


async def test_refused_signatures_count_as_refused_passwords_do(
    http: httpx.AsyncClient, patient: Patient, services: Judge
) -> None:
    response = await send(http, patient, signed(jwt="x"))
    assert refusal(response) == JWT_INVALID
    assert '"address"' in response.headers["ratelimit"]
    services.signs(patient.drfo, is_valid=False)
    response = await send(http, patient, signed(jwt="x"))
    assert response.status_code == 422
    assert '"address"' in response.headers["ratelimit"]


# The services


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "request_malformed"), (401, "access_denied"), (403, "forbidden"), (422, "request_malformed")],
)
async def test_a_refusal_of_the_signature_service_keeps_its_status(
    http: httpx.AsyncClient, patient: Patient, services: Judge, status: int, kind: str
) -> None:
    services.status = status
    services.body = b"<html>no JSON</html>"
    message = "The signature service refused the signed content."
    assert refusal(await log_in(http, patient)) == (status, kind, message)


async def test_what_the_signature_service_says_is_cut(
    http: httpx.AsyncClient, patient: Patient, services: Judge
) -> None:
    services.status, services.body = 422, b'{"error": {"message": "' + b"x" * 10_000 + b'"}}'
    assert refusal(await log_in(http, patient))[2] == "x" * 255


@pytest.mark.parametrize(
    "answer",
    [
        (500, None, {}),
        (503, b"{}", {}),
        (302, b"", {"location": "/persons/1"}),
        (307, b"", {"location": "/digital_signatures"}),
        (200, b"", {}),
        (200, b"[]", {}),
        (200, b'{"data": {"signatures": []}}', {}),
        (200, b'{"data": {"content": {}, "signatures": [{"is_valid": "yes"}]}}', {}),
        (200, b"[" * 100_000, {}),
        (200, b'{"data": "' + b"x" * 300_000 + b'"}', {}),
        (200, b"\x1f\x8b\x08", {"content-encoding": "gzip"}),
    ],
)
async def test_without_a_usable_answer_nothing_is_decided(
    http: httpx.AsyncClient, patient: Patient, services: Judge, answer: tuple[int, bytes | None, dict[str, str]]
) -> None:
    services.status, services.body, services.headers = answer
    content = signed(jwt=await nonce(http, patient.client.id))
    response = await send(http, patient, content)
    assert refusal(response) == UNAVAILABLE
    assert "retry-after" in response.headers
    assert len(services.asked) == 1  # no redirect is followed
    services.status, services.body, services.headers = 200, None, {}
    assert (await send(http, patient, content)).status_code == 201


async def test_a_slow_service_is_not_waited_for(
    postgres: str, server: Server, patient: Patient, services: Judge
) -> None:
    services.is_slow = True
    with running_server(
        database_url=server.database_url,
        jwt_secret=JWT_SECRET,
        digital_signature_endpoint=services.url,
        digital_signature_request_timeout=100,
    ) as hasty:
        async with httpx.AsyncClient(base_url=hasty.url) as http:
            began = time.monotonic()
            assert refusal(await log_in(http, patient)) == UNAVAILABLE
            assert time.monotonic() - began < 5
            services.ending.set()


async def test_without_a_service_no_signature_is_accepted(server: Server, patient: Patient, services: Judge) -> None:
    with running_server(database_url=server.database_url, jwt_secret=JWT_SECRET) as plain:
        async with httpx.AsyncClient(base_url=plain.url) as http:
            http.headers["drfo"] = patient.drfo
            content = signed(jwt=await nonce(http, patient.client.id), drfo=patient.drfo)
            assert refusal(await send(http, patient, content)) == NOT_ALLOWED


async def test_the_register_of_patients_must_know_the_signer(
    server: Server, db: Db, patient: Patient, services: Judge
) -> None:
    with running_server(
        database_url=server.database_url,
        jwt_secret=JWT_SECRET,
        digital_signature_endpoint=services.url,
        mpi_endpoint=services.url,
    ) as running:
        async with httpx.AsyncClient(base_url=running.url) as http:
            content = signed(jwt=await nonce(http, patient.client.id))
            person = {"id": patient.person_id, "tax_id": "another", "status": "INACTIVE"}

            async def attempt() -> tuple[int, str, str | None]:
                return refusal(await send(http, patient, content))

            assert await attempt() == PERSON_MISSING
            services.persons[patient.person_id] = person
            assert await attempt() == PERSON_MISSING
            person["status"] = "ACTIVE"
            assert await attempt() == (403, "tax_id_invalid", "Tax id not matched with MPI person.")
            person["tax_id"] = patient.drfo
            for status in (500, 302, 403):
                services.person_status = status
                assert await attempt() == UNAVAILABLE
            services.person_status = 200
            assert (await send(http, patient, content)).status_code == 201
            assert services.asked[-1] == ("GET", f"/persons/{patient.person_id}", None)
            await db.execute("UPDATE users SET person_id = '../users' WHERE id = $1", patient.id)
            assert refusal(await log_in(http, patient)) == PERSON_MISSING
            assert services.asked[-1][1] == "/digital_signatures"


# Nonces of a trusted patient system


async def test_a_trusted_system_shows_its_secret_for_a_nonce(http: httpx.AsyncClient, db: Db, services: Judge) -> None:
    trusted = await make_patient(db, client_type="TRUSTED_PIS")
    link = await factories.connection(db, client_id=trusted.client.id)
    foreign = await factories.connection(db, client_id=(await factories.client(db)).id)
    asked = {"client_id": str(trusted.client.id)}
    for missing in ({}, {"client_secret": None}, {"client_secret": " "}):
        assert invalid(await http.post("/oauth/nonce", json=asked | missing)) == {"$.client_secret": ["required"]}
    for wrong in ("wrong", foreign.secret, "\0"):
        response = await http.post("/oauth/nonce", json=asked | {"client_secret": wrong})
        assert refusal(response) == (401, "invalid_client", "Invalid client id or secret.")
        assert '"client"' in response.headers["ratelimit"]
    assert await db.fetchval("SELECT count(*) FROM nonces WHERE client_id = $1", trusted.client.id) == 0
    token = await nonce(http, trusted.client.id, client_secret=link.secret)
    claims = jwt.decode(token, OctKey.import_key(JWT_SECRET), ["HS512"]).claims
    assert claims["aud"] == "trusted-client"
    services.signs(trusted.drfo)
    assert (await send(http, trusted, signed(jwt=token))).status_code == 201


# The demo


@pytest.fixture(scope="module")
def demo(postgres: str) -> Iterator[Server]:
    with demo_server(postgres) as running:
        yield running


async def test_the_demo_believes_the_signatures_of_its_own_patients(
    demo: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "log", logged := CapturingLogger())
    patient = Patient(uuid4(), DEMO_PATIENT, "", DEMO_PIS)
    async with httpx.AsyncClient(base_url=demo.url) as http:
        token = await nonce(http, DEMO_PIS.id)
        without = await send(http, patient, signed(jwt=token), scope="app:authorize")
        assert refusal(without) == (422, "request_malformed", "Digital signature signer does not contain drfo.")
        for drfo in (DEMO_OWNER, "0000000000"):
            content = signed(jwt=token, drfo=drfo)
            assert refusal(await send(http, patient, content, scope="app:authorize")) == UNKNOWN
        for content in ("YWJj", "W10="):
            assert (await send(http, patient, content, scope="app:authorize")).status_code == 422
        content = signed(jwt=token, drfo=DEMO_PATIENT)
        assert (await send(http, patient, content, scope="app:authorize")).status_code == 201
        assert "not_checked" in str(logged.calls[-1])
        assert DEMO_PATIENT not in str(logged.calls)


async def test_the_demo_believes_no_signature_of_a_user_that_was_added(demo: Server) -> None:
    connection = await asyncpg.connect(demo.database_url)
    statement = "INSERT INTO users (email, tax_id, person_id) VALUES ('added@example.com', '1111111111', 'p')"
    await connection.execute(statement)
    await connection.close()
    async with httpx.AsyncClient(base_url=demo.url) as http:
        content = signed(jwt=await nonce(http, DEMO_PIS.id), drfo="1111111111")
        response = await send(http, Patient(uuid4(), "", "", DEMO_PIS), content, scope="app:authorize")
        assert refusal(response) == UNKNOWN
