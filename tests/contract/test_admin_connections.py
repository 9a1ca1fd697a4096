"""Administration of connections, `/admin/clients/{client_id}/connections` (rules CON-20 to CON-26).

The public methods have the tests of the shared rules; here are the upsert, and tests that the same use cases run.
"""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mithril import security
from support import described, factories
from support.administering import (
    MISSING,
    NO_UUID,
    NOT_FOUND,
    REQUEST_ID,
    REQUIRED,
    cast,
    data_of,
    error_of,
    events,
    invalid,
    is_good,
    wire,
)
from support.factories import Db
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

OLD, NEW = "https://old.example.com/callback", "https://new.example.com/callback"
NOT_HTTPS: dict[str, Any] = {
    "rule": "format",
    "description": "has invalid format",
    "params": [r"~r/^https:\/\/.+/"],
}


def all_of(client_id: object) -> str:
    return f"/admin/clients/{client_id}/connections"


def one(connection: factories.Connection) -> str:
    return f"{all_of(connection.client_id)}/{connection.id}"


async def row_of(db: Db, connection_id: UUID | str) -> dict[str, Any]:
    row = await db.fetchrow("SELECT * FROM connections WHERE id = $1", UUID(str(connection_id)))
    assert row is not None
    return dict(row)


async def view_of(db: Db, connection_id: UUID | str) -> dict[str, Any]:
    """Return the published fields from the database."""
    row = await row_of(db, connection_id)
    ids = {name: str(row[name]) for name in ("id", "client_id", "consumer_id")}
    return ids | {
        "redirect_uri": row["redirect_uri"],
        "inserted_at": wire(row["inserted_at"]),
        "updated_at": wire(row["updated_at"]),
    }


async def detailed_view_of(db: Db, connection_id: UUID | str) -> dict[str, Any]:
    row = await row_of(db, connection_id)
    assert row["previous_secret_expires_at"] is None
    more = {"secret_tail": row["secret_tail"], "previous_secret_expires_at": None} | factories.UNMOVED
    return await view_of(db, connection_id) | more


async def put(
    admin: httpx.AsyncClient, client_id: object, headers: dict[str, str] | None = None, /, **fields: Any
) -> httpx.Response:
    return await admin.put(all_of(client_id), json=fields, headers=headers)


async def pair(db: Db) -> tuple[UUID, UUID]:
    """Add a client and a consumer without a connection."""
    return (await factories.client(db)).id, (await factories.client(db, client_type="MIS")).id


async def linked(db: Db) -> factories.Connection:
    """Add a connection of a client and another consumer."""
    client_id, consumer_id = await pair(db)
    return await factories.connection(db, client_id=client_id, consumer_id=consumer_id)


def reasons(response: httpx.Response) -> list[str]:
    """Return the reasons why a redirect URI is refused. Fails when anything else is invalid."""
    status, error = error_of(response)
    [entry] = error["invalid"]
    assert (status, entry["entry"], entry["entry_type"]) == (422, "$.redirect_uri", "json_data_property")
    return [rule["params"]["reason"] if rule["rule"] == "redirect_uri" else rule["rule"] for rule in entry["rules"]]


# List and show


async def test_connections_of_a_client_are_listed_without_secrets(admin: httpx.AsyncClient, db: Db) -> None:
    connection, _ = await linked(db), await linked(db)
    response = await admin.get(all_of(connection.client_id))
    assert response.json() == {
        "meta": {
            "code": 200,
            "url": f"{admin.base_url}{all_of(connection.client_id)}",
            "type": "list",
            "request_id": REQUEST_ID,
        },
        "data": [await detailed_view_of(db, connection.id)],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }
    assert data_of(await admin.get(all_of(uuid4()))) == []


