"""API-009-001-006-0337, -0338 and -0341: a client's connections listed, shown and deleted; history and check.

Pages and query strings are tested on the list of clients; here only that these lists have them too.
"""

import asyncio
import base64
import json
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest

from mithril import security
from mithril.audit.events import Actor
from mithril.connections.redirect_uris import Policy
from mithril.database import lists
from mithril.snapshots import service as snapshots
from support import factories
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

CHECK = "/api/redirect_uris/check"
NEW = {"redirect_uri": "https://new.example.com/callback"}
TYPES_PINNED_TO_THEMSELVES = ["MSP", "MIS", "PHARMACY", "MSP_LIMITED", "CABINET", "Auth_FE", "No such type"]
ADMINISTRATIVE_TYPES = ["NHS", "NHS ADMIN", "MITHRIL ADMIN", "Mithril ADMIN"]
SCOPES = ["connection:read", "connection:write", "connection:refresh_secret", "connection:delete"]


class Method(NamedTuple):
    """One method of this file: the verb, the end of the path, and the scope."""

    verb: str
    suffix: str
    scope: str

    def path(self, client_id: object, connection_id: object) -> str:
        one = f"/api/clients/{client_id}/connections/{connection_id}"
        return one.rpartition("/")[0] if self.suffix == "list" else one + self.suffix

    async def call(
        self, http: httpx.AsyncClient, connection: factories.Connection, headers: dict[str, str]
    ) -> httpx.Response:
        return await http.request(self.verb, self.path(connection.client_id, connection.id), headers=headers)


LIST = Method("GET", "list", "connection:read")
SHOW = Method("GET", "", "connection:read")
HISTORY = Method("GET", "/history", "connection:read")
DELETE = Method("DELETE", "", "connection:delete")
METHODS = [LIST, SHOW, HISTORY, DELETE]


async def caller(db: Db, client: factories.Client, *, scope: str | None = " ".join(SCOPES)) -> dict[str, str]:
    """The headers of a caller who acts through that client."""
    return bearer(await factories.token(db, client=client, scope=scope))


async def own(db: Db, **client: Any) -> tuple[factories.Connection, dict[str, str]]:
    """Add a connection of a new client, and return it with the headers of a caller with all scopes."""
    owner = await factories.client(db, **client)
    return await factories.connection(db, client_id=owner.id), await caller(db, owner)


@pytest.fixture
async def nhs(db: Db) -> dict[str, str]:
    return await caller(db, await factories.client(db, client_type="NHS"))


async def several(db: Db, count: int) -> tuple[list[factories.Connection], dict[str, str]]:
    """Add so many connections of one new client, each to another consumer, and return a caller's headers too."""
    owner = await factories.client(db)
    consumers = [(await factories.client(db, client_type="MIS")).id for _ in range(count)]
    made = [await factories.connection(db, client_id=owner.id, consumer_id=consumer) for consumer in consumers]
    return made, await caller(db, owner)


async def row_of(db: Db, connection_id: UUID) -> dict[str, Any] | None:
    row = await db.fetchrow("SELECT * FROM connections WHERE id = $1", connection_id)
    return None if row is None else dict(row)


