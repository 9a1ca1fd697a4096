"""What is left of a token after something was taken away: the triggers and `token_scope`, by plain SQL."""

import asyncio
from uuid import UUID, uuid4

import asyncpg
import pytest

from mithril.database.database import Connection
from support import factories

pytestmark = pytest.mark.anyio

SCOPE = "connection:read connection:write user:read"


class World:
    """A client of a type, with a user who has a role in it; each allows all of SCOPE."""

    def __init__(self, db: Connection, client: factories.Client, type_id: UUID, role_id: UUID) -> None:
        self.db, self.client, self.type_id, self.role_id = db, client, type_id, role_id

    async def give_role(self, role_id: UUID, *, everywhere: bool = False) -> None:
        if everywhere:
            await self.db.execute(
                "INSERT INTO global_user_roles (user_id, role_id) VALUES ($1, $2)", self.client.user_id, role_id
            )
        else:
            await self.db.execute(
                "INSERT INTO user_roles (user_id, role_id, client_id) VALUES ($1, $2, $3)",
                self.client.user_id,
                role_id,
                self.client.id,
            )

    async def approve(self, scope: str = SCOPE) -> None:
        await self.db.execute(
            "INSERT INTO apps (user_id, client_id, scope) VALUES ($1, $2, $3)",
            self.client.user_id,
            self.client.id,
            scope,
        )

    async def token(self, grant_type: str = "authorization_code", *, scope: str = SCOPE) -> UUID:
        made: UUID = await self.db.fetchval(
            "INSERT INTO tokens (name, digest, user_id, client_id, scope, details, expires_at)"
            " VALUES ('access_token', $1, $2, $3, $4, jsonb_build_object('grant_type', $5::text), now() + '1 h')"
            " RETURNING id",
            uuid4().bytes,
            self.client.user_id,
            self.client.id,
            scope,
            grant_type,
        )
        return made

    async def left(self, token_id: UUID) -> str | None:
        left: str | None = await self.db.fetchval("SELECT token_scope(t) FROM tokens t WHERE id = $1", token_id)
        return left

    async def is_marked(self, token_id: UUID) -> bool:
        """Whether a look-up that only compares numbers would ask what is left."""
        is_current: bool = await self.db.fetchval(
            "SELECT t.seen_user >= u.last_revocation AND t.seen_client >= c.last_revocation"
            "   AND t.seen_type >= ct.last_revocation"
            "   AND t.seen_role >= ct.last_role_revocation"
            "  FROM tokens t JOIN users u ON u.id = t.user_id JOIN clients c ON c.id = t.client_id"
            "  JOIN client_types ct ON ct.id = c.client_type_id WHERE t.id = $1",
            token_id,
        )
        return not is_current


async def role(db: Connection, scope: str = SCOPE) -> UUID:
    made: UUID = await db.fetchval(
        "INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", f"role {uuid4()}", scope
    )
    return made


async def client_type(db: Connection, scope: str = SCOPE) -> UUID:
    made: UUID = await db.fetchval(
        "INSERT INTO client_types (name, scope) VALUES ($1, $2) RETURNING id", f"type {uuid4()}", scope
    )
    return made


@pytest.fixture
async def world(db: Connection) -> World:
    client = await factories.client(db, client_type=f"type {uuid4()}")
    type_id = await db.fetchval("SELECT client_type_id FROM clients WHERE id = $1", client.id)
    await db.execute("UPDATE client_types SET scope = $2 WHERE id = $1", type_id, SCOPE)
    made = World(db, client, type_id, await role(db))
    await made.give_role(made.role_id)
    await made.approve()
    return made


CHANGES = {
    "a role's scope": "UPDATE roles SET scope = 'user:read connection:read' WHERE id = $1",
    "a type's scope": "UPDATE client_types SET scope = 'connection:read user:read' WHERE id = $1",
    "an approval": "UPDATE apps SET scope = 'connection:read user:read' WHERE client_id = $1",
}
GIVING_BACK = {
    "a role's scope": f"UPDATE roles SET scope = '{SCOPE}' WHERE id = $1",
    "a type's scope": f"UPDATE client_types SET scope = '{SCOPE}' WHERE id = $1",
    "an approval": f"UPDATE apps SET scope = '{SCOPE}' WHERE client_id = $1",
}


def subject(world: World, what: str) -> UUID:
    return {"a role's scope": world.role_id, "a type's scope": world.type_id}.get(what, world.client.id)


@pytest.mark.parametrize("what", CHANGES)
async def test_a_narrowed_bound_narrows_what_was_issued_before(world: World, what: str) -> None:
    token = await world.token()
    assert not await world.is_marked(token)
    await world.db.execute(CHANGES[what], subject(world, what))
    assert await world.is_marked(token)
    assert await world.left(token) == "connection:read user:read"


