"""When secrets were last used, and who asks for a redirect URI that has moved (rules CON-40 to CON-42)."""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from structlog.testing import CapturingLogger

from mithril import errors
from mithril.cleanup import service as cleanup
from mithril.settings import Settings
from mithril.sightings import service as sightings
from mithril.sightings import sign_in_store, store
from mithril.sightings.sign_in_store import ALL, SIGN_IN
from support import factories, granting, moving, oauth_world
from support.factories import Db, bearer
from support.granting import Party
from support.moving import NEW, OLD, Clinic
from support.oauth_world import refusal
from support.servers import Server, fresh_database, running_server

pytestmark = pytest.mark.anyio
LOGGED = CapturingLogger()


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Server]:
    """A server that writes what it noted after a moment."""
    with pytest.MonkeyPatch.context() as patched, fresh_database(postgres) as url:
        patched.setattr(sightings, "WRITE_SECONDS", 0.05)
        patched.setattr(sightings, "log", LOGGED)
        with running_server(database_url=url, sweep_interval=0) as running:
            yield running


@pytest.fixture
async def clinic(server: Server, http: httpx.AsyncClient, db: Db) -> Clinic:
    return await moving.clinic(server, http, db)


async def used(clinic: Clinic, name: str = "secret_last_used_at") -> Any:
    """Wait for the last use to be shown."""
    async with asyncio.timeout(30):
        while (shown := (await clinic.details())[name]) is None:  # noqa: ASYNC110 -- another task writes it
            await asyncio.sleep(0.02)
    return shown


async def test_a_use_as_client_secret_is_shown_without_a_new_version(clinic: Clinic) -> None:
    before, tag = await clinic.details(), await clinic.tag()
    assert before["secret_last_used_at"] is None
    await clinic.redeem(await clinic.code(OLD), OLD)
    assert await used(clinic) > before["updated_at"]
    assert (await clinic.stored())["version"] == 1
    assert (await clinic.details())["updated_at"] == before["updated_at"]
    shown = await clinic.tag()
    assert shown != tag, "the ETag says that the details changed"
    assert (await clinic.ask("GET", headers={"If-None-Match": shown})).status_code == 304
    assert (await clinic.update(NEW, if_match=tag)).status_code == 200, "and no request is refused for it"
    assert await clinic.history(), "the update alone is in the history"
    assert await clinic.actions() == ["update"]


@pytest.mark.parametrize("way", ["api", "verify", "key"])
async def test_a_use_as_api_key_is_shown(server: Server, db: Db, http: httpx.AsyncClient, way: str) -> None:
    world = await oauth_world.make(db)
    (own,) = await db.fetch("SELECT * FROM connections WHERE client_id = $1", world.mis.id)
    token = await factories.token(db, client=world.clinic, scope="connection:read")
    async with httpx.AsyncClient(base_url=server.internal_url) as internal:
        if way == "api":
            await http.get(world.link.path, headers=bearer(token, api_key=world.key))
        elif way == "verify":
            await internal.get(f"/admin/tokens/{token}/verify", headers={"api-key": world.key})
        else:
            await internal.get(f"/admin/api_key/{world.key}/verify")
        path = f"/admin/clients/{world.mis.id}/connections/{own['id']}"
        async with asyncio.timeout(30):
            while (await internal.get(path)).json()["data"]["secret_last_used_at"] is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_the_two_secrets_of_an_overlap_are_told_apart(clinic: Clinic) -> None:
    await clinic.redeem(await clinic.code(OLD), OLD)
    first = await used(clinic)
    body = {"previous_secret_expires_in": 60}
    answer = await clinic.ask("PATCH", "/actions/refresh_secret", json=body)
    shown = answer.json()["data"]
    assert (shown["secret_last_used_at"], shown["previous_secret_last_used_at"]) == (None, first)
    new = factories.Connection(
        clinic.party.connection.id, clinic.party.client_id, clinic.party.client_id, shown["secret"]
    )
    party = Party(clinic.party.client_id, clinic.party.user_id, new, OLD)
    fresh = Clinic(clinic.server, clinic.http, clinic.db, party, clinic.headers)
    assert await fresh.redeem(await fresh.code(OLD), OLD) == 201
    assert await used(fresh) > first