def wire(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


async def view_of(db: Db, connection: factories.Connection) -> dict[str, Any]:
    """Return the fields of lists and details from the database."""
    row = await row_of(db, connection.id)
    assert row is not None
    until = row["previous_secret_expires_at"]
    return {
        "id": str(connection.id),
        "client_id": str(connection.client_id),
        "consumer_id": str(connection.consumer_id),
        "redirect_uri": row["redirect_uri"],
        "inserted_at": wire(row["inserted_at"]),
        "updated_at": wire(row["updated_at"]),
        "secret_tail": connection.secret[-4:],
        "previous_secret_expires_at": until and wire(until),
        **factories.UNMOVED,
    }


def meta(http: httpx.AsyncClient, response: httpx.Response, path: str, kind: str) -> dict[str, Any]:
    request_id = response.headers["x-request-id"]
    return {"code": response.status_code, "url": f"{http.base_url}{path}", "type": kind, "request_id": request_id}


def error_of(response: httpx.Response) -> tuple[int, dict[str, Any]]:
    return response.status_code, response.json()["error"]


FORBIDDEN = (403, {"type": "forbidden", "message": "Forbidden"})
NOT_FOUND = (404, {"type": "not_found", "message": "Not Found"})


# Access


@pytest.mark.parametrize("client_type", TYPES_PINNED_TO_THEMSELVES)
async def test_non_administrative_types_may_name_only_their_own_client(
    http: httpx.AsyncClient, db: Db, client_type: str
) -> None:
    mine, headers = await own(db, client_type=client_type)
    foreign, _ = await own(db)
    before = await row_of(db, foreign.id)
    for method in METHODS:
        refused = await method.call(http, foreign, headers)
        accepted = await method.call(http, mine, headers)
        assert error_of(refused) == FORBIDDEN, method
        assert "www-authenticate" not in refused.headers
        assert accepted.status_code == 200, method
    assert await row_of(db, foreign.id) == before


@pytest.mark.parametrize("client_type", ADMINISTRATIVE_TYPES)
async def test_an_administrative_type_may_name_any_client(http: httpx.AsyncClient, db: Db, client_type: str) -> None:
    mine, headers = await own(db, client_type=client_type)
    foreign, _ = await own(db)
    for method in METHODS:
        answers = [await method.call(http, connection, headers) for connection in (mine, foreign)]
        assert [answer.status_code for answer in answers] == [200, 200], method


@pytest.mark.parametrize("method", METHODS)
async def test_the_token_must_have_the_scope(http: httpx.AsyncClient, db: Db, method: Method) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    others = " ".join([scope for scope in SCOPES if scope != method.scope] + [f"x{method.scope}", method.scope.upper()])
    response = await method.call(http, connection, await caller(db, owner, scope=others))
    assert error_of(response) == (403, {"type": "forbidden", "message": "Invalid scopes"})
    assert response.headers["www-authenticate"].endswith(f'scope="{method.scope}"')
    alone = await method.call(http, connection, await caller(db, owner, scope=method.scope))
    assert alone.status_code == 200


@pytest.mark.parametrize("method", METHODS)
async def test_a_clinic_uses_the_api_key_of_its_broker(http: httpx.AsyncClient, db: Db, method: Method) -> None:
    mis = await factories.client(db, client_type="MIS", broker_scope=method.scope)
    weak = await factories.client(db, client_type="MIS", broker_scope="client:read")
    keys = [(await factories.connection(db, client_id=client.id)).secret for client in (mis, weak)]
    clinic = await factories.client(db, access_type="BROKER")
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    headers = await caller(db, clinic)
    sent = [{}, {"API-key": "wrong"}, {"API-key": keys[1]}, {"API-key": keys[0]}]
    answers = [await method.call(http, connection, headers | key) for key in sent]
    assert [answer.status_code for answer in answers] == [401, 401, 403, 200]


@pytest.mark.parametrize("method", METHODS)
async def test_checks_come_in_the_order_of_the_contract(http: httpx.AsyncClient, db: Db, method: Method) -> None:
    mine, headers = await own(db)
    foreign, _ = await own(db)
    scopeless = await caller(db, factories.Client(mine.client_id, await factories.user(db)), scope="client:read")
    stale = {"If-Match": '"9"'}
    query = "?page=x" if method in (LIST, HISTORY) else ""

    async def answer(client_id: UUID, connection_id: UUID, headers: dict[str, str]) -> tuple[int, str | None]:
        path = method.path(client_id, connection_id) + query
        response = await http.request(method.verb, path, headers=headers | stale)
        return response.status_code, response.json()["error"].get("message")

    assert await answer(foreign.client_id, uuid4(), {}) == (401, "Access denied")
    assert await answer(foreign.client_id, uuid4(), scopeless) == (403, "Invalid scopes")
    assert await answer(foreign.client_id, uuid4(), headers) == (403, "Forbidden")
    if query:
        assert await answer(mine.client_id, uuid4(), headers) == (422, "Validation failed")
    else:
        assert await answer(mine.client_id, uuid4(), headers) == (404, "Not Found")


@pytest.mark.parametrize("client_id", ["not-a-uuid", "1380df72275a11e793ae92361f002671", "%7B%7D", "%00"])
async def test_a_malformed_client_id_is_forbidden_or_not_found(
    http: httpx.AsyncClient, db: Db, nhs: dict[str, str], client_id: str
) -> None:
    connection, headers = await own(db)
    for method in METHODS:
        path = method.path(client_id, connection.id)
        assert error_of(await http.request(method.verb, path, headers=headers)) == FORBIDDEN
        assert error_of(await http.request(method.verb, path, headers=nhs)) == NOT_FOUND


@pytest.mark.parametrize("method", [SHOW, HISTORY, DELETE])
async def test_an_unknown_connection_is_not_found(http: httpx.AsyncClient, db: Db, method: Method) -> None:
    mine, headers = await own(db)
    foreign, _ = await own(db)
    for connection_id in (uuid4(), foreign.id, "not-a-uuid", str(mine.id).replace("-", ""), "%00"):
        path = method.path(mine.client_id, connection_id)
        assert error_of(await http.request(method.verb, path, headers=headers)) == NOT_FOUND


async def test_identifiers_compare_by_value_not_by_letter_case(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    for method in METHODS:
        path = method.path(str(connection.client_id).upper(), str(connection.id).upper())
        assert (await http.request(method.verb, path, headers=headers)).status_code == 200


# Another client's id reveals no connection

REFRESH = "/actions/refresh_secret"
QUESTIONS: list[tuple[str, str, Any]] = [
    ("GET", "", None), ("DELETE", "", None), ("GET", "/history", None), ("GET", "/history?page=x", None),
    ("GET", "/history?page_size=0", None), ("PATCH", "", NEW), ("PATCH", "", {}), ("PATCH", "", {"secret": "x"}),
    ("PATCH", "", {"redirect_uri": "http://x"}), ("PATCH", REFRESH, None), ("PATCH", REFRESH, {}),
    ("PATCH", REFRESH, {"previous_secret_expires_in": -1}),
]  # fmt: skip


async def told(http: httpx.AsyncClient, question: tuple[str, str, Any], path: str, headers: dict[str, str]) -> Any:
    """Return everything that an answer says, without the caller's own values and those that always differ."""
    verb, suffix, body = question
    response = await http.request(verb, path + suffix, json=body, headers=headers)
    answer = response.json()
    assert answer["meta"].pop("url").startswith(f"{http.base_url}{path}")
    assert answer["meta"].pop("request_id") == response.headers["x-request-id"]
    varying = ("date", "x-request-id")
    return response.status_code, answer, {n: v for n, v in response.headers.items() if n not in varying}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_an_answer_does_not_reveal_the_connection_of_another_client(
    http: httpx.AsyncClient, db: Db, nhs: dict[str, str], question: tuple[str, str, Any]
) -> None:
    mine, headers = await own(db)
    foreign, _ = await own(db)
    before = await row_of(db, foreign.id)
    for client_id, asking in (
        (foreign.client_id, headers),
        (mine.client_id, headers),
        (mine.client_id, nhs),
        (uuid4(), nhs),
    ):
        existing, missing = [
            await told(http, question, f"/api/clients/{client_id}/connections/{connection_id}", asking)
            for connection_id in (foreign.id, uuid4())
        ]
        assert existing == missing
        assert existing[0] in (403, 404, 422)
    assert await row_of(db, foreign.id) == before


# The list


async def test_the_list_has_the_published_fields_and_the_secret_tail(http: httpx.AsyncClient, db: Db) -> None:
    made, headers = await several(db, 2)
    await own(db)
    response = await LIST.call(http, made[0], headers)
    path = f"/api/clients/{made[0].client_id}/connections"
    assert response.status_code == 200
    assert response.json() == {
        "meta": meta(http, response, path, "list"),
        "data": [await view_of(db, connection) for connection in made],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 2, "total_pages": 1},
    }
    assert response.headers["content-type"] == "application/json; charset=utf-8"


async def test_the_list_has_the_clients_connections_and_not_those_it_consumes(http: httpx.AsyncClient, db: Db) -> None:
    mine, headers = await own(db, client_type="MIS")
    clinic = await factories.client(db)
    await factories.connection(db, client_id=clinic.id, consumer_id=mine.client_id)
    response = await LIST.call(http, mine, headers)
    assert [row["id"] for row in response.json()["data"]] == [str(mine.id)]


async def test_an_unknown_client_has_no_connections(http: httpx.AsyncClient, nhs: dict[str, str]) -> None:
    response = await http.get(f"/api/clients/{uuid4()}/connections", headers=nhs)
    assert (response.status_code, response.json()["data"]) == (200, [])


async def listed(
    http: httpx.AsyncClient, connection: factories.Connection, headers: dict[str, str], **query: object
) -> list[str]:
    path = LIST.path(connection.client_id, connection.id)
    response = await http.get(path, params={name: str(value) for name, value in query.items()}, headers=headers)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["data"]]


