"""Something changes while a code is exchanged or a token refreshed: it is refused, and nothing is issued.

A request first finds all that counts, and then consumes and issues in one statement. The change comes between the two,
or while the second one waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from mithril.oauth import redemption_store
from support import oauth_world
from support.factories import Db
from support.oauth_world import World, refusal
from support.servers import Server

pytestmark = pytest.mark.anyio

OF_USER = "WHERE id = (SELECT user_id FROM tokens WHERE id = $1)"
OF_CLIENT = "WHERE id = (SELECT client_id FROM tokens WHERE id = $1)"
OF_CONNECTION = OF_APPROVAL = "WHERE client_id = (SELECT client_id FROM tokens WHERE id = $1)"
MOVED = f"""
UPDATE connections SET redirect_uri = 'https://moved.example.com', version = version + 1,
       redirect_uri_since = version + 1 {OF_CONNECTION}
"""
# What changes, and what the caller is told.
CHANGES = {
    f"UPDATE users SET is_blocked = true {OF_USER}": "User blocked.",
    f"UPDATE clients SET is_blocked = true {OF_CLIENT}": "Client is blocked.",
    f"DELETE FROM apps {OF_APPROVAL}": "Resource owner revoked access for the client.",
    f"DELETE FROM connections {OF_CONNECTION}": "Invalid client id or secret.",
    "UPDATE tokens SET used_at = now() WHERE id = $1": "Token has already been used.",
    "UPDATE tokens SET expires_at = now() WHERE id = $1": "Token expired.",
}
# A window of the same browser refreshes by the other successor of the same refresh token.
CHOSEN = """
UPDATE tokens SET details = details || '{"chosen": "another"}'
 WHERE id = (SELECT (details ->> 'replaces')::uuid FROM tokens WHERE id = $1)
"""
OF_PUBLIC = {CHOSEN: "Token has already been used."}
OF_CODES = {MOVED: "The redirection URI provided does not match a pre-registered value."}
LOCKS = (
    f"SELECT FROM users {OF_USER} FOR UPDATE",
    f"SELECT FROM clients {OF_CLIENT} FOR UPDATE",
    f"SELECT FROM apps {OF_APPROVAL} FOR UPDATE",
)
SUCCESSOR = "successor"
KINDS = ("authorization_code", "refresh_token", SUCCESSOR)
Ask = Callable[[], Awaitable[httpx.Response]]


async def prepared(http: httpx.AsyncClient, db: Db, world: World, kind: str) -> tuple[Ask, Any]:
    """Return a token request that would succeed, and the id of the token that it presents.

    `kind`: of that token, or `successor` for one that a public client got by a refresh.
    """
    newest = "SELECT id FROM tokens WHERE name = $1 ORDER BY inserted_at DESC, id DESC LIMIT 1"
    if kind == "authorization_code":
        code = await oauth_world.code_of(http, db, world)
        return lambda: oauth_world.exchange(http, world, code), await db.fetchval(newest, kind)
    _, value = await oauth_world.tokens_of(http, db, world)
    if kind == SUCCESSOR:
        await oauth_world.set_settings(db, world.clinic.id, public=True)
        value = (await oauth_world.refresh(http, world, value)).json()["data"]["details"]["refresh_token"]
        kind = "refresh_token"
    return lambda: oauth_world.refresh(http, world, value), await db.fetchval(newest, kind)


def cases() -> list[Any]:
    every = [(kind, *change) for kind in KINDS for change in CHANGES.items()]
    of_codes = [("authorization_code", *change) for change in OF_CODES.items()]
    return [*every, *of_codes, *((SUCCESSOR, *change) for change in OF_PUBLIC.items())]


async def issued(db: Db, world: World) -> int:
    count: int = await db.fetchval(
        "SELECT count(*) FROM tokens WHERE client_id = $1 AND name IN ('access_token', 'refresh_token')",
        world.clinic.id,
    )
    return count


@pytest.mark.parametrize("case", cases(), ids=str)
async def test_what_changes_between_the_two_statements_counts(
    case: tuple[str, str, str],
    *,
    http: httpx.AsyncClient,
    db: Db,
    world: World,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, change, message = case
    ask, token_id = await prepared(http, db, world, kind)
    redeem, changed = redemption_store.redeem, []

    async def late(*arguments: Any, **options: Any) -> Any:
        other = await asyncpg.connect(server.database_url)  # in the thread of the server
        changed.append(await other.execute(change, token_id))
        await other.close()
        return await redeem(*arguments, **options)

    monkeypatch.setattr(redemption_store, "redeem", late)
    before = await issued(db, world)
    answer = await ask()
    assert [each.rpartition(" ")[2] for each in changed] == ["1"], "one row"
    assert (answer.status_code, refusal(answer)[2]) == (401, message)
    assert await issued(db, world) <= before


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_second_statement_waits_for_counts(
    kind: str, lock: str, http: httpx.AsyncClient, db: Db, world: World
) -> None:
    ask, token_id = await prepared(http, db, world, kind)
    before = await issued(db, world)
    async with db.transaction():
        await db.execute(lock, token_id)
        sent = asyncio.ensure_future(ask())
        while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not sent.done(), "it waits"
            await asyncio.sleep(0.01)
        await db.execute("UPDATE tokens SET expires_at = clock_timestamp() WHERE id = $1", token_id)
    answer = await sent
    assert (answer.status_code, refusal(answer)[2]) == (401, "Token expired.")
    assert await issued(db, world) == before


async def test_the_other_successor_of_one_refresh_token_waits_for_the_first(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    ask, token_id = await prepared(http, db, world, SUCCESSOR)
    async with db.transaction():
        await db.execute(CHOSEN, token_id)
        sent = asyncio.ensure_future(ask())
        while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not sent.done(), "it waits"
            await asyncio.sleep(0.01)
    answer = await sent
    assert (answer.status_code, refusal(answer)[2]) == (401, OF_PUBLIC[CHOSEN])
    active = "SELECT count(*) FROM tokens WHERE client_id = $1 AND name = 'refresh_token' AND expires_at > now()"
    assert await db.fetchval(active, world.clinic.id) == 0