async def test_a_later_use_is_written_again_after_a_rest(clinic: Clinic, server: Server) -> None:
    async with granting.database_of(server) as database:
        written: dict[bytes, float] = {}
        digest = await clinic.db.fetchval(
            "SELECT secret_digest FROM connections WHERE id = $1", clinic.party.connection.id
        )

        async def write() -> Any:
            sightings.use_secret(database, digest)
            await sightings.write(database, written)
            return await clinic.db.fetchval("SELECT last_used_at FROM secret_uses WHERE digest = $1", digest)

        first = await write()
        assert await write() == first
        written[digest] -= sightings.REST_SECONDS + 1
        assert await write() > first
    assert sightings.REST_SECONDS + sightings.WRITE_SECONDS < 300


async def test_uses_of_secrets_that_are_gone_are_deleted(clinic: Clinic, server: Server) -> None:
    kept = "SELECT secret_digest FROM connections WHERE id = $1"
    digests = [await clinic.db.fetchval(kept, clinic.party.connection.id), b"of no connection"]
    for digest in digests:
        await clinic.db.execute("INSERT INTO secret_uses VALUES ($1, now() - interval '2 days')", digest)
    async with granting.database_of(server) as database:
        assert (await cleanup.clean_up(database, Settings()))["secret_uses_deleted"] == 1
    left = await clinic.db.fetch("SELECT digest FROM secret_uses WHERE digest = ANY ($1)", digests)
    assert [row["digest"] for row in left] == digests[:1]


# The previous secret


async def test_an_overlap_is_ended_early(clinic: Clinic) -> None:
    assert refusal(await clinic.ask("DELETE", "/previous_secret")) == (404, "not_found", "Not Found")
    await clinic.ask("PATCH", "/actions/refresh_secret", json={"previous_secret_expires_in": 3600})
    code = await clinic.code(OLD)
    assert (await clinic.ask("DELETE", "/previous_secret", if_match='"1"')).status_code == 412
    response = await clinic.ask("DELETE", "/previous_secret", if_match=await clinic.tag())
    assert (response.status_code, set(response.json())) == (200, {"meta"})
    token = {"grant_type": "authorization_code", "code": code, "redirect_uri": OLD, **clinic.party.body}
    assert (await clinic.http.post("/oauth/tokens", json={"token": token})).status_code == 401
    assert await clinic.tag() == '"3"'
    assert await clinic.actions() == ["refresh_secret", "end_previous_secret"]
    assert (await clinic.ask("DELETE", "/previous_secret")).status_code == 404


async def test_an_expired_previous_secret_is_none(clinic: Clinic) -> None:
    await clinic.ask("PATCH", "/actions/refresh_secret", json={"previous_secret_expires_in": 3600})
    overlapping = await clinic.tag()
    expire = "UPDATE connections SET previous_secret_expires_at = now() WHERE previous_secret_digest IS NOT NULL"
    await clinic.db.execute(expire)
    assert await clinic.tag() != overlapping, "the details changed by the passing of time"
    assert (await clinic.ask("DELETE", "/previous_secret")).status_code == 404


async def test_ending_an_overlap_takes_the_api_key_of_the_consumer(db: Db, http: httpx.AsyncClient) -> None:
    world = await oauth_world.make(db)
    admin = await factories.client(db, client_type="NHS")
    headers = bearer(await factories.token(db, client=admin, scope="connection:refresh_secret"))
    other = await factories.connection(db, client_id=admin.id)
    path = f"{world.link.path}/previous_secret"
    for key, status in (
        ({}, 401),
        ({"API-key": "x"}, 401),
        ({"API-key": other.secret}, 403),
        ({"API-key": world.key}, 404),
    ):
        assert (await http.delete(path, headers=headers | key)).status_code == status
    weak = bearer(await factories.token(db, client=admin, scope="connection:write"), api_key=world.key)
    assert (await http.delete(path, headers=weak)).status_code == 403


# Redirect URIs that have moved


async def asked(clinic: Clinic, redirect_uri: str) -> httpx.Response:
    query = {"client_id": str(clinic.party.client_id), "redirect_uri": redirect_uri, "response_type": "code"}
    return await clinic.http.get("/oauth2/authorize", params=query | {"scope": "connection:read"})


async def attempts(clinic: Clinic) -> int:
    count: int = (await clinic.details())["moved_redirect_uri_attempts"]
    return count


def lines(clinic: Clinic) -> list[dict[str, Any]]:
    return [call.kwargs for call in LOGGED.calls if call.kwargs.get("connection_id") == str(clinic.party.connection.id)]


