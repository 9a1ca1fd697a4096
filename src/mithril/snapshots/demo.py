"""The data of `mithril serve --demo`: what each start adds and renews, and how everything begins again."""

import asyncio
import functools
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode
from uuid import UUID

from mithril import security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.connections import redirect_uris, transition_store, transitions
from mithril.database.database import Condition, Connection
from mithril.snapshots import service, store
from mithril.snapshots.reading import Snapshot, SnapshotError
from mithril.snapshots.sections import SECTIONS
from mithril.snapshots.service import Hashing, Report
from mithril.users import passwords

CALLBACK_PATH: Final = "/demo/callback"
USER: Final = "owner@clinic.example"
SCOPE: Final = "connection:read connection:write employee:read"
_CONNECTION: Final = UUID("7c0f3a52-3b57-4b0c-8f0a-6f2f6d0f9a1a")


class Program(NamedTuple):
    """The program of the demo whose redirect URI is a page of this server, and what it knows of itself."""

    client_id: str
    connection_id: str
    secret: str
    api_key: str
    """The secret of the consumer's own connection."""


class Added(NamedTuple):
    """How many rows there are that are not of the demo."""

    users: int
    clients: int


@functools.cache
def program() -> Program:
    """Return the program whose callback is a page of this server."""
    rows = service.demo().connections
    (own,) = (row for row in rows if row["id"] == str(_CONNECTION))
    (broker,) = (row for row in rows if row["client_id"] == row["consumer_id"] == own["consumer_id"])
    return Program(own["client_id"], own["id"], own["secret"], broker["secret"])


def sign_in_url(origin: str) -> str:
    """Return the link by which a user of the demo signs in and comes to the callback page of that server."""
    asked = {"client_id": program().client_id, "redirect_uri": origin + CALLBACK_PATH, "scope": SCOPE, "email": USER}
    return f"{origin}/sign-in?{urlencode(asked, safe=':/@', quote_via=quote)}"


async def start(connection: Connection, *, actor: Actor, policy: redirect_uris.Policy, origin: str = "") -> Report:
    """Add what is missing, leave the rest as it is, and renew the passwords and tokens of the demo's users.

    A token that has expired, or was revoked, is added again. `origin`: of the server, to whose callback page the
    redirect URI of the demo's program leads from now on.
    """
    snapshot = service.demo()
    digests = [security.digest(token["value"]) for token in snapshot.tokens]
    async with connection.transaction(isolation="read_committed"):
        await store.begin(connection)
        await store.renew(connection, _users(snapshot), forgotten=digests)
        report = await service.import_snapshot(
            connection, snapshot, actor=actor, policy=policy, only_missing=True, hashed=_hashing_once()
        )
        if origin:
            await _move_program(connection, origin + CALLBACK_PATH, actor=actor)
    return report


async def count_added(connection: Connection) -> Added:
    """Count the users and clients that `reset` would delete for good. Raises SnapshotError where there is no demo."""
    snapshot = service.demo()
    users, clients = ([UUID(row["id"]) for row in section] for section in (snapshot.users, snapshot.clients))
    if not await store.has_users(connection, _users(snapshot)):
        raise SnapshotError("there is no demo data in this database")
    return Added(
        await store.count_others(connection, "users", users), await store.count_others(connection, "clients", clients)
    )


async def reset(connection: Connection, *, actor: Actor, policy: redirect_uris.Policy) -> Added:
    """Delete every row but those of the audit trail, and add the demo's again; return what was deleted for good.

    All in one transaction, so a running server sees the one state or the other; its callback page stays where it is.
    Raises SnapshotError where there is no demo data; then nothing has changed.
    """
    everything = [Condition("{}::boolean", True)]
    snapshot, hashed = service.demo(), _hashing_once()
    # Now, while no row is locked.
    await asyncio.gather(*(hashed(user["password"]) for user in snapshot.users if "password" in user))
    async with connection.transaction(isolation="read_committed"):
        await store.begin(connection)
        added = await count_added(connection)
        redirect_uri = await store.find_redirect_uri(connection, _CONNECTION)
        for section in reversed(SECTIONS):
            await rows.delete(connection, section.table, everything, actor=actor)
        # No token is left that a revocation concerns; to new client types, which begin without a number, they would.
        await store.forget_the_rest(connection)
        await service.import_snapshot(connection, snapshot, actor=actor, policy=policy, hashed=hashed)
        if redirect_uri and redirect_uri.endswith(CALLBACK_PATH):
            await _move_program(connection, redirect_uri, actor=actor)
    return added


async def _move_program(connection: Connection, redirect_uri: str, *, actor: Actor) -> None:
    """Give the program that redirect URI. It is the server's own, so no rule of redirect URIs decides about it."""
    present = await transition_store.lock_connection(connection, _CONNECTION, client_id=UUID(program().client_id))
    if present is not None and present.redirect_uri != redirect_uri:
        await transitions.set_redirect_uri(connection, present, redirect_uri, actor=actor)


def _users(snapshot: Snapshot) -> list[UUID]:
    """Return the ids of the users who can sign in: no other database has them."""
    return [UUID(user["id"]) for user in snapshot.users if "password" in user]


def _hashing_once() -> Hashing:
    """Return what hashes each password once, because the users of the demo share one, and a hash takes its time."""
    made: dict[str, asyncio.Future[str]] = {}

    async def hashed(password: str) -> str:
        if password not in made:
            made[password] = asyncio.ensure_future(passwords.hashed(password))
        return await made[password]

    return hashed
