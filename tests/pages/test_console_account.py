"""A user's own page: consents to withdraw, another password, sessions."""

from uuid import UUID

import httpx
import pytest

from mithril.console import rendering
from support import factories
from support.cases import PASSWORD
from support.console import Owner, events, make_owner, send, sign_in
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

NEW_PASSWORD = "Another-Password-9"


async def approve(db: Db, owner: Owner, scope: str = "legal_entity:read unknown:scope") -> str:
    statement = "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3) RETURNING id"
    return str(await db.fetchval(statement, owner.user_id, owner.client.id, scope))


async def test_a_user_sees_consents_in_words_and_withdraws_one(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    assert rendering.words("uk")["no_consents"] in (await inside.get("/account")).text
    consent_id = await approve(db, owner)
    token = await factories.token(db, client=owner.client, scope="connection:read")
    page = await inside.get("/account", headers={"accept-language": "en"})
    names = [await db.fetchval("SELECT name FROM clients WHERE id = $1", one.id) for one in (owner.client, owner.mis)]
    assert all(f"<bdi>{name}</bdi>" in page.text for name in names)
    assert "View the institution&#39;s data" in page.text
    assert "unknown:scope" in page.text
    path = f"/account/consents/{consent_id}"
    assert rendering.words("uk")["you_too"] in (await inside.get(path)).text
    assert (await send(inside, path, password="wrong")).status_code == 422
    response = await send(inside, path)
    assert (response.status_code, response.headers["location"]) == (303, "/account")
    assert (await inside.get("/account")).status_code == 303, "the session was with the same client"
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", owner.user_id) == 0
    assert (await inside.get(owner.connection.path, headers=bearer(token))).status_code == 401
    (event,) = await events(db, UUID(consent_id))
    assert (event["action"], event["actor_user_id"]) == ("approval.delete", owner.user_id)


async def test_another_users_consent_is_not_there(inside: httpx.AsyncClient, db: Db) -> None:
    other = await make_owner(db)
    consent_id = await approve(db, other)
    for path in (f"/account/consents/{consent_id}", "/account/consents/x"):
        assert (await inside.get(path)).status_code == 404
    assert (await send(inside, f"/account/consents/{consent_id}", of="/account/password")).status_code == 404
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", other.user_id) == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"new_password": "short"}, "not_the_same"),
        ({"new_password": "short", "new_password_again": "short"}, "password_rules"),
        ({"new_password": PASSWORD + "x", "new_password_again": PASSWORD + "x", "password": "wrong"}, "password_wrong"),
        ({"new_password": PASSWORD + "Ab1", "new_password_again": PASSWORD + "Ab1", "password": None}, "no_password"),
        ({"new_password": PASSWORD, "new_password_again": PASSWORD}, "password_used"),
    ],
)
async def test_a_refused_password_changes_nothing(
    inside: httpx.AsyncClient, db: Db, owner: Owner, fields: dict[str, str], problem: str
) -> None:
    before = await db.fetchval("SELECT password_hash FROM users WHERE id = $1", owner.user_id)
    response = await send(inside, "/account/password", **{"new_password_again": "other", **fields})
    assert (response.status_code, rendering.words("uk")[f"problem_{problem}"] in response.text) == (422, True)
    assert await db.fetchval("SELECT password_hash FROM users WHERE id = $1", owner.user_id) == before


async def test_a_new_password_ends_every_session(inside: httpx.AsyncClient, owner: Owner) -> None:
    fields = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    response = await send(inside, "/account/password", **fields)
    assert (response.status_code, response.headers["location"]) == (303, "/console/sign-in?changed=yes")
    page = await inside.get(response.headers["location"])
    assert rendering.words("uk")["problem_password_changed"] in page.text
    assert (await inside.get("/account")).headers["location"] == "/console/sign-in?next=%2Faccount"
    assert (await sign_in(inside, owner.email)).status_code == 401
    response = await sign_in(inside, owner.email, password=NEW_PASSWORD, next_="/account")
    assert (response.status_code, response.headers["location"]) == (303, "/account")


async def test_a_user_without_any_right_has_an_account(http: httpx.AsyncClient, db: Db) -> None:
    user = await make_owner(db, scope="legal_entity:read")
    await sign_in(http, user.email)
    page = await http.get("/account")
    assert (page.status_code, user.email in page.text) == (200, True)