async def test_the_list_is_filtered_by_consumer(http: httpx.AsyncClient, db: Db) -> None:
    (first, second), headers = await several(db, 2)
    other_client = await factories.client(db)
    await factories.connection(db, client_id=other_client.id, consumer_id=second.consumer_id)
    assert await listed(http, first, headers, consumer_id=second.consumer_id) == [str(second.id)]
    assert await listed(http, first, headers, consumer_id=str(second.consumer_id).upper()) == [str(second.id)]
    assert await listed(http, first, headers, consumer_id=uuid4()) == []


@pytest.mark.parametrize(
    ("part", "wanted", "noise"),
    [
        ("EXAMPLE.com/Callback", "https://mis.example.com/callback", "https://mis.example.org/callback"),
        ("?tenant=Z", "https://a.example.com/?tenant=z", "https://a.example.com/tenant=z"),
        ("%D0%97", "https://a.example.com/%d0%97", "https://a.example.com/D097"),
        ("a%b", "https://x.example.com/?q=a%b", "https://x.example.com/?q=a-b"),
        ("a_b", "https://x.example.com/A_B", "https://x.example.com/A-B"),
        ("\\", "https://x.example.com/\\", "https://x.example.com/"),
    ],
)
async def test_the_list_is_filtered_by_a_part_of_the_redirect_uri(
    http: httpx.AsyncClient, db: Db, part: str, wanted: str, noise: str
) -> None:
    made, headers = await several(db, 2)
    for connection, address in zip(made, (wanted, noise), strict=True):
        await db.execute("UPDATE connections SET redirect_uri = $2 WHERE id = $1", connection.id, address)
    assert await listed(http, made[0], headers, redirect_uri=part) == [str(made[0].id)]