@pytest.mark.parametrize("way", ["update", "end", "stored end", "cancel", "replace"])
async def test_attempts_at_a_moved_redirect_uri_are_counted_and_logged(
    clinic: Clinic, server: Server, way: str
) -> None:
    gone = OLD
    if way == "update":
        await clinic.update(NEW)
    else:
        await clinic.begin()
    if "end" in way:
        await clinic.pass_time()
    if way == "stored end":
        async with granting.database_of(server) as database:
            await cleanup.clean_up(database, Settings())
    if way in ("cancel", "replace"):
        gone = NEW
        await (clinic.cancel() if way == "cancel" else clinic.begin(moving.THIRD))
    assert await attempts(clinic) == 0
    moved, never = await asked(clinic, gone), await asked(clinic, gone.replace("callback", "callbacx"))
    assert moved.status_code == never.status_code == 400
    assert moved.text.replace("callback", "callbacx").replace(moved.headers["x-request-id"], "") == never.text.replace(
        never.headers["x-request-id"], ""
    ), "the page says no more than of one that never was"
    async with asyncio.timeout(30):
        while await attempts(clinic) < 1:  # noqa: ASYNC110 -- another task writes it
            await asyncio.sleep(0.02)
    (line,) = lines(clinic)
    assert (line["redirect_uri"], line["attempts"]) == (gone, 1)
    changed_at = datetime.fromisoformat((await clinic.details())["updated_at"])
    assert abs(datetime.fromisoformat(line["moved_at"]) - changed_at) < timedelta(seconds=1)
    assert await attempts(clinic) == 1


async def test_the_api_says_no_more_of_a_moved_redirect_uri(server: Server, db: Db, http: httpx.AsyncClient) -> None:
    world = await oauth_world.make(db)
    session = await oauth_world.session_of(db, world)
    token = await factories.token(db, client=world.clinic)
    await http.patch(world.link.path, json={"redirect_uri": NEW}, headers=bearer(token, api_key=world.key))
    answers = [
        await oauth_world.authorize(http, world, session, redirect_uri=uri)
        for uri in (oauth_world.ADDRESS, moving.THIRD)
    ]
    assert refusal(answers[0]) == refusal(answers[1])


async def test_only_redirect_uris_of_the_last_thirty_days_count(clinic: Clinic, server: Server) -> None:
    past = (
        "INSERT INTO audit_events (action, subject_id, old, new, occurred_at)"
        " VALUES ('connection.update', $1, $2, $3, {})"
    )
    for name, moment in (("long", "now() - interval '31 days'"), ("recent", "now() - interval '29 days'")):
        values = (f'{{"redirect_uri": "{moving.uri(name)}"}}', f'{{"redirect_uri": "{OLD}"}}')
        await clinic.db.execute(past.format(moment), clinic.party.connection.id, *values)
    async with granting.database_of(server) as database:
        for uri in (
            moving.uri("long"),
            moving.uri("recent"),
            moving.uri("recent"),
            moving.uri("never"),
            "\0",
            "x" * 9_000,
        ):
            sightings.miss(database, clinic.party.client_id, uri)
        sightings.miss(database, uuid4(), moving.uri("recent"))
        await sightings.write(database, {})
    assert await attempts(clinic) == 2


async def test_what_cannot_be_written_is_lost_and_fails_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise errors.ServiceUnavailable(detail="away")

    monkeypatch.setattr(store, "count_moved", refused)
    async with granting.database_of(server) as database:
        for number in range(sightings.MOST_ATTEMPTS + 5):
            sightings.miss(database, uuid4(), f"https://{number}.example.com/")
        assert len(database.noted.attempts) == sightings.MOST_ATTEMPTS
        await sightings.write(database, {})
        assert not database.noted.attempts
    assert LOGGED.calls[-1].args == ("sightings_lost",)


# Sign-ins and refusals by the hour (rule CSL-20)


async def counted(db: Db, subject_id: UUID, outcome: str) -> int:
    """How often there was this outcome, in all hours that are kept."""
    statement = "SELECT coalesce(sum(times), 0)::integer FROM sign_in_counts WHERE subject_id = $1 AND outcome = $2"
    times: int = await db.fetchval(statement, subject_id, outcome)
    return times


async def grows_to(db: Db, subject_id: UUID, outcome: str, times: int) -> None:
    async with asyncio.timeout(30):
        while await counted(db, subject_id, outcome) < times:  # noqa: ASYNC110 -- another task writes it
            await asyncio.sleep(0.02)
    assert await counted(db, subject_id, outcome) == times


