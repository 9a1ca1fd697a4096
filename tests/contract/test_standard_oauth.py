"""The standard OAuth routes over real HTTP: the answers, and each refusal with its RFC 6749 code."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril import security
from mithril.tokens import store as token_store
from support import factories, granting
from support.cases import wait_until
from support.factories import Db, bearer
from support.granting import CHALLENGE, SCOPE, VERIFIER, Party
from support.servers import Server, fresh_database, running_server, url_of

pytestmark = pytest.mark.anyio

TOKEN, REVOKE, INTROSPECT = "/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"
ENDPOINTS = [TOKEN, REVOKE, INTROSPECT]
FORM = "application/x-www-form-urlencoded"


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of a refusal in the format of RFC 6749 section 5.2, without the envelope."""
    body: dict[str, str] = response.json()
    assert set(body) == {"error", "error_description"}
    assert body["error_description"].isascii()
    assert not set(body["error_description"]) & {'"', "\\"}
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert len(response.headers["x-request-id"]) >= 20
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code, body["error"]


async def exchange(http: httpx.AsyncClient, party: Party, code: str, **changes: str | None) -> httpx.Response:
    """Exchange the code for tokens, with the secret in the header; a change of None omits the parameter."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": party.redirect_uri, **changes}
    return await http.post(TOKEN, data=_given(form), auth=party.basic)


async def exchange_publicly(http: httpx.AsyncClient, party: Party, code: str, **changes: str | None) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": str(party.client_id),
        "code": code,
        "redirect_uri": party.redirect_uri,
        "code_verifier": VERIFIER,
        **changes,
    }
    return await http.post(TOKEN, data=_given(form))


async def refresh(http: httpx.AsyncClient, party: Party, token: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token, **changes}
    return await http.post(TOKEN, data=form, auth=party.basic)


async def let_interval_pass(db: Db, used: dict[str, Any]) -> None:
    """Let the refresh token have been used so long ago that it may not be repeated."""
    statement = "UPDATE tokens SET used_at = used_at - interval '11 seconds' WHERE digest = $1"
    await db.execute(statement, security.digest(used["refresh_token"]))


async def pass_time(db: Db, party: Party, seconds: float) -> None:
    """Let every token of the client be so much older."""
    statement = (
        "UPDATE tokens SET inserted_at = inserted_at - $2::interval, expires_at = expires_at - $2::interval"
        " WHERE client_id = $1"
    )
    await db.execute(statement, party.client_id, timedelta(seconds=seconds))


@asynccontextmanager
async def another(server: Server, **settings: object) -> AsyncIterator[httpx.AsyncClient]:
    """A server with other settings on the same database."""
    with running_server(database_url=server.database_url, **settings) as running:
        async with httpx.AsyncClient(base_url=running.url) as client:
            yield client


async def refresh_publicly(http: httpx.AsyncClient, party: Party, token: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "client_id": str(party.client_id), "refresh_token": token, **changes}
    return await http.post(TOKEN, data=form)


async def tokens(http: httpx.AsyncClient, server: Server, party: Party) -> dict[str, Any]:
    """Return the tokens of a confidential client."""
    response = await exchange(http, party, await granting.code(server, party))
    assert response.status_code == 200, response.text
    return dict(response.json())


async def public_tokens(http: httpx.AsyncClient, server: Server, party: Party) -> dict[str, Any]:
    code = await granting.code(server, party, challenge=CHALLENGE)
    response = await exchange_publicly(http, party, code)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def introspected(http: httpx.AsyncClient, party: Party, token: str) -> dict[str, Any]:
    response = await http.post(INTROSPECT, data={"token": token}, auth=party.basic)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def is_accepted(http: httpx.AsyncClient, party: Party, access_token: str) -> bool:
    """Return whether the API accepts the token."""
    response = await http.get(f"/api/clients/{party.client_id}/connections", headers=bearer(access_token))
    assert response.status_code in (200, 401)
    return response.status_code == 200


async def living(db: Db, party: Party) -> int:
    """Return how many tokens of the client are active."""
    statement = "SELECT count(*) FROM tokens WHERE client_id = $1 AND expires_at > now() AND used_at IS NULL"
    return int(await db.fetchval(statement, party.client_id))


def _given(form: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in form.items() if value is not None}


@pytest.fixture
async def app(db: Db) -> Party:
    """A confidential client."""
    return await granting.party(db)


@pytest.fixture
async def spa(db: Db) -> Party:
    """A public client."""
    return await granting.party(db, is_public=True)


# The exchange of a code


async def test_a_code_is_exchanged_for_tokens(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    response = await exchange(http, app, await granting.code(server, app))

    assert response.status_code == 200
    body = response.json()
    assert body == {
        "access_token": body["access_token"],
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": SCOPE,
        "refresh_token": body["refresh_token"],
    }
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert "x-request-id" in response.headers
    assert await is_accepted(http, app, body["access_token"])
    assert not await is_accepted(http, app, body["refresh_token"])


async def test_the_secret_may_be_in_the_body(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    form = {"grant_type": "authorization_code", "code": await granting.code(server, app)}
    response = await http.post(TOKEN, data={**form, "redirect_uri": app.redirect_uri, **app.body})

    assert response.status_code == 200


async def test_both_parts_of_the_basic_credentials_are_form_decoded(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    escaped = ["".join(f"%{byte:02X}" for byte in part.encode()) for part in app.basic]
    form = {"grant_type": "authorization_code", "code": await granting.code(server, app)}
    response = await http.post(TOKEN, data={**form, "redirect_uri": app.redirect_uri}, auth=(escaped[0], escaped[1]))

    assert response.status_code == 200


async def test_an_unknown_parameter_is_ignored(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    response = await exchange(http, app, await granting.code(server, app), audience="https://api.example.com")

    assert response.status_code == 200


async def test_a_parameter_without_a_value_counts_as_not_sent(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    response = await exchange(http, app, await granting.code(server, app), code_verifier="", client_secret="")

    assert response.status_code == 200


async def test_a_code_is_valid_for_its_own_redirect_uri_only(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    response = await exchange(http, app, await granting.code(server, app), redirect_uri=f"{app.redirect_uri}/")

    assert refusal(response) == (400, "invalid_grant")


async def test_a_code_for_a_changed_redirect_uri_is_refused(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    code = await granting.code(server, app)
    await db.execute("UPDATE connections SET redirect_uri = 'https://new.example.com' WHERE id = $1", app.connection.id)

    assert refusal(await exchange(http, app, code)) == (400, "invalid_grant")
    assert refusal(await exchange(http, app, code, redirect_uri="https://new.example.com")) == (400, "invalid_grant")


async def test_a_code_is_redeemed_once_and_its_reuse_revokes_the_tokens(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    code = await granting.code(server, app)
    first = (await exchange(http, app, code)).json()
    again = await exchange(http, app, code)

    assert refusal(again) == (400, "invalid_grant")
    assert not await is_accepted(http, app, first["access_token"])
    assert refusal(await refresh(http, app, first["refresh_token"])) == (400, "invalid_grant")


async def test_of_simultaneous_redemptions_one_succeeds_and_its_tokens_are_revoked(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    code = await granting.code(server, spa, challenge=CHALLENGE)
    answers = await asyncio.gather(*(exchange_publicly(http, spa, code) for _ in range(16)))

    (won,) = (answer for answer in answers if answer.status_code == 200)
    assert {refusal(answer) for answer in answers if answer is not won} == {(400, "invalid_grant")}
    assert not await is_accepted(http, spa, won.json()["access_token"])
    assert refusal(await refresh_publicly(http, spa, won.json()["refresh_token"])) == (400, "invalid_grant")


async def test_reuse_of_a_code_revokes_no_tokens_of_another_code(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    other = await tokens(http, server, app)
    code = await granting.code(server, app)
    for _ in range(2):
        await exchange(http, app, code)

    assert await is_accepted(http, app, other["access_token"])


async def test_an_expired_code_is_refused(http: httpx.AsyncClient, server: Server, db: Db, app: Party) -> None:
    code = await granting.code(server, app)
    await db.execute("UPDATE tokens SET expires_at = now() WHERE client_id = $1", app.client_id)

    assert refusal(await exchange(http, app, code)) == (400, "invalid_grant")


async def test_a_code_of_another_client_is_refused_and_stays_valid(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    code, stranger = await granting.code(server, app), await granting.party(db)

    assert refusal(await exchange(http, stranger, code, redirect_uri=app.redirect_uri)) == (400, "invalid_grant")
    assert (await exchange(http, app, code)).status_code == 200


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_token_is_not_accepted_as_a_code(
    http: httpx.AsyncClient, server: Server, app: Party, kind: str
) -> None:
    issued = await tokens(http, server, app)

    assert refusal(await exchange(http, app, issued[kind])) == (400, "invalid_grant")


async def test_a_code_is_refused_after_the_approval_was_deleted(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    code = await granting.code(server, app)
    await db.execute("DELETE FROM apps WHERE client_id = $1", app.client_id)

    assert refusal(await exchange(http, app, code)) == (400, "invalid_grant")


async def test_a_blocked_user_gets_no_tokens(http: httpx.AsyncClient, server: Server, db: Db, app: Party) -> None:
    issued, code = await tokens(http, server, app), await granting.code(server, app)
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", app.user_id)

    assert refusal(await exchange(http, app, code)) == (400, "invalid_grant")
    assert refusal(await refresh(http, app, issued["refresh_token"])) == (400, "invalid_grant")


async def test_a_code_is_redeemed_only_with_the_secret_of_its_own_connection(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    """Two consumers of one client have the same redirect URI; a code goes through the older connection."""
    consumer = await factories.client(db)
    second = await factories.connection(
        db, client_id=app.client_id, consumer_id=consumer.id, redirect_uri=app.redirect_uri
    )
    other = Party(app.client_id, app.user_id, second, app.redirect_uri)
    code = await granting.code(server, app)
    assert refusal(await exchange(http, other, code)) == (400, "invalid_grant")
    issued = (await exchange(http, app, code)).json()
    assert refusal(await refresh(http, other, issued["refresh_token"])) == (400, "invalid_grant")
    assert (await refresh(http, app, issued["refresh_token"])).status_code == 200

    await db.execute("UPDATE connections SET inserted_at = inserted_at - interval '1 day' WHERE id = $1", second.id)
    code = await granting.code(server, app)
    assert refusal(await exchange(http, app, code)) == (400, "invalid_grant")
    issued = (await exchange(http, other, code)).json()
    through = "SELECT connection_id FROM tokens WHERE digest = $1"
    assert await db.fetchval(through, security.digest(issued["refresh_token"])) == second.id


# PKCE


@pytest.mark.parametrize("verifier", [None, "w" * 43, VERIFIER + "A", CHALLENGE, "short", VERIFIER[:-1] + "é"])
async def test_without_the_right_verifier_a_challenged_code_is_refused(
    http: httpx.AsyncClient, server: Server, app: Party, spa: Party, verifier: str | None
) -> None:
    for party, send in ((app, exchange), (spa, exchange_publicly)):
        code = await granting.code(server, party, challenge=CHALLENGE)
        assert refusal(await send(http, party, code, code_verifier=verifier)) == (400, "invalid_grant")
        assert (await send(http, party, code, code_verifier=VERIFIER)).status_code == 200


@pytest.mark.parametrize("verifier", [None, "w" * 43])
async def test_the_esoz_exchange_checks_a_challenge_too(
    http: httpx.AsyncClient, server: Server, app: Party, verifier: str | None
) -> None:
    client_id, client_secret = app.basic
    token = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "client_secret": client_secret,
        "code": await granting.code(server, app, challenge=CHALLENGE),
        "redirect_uri": app.redirect_uri,
    }
    refused = await http.post("/oauth/tokens", json={"token": token | {"code_verifier": verifier}})
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_grant")
    issued = await http.post("/oauth/tokens", json={"token": token | {"code_verifier": VERIFIER}})
    assert issued.status_code == 201, issued.text


async def test_the_plain_method_is_refused(http: httpx.AsyncClient, server: Server, spa: Party) -> None:
    code = await granting.code(server, spa, challenge=VERIFIER)

    assert refusal(await exchange_publicly(http, spa, code)) == (400, "invalid_grant")


async def test_a_verifier_without_a_challenge_is_refused(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    code = await granting.code(server, app)

    assert refusal(await exchange(http, app, code, code_verifier=VERIFIER)) == (400, "invalid_grant")


@pytest.mark.parametrize("verifier", [None, VERIFIER])
async def test_a_public_client_cannot_redeem_a_code_without_a_challenge(
    http: httpx.AsyncClient, server: Server, spa: Party, verifier: str | None
) -> None:
    code = await granting.code(server, spa)

    assert refusal(await exchange_publicly(http, spa, code, code_verifier=verifier)) == (400, "invalid_grant")


async def test_a_verifier_shorter_than_the_rfc_requires_is_refused(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    short = "v" * 42
    code = await granting.code(server, spa, challenge=granting.challenge_of(short))

    assert refusal(await exchange_publicly(http, spa, code, code_verifier=short)) == (400, "invalid_grant")


async def test_a_public_client_that_sends_a_secret_needs_the_correct_one_and_the_verifier(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    code = await granting.code(server, spa, challenge=CHALLENGE)

    assert refusal(await exchange_publicly(http, spa, code, client_secret="wrong")) == (400, "invalid_client")
    assert refusal(await exchange(http, spa, code)) == (400, "invalid_grant")
    assert (await exchange(http, spa, code, code_verifier=VERIFIER)).status_code == 200


async def test_a_public_client_may_name_itself_by_basic_with_an_empty_password(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    code = await granting.code(server, spa, challenge=CHALLENGE)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": spa.redirect_uri}
    response = await http.post(TOKEN, data={**form, "code_verifier": VERIFIER}, auth=(str(spa.client_id), ""))

    assert response.status_code == 200


# Refresh


async def test_a_refresh_token_issues_an_access_token_and_stays_active(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    first = await tokens(http, server, app)
    answers = [await refresh(http, app, first["refresh_token"]) for _ in range(2)]

    for answer in answers:
        body = answer.json()
        assert answer.status_code == 200
        assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
        assert body["scope"] == SCOPE
        assert await is_accepted(http, app, body["access_token"])
    assert await is_accepted(http, app, first["access_token"])


async def test_a_narrower_scope_may_be_requested(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    issued = await tokens(http, server, app)
    narrow = await refresh(http, app, issued["refresh_token"], scope="connection:read")
    full = await refresh(http, app, issued["refresh_token"])

    assert narrow.json()["scope"] == "connection:read"
    assert full.json()["scope"] == SCOPE


async def test_a_wider_scope_is_invalid_scope_and_leaves_the_token_active(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    issued = await public_tokens(http, server, spa)
    wider = await refresh_publicly(http, spa, issued["refresh_token"], scope=f"{SCOPE} connection:delete")

    assert refusal(wider) == (400, "invalid_scope")
    assert (await refresh_publicly(http, spa, issued["refresh_token"])).status_code == 200


async def test_the_scope_shrinks_with_the_client_type(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    issued = await tokens(http, server, app)
    change = "UPDATE client_types SET scope = $2 WHERE id = (SELECT client_type_id FROM clients WHERE id = $1)"
    await db.execute(change, app.client_id, "connection:read")
    assert (await refresh(http, app, issued["refresh_token"])).json()["scope"] == "connection:read"

    await db.execute(change, app.client_id, "client:read")
    assert refusal(await refresh(http, app, issued["refresh_token"])) == (400, "invalid_grant")


async def test_the_refresh_token_of_a_public_client_rotates(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    first = await public_tokens(http, server, spa)
    second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
    third = (await refresh_publicly(http, spa, second["refresh_token"], scope="connection:read")).json()
    fourth = (await refresh_publicly(http, spa, third["refresh_token"])).json()

    assert len({answer["refresh_token"] for answer in (first, second, third, fourth)}) == 4
    assert third["scope"] == "connection:read"
    assert fourth["scope"] == SCOPE
    assert await is_accepted(http, spa, fourth["access_token"])


async def test_the_refresh_token_of_a_public_client_rotates_also_with_a_secret(
    http: httpx.AsyncClient, server: Server, db: Db, spa: Party
) -> None:
    first = await public_tokens(http, server, spa)
    second = (await refresh(http, spa, first["refresh_token"])).json()
    await let_interval_pass(db, first)

    assert second["refresh_token"] != first["refresh_token"]
    assert refusal(await refresh(http, spa, first["refresh_token"])) == (400, "invalid_grant")
    assert not await is_accepted(http, spa, second["access_token"])


async def test_reuse_of_a_rotated_refresh_token_revokes_the_family(
    http: httpx.AsyncClient, server: Server, db: Db, spa: Party
) -> None:
    first, other = await public_tokens(http, server, spa), await public_tokens(http, server, spa)
    second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
    await let_interval_pass(db, first)

    assert refusal(await refresh_publicly(http, spa, first["refresh_token"])) == (400, "invalid_grant")
    assert refusal(await refresh_publicly(http, spa, second["refresh_token"])) == (400, "invalid_grant")
    assert not await is_accepted(http, spa, first["access_token"])
    assert not await is_accepted(http, spa, second["access_token"])
    assert await is_accepted(http, spa, other["access_token"])
    assert (await refresh_publicly(http, spa, other["refresh_token"])).status_code == 200


async def test_a_refresh_whose_answer_was_lost_may_be_repeated(
    http: httpx.AsyncClient, server: Server, spa: Party
) -> None:
    first = await public_tokens(http, server, spa)
    lost = (await refresh_publicly(http, spa, first["refresh_token"])).json()
    again = (await refresh_publicly(http, spa, first["refresh_token"])).json()

    assert len({each["refresh_token"] for each in (first, lost, again)}) == 3
    for pair in (lost, again):
        assert await is_accepted(http, spa, pair["access_token"])
    last = again
    for _ in range(3):
        last = (await refresh_publicly(http, spa, last["refresh_token"])).json()
    assert await is_accepted(http, spa, last["access_token"])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_refresh_by_both_successors_of_one_token_revokes_the_family(
    http: httpx.AsyncClient, server: Server, spa: Party, db: Db, order: tuple[int, int]
) -> None:
    """Two have a copy: one of them may be a thief, however soon the first refresh was repeated."""
    first = await public_tokens(http, server, spa)
    pairs = [(await refresh_publicly(http, spa, first["refresh_token"])).json() for _ in range(2)]
    one, other = (pairs[number]["refresh_token"] for number in order)
    later = (await refresh_publicly(http, spa, one)).json()
    assert await is_accepted(http, spa, later["access_token"])

    assert refusal(await refresh_publicly(http, spa, other)) == (400, "invalid_grant")
    assert await living(db, spa) == 0
    assert not await is_accepted(http, spa, later["access_token"])
    assert refusal(await refresh_publicly(http, spa, later["refresh_token"])) == (400, "invalid_grant")


async def test_a_refresh_is_not_repeated_after_its_successor_was_used(
    http: httpx.AsyncClient, server: Server, spa: Party, db: Db
) -> None:
    first = await public_tokens(http, server, spa)
    second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
    assert (await refresh_publicly(http, spa, second["refresh_token"])).status_code == 200

    assert refusal(await refresh_publicly(http, spa, first["refresh_token"])) == (400, "invalid_grant")
    assert await living(db, spa) == 0


async def test_a_refresh_is_not_repeated_after_its_family_was_revoked(
    http: httpx.AsyncClient, server: Server, spa: Party, db: Db
) -> None:
    first = await public_tokens(http, server, spa)
    second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
    form = {"token": second["refresh_token"], "client_id": str(spa.client_id)}
    assert (await http.post(REVOKE, data=form)).status_code == 200

    assert refusal(await refresh_publicly(http, spa, first["refresh_token"])) == (400, "invalid_grant")
    assert await living(db, spa) == 0


async def test_simultaneous_refreshes_of_a_public_client_all_get_a_pair(
    http: httpx.AsyncClient, server: Server, spa: Party, db: Db
) -> None:
    """As two windows of one browser do; only one of the pairs then refreshes."""
    first = await public_tokens(http, server, spa)
    answers = await asyncio.gather(*(refresh_publicly(http, spa, first["refresh_token"]) for _ in range(8)))
    pairs = [answer.json() for answer in answers]

    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({pair["refresh_token"] for pair in pairs}) == 8
    assert [await is_accepted(http, spa, pair["access_token"]) for pair in pairs] == [True] * 8
    used = await asyncio.gather(*(refresh_publicly(http, spa, pair["refresh_token"]) for pair in pairs))
    assert sorted(answer.status_code for answer in used) == [200] + [400] * 7
    assert await living(db, spa) == 0


async def test_without_an_interval_a_refresh_is_not_repeated(server: Server, spa: Party, db: Db) -> None:
    async with another(server, refresh_reuse_interval=0) as http:
        first = await public_tokens(http, server, spa)
        answers = await asyncio.gather(*(refresh_publicly(http, spa, first["refresh_token"]) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert await living(db, spa) == 0


async def test_the_family_of_a_public_client_ends_however_often_it_refreshes(
    server: Server, spa: Party, db: Db
) -> None:
    async with another(server, auth_refresh_family_lifetime=7200, auth_refresh_token_lifetime=5000) as http:
        first = await public_tokens(http, server, spa)
        await pass_time(db, spa, 4000)
        second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
        assert 3100 <= second["expires_in"] <= 3200
        code = "SELECT inserted_at FROM tokens WHERE client_id = $1 AND name = 'authorization_code'"
        began = await db.fetchval(code, spa.client_id)
        for name in ("access_token", "refresh_token"):
            digest = security.digest(second[name])
            expires_at = await db.fetchval("SELECT expires_at FROM tokens WHERE digest = $1", digest)
            assert expires_at - began == timedelta(seconds=7200)
        assert await is_accepted(http, spa, second["access_token"])
        # As where the setting was lowered since: the refresh token itself is not expired.
        await db.execute("UPDATE tokens SET inserted_at = inserted_at - interval '1 hour' WHERE name LIKE '%code'")
        assert refusal(await refresh_publicly(http, spa, second["refresh_token"])) == (400, "invalid_grant")


async def test_the_tokens_of_a_confidential_client_do_not_end_with_a_family(server: Server, app: Party, db: Db) -> None:
    async with another(server, auth_refresh_family_lifetime=7200) as http:
        first = await tokens(http, server, app)
        await pass_time(db, app, 8000)
        assert (await refresh(http, app, first["refresh_token"])).json()["expires_in"] == 3600


async def test_revoking_a_family_revokes_every_token_of_it(
    http: httpx.AsyncClient, server: Server, spa: Party, db: Db
) -> None:
    """Reuse of the old token meets use of the new one: in any order, no token is active afterwards."""
    for _ in range(4):  # refusals count as failures, which are limited
        first = await public_tokens(http, server, spa)
        second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
        await let_interval_pass(db, first)
        pair = [second["refresh_token"], first["refresh_token"]] * 3
        await asyncio.gather(*(refresh_publicly(http, spa, token) for token in pair))
        assert await living(db, spa) == 0


async def test_a_token_issued_during_a_revocation_is_revoked_too(
    http: httpx.AsyncClient, server: Server, app: Party, db: Db
) -> None:
    for _ in range(8):
        value = (await tokens(http, server, app))["refresh_token"]
        revoking = http.post(REVOKE, data={"token": value}, auth=app.basic)
        await asyncio.gather(*(refresh(http, app, value) for _ in range(4)), revoking, refresh(http, app, value))
        assert await living(db, app) == 0


async def test_a_transaction_sees_a_revocation_that_was_committed_after_its_start(
    server: Server, db: Db, app: Party
) -> None:
    async with granting.database_of(server) as database, database.transaction() as older:
        await older.execute("SELECT now()")
        await factories.token(db, client=factories.Client(app.client_id, app.user_id))
        end = "UPDATE tokens SET expires_at = now() WHERE client_id = $1 RETURNING id"
        token_id = await db.fetchval(end, app.client_id)

        assert not await token_store.is_active(older, token_id)
        assert not await token_store.consume_token(older, token_id)


async def test_a_used_refresh_token_is_refused_with_the_secret_too(
    http: httpx.AsyncClient, server: Server, db: Db, spa: Party
) -> None:
    first = await public_tokens(http, server, spa)
    second = (await refresh_publicly(http, spa, first["refresh_token"])).json()
    await let_interval_pass(db, first)

    assert refusal(await refresh(http, spa, first["refresh_token"])) == (400, "invalid_grant")
    assert not await is_accepted(http, spa, second["access_token"])


@pytest.mark.parametrize("kind", ["access_token", "unknown"])
async def test_anything_but_a_refresh_token_is_refused(
    http: httpx.AsyncClient, server: Server, app: Party, kind: str
) -> None:
    issued = {**await tokens(http, server, app), "unknown": "nobody-has-this-token"}

    assert refusal(await refresh(http, app, issued[kind])) == (400, "invalid_grant")


async def test_a_refresh_token_of_another_client_is_refused_and_stays_active(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    issued, stranger = await tokens(http, server, app), await granting.party(db, is_public=True)

    assert refusal(await refresh_publicly(http, stranger, issued["refresh_token"])) == (400, "invalid_grant")
    assert (await refresh(http, app, issued["refresh_token"])).status_code == 200


# Client authentication


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_wrong_secret_is_invalid_client(http: httpx.AsyncClient, app: Party, path: str) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "any", "token": "any"}
    by_header = await http.post(path, data=form, auth=(str(app.client_id), "wrong"))
    by_body = await http.post(path, data={**form, **app.body, "client_secret": "wrong"})

    assert refusal(by_header) == (401, "invalid_client")
    assert by_header.headers["www-authenticate"].startswith("Basic ")
    assert refusal(by_body) == (400, "invalid_client")  # a browser would ask its user for a password after 401


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("client_id", ["0c1f4c33-6a8e-4d0b-9a53-5a3f0c9d2bff", "no-uuid", ""])
async def test_an_unknown_client_is_invalid_client(http: httpx.AsyncClient, path: str, client_id: str) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "any", "token": "any"}

    assert refusal(await http.post(path, data=form, auth=(client_id, "secret"))) == (401, "invalid_client")
    in_body = refusal(await http.post(path, data={**form, "client_id": client_id}))
    assert in_body == (400 if client_id else 401, "invalid_client")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_no_client_at_all_is_invalid_client(http: httpx.AsyncClient, path: str) -> None:
    assert refusal(await http.post(path, data={"token": "any"})) == (401, "invalid_client")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_confidential_client_without_its_secret_is_invalid_client(
    http: httpx.AsyncClient, app: Party, path: str
) -> None:
    form = {"token": "any", "grant_type": "refresh_token", "client_id": str(app.client_id)}

    assert refusal(await http.post(path, data=form)) == (400, "invalid_client")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_credentials_in_two_places_are_refused(http: httpx.AsyncClient, app: Party, path: str) -> None:
    form = {"token": "any", "grant_type": "refresh_token"}

    assert refusal(await http.post(path, data={**form, **app.body}, auth=app.basic)) == (400, "invalid_request")
    other = {**form, "client_id": str(uuid4())}
    assert refusal(await http.post(path, data=other, auth=app.basic)) == (400, "invalid_request")


async def test_the_identifier_may_be_repeated_in_the_body(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    response = await exchange(http, app, await granting.code(server, app), client_id=str(app.client_id))

    assert response.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Basic YQ",
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + base64.b64encode(b"%FF:x").decode(),
        "Bearer abc",
        "Digest username=a",
    ],
)
async def test_an_authorization_header_that_is_not_basic_is_invalid_client(
    http: httpx.AsyncClient, app: Party, header: str
) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "any"}

    assert refusal(await http.post(TOKEN, data=form, headers={"Authorization": header})) == (401, "invalid_client")


async def test_the_previous_secret_works_during_the_overlap(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    rotate = """UPDATE connections SET previous_secret_digest = secret_digest, secret_digest = $2,
                previous_secret_expires_at = now() + $3::int * interval '1 second' WHERE id = $1"""
    await db.execute(rotate, app.connection.id, b"x" * 31 + uuid4().bytes[:1], 60)
    assert (await exchange(http, app, await granting.code(server, app))).status_code == 200

    await db.execute("UPDATE connections SET previous_secret_expires_at = now() WHERE id = $1", app.connection.id)
    assert refusal(await exchange(http, app, await granting.code(server, app))) == (401, "invalid_client")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_blocked_client_is_named_only_after_it_has_authenticated(
    http: httpx.AsyncClient, db: Db, app: Party, path: str
) -> None:
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", app.client_id)
    form = {"grant_type": "refresh_token", "refresh_token": "any", "token": "any"}

    assert refusal(await http.post(path, data=form, auth=app.basic)) == (400, "unauthorized_client")
    assert refusal(await http.post(path, data=form, auth=(app.basic[0], "wrong"))) == (401, "invalid_client")


# The form


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", FORM + "; charset=cp1251"]
)
async def test_another_content_type_is_invalid_request(http: httpx.AsyncClient, path: str, content_type: str) -> None:
    response = await http.post(path, content=b"grant_type=refresh_token", headers={"Content-Type": content_type})

    assert refusal(response) == (400, "invalid_request")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_no_content_type_is_invalid_request(http: httpx.AsyncClient, path: str) -> None:
    assert refusal(await http.post(path)) == (400, "invalid_request")


async def test_a_compressed_form_is_invalid_request(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": FORM, "Content-Encoding": "gzip"}

    assert refusal(await http.post(TOKEN, content=b"token=a", headers=headers)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"grant_type",
        b"&&",
        b"grant_type=%zz",
        b"grant_type=%ff",
        b"grant_type=a%",
        "grant_type=ї".encode(),
        b"token=a&token=a",
        b"token=a&token=",
        b"token=a&%74oken=b",
        b"a=1&" * 50 + b"b=1",
    ],
)
async def test_a_form_that_two_parsers_could_read_differently_is_invalid_request(
    http: httpx.AsyncClient, app: Party, body: bytes
) -> None:
    for path in ENDPOINTS:
        response = await http.post(path, content=body, headers={"Content-Type": FORM}, auth=app.basic)
        assert refusal(response) == (400, "invalid_request")


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_a_charset_of_utf_8_is_allowed(http: httpx.AsyncClient, app: Party, path: str) -> None:
    headers = {"Content-Type": f"{FORM};charset=UTF-8"}
    response = await http.post(path, content=b"token=a&grant_type=x", headers=headers, auth=app.basic)

    assert response.status_code == 200 or refusal(response) == (400, "unsupported_grant_type")


async def test_a_form_beyond_the_limit_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post(TOKEN, data={"code": "x" * 70_000})

    assert refusal(response) == (413, "invalid_request")


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_refused(http: httpx.AsyncClient, path: str, method: str) -> None:
    response = await http.request(method, path, params={"token": "any"})

    assert refusal(response) == (405, "invalid_request")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("missing", ["grant_type", "code", "redirect_uri"])
async def test_a_missing_parameter_of_the_exchange_is_named(
    http: httpx.AsyncClient, server: Server, app: Party, missing: str
) -> None:
    code = await granting.code(server, app)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": app.redirect_uri}
    response = await http.post(TOKEN, data=form | {missing: ""}, auth=app.basic)

    assert refusal(response) == (400, "invalid_request")
    assert missing in response.json()["error_description"]


@pytest.mark.parametrize(("path", "missing"), [(TOKEN, "refresh_token"), (REVOKE, "token"), (INTROSPECT, "token")])
async def test_a_missing_token_is_named(http: httpx.AsyncClient, app: Party, path: str, missing: str) -> None:
    response = await http.post(path, data={"grant_type": "refresh_token"}, auth=app.basic)

    assert refusal(response) == (400, "invalid_request")
    assert f"parameter {missing} is" in response.json()["error_description"]


@pytest.mark.parametrize("grant_type", ["password", "client_credentials", "implicit", "AUTHORIZATION_CODE", "\x00"])
async def test_other_grants_are_unsupported(http: httpx.AsyncClient, app: Party, grant_type: str) -> None:
    response = await http.post(TOKEN, data={"grant_type": grant_type}, auth=app.basic)

    assert refusal(response) == (400, "unsupported_grant_type")


async def test_a_refusal_repeats_nothing_of_the_request(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    sent = "a-value-that-is-nobodys-business"
    answers = [
        await exchange(http, app, sent),
        await exchange(http, app, await granting.code(server, app), redirect_uri=f"https://{sent}"),
        await http.post(TOKEN, data={"grant_type": sent}, auth=app.basic),
        await http.post(TOKEN, data={"grant_type": "refresh_token"}, auth=(str(app.client_id), sent)),
    ]

    assert all(answer.status_code in (400, 401) and sent not in answer.text for answer in answers)


async def test_no_secret_code_or_token_is_logged(
    http: httpx.AsyncClient, server: Server, app: Party, logged: CapturingLogger
) -> None:
    code = await granting.code(server, app, challenge=CHALLENGE)
    await exchange(http, app, code, code_verifier="x" * 43)
    issued = (await exchange(http, app, code, code_verifier=VERIFIER)).json()
    await exchange(http, app, code, code_verifier=VERIFIER)
    await refresh(http, app, issued["refresh_token"])
    for path in (REVOKE, INTROSPECT):
        await http.post(path, data={"token": issued["access_token"]}, auth=app.basic)

    wait_until(lambda: len(logged.calls) >= 6)
    text = repr(logged.calls)
    assert len(logged.calls) == 6
    assert "PKCE does not match" in text
    assert str(app.client_id) in text
    secrets = [code, VERIFIER, app.connection.secret, issued["access_token"], issued["refresh_token"]]
    assert not [secret for secret in secrets if secret in text]


# Revocation


async def test_revoking_an_access_token_revokes_only_that_token(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    issued = await tokens(http, server, app)
    response = await http.post(REVOKE, data={"token": issued["access_token"]}, auth=app.basic)

    assert (response.status_code, response.content) == (200, b"{}")
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["cache-control"] == "no-store"
    assert not await is_accepted(http, app, issued["access_token"])
    assert (await refresh(http, app, issued["refresh_token"])).status_code == 200


async def test_revoking_a_refresh_token_revokes_all_tokens_of_its_grant(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    issued, other = await tokens(http, server, app), await tokens(http, server, app)
    later = (await refresh(http, app, issued["refresh_token"])).json()
    form = {"token": issued["refresh_token"], "token_type_hint": "access_token"}
    response = await http.post(REVOKE, data=form, auth=app.basic)

    assert response.status_code == 200
    assert not await is_accepted(http, app, issued["access_token"])
    assert not await is_accepted(http, app, later["access_token"])
    assert refusal(await refresh(http, app, issued["refresh_token"])) == (400, "invalid_grant")
    assert await is_accepted(http, app, other["access_token"])


async def test_revoking_a_refresh_token_without_a_family_revokes_the_tokens_it_issued(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    issued = await tokens(http, server, app)
    await db.execute("UPDATE tokens SET family_id = NULL WHERE client_id = $1", app.client_id)
    later = (await refresh(http, app, issued["refresh_token"])).json()
    await http.post(REVOKE, data={"token": issued["refresh_token"]}, auth=app.basic)

    assert not await is_accepted(http, app, later["access_token"])
    assert refusal(await refresh(http, app, issued["refresh_token"])) == (400, "invalid_grant")


async def test_a_public_client_revokes_its_tokens(http: httpx.AsyncClient, server: Server, spa: Party) -> None:
    issued = await public_tokens(http, server, spa)
    form = {"token": issued["refresh_token"], "client_id": str(spa.client_id)}

    assert (await http.post(REVOKE, data=form)).status_code == 200
    assert not await is_accepted(http, spa, issued["access_token"])


async def test_revoking_an_unknown_or_expired_token_succeeds(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    value = (await tokens(http, server, app))["refresh_token"]
    for token in ("nobody-has-this-token", value, value):
        response = await http.post(REVOKE, data={"token": token}, auth=app.basic)
        assert (response.status_code, response.content) == (200, b"{}")


async def test_revoking_a_code_does_nothing(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    code = await granting.code(server, app)

    assert (await http.post(REVOKE, data={"token": code}, auth=app.basic)).status_code == 200
    assert (await exchange(http, app, code)).status_code == 200


async def test_a_client_cannot_revoke_the_token_of_another(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    issued, stranger = await tokens(http, server, app), await granting.party(db)
    for token in (issued["access_token"], issued["refresh_token"]):
        response = await http.post(REVOKE, data={"token": token}, auth=stranger.basic)
        assert refusal(response) == (400, "invalid_grant")

    assert await is_accepted(http, app, issued["access_token"])
    assert (await refresh(http, app, issued["refresh_token"])).status_code == 200


async def test_one_consumer_does_not_revoke_or_see_the_tokens_of_another_of_the_same_client(
    http: httpx.AsyncClient, server: Server, db: Db
) -> None:
    one, two = await factories.client(db), await factories.client(db)
    clinic = await granting.party(db, consumer_id=one.id)
    second = await factories.connection(db, client_id=clinic.client_id, consumer_id=two.id)
    other = Party(clinic.client_id, clinic.user_id, second, "https://old.example.com/callback")
    issued = await tokens(http, server, clinic)

    response = await http.post(REVOKE, data={"token": issued["access_token"]}, auth=other.basic)
    assert refusal(response) == (400, "invalid_grant")
    assert await introspected(http, other, issued["access_token"]) == {"active": False}
    assert await is_accepted(http, clinic, issued["access_token"])


# Introspection


async def test_an_access_token_is_described(http: httpx.AsyncClient, server: Server, db: Db, app: Party) -> None:
    issued = await tokens(http, server, app)
    row = await db.fetchrow("SELECT * FROM tokens WHERE client_id = $1 AND name = 'access_token'", app.client_id)
    assert row is not None

    assert await introspected(http, app, issued["access_token"]) == {
        "active": True,
        "scope": SCOPE,
        "client_id": str(app.client_id),
        "token_type": "Bearer",
        "exp": int(row["expires_at"].timestamp()),
        "iat": int(row["inserted_at"].timestamp()),
        "sub": str(app.user_id),
        "iss": server.url,
    }


async def test_a_refresh_token_is_described_and_is_not_a_bearer_token(
    http: httpx.AsyncClient, server: Server, app: Party
) -> None:
    shown = await introspected(http, app, (await tokens(http, server, app))["refresh_token"])

    assert shown["active"] is True
    assert shown["exp"] - shown["iat"] == 1_209_600
    assert "token_type" not in shown


OVER = "UPDATE tokens SET expires_at = now() WHERE user_id = $1"
PERSON_BLOCKED = "UPDATE users SET is_blocked = true WHERE id = $1"


@pytest.mark.parametrize("change", [OVER, PERSON_BLOCKED])
async def test_expired_and_blocked_tokens_are_inactive(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party, change: str
) -> None:
    issued = await tokens(http, server, app)
    kinds = ("access_token", "refresh_token")
    assert all([(await introspected(http, app, issued[kind]))["active"] for kind in kinds])
    await db.execute(change, app.user_id)

    assert [await introspected(http, app, issued[kind]) for kind in kinds] == [{"active": False}] * 2


async def test_a_rotated_refresh_token_is_inactive(http: httpx.AsyncClient, server: Server, spa: Party) -> None:
    first = await public_tokens(http, server, spa)
    await refresh_publicly(http, spa, first["refresh_token"])

    assert await introspected(http, spa, first["refresh_token"]) == {"active": False}


async def test_a_code_and_an_unknown_token_are_inactive(http: httpx.AsyncClient, server: Server, app: Party) -> None:
    assert await introspected(http, app, await granting.code(server, app)) == {"active": False}
    assert await introspected(http, app, "nobody-has-this-token") == {"active": False}


async def test_the_token_of_another_client_is_inactive(
    http: httpx.AsyncClient, server: Server, db: Db, app: Party
) -> None:
    issued = await tokens(http, server, app)

    assert await introspected(http, await granting.party(db), issued["access_token"]) == {"active": False}


async def test_a_consumer_may_introspect_the_tokens_issued_through_its_connections(
    http: httpx.AsyncClient, server: Server, db: Db
) -> None:
    mis, other_mis = await granting.party(db), await granting.party(db)
    clinic = await granting.party(db, consumer_id=mis.client_id, access_type="BROKER")
    issued = await tokens(http, server, clinic)

    assert (await introspected(http, mis, issued["access_token"]))["client_id"] == str(clinic.client_id)
    assert (await introspected(http, mis, issued["refresh_token"]))["active"] is True
    assert await introspected(http, other_mis, issued["access_token"]) == {"active": False}


async def test_the_tokens_that_work_through_a_blocked_broker_are_inactive(
    http: httpx.AsyncClient, server: Server, db: Db
) -> None:
    mis = await granting.party(db)
    clinic = await granting.party(db, consumer_id=mis.client_id, access_type="BROKER")
    issued = await tokens(http, server, clinic)
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", mis.client_id)

    assert await introspected(http, clinic, issued["access_token"]) == {"active": False}


async def test_the_tokens_of_a_blocked_client_are_inactive_for_its_consumer(
    http: httpx.AsyncClient, server: Server, db: Db
) -> None:
    mis = await granting.party(db)
    clinic = await granting.party(db, consumer_id=mis.client_id)
    issued = await tokens(http, server, clinic)
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", clinic.client_id)

    assert await introspected(http, mis, issued["access_token"]) == {"active": False}


async def test_a_public_client_introspects_nothing(http: httpx.AsyncClient, server: Server, spa: Party) -> None:
    issued = await public_tokens(http, server, spa)
    form = {"token": issued["access_token"], "client_id": str(spa.client_id)}

    assert refusal(await http.post(INTROSPECT, data=form)) == (400, "invalid_client")


# Metadata


async def test_the_metadata_name_every_endpoint(http: httpx.AsyncClient, server: Server) -> None:
    response = await http.get("/.well-known/oauth-authorization-server")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    with_secret = ["client_secret_basic", "client_secret_post"]
    assert response.json() == {
        "issuer": server.url,
        "authorization_endpoint": f"{server.url}/oauth2/authorize",
        "token_endpoint": f"{server.url}/oauth2/token",
        "revocation_endpoint": f"{server.url}/oauth2/revoke",
        "introspection_endpoint": f"{server.url}/oauth2/introspect",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*with_secret, "none"],
        "revocation_endpoint_auth_methods_supported": [*with_secret, "none"],
        "introspection_endpoint_auth_methods_supported": with_secret,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["uk", "en"],
        "service_documentation": f"{server.url}/docs",
    }


async def test_who_asks_for_openid_connect_is_told_where_the_metadata_are(http: httpx.AsyncClient) -> None:
    response = await http.get("/.well-known/openid-configuration")

    assert refusal(response) == (404, "invalid_request")
    (path,) = [word.strip(".") for word in response.json()["error_description"].split() if word.startswith("/")]
    assert (await http.get(path)).status_code == 200


def test_the_issuer_is_the_public_url_when_one_is_set(postgres: str) -> None:
    with fresh_database(postgres) as url, running_server(database_url=url, public_url="https://id.example.com/") as own:
        shown = httpx.get(f"{own.url}/.well-known/oauth-authorization-server").json()

    assert shown["issuer"] == "https://id.example.com"
    assert shown["token_endpoint"] == "https://id.example.com/oauth2/token"


# Failures of the server


def test_a_failure_of_the_database_has_the_same_format(postgres: str) -> None:
    with running_server(database_url=url_of(postgres, "no_such_database")) as own:
        form = {"grant_type": "refresh_token"}
        response = httpx.post(own.url + TOKEN, data=form, auth=(str(uuid4()), "secret"))

    assert refusal(response) == (503, "temporarily_unavailable")
    assert response.headers["retry-after"] == "1"