async def test_filters_narrow_the_list(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    first = await factories.connection(db, client_id=client.id, redirect_uri="https://a.example.com/x_y")
    second = await factories.connection(
        db, client_id=client.id, consumer_id=(await factories.client(db)).id, redirect_uri="https://a.example.com/xzy"
    )

    async def listed(**query: object) -> list[str]:
        found = data_of(await admin.get(all_of(client.id), params={name: str(value) for name, value in query.items()}))
        return [row["id"] for row in found]

    assert await listed() == [str(first.id), str(second.id)]
    assert await listed(redirect_uri="EXAMPLE.com/x_") == [str(first.id)]
    assert await listed(consumer_id=second.consumer_id) == [str(second.id)]
    assert await listed(id=first.id) == [str(first.id)]
    assert await listed(page=2, page_size=1) == [str(second.id)]


async def test_a_malformed_id_is_an_invalid_filter_of_the_list(admin: httpx.AsyncClient) -> None:
    assert error_of(await admin.get(all_of("x"))) == invalid(client_id=NO_UUID)
    response = await admin.get(all_of(uuid4()), params={"id": "x", "consumer_id": "y"})
    assert error_of(response) == invalid(id=NO_UUID, consumer_id=NO_UUID)


async def test_a_connection_is_shown_with_its_version(admin: httpx.AsyncClient, db: Db) -> None:
    connection = await linked(db)
    response = await admin.get(one(connection))
    assert data_of(response) == await detailed_view_of(db, connection.id)
    assert response.headers["etag"] == '"1"'
    again = await admin.get(one(connection), headers={"If-None-Match": '"1"'})
    assert (again.status_code, again.content) == (304, b"")


METHODS = [
    ("GET", "", None),
    ("PATCH", "", {"redirect_uri": NEW}),
    ("PATCH", "/actions/refresh_secret", None),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("verb", "suffix", "body"), METHODS)
async def test_the_connection_of_another_client_is_404_and_a_malformed_id_400(
    admin: httpx.AsyncClient, db: Db, verb: str, suffix: str, body: object
) -> None:
    connection = await linked(db)
    before = await row_of(db, connection.id)
    for owner in (connection.consumer_id, uuid4()):
        path = f"{all_of(owner)}/{connection.id}{suffix}"
        assert error_of(await admin.request(verb, path, json=body) if body else await admin.request(verb, path)) == (
            NOT_FOUND
        )
    for path in (f"{all_of('x')}/{connection.id}", f"{all_of(connection.client_id)}/x"):
        status, error = error_of(await admin.request(verb, path + suffix))
        assert (status, error["type"]) == (400, "request_malformed")
    assert await row_of(db, connection.id) == before


# Upsert


async def test_a_new_connection_shows_its_secret(admin: httpx.AsyncClient, db: Db) -> None:
    client_id, consumer_id = await pair(db)
    sent = {"consumer_id": str(consumer_id), "redirect_uri": NEW, "secret": "own", "client_id": str(uuid4())}
    response = await put(admin, str(client_id).upper(), **sent)
    data = data_of(response, 201)
    secret = data.pop("secret")
    row = await row_of(db, data["id"])
    assert data == await detailed_view_of(db, data["id"])
    assert (row["client_id"], row["consumer_id"], row["redirect_uri"]) == (client_id, consumer_id, NEW)
    assert len(secret) == 32
    assert row["secret_digest"] == security.digest(secret)
    assert row["secret_tail"] == secret[-4:]
    assert response.headers["etag"] == '"1"'
    assert response.headers["location"] == f"{all_of(client_id)}/{data['id']}"
    assert await events(db, data["id"]) == [
        {
            "action": "connection.create",
            "client_id": client_id,
            "old": None,
            "new": {
                "client_id": str(client_id),
                "consumer_id": str(consumer_id),
                "redirect_uri": NEW,
                "secret_tail": secret[-4:],
            },
        }
    ]


async def test_a_client_may_be_its_own_consumer(admin: httpx.AsyncClient, db: Db) -> None:
    mis = await factories.client(db, client_type="MIS", broker_scope="a:b")
    secret = data_of(await put(admin, mis.id, consumer_id=str(mis.id), redirect_uri=NEW), 201)["secret"]
    holder = data_of(await admin.get(f"/admin/api_key/{secret}/verify"))["details"]
    assert holder["client_id"] == str(mis.id)


async def test_a_repeated_upsert_changes_the_redirect_uri_and_shows_no_secret(admin: httpx.AsyncClient, db: Db) -> None:
    connection, other = await linked(db), await linked(db)
    before, other_before = await row_of(db, connection.id), await row_of(db, other.id)
    response = await put(admin, connection.client_id, consumer_id=str(connection.consumer_id), redirect_uri=NEW)
    after = await row_of(db, connection.id)
    assert data_of(response) == await detailed_view_of(db, connection.id)
    assert response.headers["etag"] == '"2"'
    assert response.headers["location"] == one(connection)
    assert {name for name in after if after[name] != before[name]} == {
        "redirect_uri",
        "redirect_uri_since",
        "version",
        "updated_at",
    }
    assert (after["redirect_uri"], after["version"]) == (NEW, 2)
    assert await row_of(db, other.id) == other_before
    assert await events(db, connection.id) == [
        {
            "action": "connection.update",
            "client_id": connection.client_id,
            "old": {"redirect_uri": OLD},
            "new": {"redirect_uri": NEW},
        }
    ]


@pytest.mark.parametrize("fields", [{}, {"redirect_uri": OLD}])
async def test_an_upsert_of_the_same_values_changes_nothing(
    admin: httpx.AsyncClient, db: Db, fields: dict[str, str]
) -> None:
    connection = await linked(db)
    before = await row_of(db, connection.id)
    response = await put(admin, connection.client_id, consumer_id=str(connection.consumer_id), **fields)
    assert data_of(response) == await detailed_view_of(db, connection.id)
    assert response.headers["etag"] == '"1"'
    assert await row_of(db, connection.id) == before
    assert await events(db, connection.id) == []


async def test_a_change_of_the_redirect_uri_keeps_the_previous_secret_active(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db, client_type="MIS", broker_scope="a:b")
    connection = await factories.connection(db, client_id=client.id)
    path = f"{one(connection)}/actions/refresh_secret"
    data_of(await admin.patch(path, json={"previous_secret_expires_in": 600}))
    moved = data_of(await put(admin, client.id, consumer_id=str(client.id), redirect_uri=NEW))
    assert moved["previous_secret_expires_at"] is not None
    data_of(await admin.get(f"/admin/api_key/{connection.secret}/verify"))


@pytest.mark.parametrize("consumer_id", [None, "", "1380df72", 7, ["x"]])
async def test_an_unknown_client_or_consumer_is_404_before_other_errors(
    admin: httpx.AsyncClient, db: Db, consumer_id: object
) -> None:
    client_id, consumer = await pair(db)
    assert error_of(await put(admin, client_id, consumer_id=consumer_id, redirect_uri="http://x")) == NOT_FOUND
    assert error_of(await put(admin, client_id, redirect_uri="http://x")) == NOT_FOUND
    assert error_of(await put(admin, "1380df72", consumer_id=str(consumer), redirect_uri="http://x")) == NOT_FOUND
    assert error_of(await put(admin, uuid4(), consumer_id=str(consumer), redirect_uri="http://x")) == NOT_FOUND


async def test_a_new_connection_requires_a_redirect_uri_and_an_existing_consumer(
    admin: httpx.AsyncClient, db: Db
) -> None:
    client_id, consumer_id = await pair(db)
    known, unknown = str(consumer_id), str(uuid4())
    assert error_of(await put(admin, client_id, consumer_id=known)) == invalid(redirect_uri=REQUIRED)
    assert error_of(await put(admin, client_id, consumer_id=unknown)) == invalid(redirect_uri=REQUIRED)
    error = error_of(await put(admin, client_id, consumer_id=unknown, redirect_uri=NEW))
    assert error == invalid(consumer_id=MISSING)
    error = error_of(await put(admin, client_id, consumer_id=known, redirect_uri=["x"]))
    assert error == invalid(redirect_uri=cast("string"))
    assert await db.fetchval("SELECT count(*) FROM connections WHERE client_id = $1", client_id) == 0


async def test_a_redirect_uri_must_not_be_blank(admin: httpx.AsyncClient, db: Db) -> None:
    connection = await linked(db)
    response = await put(admin, connection.client_id, consumer_id=str(connection.consumer_id), redirect_uri=None)
    assert error_of(response) == invalid(redirect_uri=REQUIRED)


async def test_the_redirect_uri_rules_apply_to_new_and_existing_connections(admin: httpx.AsyncClient, db: Db) -> None:
    connection, (client_id, consumer_id) = await linked(db), await pair(db)
    for client, consumer in ((client_id, consumer_id), (connection.client_id, connection.consumer_id)):

        async def refused(redirect_uri: str, *, client: UUID = client, consumer: UUID = consumer) -> httpx.Response:
            return await put(admin, client, consumer_id=str(consumer), redirect_uri=redirect_uri)

        assert reasons(await refused("http://new.example.com/")) == ["format", "scheme"]
        assert reasons(await refused("https://new.example.com/#top")) == ["fragment"]
        assert reasons(await refused("https://*.example.com/?code=1")) == ["wildcard", "reserved_parameter"]
        assert reasons(await refused("https://localhost/")) == ["non_public_host"]
        first = (await refused("http://new.example.com/")).json()["error"]["invalid"][0]["rules"][0]
        assert first == NOT_HTTPS
    assert (await row_of(db, connection.id))["redirect_uri"] == OLD


async def test_if_match_must_name_the_current_version(admin: httpx.AsyncClient, db: Db) -> None:
    connection, (client_id, consumer_id) = await linked(db), await pair(db)
    fields = {"consumer_id": str(connection.consumer_id), "redirect_uri": NEW}
    wrong = await put(admin, connection.client_id, {"If-Match": '"2"'}, **fields)
    assert error_of(wrong)[1]["type"] == "precondition_failed"
    assert (await row_of(db, connection.id))["redirect_uri"] == OLD
    data_of(await put(admin, connection.client_id, {"If-Match": '"1"'}, **fields))
    # A connection that does not exist has no version.
    none = await put(admin, client_id, {"If-Match": '"1"'}, consumer_id=str(consumer_id), redirect_uri=NEW)
    assert error_of(none)[1]["type"] == "precondition_failed"
    assert await db.fetchval("SELECT count(*) FROM connections WHERE client_id = $1", client_id) == 0


async def test_of_simultaneous_upserts_one_creates_the_connection(admin: httpx.AsyncClient, db: Db) -> None:
    client_id, consumer_id = await pair(db)
    addresses = [f"https://new.example.com/{number}" for number in range(8)]
    fields = {"consumer_id": str(consumer_id)}
    answers = await asyncio.gather(*(put(admin, client_id, **fields, redirect_uri=each) for each in addresses))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert [("secret" in answer.json()["data"]) == (answer.status_code == 201) for answer in answers] == [True] * 8
    row = await row_of(db, answers[0].json()["data"]["id"])
    recorded = await events(db, row["id"])
    assert row["version"] == 8
    assert [event["action"] for event in recorded] == ["connection.create"] + ["connection.update"] * 7
    assert {event["new"]["redirect_uri"] for event in recorded} == set(addresses)
    assert recorded[-1]["new"]["redirect_uri"] == row["redirect_uri"]


async def test_with_demo_an_upsert_accepts_loopback_redirect_uris(server: Server, db: Db) -> None:
    client_id, consumer_id = await pair(db)
    with running_server(database_url=server.database_url, demo=True) as demo:
        async with described.client(demo.internal_url) as admin:
            response = await put(admin, client_id, consumer_id=str(consumer_id), redirect_uri="http://localhost:3000/")
    assert data_of(response, 201)["redirect_uri"] == "http://localhost:3000/"


# Update


async def test_an_update_changes_the_redirect_uri(admin: httpx.AsyncClient, db: Db) -> None:
    connection = await linked(db)
    response = await admin.patch(one(connection), json={"redirect_uri": NEW})
    assert data_of(response) == await view_of(db, connection.id)
    assert response.json()["data"]["redirect_uri"] == NEW
    assert response.headers["etag"] == '"2"'
    [event] = await events(db, connection.id)
    assert (event["action"], event["new"]) == ("connection.update", {"redirect_uri": NEW})
    stale = await admin.patch(one(connection), json={"redirect_uri": OLD}, headers={"If-Match": '"1"'})
    assert error_of(stale)[1]["type"] == "precondition_failed"


async def test_an_update_accepts_only_the_published_body(admin: httpx.AsyncClient, db: Db) -> None:
    connection = await linked(db)
    before = await row_of(db, connection.id)
    other = await factories.client(db)
    status, error = error_of(
        await admin.patch(one(connection), json={"redirect_uri": NEW, "consumer_id": str(other.id)})
    )
    assert (status, [each["entry"] for each in error["invalid"]]) == (422, ["$.consumer_id"])
    status, error = error_of(await admin.patch(one(connection), json={"redirect_uri": "https://localhost/"}))
    assert (status, error["invalid"][0]["rules"][0]["params"]) == (422, {"reason": "non_public_host"})
    assert await row_of(db, connection.id) == before


async def test_an_unknown_connection_is_404_before_the_body_is_checked(admin: httpx.AsyncClient, db: Db) -> None:
    connection = await linked(db)
    gone = f"{all_of(connection.client_id)}/{uuid4()}"
    assert error_of(await admin.patch(gone, json={"redirect_uri": "http://x"})) == NOT_FOUND
    assert error_of(await admin.patch(one(connection), json={"redirect_uri": "http://x"}))[0] == 422


# Refresh the secret


async def test_the_api_key_of_the_consumer_refreshes_its_connection(admin: httpx.AsyncClient, db: Db) -> None:
    connection = await linked(db)
    own = await factories.connection(db, client_id=connection.consumer_id)
    path = f"{one(connection)}/actions/refresh_secret"
    response = await admin.patch(path, headers={"api-key": own.secret})
    data = data_of(response)
    secret = data.pop("secret")
    assert data == await detailed_view_of(db, connection.id)
    assert (await row_of(db, connection.id))["secret_digest"] == security.digest(secret)
    assert response.headers["etag"] == '"2"'
    [event] = await events(db, connection.id)
    assert event["action"] == "connection.refresh_secret"
    assert {*event["old"], *event["new"]} == {"secret_tail"}
    key_client = "SELECT api_key_client_id FROM audit_events WHERE subject_id = $1"
    assert await db.fetchval(key_client, connection.id) == connection.consumer_id


async def test_the_own_connection_of_a_client_is_refreshed_without_an_api_key(admin: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    connection = await factories.connection(db, client_id=client.id)
    path = f"{one(connection)}/actions/refresh_secret"
    response = await admin.patch(path, json={"previous_secret_expires_in": 60}, headers={"api-key": "no matter"})
    assert data_of(response)["previous_secret_expires_at"] is not None


async def test_an_api_key_of_another_consumer_refreshes_nothing(admin: httpx.AsyncClient, db: Db) -> None:
    connection, other = await linked(db), await linked(db)
    blocked = await factories.client(db, is_blocked=True)
    of_blocked = await factories.connection(db, client_id=blocked.id)
    used_by_blocked = await factories.connection(db, client_id=connection.client_id, consumer_id=blocked.id)
    before = await row_of(db, connection.id)

    async def refused(connection: factories.Connection, **headers: str) -> tuple[int, str, str]:
        path = f"{one(connection)}/actions/refresh_secret"
        status, error = error_of(
            await admin.patch(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        )
        return status, error["type"], error["message"]

    assert await refused(connection) == (401, "access_denied", "api-key header not set")
    assert await refused(connection, api_key="x") == (401, "access_denied", "invalid api-key header")
    assert await refused(used_by_blocked, api_key=of_blocked.secret) == (
        401,
        "access_denied",
        "invalid api-key header",
    )
    own = await factories.connection(db, client_id=other.client_id)
    assert await refused(connection, api_key=own.secret) == (403, "forbidden", "Forbidden")
    # Only the secret of a client's own connection is an API-key.
    for secret in (connection.secret, other.secret):
        assert await refused(connection, api_key=secret) == (401, "access_denied", "invalid api-key header")
    assert await row_of(db, connection.id) == before


# Delete


async def test_deleting_a_connection_revokes_the_tokens_issued_through_it_at_once(
    admin: httpx.AsyncClient, db: Db
) -> None:
    client = await factories.client(db)
    connection = await factories.connection(db, client_id=client.id)
    other = await factories.connection(db, client_id=client.id, consumer_id=(await factories.client(db)).id)
    token = await factories.token(db, client=client, connection_id=connection.id)
    kept = await factories.token(db, client=client, connection_id=other.id)
    assert [await is_good(admin, each) for each in (token, kept)] == [True, True]
    stale = await admin.delete(one(connection), headers={"If-Match": '"7"'})
    assert error_of(stale)[1]["type"] == "precondition_failed"
    response = await admin.delete(one(connection))
    assert (response.status_code, response.content) == (204, b"")
    assert [await is_good(admin, each) for each in (token, kept)] == [False, True]
    assert error_of(await admin.delete(one(connection))) == NOT_FOUND
    [event] = await events(db, connection.id)
    assert (event["action"], event["client_id"], event["old"]["redirect_uri"]) == ("connection.delete", client.id, OLD)