async def test_sign_ins_are_counted_by_client_and_connection(http: httpx.AsyncClient, db: Db) -> None:
    world = await oauth_world.make(db)
    session = await oauth_world.session_of(db, world)
    before = await counted(db, ALL, SIGN_IN)
    for _ in range(2):
        answer = await oauth_world.authorize(http, world, session, redirect_uri=oauth_world.ADDRESS)
        assert answer.status_code == 201
    for subject_id in (world.clinic.id, world.link.id):
        await grows_to(db, subject_id, SIGN_IN, 2)
    assert await counted(db, ALL, SIGN_IN) >= before + 2


async def test_refusals_are_counted_by_their_names(clinic: Clinic, http: httpx.AsyncClient, db: Db) -> None:
    client_id = clinic.party.client_id
    query = {"client_id": str(client_id), "redirect_uri": moving.THIRD}
    assert (await http.get("/sign-in", params=query)).status_code == 400
    await grows_to(db, client_id, "page_redirect_uri_unknown", 1)
    form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": OLD, "client_id": str(client_id)}
    right, wrong = {"client_secret": clinic.party.connection.secret}, {"client_secret": "wrong"}
    assert (await http.post("/oauth2/token", data=form | right)).status_code == 400
    await grows_to(db, client_id, "token_not_found", 1)
    before = await counted(db, ALL, "client_secret_wrong")
    assert (await http.post("/oauth2/token", data=form | wrong)).status_code == 400
    await grows_to(db, ALL, "client_secret_wrong", before + 1)
    assert await counted(db, client_id, "client_secret_wrong") == 0, "who has a wrong secret may be anyone"
    login = {"grant_type": "password", "email": "x@example.com", "password": "x", "scope": "app:authorize"}
    await http.post("/auth/login", json={"token": login | {"client_id": str(client_id)}})
    before = await counted(db, ALL, "page_client_unknown")
    for _ in range(3):
        unknown = {"client_id": str(uuid4()), "redirect_uri": OLD}
        assert (await http.get("/sign-in", params=unknown)).status_code == 400
    await grows_to(db, ALL, "page_client_unknown", before + 3)
    others = "SELECT count(*) FROM sign_in_counts WHERE outcome = 'page_client_unknown' AND subject_id <> $1"
    assert await db.fetchval(others, ALL) == 0


async def test_refusals_of_many_clients_take_no_more_room_than_there_is(
    server: Server, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = uuid4()
    async with granting.database_of(server) as database:
        sightings.refuse(database, "first", client_id=known)
        await sightings.write(database, {})
        for _ in range(sightings.MOST_OUTCOMES + 5):
            sightings.refuse(database, "many", client_id=uuid4())
        assert len(database.noted.outcomes) == sightings.MOST_OUTCOMES
        assert database.noted.outcomes[ALL, "many"] == sightings.MOST_OUTCOMES + 5
        await sightings.write(database, {})
        there = await db.fetchval("SELECT count(*) FROM sign_in_counts WHERE outcome <> ''")
        full = sign_in_store.ADD.replace(str(sign_in_store.MOST_REFUSED), str(there))
        monkeypatch.setattr(sign_in_store, "ADD", full)
        late, connection_id = uuid4(), uuid4()
        for client_id in (known, late):
            sightings.refuse(database, "first", client_id=client_id)
        sightings.sign_in(database, client_id=late, connection_id=connection_id)
        await sightings.write(database, {})
    assert [await counted(db, each, "first") for each in (known, late)] == [2, 0]
    assert await counted(db, ALL, "first") == 3
    assert await counted(db, connection_id, SIGN_IN) == 1


async def test_counts_are_kept_for_eight_days(server: Server, db: Db) -> None:
    add = "INSERT INTO sign_in_counts (hour, subject_id, outcome, times) VALUES (now() - $1::interval, $2, 'x', 1)"
    old, young = uuid4(), uuid4()
    await db.execute(add, timedelta(days=8, minutes=1), old)
    await db.execute(add, timedelta(days=8, minutes=-1), young)
    async with granting.database_of(server) as database:
        assert (await cleanup.clean_up(database, Settings()))["sign_in_counts_deleted"] == 1
    assert [await counted(db, each, "x") for each in (old, young)] == [0, 1]