async def test_several_filters_must_all_match(http: httpx.AsyncClient, db: Db) -> None:
    (first, second), headers = await several(db, 2)
    await db.execute("UPDATE connections SET redirect_uri = 'https://x.example.com/' WHERE id = $1", second.id)
    assert await listed(http, first, headers, consumer_id=first.consumer_id, redirect_uri="x.example") == []
    assert await listed(http, first, headers, consumer_id=second.consumer_id, redirect_uri="x.example") == [
        str(second.id)
    ]


async def test_invalid_filters_are_named(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    query = {"consumer_id": "x", "redirect_uri": "\0", "page_number": "0", "id": "x", "client_id": "x"}
    response = await http.get(LIST.path(connection.client_id, connection.id), params=query, headers=headers)
    assert response.status_code == 422
    invalid = response.json()["error"]["invalid"]
    assert [(entry["entry"], entry["rules"][0]["rule"]) for entry in invalid] == [
        ("consumer_id", "cast"),
        ("redirect_uri", "cast"),
        ("page_number", "number"),
    ]
    assert {entry["entry_type"] for entry in invalid} == {"query_parameter"}


async def test_connections_with_the_same_insertion_time_are_ordered_by_id_over_pages(
    http: httpx.AsyncClient, db: Db
) -> None:
    made, headers = await several(db, 7)
    await db.execute("UPDATE connections SET inserted_at = now() WHERE client_id = $1", made[0].client_id)
    pages = [await listed(http, made[0], headers, page=number, page_size=2) for number in range(1, 6)]
    assert [len(page) for page in pages] == [2, 2, 2, 1, 0]
    assert [found for page in pages for found in page] == sorted(str(connection.id) for connection in made)


async def test_the_oldest_connection_comes_first(http: httpx.AsyncClient, db: Db) -> None:
    made, headers = await several(db, 3)
    await db.execute("UPDATE connections SET inserted_at = '2001-01-01Z' WHERE id = $1", made[2].id)
    assert await listed(http, made[0], headers) == [str(made[index].id) for index in (2, 0, 1)]


@pytest.mark.parametrize("method", [LIST, HISTORY])
@pytest.mark.parametrize(
    ("query", "expected"),
    [("page=0", 422), ("page=-1", 422), ("page_size=x", 422), ("page_size=501", (1, 500)), ("page=9", (9, 50)),
     ("page_number=2&page_size=7", (2, 7)), ("page=200", (200, 50)), (f"page={2**63}", 422)],
)  # fmt: skip
async def test_connections_and_history_are_paged(
    http: httpx.AsyncClient, db: Db, method: Method, query: str, expected: int | tuple[int, int]
) -> None:
    connection, headers = await own(db)
    response = await http.get(f"{method.path(connection.client_id, connection.id)}?{query}", headers=headers)
    if isinstance(expected, int):
        assert response.status_code == expected
    else:
        paging = response.json()["paging"]
        assert (paging["page_number"], paging["page_size"]) == expected


async def test_counting_connections_stops_at_its_limit_and_paging_leads_on(
    http: httpx.AsyncClient, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, headers = await several(db, 3)
    monkeypatch.setattr(lists, "COUNT_LIMIT", 2)
    path = LIST.path(made[0].client_id, made[0].id)
    first = (await http.get(f"{path}?page_size=2", headers=headers)).json()["paging"]
    assert (first["total_entries"], first["total_pages"]) == (3, 2)
    last = (await http.get(f"{path}?page_size=2&page=2", headers=headers)).json()["paging"]
    assert (last["total_entries"], last["total_pages"]) == (3, 2)


# One connection


async def test_the_details_have_the_fields_of_the_list(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    response = await SHOW.call(http, connection, headers)
    assert response.status_code == 200
    assert response.json() == {
        "meta": meta(http, response, connection.path, "object"),
        "data": await view_of(db, connection),
    }
    assert response.headers["etag"] == '"1"'


async def test_no_secret_is_in_lists_or_details(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    row = await row_of(db, connection.id)
    assert row is not None
    for method in (LIST, SHOW):
        text = (await method.call(http, connection, headers)).text
        assert connection.secret[-4:] in text
        assert connection.secret not in text
        assert row["secret_digest"].hex() not in text
        assert "digest" not in text


@pytest.mark.parametrize("known", ['"1"', 'W/"1"', '"7", "1"', '"7","1"', "*"])
async def test_if_none_match_with_the_current_version_is_304(http: httpx.AsyncClient, db: Db, known: str) -> None:
    connection, headers = await own(db)
    response = await SHOW.call(http, connection, headers | {"If-None-Match": known})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == '"1"'
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("known", ['"2"', "1", '"11"', '"1', "", "W/1", 'x"1"'])
async def test_if_none_match_with_another_version_is_200(http: httpx.AsyncClient, db: Db, known: str) -> None:
    connection, headers = await own(db)
    response = await SHOW.call(http, connection, headers | {"If-None-Match": known})
    assert (response.status_code, response.headers["etag"]) == (200, '"1"')


async def test_an_update_changes_the_etag(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    first = await SHOW.call(http, connection, headers)
    updated = await http.patch(connection.path, json=NEW, headers=headers)
    second = await SHOW.call(http, connection, headers | {"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.json()["data"]["redirect_uri"] == NEW["redirect_uri"]
    assert second.headers["etag"] == updated.headers["etag"] == '"2"'
    third = await SHOW.call(http, connection, headers | {"If-None-Match": second.headers["etag"]})
    assert third.status_code == 304


async def test_if_none_match_does_not_answer_304_without_access(http: httpx.AsyncClient, db: Db) -> None:
    connection, _ = await own(db)
    _, stranger = await own(db)
    statuses = [
        (await SHOW.call(http, connection, headers | {"If-None-Match": "*"})).status_code for headers in ({}, stranger)
    ]
    assert statuses == [401, 403]


async def test_a_cached_answer_must_be_revalidated(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    for known in ("", '"1"'):
        response = await SHOW.call(http, connection, headers | {"If-None-Match": known})
        assert response.headers["cache-control"] == "private, no-cache"


# Deletion


async def test_a_deletion_answers_with_meta_alone(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    response = await DELETE.call(http, connection, headers)
    assert response.status_code == 200
    assert response.json() == {"meta": meta(http, response, connection.path, "object")}
    assert await row_of(db, connection.id) is None


async def test_every_other_connection_stays_as_it_was(http: httpx.AsyncClient, db: Db) -> None:
    (first, sibling), headers = await several(db, 2)
    foreign, _ = await own(db)
    reverse = await factories.connection(db, client_id=first.consumer_id, consumer_id=first.client_id)
    others = (sibling, foreign, reverse)
    before = [await row_of(db, other.id) for other in others]
    await DELETE.call(http, first, headers)
    assert [await row_of(db, other.id) for other in others] == before


async def test_a_deleted_connection_is_not_found(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    await DELETE.call(http, connection, headers)
    assert error_of(await DELETE.call(http, connection, headers)) == NOT_FOUND
    assert error_of(await SHOW.call(http, connection, headers)) == NOT_FOUND
    assert error_of(await http.patch(connection.path, json=NEW, headers=headers)) == NOT_FOUND
    assert error_of(await http.patch(connection.path + REFRESH, headers=headers)) == NOT_FOUND
    assert await listed(http, connection, headers) == []


KINDS = ["access_token", "refresh_token", "authorization_code", "2fa_access_token"]


async def test_a_deletion_revokes_the_tokens_and_codes_issued_through_the_connection_only(
    http: httpx.AsyncClient, db: Db
) -> None:
    (first, sibling), headers = await several(db, 2)
    owner = factories.Client(first.client_id, await factories.user(db))
    for connection_id in (first.id, sibling.id, None):
        for kind in KINDS:
            await factories.token(db, client=owner, name=kind, connection_id=connection_id)
    await DELETE.call(http, first, headers)
    left = await db.fetch("SELECT connection_id, name FROM tokens WHERE user_id = $1", owner.user_id)
    assert sorted((str(row["connection_id"]), row["name"]) for row in left) == sorted(
        (str(connection_id), kind) for connection_id in (sibling.id, None) for kind in KINDS
    )


async def test_a_token_that_deletes_its_own_connection_is_revoked(http: httpx.AsyncClient, db: Db) -> None:
    connection, other_headers = await own(db)
    owner = factories.Client(connection.client_id, await factories.user(db))
    token = await factories.token(db, client=owner, scope="connection:delete", connection_id=connection.id)
    deleted = await DELETE.call(http, connection, bearer(token))
    again = await DELETE.call(http, connection, bearer(token))
    assert [deleted.status_code, again.status_code] == [200, 401]
    assert (await DELETE.call(http, connection, other_headers)).status_code == 404


async def test_the_secret_of_a_deleted_connection_is_not_an_api_key(http: httpx.AsyncClient, db: Db) -> None:
    mis = await factories.client(db, client_type="MIS", broker_scope="connection:read")
    key = await factories.connection(db, client_id=mis.id)
    clinic = await factories.client(db, access_type="BROKER")
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    headers = await caller(db, clinic) | {"API-key": key.secret}
    before = await SHOW.call(http, connection, headers)
    await DELETE.call(http, key, await caller(db, mis))
    after = await SHOW.call(http, connection, headers)
    assert [before.status_code, after.status_code] == [200, 401]


@pytest.mark.parametrize(
    ("if_match", "status"),
    [('"1"', 200), ("*", 200), ('"7", "1"', 200), ('"2"', 412), ('W/"1"', 412), ("1", 412), ("", 412)],
)
async def test_if_match_names_the_version_to_delete(
    http: httpx.AsyncClient, db: Db, if_match: str, status: int
) -> None:
    connection, headers = await own(db)
    before = await row_of(db, connection.id)
    response = await DELETE.call(http, connection, headers | {"If-Match": if_match})
    assert response.status_code == status
    if status == 412:
        assert response.json()["error"]["type"] == "precondition_failed"
        assert await row_of(db, connection.id) == before
        assert await events_of(http, connection, headers) == []


async def test_an_unknown_connection_is_404_whatever_if_match_says(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    missing = factories.Connection(uuid4(), connection.client_id, connection.consumer_id, "")
    assert error_of(await DELETE.call(http, missing, headers | {"If-Match": '"9"'})) == NOT_FOUND


async def test_of_simultaneous_deletions_one_succeeds(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    answers = await asyncio.gather(*(DELETE.call(http, connection, headers) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [404] * 5
    assert len(await events_of(http, connection, headers)) == 1


async def test_no_change_follows_the_deletion_of_a_connection(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    bodies = [{"redirect_uri": f"https://racer-{number}.example.com/"} for number in range(6)]
    updates = [http.patch(connection.path, json=body, headers=headers) for body in bodies]
    rotations = [http.patch(connection.path + REFRESH, headers=headers) for _ in range(3)]
    deleted, *others = await asyncio.gather(DELETE.call(http, connection, headers), *updates, *rotations)
    assert deleted.status_code == 200
    assert {answer.status_code for answer in others} <= {200, 404}
    events = await events_of(http, connection, headers)
    assert events[0]["action"] == "connection.delete"
    assert len(events) == 1 + sum(answer.status_code == 200 for answer in others)


# History


async def events_of(
    http: httpx.AsyncClient, connection: factories.Connection, headers: dict[str, str]
) -> list[dict[str, Any]]:
    response = await HISTORY.call(http, connection, headers)
    assert response.status_code == 200, response.text
    events: list[dict[str, Any]] = response.json()["data"]
    return events


async def test_history_shows_a_change_with_its_actor(http: httpx.AsyncClient, db: Db) -> None:
    scopes = "connection:read connection:write"
    mis = await factories.client(db, client_type="MIS", broker_scope=scopes)
    key = await factories.connection(db, client_id=mis.id)
    clinic = await factories.client(db, access_type="BROKER")
    connection = await factories.connection(db, client_id=clinic.id, consumer_id=mis.id)
    headers = await caller(db, clinic) | {"API-key": key.secret}
    named = headers | {"X-Request-ID": "a-request-of-the-caller#1"}
    updated = await http.patch(connection.path, json=NEW, headers=named)
    assert updated.status_code == 200

    response = await HISTORY.call(http, connection, headers)

    row = await db.fetchrow(
        "SELECT id, occurred_at, operation_id FROM audit_events WHERE subject_id = $1", connection.id
    )
    assert row is not None
    assert row["operation_id"].version == 7
    assert response.json() == {
        "meta": meta(http, response, f"{connection.path}/history", "list"),
        "data": [
            {
                "id": row["id"],
                "occurred_at": wire(row["occurred_at"]),
                "action": "connection.update",
                "actor_user_id": str(clinic.user_id),
                "actor_client_id": str(clinic.id),
                "api_key_client_id": str(mis.id),
                "request_id": "a-request-of-the-caller#1",
                "operation_id": str(row["operation_id"]),
                "old": {"redirect_uri": "https://old.example.com/callback"},
                "new": NEW,
            }
        ],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }


async def a_life(
    http: httpx.AsyncClient, connection: factories.Connection, headers: dict[str, str]
) -> list[httpx.Response]:
    """Make every possible change to a connection, once."""
    answers = [
        await http.patch(connection.path, json=NEW, headers=headers),
        await http.patch(connection.path + REFRESH, headers=headers),
        await http.patch(connection.path + REFRESH, json={"previous_secret_expires_in": 60}, headers=headers),
        await DELETE.call(http, connection, headers),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    return answers


async def test_history_is_newest_first_and_ends_with_the_deletion(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    other, other_headers = await own(db)
    answers = await a_life(http, connection, headers)
    await a_life(http, other, other_headers)
    events = await events_of(http, connection, headers)
    assert [event["action"] for event in events] == [
        "connection.delete",
        "connection.refresh_secret",
        "connection.refresh_secret",
        "connection.update",
    ]
    assert [event["request_id"] for event in events] == [answer.headers["x-request-id"] for answer in reversed(answers)]
    assert [event["id"] for event in events] == sorted((event["id"] for event in events), reverse=True)
    moments = [event["occurred_at"] for event in events]
    assert moments == sorted(moments, reverse=True)


async def test_history_is_paged(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    await a_life(http, connection, headers)
    every = await events_of(http, connection, headers)
    for number, part in enumerate([every[:3], every[3:], []], start=1):
        response = await http.get(f"{connection.path}/history?page={number}&page_size=3", headers=headers)
        assert response.json()["data"] == part
        paging = response.json()["paging"]
        assert ("next" in paging) == (number == 1)
        expected = {"page_number": number, "page_size": 3, "total_entries": 4, "total_pages": 2}
        assert paging | expected == paging


async def test_history_shows_the_values_of_a_deleted_connection(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    await DELETE.call(http, connection, headers)
    (event,) = await events_of(http, connection, headers)
    assert event["new"] is None
    assert event["old"] == {
        "client_id": str(connection.client_id),
        "consumer_id": str(connection.consumer_id),
        "redirect_uri": "https://old.example.com/callback",
        "secret_tail": connection.secret[-4:],
    }


async def test_history_shows_no_secrets(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    answers = await a_life(http, connection, headers)
    secrets = [connection.secret, *(answer.json()["data"]["secret"] for answer in answers[1:3])]
    secrets.append(headers["Authorization"].removeprefix("Bearer "))
    text = (await HISTORY.call(http, connection, headers)).text
    kept = await db.fetchval("SELECT string_agg(e::text, '') FROM audit_events e WHERE subject_id = $1", connection.id)
    for secret in secrets:
        digest = security.digest(secret)
        for form in (secret, digest.hex(), base64.b64encode(digest).decode(), secret[:-4]):
            assert form not in text
            assert form not in kept
    assert "digest" not in text


async def imported(db: Db, client_id: UUID, secret: str) -> None:
    """Import a secret for the client's own connection, as an operator does with a file."""
    connection = {"client_id": str(client_id), "consumer_id": str(client_id), "redirect_uri": NEW["redirect_uri"]}
    snapshot = snapshots.read(json.dumps({"connections": [connection | {"secret": secret}]}).encode())
    await snapshots.import_snapshot(db, snapshot, actor=Actor(request_id="an import"), policy=Policy())


async def test_history_shows_an_import_without_secrets(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    for secret in ("first-secret-of-a-file-1111", "second-secret-of-a-file-2222"):
        await imported(db, owner.id, secret)
    headers = await caller(db, owner)
    (row,) = (await http.get(LIST.path(owner.id, ""), headers=headers)).json()["data"]
    response = await http.get(HISTORY.path(owner.id, row["id"]), headers=headers)
    second, first = response.json()["data"]
    assert (first["action"], first["old"]) == ("connection.create", None)
    assert first["new"]["secret_tail"] == "1111"
    assert (second["action"], second["old"], second["new"]) == (
        "connection.update",
        {"secret_tail": "1111"},
        {"secret_tail": "2222"},
    )
    assert (second["request_id"], second["actor_user_id"]) == ("an import", None)
    assert "of-a-file" not in response.text


async def test_a_connection_without_changes_has_an_empty_history(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    response = await HISTORY.call(http, connection, headers)
    assert (response.status_code, response.json()["data"]) == (200, [])
    assert response.json()["paging"]["total_entries"] == 0


async def test_a_page_past_the_end_of_a_deleted_connections_history_is_empty(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    await DELETE.call(http, connection, headers)
    response = await http.get(f"{connection.path}/history?page=2", headers=headers)
    assert (response.status_code, response.json()["data"]) == (200, [])


async def test_history_of_a_deleted_connection_is_shown_only_to_its_client(
    http: httpx.AsyncClient, db: Db, nhs: dict[str, str]
) -> None:
    connection, headers = await own(db)
    stranger, strangers_headers = await own(db)
    await DELETE.call(http, connection, headers)
    assert error_of(await HISTORY.call(http, connection, strangers_headers)) == FORBIDDEN
    elsewhere = HISTORY.path(stranger.client_id, connection.id)
    assert error_of(await http.get(elsewhere, headers=strangers_headers)) == NOT_FOUND
    assert error_of(await http.get(elsewhere, headers=nhs)) == NOT_FOUND
    assert len(await events_of(http, connection, nhs)) == 1


@pytest.mark.parametrize("action", ["client.update", "user_role.create", "approval.update"])
async def test_history_has_only_events_of_connections(http: httpx.AsyncClient, db: Db, action: str) -> None:
    owner = await factories.client(db)
    subject_id = owner.id if action == "client.update" else uuid4()
    await db.execute(
        "INSERT INTO audit_events (action, subject_id, client_id, new) VALUES ($1, $2, $3, $4)",
        action,
        subject_id,
        owner.id,
        json.dumps({"priv_settings": {"access_type": "DIRECT"}}),
    )
    response = await http.get(HISTORY.path(owner.id, subject_id), headers=await caller(db, owner))
    assert error_of(response) == NOT_FOUND
    assert "priv_settings" not in response.text


# The check of a redirect URI


async def check(http: httpx.AsyncClient, db: Db, uri: str) -> dict[str, Any]:
    headers = await caller(db, await factories.client(db), scope=None)
    response = await http.post(CHECK, json={"redirect_uri": uri}, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["meta"] == meta(http, response, CHECK, "object")
    data: dict[str, Any] = response.json()["data"]
    return data


@pytest.mark.parametrize(
    ("uri", "reasons", "suggestion"),
    [
        ("https://mis.example.ua/callback", [], None),
        ("https://MIS.Example.UA:443/Callback", ["not_canonical"], "https://mis.example.ua/Callback"),
        ("http://intranet/cb?code=1", ["scheme", "non_public_host", "reserved_parameter"], None),
        ("", ["empty"], None),
        ("https://mis.example.ua/\0", ["illegal_character"], None),
        ("https://лікарня.укр/", ["non_ascii"], None),
        ("http://localhost:3000/cb", ["scheme", "non_public_host"], None),
    ],
)
async def test_a_redirect_uri_is_checked(
    http: httpx.AsyncClient, db: Db, uri: str, reasons: list[str], suggestion: str | None
) -> None:
    assert await check(http, db, uri) == {"accepted": not reasons, "reasons": reasons, "suggestion": suggestion}


@pytest.mark.parametrize(
    "uri",
    ["https://ok.example.com/cb", "https://OK.example.com/", "http://ok.example.com/", "https://a.example.com/#", "x",
     "https://127.0.0.1/", "https://u@a.example.com/", "https://a.example.com//x?state=1&state=2", "https://", ""],
)  # fmt: skip
async def test_a_check_answers_as_an_update_would(http: httpx.AsyncClient, db: Db, uri: str) -> None:
    connection, headers = await own(db)
    judged = await check(http, db, uri)
    updated = await http.patch(connection.path, json={"redirect_uri": uri}, headers=headers)
    assert judged["accepted"] == (updated.status_code == 200)
    entries = updated.json().get("error", {}).get("invalid", [])
    rules = [rule for entry in entries for rule in entry["rules"] if rule["rule"] == "redirect_uri"]
    assert judged["reasons"] == [rule["params"]["reason"] for rule in rules]
    assert judged["suggestion"] == next((rule["suggestion"] for rule in rules if "suggestion" in rule), None)


async def test_a_check_changes_nothing(http: httpx.AsyncClient, db: Db) -> None:
    connection, headers = await own(db)
    before = await row_of(db, connection.id), await db.fetchval("SELECT count(*) FROM audit_events")
    response = await http.post(CHECK, json=NEW, headers=headers)
    assert response.json()["data"]["accepted"] is True
    assert (await row_of(db, connection.id), await db.fetchval("SELECT count(*) FROM audit_events")) == before


@pytest.mark.parametrize("client_type", TYPES_PINNED_TO_THEMSELVES + ADMINISTRATIVE_TYPES)
async def test_a_check_requires_only_a_valid_token(http: httpx.AsyncClient, db: Db, client_type: str) -> None:
    headers = await caller(db, await factories.client(db, client_type=client_type), scope=None)
    assert (await http.post(CHECK, json=NEW, headers=headers)).status_code == 200


async def test_a_check_requires_a_valid_token_before_it_reads_the_body(http: httpx.AsyncClient, db: Db) -> None:
    brokered = await caller(db, await factories.client(db, access_type="BROKER"))
    expired = bearer(await factories.token(db, client=await factories.client(db), expires_in=0))
    for headers in ({}, bearer("no-such-token"), brokered, expired):
        assert (await http.post(CHECK, content=b"{", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{}", 422), (b"[]", 422), (b'{"redirect_uri": null}', 422), (b'{"redirect_uri": ["https://x.com"]}', 422),
     (b'{"redirect_uri": "https://x.com", "client_id": "x"}', 422), (b"", 400), (b"{", 400),
     (b'{"redirect_uri": "\\ud800"}', 400), pytest.param(b" " * 70_000, 413, id="large")],
)  # fmt: skip
async def test_a_check_requires_one_string(http: httpx.AsyncClient, db: Db, content: bytes, status: int) -> None:
    headers = await caller(db, await factories.client(db)) | {"Content-Type": "application/json"}
    assert (await http.post(CHECK, content=content, headers=headers)).status_code == status
