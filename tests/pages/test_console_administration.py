"""What administrators do in the console: find, block and unblock clients, end tokens, see who has which role."""

import html
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from mithril import security
from mithril.console import rendering
from support import factories
from support.console import SCOPE, Owner, events, filled, give_role, make_owner, send, sign_in
from support.factories import Db, bearer
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio

ALL = f"{SCOPE} client:write token:read token:delete user:read"
ACTS = ("block", "tokens", "people")


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    with fresh_database(postgres) as url, running_server(database_url=url) as running:
        yield running


@pytest.fixture
async def admin(db: Db) -> Owner:
    return await make_owner(db, client_type="MITHRIL ADMIN", scope=ALL, type_scope=ALL)


@pytest.fixture
async def inside(server: Server, admin: Owner) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which the administrator has signed in, on the internal listener."""
    headers = {"accept-language": "en"}
    async with httpx.AsyncClient(base_url=server.internal_url, headers=headers) as browser:
        assert (await sign_in(browser, admin.email)).status_code == 303
        yield browser


async def test_a_client_is_found_by_name_and_by_identifier(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    await db.execute("UPDATE clients SET name = 'Pharmacy 100%_a' WHERE id = $1", owner.client.id)
    for asked in ("pharmacy 100%_", str(owner.client.id), str(owner.client.id).upper()):
        page = await inside.get("/console/clients", params={"q": asked})
        assert ("Found: 1" in page.text, owner.path in page.text) == (True, True), asked
    for asked in ("no such name", "100%%", "a\0b"):
        assert "Nothing found." in (await inside.get("/console/clients", params={"q": asked})).text
    blocked = {"blocked": "yes"}
    assert owner.path not in (await inside.get("/console/clients", params=blocked)).text
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", owner.client.id)
    page = await inside.get("/console/clients", params=blocked)
    assert owner.path in page.text
    assert f"{owner.page}" in (await inside.get(owner.path)).text, "an administrator sees what its owner sees"


async def test_all_clients_are_found_page_by_page(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    name = f"Page by page {owner.client.id}"
    for _ in range(30):
        made = await factories.client(db)
        await db.execute("UPDATE clients SET name = $2 WHERE id = $1", made.id, name)
    first = await inside.get("/console/clients", params={"q": name})
    link = re.search(r'href="(\?q=[^"]+)"', first.text)
    assert link
    second = await inside.get("/console/clients" + html.unescape(link[1]))
    shown = [set(re.findall(r'href="(/console/clients/[0-9a-f-]{36})"', page.text)) for page in (first, second)]
    # And the client of the administrator, which every page names.
    assert [len(shown[0]), len(shown[1]), len(shown[0] | shown[1])] == [26, 6, 31]


async def test_a_search_that_cannot_be_answered_says_what_to_do(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    """Without an index on names: the last of more than ten thousand is found by its identifier."""
    copies = "INSERT INTO clients (name, client_type_id, user_id) SELECT {}, client_type_id, user_id FROM clients"
    await db.execute(copies.format("'x' || n") + ", generate_series(1, 10100) n WHERE id = $1", owner.client.id)
    last = await db.fetchval(copies.format("'The last one'") + " WHERE id = $1 RETURNING id", owner.client.id)
    page = await inside.get("/console/clients", params={"q": "last one"})
    assert (page.status_code, rendering.words("en")["too_wide"] in page.text) == (422, True)
    page = await inside.get("/console/clients", params={"q": str(last)})
    assert "The last one" in page.text
    await db.execute("DELETE FROM clients WHERE name LIKE 'x%'")


async def test_a_client_is_blocked_with_a_reason_and_unblocked(
    inside: httpx.AsyncClient, http: httpx.AsyncClient, db: Db, owner: Owner, admin: Owner
) -> None:
    await db.execute("UPDATE clients SET priv_settings = '{}' WHERE id = $1", owner.client.id)
    await sign_in(http, owner.email)
    token = await factories.token(db, client=owner.client)
    path = f"{owner.path}/block"
    form = await inside.get(path)
    assert "Active tokens: 1" in form.text
    for fields in ({"reason": " "}, {"reason": "x" * 256}, {"reason": "unpaid", "password": "wrong"}):
        assert (await inside.post(path, data=filled(form, **fields))).status_code == 422
    response = await inside.post(path, data=filled(form, reason=" unpaid "))
    assert (response.status_code, response.headers["location"]) == (303, owner.path)
    assert (await http.get(owner.connection.path, headers=bearer(token))).status_code == 401
    assert (await http.get(owner.path)).status_code == 303, "the session of the owner is over"
    await sign_in(http, owner.email)
    assert "unpaid" in (await http.get("/console")).text
    again = await inside.post(path, data=filled(form, reason="another reason"))
    assert again.status_code == 303
    assert await db.fetchval("SELECT block_reason FROM clients WHERE id = $1", owner.client.id) == "unpaid"
    assert (await send(inside, path)).status_code == 303
    assert not await db.fetchval("SELECT is_blocked FROM clients WHERE id = $1", owner.client.id)
    rows = await events(db, owner.client.id)
    assert [(row["action"], row["actor_user_id"]) for row in rows] == [("client.update", admin.user_id)] * 2
    assert (await inside.post(path, data=filled(await inside.get(path), act="x", reason="y"))).status_code == 404


async def test_the_tokens_of_a_client_are_ended(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    token = await factories.token(db, client=owner.client, name="refresh_token")
    path = f"{owner.path}/tokens"
    assert "Active tokens: 1" in (await inside.get(path)).text
    assert (await send(inside, path, password="wrong")).status_code == 422
    assert (await send(inside, path)).status_code == 303
    assert "Active tokens: 0" in (await inside.get(path)).text
    (event,) = await events(db, owner.client.id)
    assert event["action"] == "client.deactivate_tokens"
    assert token not in str(event)


async def test_who_ends_the_tokens_of_their_own_client_is_signed_out(inside: httpx.AsyncClient, admin: Owner) -> None:
    assert "You will be signed out too." in (await inside.get(f"{admin.path}/tokens")).text
    assert (await send(inside, f"{admin.path}/tokens")).status_code == 303
    assert (await inside.get(admin.path)).headers["location"].startswith("/console/sign-in")


async def test_the_users_of_a_client_are_shown_with_their_roles(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    page = await inside.get(f"{owner.path}/people")
    role = await db.fetchval(
        "SELECT r.name FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE ur.client_id = $1", owner.client.id
    )
    assert owner.email in page.text
    assert role in page.text
    nobody = await factories.client(db)
    assert rendering.words("en")["no_people"] in (await inside.get(f"/console/clients/{nobody.id}/people")).text


async def test_the_sessions_of_a_user_are_counted_and_ended(
    inside: httpx.AsyncClient, http: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    """Those with this client; other users and other clients keep theirs."""
    other = await make_owner(db)
    await give_role(db, other.user_id, owner.client.id, scope=SCOPE)
    await sign_in(http, owner.email)
    token = await factories.token(db, client=owner.client)
    elsewhere = await factories.token(db, client=other.client)
    page = await inside.get(f"{owner.path}/people")
    assert "Active tokens and sessions: 2" in page.text
    path = f"{owner.path}/people/{owner.user_id}/sessions"
    assert f'href="{path}"' in page.text
    form = await inside.get(path)
    assert form.text.count(f'href="{owner.path}/people"') == 2, "back, and to leave it as it is"
    assert (owner.email in form.text, "Active tokens and sessions: 2" in form.text) == (True, True)
    assert (await inside.post(path, data=filled(form, password="wrong"))).status_code == 422
    assert (await http.get(owner.path)).status_code == 200
    assert (await inside.post(path, data=filled(form))).headers["location"] == f"{owner.path}/people"
    assert (await http.get(owner.path)).status_code == 303
    assert (await http.get(owner.connection.path, headers=bearer(token))).status_code == 401
    assert await db.fetchval("SELECT count(*) FROM tokens WHERE digest = $1", security.digest(elsewhere)) == 1
    assert "Active tokens and sessions: 0" in (await inside.get(path)).text
    assert (await inside.get(f"{other.path}/people/{owner.user_id}/sessions")).status_code == 404
    assert (await inside.post(f"{other.path}/people/{owner.user_id}/sessions", data=filled(form))).status_code == 404
    actions = await db.fetch(
        "SELECT actor_user_id FROM audit_events WHERE action = 'token.delete' AND client_id = $1", owner.client.id
    )
    assert len(actions) == 2


async def test_an_owner_is_no_administrator_whatever_the_scopes(http: httpx.AsyncClient, db: Db) -> None:
    owner = await make_owner(db, scope=ALL, type_scope=ALL)
    await sign_in(http, owner.email)
    page = await http.get(owner.path)
    for path in ("/console/clients", *(f"{owner.path}/{act}" for act in ACTS)):
        assert (await http.get(path)).status_code == 403
        assert f'href="{path}"' not in page.text
    data = filled(await http.get("/console/session"), act="block", reason="x")
    for act in ("block", "tokens", f"people/{owner.user_id}/sessions"):
        assert (await http.post(f"{owner.path}/{act}", data=data)).status_code == 403
    assert not await db.fetchval("SELECT is_blocked FROM clients WHERE id = $1", owner.client.id)


async def test_an_administrator_needs_the_scope_of_each_act(server: Server, db: Db, owner: Owner) -> None:
    admin = await make_owner(db, client_type="MITHRIL ADMIN", scope=SCOPE, type_scope=ALL)
    async with httpx.AsyncClient(base_url=server.internal_url) as browser:
        await sign_in(browser, admin.email)
        page = await browser.get(owner.path)
        for act in ACTS:
            assert (await browser.get(f"{owner.path}/{act}")).status_code == 403
            assert f"{owner.path}/{act}" not in page.text
        assert (await browser.get("/console/clients")).status_code == 200
