"""The data of `mithril serve --demo`: what each start adds and renews, and how everything begins again."""

import asyncio
from typing import NamedTuple
from uuid import UUID

from mithril import security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.connections import redirect_uris
from mithril.database.database import Condition, Connection
from mithril.snapshots import service, store
from mithril.snapshots.reading import Snapshot, SnapshotError
from mithril.snapshots.sections import SECTIONS
from mithril.snapshots.service import Hashing, Report
from mithril.users import passwords


class Added(NamedTuple):
    """How many rows there are that are not of the demo."""

    users: int
    clients: int


async def start(connection: Connection, *, actor: Actor, policy: redirect_uris.Policy) -> Report:
    """Add what is missing, leave the rest as it is, and renew the passwords and tokens of the demo's users.

    A token that has expired, or was revoked, is added again.
    """
    snapshot = service.demo()
    digests = [security.digest(token["value"]) for token in snapshot.tokens]
    async with connection.transaction(isolation="read_committed"):
        await store.begin(connection)
        await store.renew(connection, _users(snapshot), forgotten=digests)
        return await service.import_snapshot(
            connection, snapshot, actor=actor, policy=policy, only_missing=True, hashed=_hashing_once()
        )


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

    All in one transaction, so a running server sees the one state or the other. Raises SnapshotError where there is no
    demo data; then nothing has changed.
    """
    everything = [Condition("{}::boolean", True)]
    snapshot, hashed = service.demo(), _hashing_once()
    # Now, while no row is locked.
    await asyncio.gather(*(hashed(user["password"]) for user in snapshot.users if "password" in user))
    async with connection.transaction(isolation="read_committed"):
        await store.begin(connection)
        added = await count_added(connection)
        for section in reversed(SECTIONS):
            await rows.delete(connection, section.table, everything, actor=actor)
        # No token is left that a revocation concerns; to new client types, which begin without a number, they would.
        await store.forget_the_rest(connection)
        await service.import_snapshot(connection, snapshot, actor=actor, policy=policy, hashed=hashed)
    return added


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