@pytest.mark.parametrize("what", CHANGES)
async def test_what_is_given_back_revives_nothing_and_is_there_for_new_tokens(world: World, what: str) -> None:
    token = await world.token()
    await world.db.execute(CHANGES[what], subject(world, what))
    await world.db.execute(GIVING_BACK[what], subject(world, what))
    assert await world.left(token) == "connection:read user:read"
    later = await world.token()
    assert not await world.is_marked(later)
    assert await world.left(later) == SCOPE


async def test_a_second_revocation_does_not_count_the_first_one_for_a_token_between_them(world: World) -> None:
    await world.db.execute("UPDATE roles SET scope = 'user:read' WHERE id = $1", world.role_id)
    await world.db.execute("UPDATE roles SET scope = $2 WHERE id = $1", world.role_id, SCOPE)
    token = await world.token()
    await world.db.execute("UPDATE client_types SET scope = 'connection:write' WHERE id = $1", world.type_id)
    assert await world.left(token) == "connection:write"


async def test_a_role_taken_from_a_user_takes_its_scopes(world: World) -> None:
    token, other = await world.token(), await world.token(scope="something:else")
    await world.db.execute("DELETE FROM user_roles WHERE user_id = $1", world.client.user_id)
    assert await world.left(token) is None
    assert await world.left(other) == "something:else"
    await world.give_role(world.role_id)
    assert await world.left(token) is None
    assert await world.left(await world.token()) == SCOPE


@pytest.mark.parametrize("everywhere", [True, False])
async def test_another_role_that_gives_the_scope_keeps_it(world: World, everywhere: bool) -> None:  # noqa: FBT001
    token = await world.token()
    await world.give_role(await role(world.db, "connection:write"), everywhere=everywhere)
    await world.db.execute("DELETE FROM user_roles WHERE role_id = $1", world.role_id)
    assert await world.left(token) == "connection:write"


async def test_a_global_role_is_taken_like_any_other(world: World) -> None:
    other = await role(world.db, "user:read")
    await world.give_role(other, everywhere=True)
    await world.db.execute("UPDATE roles SET scope = 'connection:read connection:write' WHERE id = $1", world.role_id)
    token = await world.token()
    await world.db.execute("DELETE FROM global_user_roles WHERE role_id = $1", other)
    assert await world.left(token) == "connection:read connection:write"


async def test_a_scope_that_another_role_gives_only_later_is_lost_all_the_same(world: World) -> None:
    other = await role(world.db, "user:read")
    await world.give_role(other)
    token = await world.token()
    await world.db.execute("UPDATE roles SET scope = 'connection:read' WHERE id = $1", world.role_id)
    await world.db.execute("UPDATE roles SET scope = 'user:read connection:write' WHERE id = $1", other)
    assert await world.left(token) == "connection:read user:read"


async def test_a_deleted_role_takes_its_scopes(world: World) -> None:
    token = await world.token()
    await world.give_role(await role(world.db, "user:read"))
    await world.db.execute("DELETE FROM roles WHERE id = $1", world.role_id)
    assert await world.is_marked(token)
    assert await world.left(token) == "user:read"


async def test_another_type_of_the_client_narrows_and_never_widens(world: World) -> None:
    token = await world.token()
    await world.db.execute("UPDATE client_types SET scope = 'connection:read connection:write' WHERE name LIKE 'type%'")
    narrow = await client_type(world.db, "connection:read user:read")
    change = "UPDATE clients SET client_type_id = $2 WHERE id = $1"
    await world.db.execute(change, world.client.id, narrow)
    assert await world.left(token) == "connection:read"
    await world.db.execute(change, world.client.id, world.type_id)
    assert await world.left(token) == "connection:read"
    assert await world.left(await world.token()) == SCOPE


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE clients SET is_blocked = true WHERE id = $1",
        "UPDATE users SET is_blocked = true WHERE id = (SELECT user_id FROM clients WHERE id = $1)",
        "DELETE FROM apps WHERE client_id = $1",
    ],
)
async def test_blocking_and_withdrawing_revoke_for_good(world: World, statement: str) -> None:
    token, session = await world.token(), await world.token("password")
    await world.db.execute(statement, world.client.id)
    await world.db.execute("UPDATE clients SET is_blocked = false")
    await world.db.execute("UPDATE users SET is_blocked = false")
    for each in (token, session):
        assert await world.is_marked(each)
        assert await world.left(each) is None
    assert await world.left(await world.token()) == SCOPE


async def test_a_narrowed_approval_leaves_a_session_alone(world: World) -> None:
    session = await world.token("password")
    await world.db.execute("UPDATE apps SET scope = 'connection:read'")
    assert await world.left(session) == SCOPE


