"""A connection is deleted while something is issued through it: the answers fit one of the two orders."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from support import factories, granting, oauth_world
from support.factories import Db, bearer
from support.oauth_world import World, exchange, may_read, refresh, refusal
from support.servers import Server

pytestmark = pytest.mark.anyio

WRONG_CLIENT = (401, "invalid_client", "Invalid client id or secret.")
WRONG_ADDRESS = (401, "access_denied", "The redirection URI provided does not match a pre-registered value.")


@asynccontextmanager
async def held(db: Db, statement: str, *arguments: object) -> AsyncIterator[None]:
    """Keep the effect of a statement uncommitted until the block ends."""
    async with db.transaction():
        await db.execute(statement, *arguments)
        yield


async def waiting(db: Db, request: Coroutine[Any, Any, httpx.Response], *, count: int = 1) -> Any:
    """Send the request, and return when so many sessions wait in the database."""
    sent = asyncio.create_task(request)
    while await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < count:
        assert not sent.done(), sent.result().text
        await asyncio.sleep(0.01)
    return sent


async def during_deletion(
    db: Db, connection: factories.Connection, request: Coroutine[Any, Any, httpx.Response]
) -> httpx.Response:
    """Return the answer to a request that arrives during a deletion."""
    async with held(db, "DELETE FROM connections WHERE id = $1", connection.id):
        sent = await waiting(db, request)
    answer: httpx.Response = await sent
    return answer


async def test_a_code_is_redeemed_or_deleted_with_the_connection(http: httpx.AsyncClient, db: Db, world: World) -> None:
    code = await oauth_world.code_of(http, db, world)
    assert refusal(await during_deletion(db, world.link, exchange(http, world, code))) == WRONG_CLIENT


async def test_a_connection_that_is_being_deleted_refreshes_no_token(
    http: httpx.AsyncClient, db: Db, world: World
) -> None:
    _, value = await oauth_world.tokens_of(http, db, world)
    assert refusal(await during_deletion(db, world.link, refresh(http, world, value))) == WRONG_CLIENT


async def test_a_connection_that_is_being_deleted_refreshes_no_token_of_a_public_client(
    http: httpx.AsyncClient, db: Db, server: Server
) -> None:
    app = await granting.party(db, is_public=True)
    code = await granting.code(server, app, challenge=granting.CHALLENGE)
    common = {"client_id": str(app.client_id)}
    proof = {"code": code, "redirect_uri": app.redirect_uri, "code_verifier": granting.VERIFIER}
    granted = await http.post("/oauth2/token", data=common | proof | {"grant_type": "authorization_code"})
    assert granted.status_code == 200, granted.text
    form = common | {"grant_type": "refresh_token", "refresh_token": granted.json()["refresh_token"]}
    answer = await during_deletion(db, app.connection, http.post("/oauth2/token", data=form))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_connection_that_is_being_deleted_issues_no_code(http: httpx.AsyncClient, db: Db, world: World) -> None:
    session = await oauth_world.session_of(db, world)
    answer = await during_deletion(db, world.link, oauth_world.authorize(http, world, session))
    assert refusal(answer) == WRONG_ADDRESS
    assert await db.fetchval("SELECT count(*) FROM apps WHERE client_id = $1", world.clinic.id) == 0


async def test_a_deletion_waits_for_a_code_exchange_and_revokes_its_tokens(http: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db, is_brokered=False)
    code = await oauth_world.code_of(http, db, world)
    headers = bearer(await factories.token(db, client=world.clinic, scope="connection:delete"))
    # The rows of the exchange refer to the client, so it waits there, with the code already consumed.
    async with held(db, "SELECT FROM clients WHERE id = $1 FOR UPDATE", world.clinic.id):
        exchanging = await waiting(db, exchange(http, world, code))
        deleting = await waiting(db, http.delete(world.link.path, headers=headers), count=2)
    exchanged, deleted = await exchanging, await deleting
    assert (exchanged.status_code, deleted.status_code) == (201, 200)
    assert not await may_read(http, world, exchanged.json()["data"]["value"])