async def test_a_token_made_by_hand_for_a_user_without_roles_is_bound_by_the_type_only(world: World) -> None:
    await world.db.execute("DELETE FROM user_roles")
    token = await world.token("password")
    await world.db.execute("UPDATE roles SET scope = 'x:y'")
    assert await world.left(token) == SCOPE
    await world.db.execute("UPDATE client_types SET scope = 'user:read' WHERE id = $1", world.type_id)
    assert await world.left(token) == "user:read"


async def test_what_concerns_others_changes_nothing(world: World, db: Connection) -> None:
    token = await world.token()
    other = await factories.client(db, client_type="ANOTHER")
    await db.execute("UPDATE client_types SET scope = 'x:y' WHERE name = 'ANOTHER'")
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", other.id)
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", other.user_id)
    unrelated = await role(db)
    await db.execute("UPDATE roles SET scope = 'x:y' WHERE id = $1", unrelated)
    await db.execute("DELETE FROM roles WHERE id = $1", unrelated)
    assert await world.left(token) == SCOPE


@pytest.mark.parametrize("column", ["user_id", "role_id", "client_id"])
async def test_a_role_row_that_says_another_than_before_counts_as_taken(
    world: World, db: Connection, column: str
) -> None:
    token = await world.token()
    other = await factories.client(db)
    values = {"user_id": other.user_id, "role_id": await role(db, "user:read"), "client_id": other.id}
    change = f"UPDATE user_roles SET {column} = $2 WHERE user_id = $1 OR {column} = $2"
    await db.execute(change, world.client.user_id, values[column])
    assert await world.is_marked(token)
    assert await world.left(token) is None
    before = {"user_id": world.client.user_id, "role_id": world.role_id, "client_id": world.client.id}
    await db.execute(f"UPDATE user_roles SET {column} = $1", before[column])
    assert await world.left(token) is None
    assert await world.left(await world.token()) == SCOPE


async def test_a_global_role_row_that_says_another_role_counts_as_taken(world: World, db: Connection) -> None:
    await db.execute("DELETE FROM user_roles")
    await world.give_role(world.role_id, everywhere=True)
    token = await world.token()
    await db.execute("UPDATE global_user_roles SET role_id = $1", await role(db, "user:read"))
    assert await world.left(token) is None


async def test_an_approval_that_is_given_to_another_user_revokes(world: World, db: Connection) -> None:
    token = await world.token()
    await db.execute("UPDATE apps SET user_id = $1", await factories.user(db))
    assert await world.left(token) is None


async def test_what_a_type_lost_and_got_back_before_a_token_does_not_count_when_the_client_changes_its_type(
    world: World, db: Connection
) -> None:
    narrowing = "UPDATE client_types SET scope = $2 WHERE id = $1"
    old = await world.token()
    await db.execute(narrowing, world.type_id, "user:read")
    await db.execute(narrowing, world.type_id, SCOPE)
    token = await world.token()
    change = "UPDATE clients SET client_type_id = $2 WHERE id = $1"
    await db.execute(change, world.client.id, await client_type(db))
    assert await world.left(token) == SCOPE
    assert await world.left(old) == "user:read"


async def test_a_two_factor_token_loses_what_it_would_give(world: World, db: Connection) -> None:
    token = await db.fetchval(
        "INSERT INTO tokens (name, digest, user_id, client_id, scope, details, expires_at, is_bound_by_roles)"
        " VALUES ('2fa_access_token', $1, $2, $3, '', jsonb_build_object('scope_request', $4::text),"
        " now() + '1 h', false) RETURNING id",
        uuid4().bytes,
        world.client.user_id,
        world.client.id,
        SCOPE,
    )
    await db.execute("UPDATE client_types SET scope = 'user:read' WHERE id = $1", world.type_id)
    assert await world.left(token) == "user:read"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("DELETE FROM user_roles WHERE client_id = $1", "UPDATE apps SET scope = 'user:read' WHERE client_id = $1"),
        (
            "UPDATE roles SET scope = 'x:y' WHERE name = (SELECT min(name) FROM roles) OR id = $1",
            "UPDATE roles SET scope = 'x:y' WHERE name = (SELECT max(name) FROM roles) OR id = $1",
        ),
    ],
)
async def test_the_later_of_two_revocations_draws_its_number_after_the_first_is_committed(
    world: World, db: Connection, database_url: str, first: str, second: str
) -> None:
    """Else a token that is issued between the two would seem to have seen both."""
    await role(db)
    other = await asyncpg.connect(database_url)
    async with db.transaction():
        await db.execute(first, world.client.id)
        waiting = asyncio.create_task(other.execute(second, world.client.id))
        while not await db.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not waiting.done()
            await asyncio.sleep(0.01)
        between: int = await db.fetchval("SELECT nextval('revocations_id_seq')")
    await waiting
    last = "SELECT max(greatest(u.last_revocation, t.last_role_revocation)) FROM users u, client_types t"
    assert await db.fetchval(last) > between
    await other.close()
