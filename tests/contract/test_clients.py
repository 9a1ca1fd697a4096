"""API-009-001-006-0335 and -0336, Get clients and Get client details, and the caller's roles.

The rules of every list, for pages and query strings, are tested here on the list of clients.
"""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mithril.database import lists
from support import factories
from support.factories import Db, bearer
from support.servers import Server

pytestmark = pytest.mark.anyio

LIST = "/api/clients"
ROLES = "/api/user/roles"
PAGING = ["page", "page_number", "page_size"]
TYPES_PINNED_TO_THEMSELVES = ["MSP", "MIS", "PHARMACY", "MSP_LIMITED", "CABINET", "Auth_FE", "No such type"]
ADMINISTRATIVE_TYPES = ["NHS", "NHS ADMIN", "MITHRIL ADMIN", "Mithril ADMIN"]
OTHER_SCOPES = "client:write connection:read client:readx xclient:read CLIENT:READ"


async def caller(db: Db, client: factories.Client, *, scope: str | None = "client:read") -> dict[str, str]:
    """The headers of a caller who acts through that client."""
    return bearer(await factories.token(db, client=client, scope=scope))


@pytest.fixture
async def nhs(server: Server, db: Db) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the public listener that acts for an administrator."""
    headers = await caller(db, await factories.client(db, client_type="NHS"))
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=False) as client:
        yield client


@pytest.fixture
async def person(db: Db) -> UUID:
    """An owner of clients; the filter `user_id` selects the clients of one test."""
    return await factories.user(db)


async def named(db: Db, name: str, *, user_id: UUID, **client: Any) -> str:
    """Add a client with that name, and return its id."""
    made = await factories.client(db, user_id=user_id, **client)
    await db.execute("UPDATE clients SET name = $2 WHERE id = $1", made.id, name)
    return str(made.id)


async def listed(http: httpx.AsyncClient, headers: dict[str, str] | None = None, **query: Any) -> list[str]:
    response = await http.get(LIST, params={name: str(value) for name, value in query.items()}, headers=headers)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["data"]]


async def get(http: httpx.AsyncClient, target: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Request a target exactly as it is written, which httpx would otherwise normalise."""
    return await http.get("/", headers=headers, extensions={"target": target.encode()})


def refusal(entry: str, rule: dict[str, Any]) -> dict[str, Any]:
    invalid = [{"entry": entry, "entry_type": "query_parameter", "rules": [rule]}]
    return {"type": "validation_failed", "message": "Validation failed", "invalid": invalid}


def cast(expected: str) -> dict[str, Any]:
    return {"rule": "cast", "description": "is invalid", "params": {"expected": expected}}


TOO_SMALL = {
    "rule": "number",
    "description": "expected the value to be >= 1",
    "params": {"greater_than_or_equal_to": 1},
}


async def view_of(db: Db, client_id: UUID) -> dict[str, Any]:
    """Return the published fields from the database."""
    row = await db.fetchrow("SELECT * FROM clients WHERE id = $1", client_id)
    assert row is not None
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "settings": json.loads(row["settings"]),
        "user_id": str(row["user_id"]),
        "client_type_id": str(row["client_type_id"]),
        "is_blocked": row["is_blocked"],
        "block_reason": row["block_reason"],
        "inserted_at": f"{row['inserted_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
        "updated_at": f"{row['updated_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
    }


def meta(response: httpx.Response, path: str, kind: str) -> dict[str, Any]:
    request_id = response.headers["x-request-id"]
    return {"code": 200, "url": f"{response.url.copy_with(raw_path=path.encode())}", "type": kind} | {
        "request_id": request_id
    }


# The fields


async def test_the_list_has_the_published_fields_and_paging(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    await db.execute(
        "UPDATE clients SET name = 'Здоров''я', settings = '{\"allowed_grant_types\": [\"password\"]}' WHERE id = $1",
        owner.id,
    )
    response = await http.get(LIST, headers=await caller(db, owner))
    assert response.status_code == 200
    assert response.json() == {
        "meta": meta(response, LIST, "list"),
        "data": [await view_of(db, owner.id)],
        "paging": {"page_number": 1, "page_size": 50, "total_entries": 1, "total_pages": 1},
    }
    assert response.json()["data"][0]["settings"] == {"allowed_grant_types": ["password"]}
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"


async def test_the_details_have_the_name_of_the_type_too(db: Db, nhs: httpx.AsyncClient) -> None:
    client = await factories.client(db, client_type="PHARMACY", is_blocked=True)
    await db.execute("UPDATE clients SET block_reason = 'Ліцензію відкликано' WHERE id = $1", client.id)
    path = f"{LIST}/{client.id}"
    response = await nhs.get(path)
    assert response.status_code == 200
    assert response.json() == {
        "meta": meta(response, path, "object"),
        "data": await view_of(db, client.id) | {"client_type_name": "PHARMACY"},
    }
    assert response.json()["data"]["block_reason"] == "Ліцензію відкликано"


async def test_priv_settings_are_never_shown(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db, client_type="MIS", broker_scope="a-private:scope")
    headers = await caller(db, owner)
    for path in (LIST, f"{LIST}/{owner.id}"):
        text = (await http.get(path, headers=headers)).text
        assert str(owner.id) in text
        assert not [word for word in ("priv_settings", "access_type", "DIRECT", "a-private") if word in text]


# Access


@pytest.mark.parametrize("client_type", TYPES_PINNED_TO_THEMSELVES)
async def test_non_administrative_types_see_only_their_own_client(
    http: httpx.AsyncClient, db: Db, client_type: str
) -> None:
    mine, foreign = await factories.client(db, client_type=client_type), await factories.client(db)
    headers = await caller(db, mine)
    assert await listed(http, headers) == [str(mine.id)]
    assert await listed(http, headers, id=foreign.id) == []
    assert await listed(http, headers, user_id=foreign.user_id) == []
    assert (await http.get(f"{LIST}/{mine.id}", headers=headers)).status_code == 200
    for client_id in (foreign.id, uuid4()):
        refused = await http.get(f"{LIST}/{client_id}", headers=headers)
        assert refused.status_code == 403
        assert refused.json()["error"] == {"type": "forbidden", "message": "Forbidden"}
        assert "www-authenticate" not in refused.headers


@pytest.mark.parametrize("client_type", ADMINISTRATIVE_TYPES)
async def test_an_administrative_type_sees_all(http: httpx.AsyncClient, db: Db, client_type: str) -> None:
    mine, foreign = await factories.client(db, client_type=client_type), await factories.client(db)
    headers = await caller(db, mine)
    response = await http.get(LIST, headers=headers)
    assert response.json()["paging"]["total_entries"] == await db.fetchval("SELECT count(*) FROM clients")
    assert await listed(http, headers, id=foreign.id) == [str(foreign.id)]
    for client in (mine, foreign):
        assert (await http.get(f"{LIST}/{client.id}", headers=headers)).status_code == 200


async def test_another_client_of_the_same_user_is_forbidden(http: httpx.AsyncClient, db: Db) -> None:
    mine = await factories.client(db)
    other = await factories.client(db, user_id=mine.user_id)
    headers = await caller(db, mine)
    assert await listed(http, headers, user_id=mine.user_id) == [str(mine.id)]
    assert (await http.get(f"{LIST}/{other.id}", headers=headers)).status_code == 403


async def test_identifiers_compare_by_value_not_by_letter_case(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    headers = await caller(db, owner)
    assert (await http.get(f"{LIST}/{str(owner.id).upper()}", headers=headers)).status_code == 200
    assert await listed(http, headers, id=str(owner.id).upper()) == [str(owner.id)]


@pytest.mark.parametrize("client_id", ["not-a-uuid", "1380df72275a11e793ae92361f002671", "%00", "{}", "0"])
async def test_a_malformed_client_id_is_not_found(
    http: httpx.AsyncClient, db: Db, nhs: httpx.AsyncClient, client_id: str
) -> None:
    pinned = await caller(db, await factories.client(db))
    assert (await get(http, f"{LIST}/{client_id}", pinned)).status_code == 403
    unknown = await get(nhs, f"{LIST}/{client_id}")
    assert (unknown.status_code, unknown.json()["error"]) == (404, {"type": "not_found", "message": "Not Found"})


async def test_an_unknown_client_is_not_found(nhs: httpx.AsyncClient) -> None:
    response = await nhs.get(f"{LIST}/{uuid4()}")
    assert (response.status_code, response.json()["error"]) == (404, {"type": "not_found", "message": "Not Found"})


async def test_a_clinic_sees_itself_through_its_broker(http: httpx.AsyncClient, db: Db) -> None:
    mis = await factories.client(db, client_type="MIS", broker_scope="client:read")
    weak = await factories.client(db, client_type="MIS", broker_scope="connection:read")
    keys = [(await factories.connection(db, client_id=client.id)).secret for client in (mis, weak)]
    clinic = await factories.client(db, access_type="BROKER")
    headers = await caller(db, clinic)
    without, right, lacking = [
        await http.get(LIST, headers=headers | key) for key in ({}, {"API-key": keys[0]}, {"API-key": keys[1]})
    ]
    assert [without.status_code, right.status_code, lacking.status_code] == [401, 200, 403]
    assert [row["id"] for row in right.json()["data"]] == [str(clinic.id)]


# The order of checks


async def test_checks_come_in_the_order_of_the_contract(
    http: httpx.AsyncClient, db: Db, nhs: httpx.AsyncClient
) -> None:
    mine, foreign = await factories.client(db), await factories.client(db)
    own, scopeless = await caller(db, mine), await caller(db, mine, scope=OTHER_SCOPES)

    async def answer(path: str, headers: dict[str, str]) -> tuple[int, str | None]:
        response = await http.get(path, headers=headers)
        return response.status_code, response.json().get("error", {}).get("message")

    bad_list = f"{LIST}?id=x"
    assert await answer(bad_list, {}) == (401, "Access denied")
    assert await answer(bad_list, scopeless) == (403, "Invalid scopes")
    assert await answer(bad_list, own) == (422, "Validation failed")
    assert await answer(LIST, own) == (200, None)
    assert await answer(f"{LIST}/{foreign.id}", {}) == (401, "Access denied")
    assert await answer(f"{LIST}/{foreign.id}", scopeless) == (403, "Invalid scopes")
    assert await answer(f"{LIST}/{foreign.id}", own) == (403, "Forbidden")
    assert (await nhs.get(f"{LIST}/{uuid4()}")).status_code == 404


@pytest.mark.parametrize("path", [LIST, f"{LIST}/1380df72-275a-11e7-93ae-92361f002671"])
async def test_the_challenge_names_the_missing_scope(http: httpx.AsyncClient, db: Db, path: str) -> None:
    headers = await caller(db, await factories.client(db), scope=OTHER_SCOPES)
    challenge = (await http.get(path, headers=headers)).headers["www-authenticate"]
    assert challenge.startswith('Bearer error="insufficient_scope"')
    assert challenge.endswith('scope="client:read"')


# Filters


async def test_each_filter_narrows_the_list(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    wanted = await named(db, f"Wanted {person}", user_id=person, is_blocked=True)
    other = await named(db, f"Other {person}", user_id=person)
    await named(db, "Wanted", user_id=await factories.user(db), is_blocked=True)
    assert await listed(nhs, id=wanted) == [wanted]
    assert await listed(nhs, user_id=person) == [wanted, other]
    assert await listed(nhs, name=person) == [wanted, other]
    assert await listed(nhs, name=person, is_blocked="true") == [wanted]
    assert await listed(nhs, name=person, is_blocked="false") == [other]


async def test_several_filters_must_all_match(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    wanted = await named(db, "Клініка", user_id=person, is_blocked=True)
    other = await named(db, "Клініка", user_id=person)
    every: dict[str, Any] = {"id": wanted, "user_id": person, "name": "клін", "is_blocked": "true"}
    assert await listed(nhs, **every) == [wanted]
    for changed in ({"id": other}, {"user_id": uuid4()}, {"name": "аптека"}, {"is_blocked": "false"}):
        assert await listed(nhs, **(every | changed)) == []


async def test_a_filter_narrows_the_list_of_a_non_administrative_type_too(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    headers = await caller(db, owner)
    assert await listed(http, headers, is_blocked="false") == [str(owner.id)]
    assert await listed(http, headers, is_blocked="true") == []
    assert await listed(http, headers, name="no such name") == []


@pytest.mark.parametrize(("spelling", "finds_blocked"), [("true", 1), ("1", 1), ("false", 0), ("0", 0)])
async def test_a_boolean_filter_may_be_1_or_0(
    db: Db, nhs: httpx.AsyncClient, person: UUID, spelling: str, finds_blocked: int
) -> None:
    found = {1: await named(db, "blocked", user_id=person, is_blocked=True), 0: await named(db, "not", user_id=person)}
    assert await listed(nhs, user_id=person, is_blocked=spelling) == [found[finds_blocked]]


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("ЗДОРОВ", ("Здоров'я", "Здрав'я")),
        ("ров'Я", ("Здоров'я", "Здоров я")),
        ("їжак є", ("ЇЖАК ЄДИНИЙ", "Іжак єдиний")),
        ("ґ", ("Ґанок", "Ганок")),
        ("mis", ("The MIS", "The MSI")),
        ("CLINIC", ("clinic", "clini c")),
        ("0%", ("100% здоров'я", "1000 здоров'я")),
        ("%", ("50%", "50")),
        ("a_b", ("A_B", "AxB")),
        ("_", ("snake_case", "camelCase")),
        ("a\\b", ("A\\B", "AB")),
        ("\\%", ("\\%", "%")),
        ("'; DROP TABLE clients; --", ("x'; drop table clients; --", "x'")),
        ("{}", ("a {} b", "a b")),
        ("$1", ("costs $1", "costs 1")),
        ("+ ", ("a+ b", "a  b")),
        (" b", ("a b", "ab")),
        ("🏥", ("🏥 Hospital", "Hospital")),
    ],
)
async def test_the_name_filter_matches_any_part_in_any_letter_case(
    db: Db, nhs: httpx.AsyncClient, person: UUID, part: str, names: tuple[str, str]
) -> None:
    wanted, _noise = [await named(db, name, user_id=person) for name in names]
    assert await listed(nhs, user_id=person, name=part) == [wanted]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("id", "not-a-uuid", "uuid"), ("id", "1380df72275a11e793ae92361f002671", "uuid"), ("id", "\0", "uuid"),
        ("user_id", "{1380df72-275a-11e7-93ae-92361f002671}", "uuid"), ("user_id", "1", "uuid"),
        ("is_blocked", "True", "boolean"), ("is_blocked", "yes", "boolean"), ("is_blocked", "2", "boolean"),
        ("name", "\0", "string"), ("name", "Здоров\0я", "string"),
    ],
)  # fmt: skip
async def test_an_invalid_filter_is_named(nhs: httpx.AsyncClient, name: str, value: str, expected: str) -> None:
    response = await nhs.get(LIST, params={name: value})
    assert response.status_code == 422
    assert response.json()["error"] == refusal(name, cast(expected))


async def test_all_invalid_parameters_are_named_at_once(nhs: httpx.AsyncClient) -> None:
    query = {"id": "x", "name": "fine", "is_blocked": "x", "page": "x", "page_size": "0", "unknown": "\0"}
    response = await nhs.get(LIST, params=query)
    assert response.status_code == 422
    entries = {entry["entry"]: entry["rules"] for entry in response.json()["error"]["invalid"]}
    assert entries == {
        "id": [cast("uuid")],
        "is_blocked": [cast("boolean")],
        "page": [cast("integer")],
        "page_size": [TOO_SMALL],
    }


async def test_an_invalid_filter_is_refused_before_the_client_is_read(http: httpx.AsyncClient, db: Db) -> None:
    headers = await caller(db, await factories.client(db))
    assert (await http.get(LIST, params={"user_id": "x"}, headers=headers)).status_code == 422


# Query strings


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("id=", 200), ("user_id=&name=&is_blocked=&page=&page_number=&page_size=", 200), ("", 200), ("id", 200),
        ("&&=&=x&%00=%00&?", 200), ("no_such_filter=1&NAME=%00&ID=x", 200), ("name%5B%5D=a&id[]=1", 200),
        ("allowed_client_id=x&priv_settings=x&client_type_id=x", 200),
        ("name=%", 200), ("name=%zz", 200), ("name=%D0", 200), ("name=%ff%fe", 200), ("name=%ED%A0%80", 200),
        ("name=%C0%80", 200), ("name=a;b=c", 200), ("name=" + "%25" * 2_500, 200), ("name=%00", 422),
        ("page=1&page=x", 200), ("page=x&page=1", 422), ("page=&page=x", 200), ("id=x&id=", 422),
        ("page=1&page_number=x", 422), ("is_blocked=true&is_blocked=x", 200), ("id=%00&name=%00&page=%00", 422),
    ],
)  # fmt: skip
async def test_a_malformed_query_string_is_answered(nhs: httpx.AsyncClient, query: str, status: int) -> None:
    response = await get(nhs, f"{LIST}?{query}")
    assert response.status_code == status
    assert "?" not in response.json()["meta"]["url"]


async def test_of_a_repeated_parameter_the_first_value_counts(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    first = await named(db, "first", user_id=person)
    await named(db, "second", user_id=person)
    response = await nhs.get(f"{LIST}?user_id={person}&name=first&name=second")
    assert [row["id"] for row in response.json()["data"]] == [first]


async def test_an_empty_filter_is_ignored(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    made = [await named(db, name, user_id=person) for name in ("one", "two")]
    assert await listed(nhs, user_id=person, name="", id="", is_blocked="", page="", page_size="") == made


# Pages


async def several(db: Db, person: UUID, count: int = 5) -> list[str]:
    return [await named(db, f"{number}", user_id=person) for number in range(count)]


async def test_pages_are_consecutive(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    made = await several(db, person)
    for number, part in enumerate([made[:2], made[2:4], made[4:], []], start=1):
        response = await nhs.get(LIST, params={"user_id": str(person), "page": number, "page_size": 2})
        body = response.json()
        assert [row["id"] for row in body["data"]] == part
        assert body["paging"].pop("next", "").isascii()
        assert body["paging"] == {"page_number": number, "page_size": 2, "total_entries": 5, "total_pages": 3}


async def test_page_number_means_page_and_page_takes_precedence(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    made = await several(db, person)
    assert await listed(nhs, user_id=person, page_size=2, page_number=2) == made[2:4]
    assert await listed(nhs, user_id=person, page_size=2, page_number=2, page=1) == made[:2]


async def test_an_empty_list_has_one_page(nhs: httpx.AsyncClient) -> None:
    response = await nhs.get(LIST, params={"user_id": str(uuid4())})
    assert response.json()["data"] == []
    assert response.json()["paging"] == {"page_number": 1, "page_size": 50, "total_entries": 0, "total_pages": 1}


@pytest.mark.parametrize(
    ("asked", "given"), [("1", 1), ("499", 499), ("500", 500), ("501", 500), ("9" * 18, 500), ("%2B7", 7), ("007", 7)]
)
async def test_a_page_has_at_most_500_rows(nhs: httpx.AsyncClient, asked: str, given: int) -> None:
    response = await get(nhs, f"{LIST}?page_size={asked}")
    assert response.status_code == 200
    assert response.json()["paging"]["page_size"] == given


async def test_the_largest_page_has_500_rows(db: Db, nhs: httpx.AsyncClient) -> None:
    person, example = await factories.user(db), await factories.client(db)
    await db.execute(
        "INSERT INTO clients (name, client_type_id, user_id)"
        " SELECT 'one of many', client_type_id, $1 FROM clients, generate_series(1, 501) WHERE id = $2",
        person,
        example.id,
    )
    assert len(await listed(nhs, user_id=person)) == 50
    assert len(await listed(nhs, user_id=person, page_size=501)) == 500
    assert len(await listed(nhs, user_id=person, page_size=501, page=2)) == 1


@pytest.mark.parametrize("value", ["0", "-1", "-0", str(-(10**17))])
async def test_a_number_below_one_is_refused(nhs: httpx.AsyncClient, value: str) -> None:
    for parameter in PAGING:
        response = await nhs.get(LIST, params={parameter: value})
        assert response.status_code == 422
        assert response.json()["error"] == refusal(parameter, TOO_SMALL)


@pytest.mark.parametrize(
    "value",
    ["x", "2abc", "1.0", "1e3", "0x1", "1_0", " 1", "1 ", "1\n", "\0", "٣", "\uff11", "²", "+", "-",
     "--1", "+-1", "-+1", "++1"],
)  # fmt: skip
async def test_a_page_that_is_not_an_integer_is_refused(nhs: httpx.AsyncClient, value: str) -> None:
    for parameter in PAGING:
        response = await nhs.get(LIST, params={parameter: value})
        assert response.status_code == 422
        assert response.json()["error"] == refusal(parameter, cast("integer"))


@pytest.mark.parametrize("number", [2, 19, 20])
async def test_past_the_end_there_is_an_empty_list(nhs: httpx.AsyncClient, number: int) -> None:
    response = await nhs.get(LIST, params={"page": str(number), "page_size": "500", "name": "🏥🏥"})
    assert response.status_code == 200
    assert response.json()["data"] == []
    assert response.json()["paging"]["page_number"] == number


@pytest.mark.parametrize("digits", [str(2**64), str(10**30), "9" * 5_000], ids=len)
async def test_a_number_beyond_64_bits_is_refused(nhs: httpx.AsyncClient, digits: str) -> None:
    for parameter in PAGING:
        response = await nhs.get(LIST, params={parameter: digits})
        assert response.status_code == 422
        assert response.json()["error"] == refusal(parameter, cast("integer"))


# Order and counting


async def walked(http: httpx.AsyncClient, *, page_size: int, **query: Any) -> list[str]:
    """Read all pages, one after the other, until one is empty."""
    found: list[str] = []
    for number in range(1, 1_000):
        page = await listed(http, page=number, page_size=page_size, **query)
        if not page:
            break
        found += page
    return found


async def test_clients_are_listed_in_the_order_of_insertion(db: Db, nhs: httpx.AsyncClient, person: UUID) -> None:
    late, early = await several(db, person, 2)
    await db.execute("UPDATE clients SET inserted_at = '2001-01-01Z' WHERE id = $1", UUID(early))
    await db.execute("UPDATE clients SET inserted_at = '2099-01-01Z' WHERE id = $1", UUID(late))
    every = await db.fetch("SELECT id FROM clients ORDER BY inserted_at, id")
    found = await walked(nhs, page_size=50)
    assert found == [str(row["id"]) for row in every]
    assert (found[0], found[-1]) == (early, late)
    await db.execute("UPDATE clients SET inserted_at = now() WHERE user_id = $1", person)


async def test_clients_with_the_same_insertion_time_are_ordered_by_id(
    db: Db, nhs: httpx.AsyncClient, person: UUID
) -> None:
    made = await several(db, person, 9)
    await db.execute("UPDATE clients SET inserted_at = '2020-02-20Z' WHERE user_id = $1", person)
    assert await walked(nhs, page_size=2, user_id=person) == sorted(made)


async def test_counting_stops_at_its_limit_and_paging_leads_on_to_the_end(
    db: Db, nhs: httpx.AsyncClient, person: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await several(db, person, 7)
    monkeypatch.setattr(lists, "COUNT_LIMIT", 4)
    totals: list[tuple[int, int]] = []
    seen: list[str] = []
    while not totals or len(totals) < totals[-1][1]:
        query = {"user_id": str(person), "page_size": "2", "page": str(len(totals) + 1)}
        body = (await nhs.get(LIST, params=query)).json()
        assert set(body["paging"]) - {"next"} == {"page_number", "page_size", "total_entries", "total_pages"}
        totals.append((body["paging"]["total_entries"], body["paging"]["total_pages"]))
        seen += [row["id"] for row in body["data"]]
    assert totals == [(4, 2), (5, 3), (7, 4), (7, 4)]
    assert seen == made
    past = (await nhs.get(LIST, params={"user_id": str(person), "page_size": "2", "page": "9"})).json()
    assert (past["data"], past["paging"]["total_entries"]) == ([], 4)


async def test_below_the_counting_limit_the_total_is_exact(
    db: Db, nhs: httpx.AsyncClient, person: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await several(db, person, 3)
    monkeypatch.setattr(lists, "COUNT_LIMIT", 4)
    response = await nhs.get(LIST, params={"user_id": str(person)})
    assert response.json()["paging"] == {"page_number": 1, "page_size": 50, "total_entries": 3, "total_pages": 1}


# The caller's roles


async def role(db: Db, user_id: UUID, *, client_id: UUID, scope: str = "client:read") -> dict[str, Any]:
    """Grant a new role to that user in that client, and return it as the answer should show it."""
    name = f"ROLE {uuid4()}"
    role_id = await db.fetchval("INSERT INTO roles (name, scope) VALUES ($1, $2) RETURNING id", name, scope)
    row = await db.fetchrow(
        "INSERT INTO user_roles (user_id, role_id, client_id) VALUES ($1, $2, $3)"
        " RETURNING *, (SELECT name FROM clients WHERE id = client_id) AS client_name",
        user_id,
        role_id,
        client_id,
    )
    assert row is not None
    return {
        "id": str(row["id"]),
        "user_id": str(user_id),
        "role_id": str(role_id),
        "role_name": name,
        "client_id": str(client_id),
        "client_name": row["client_name"],
        "scope": scope,
        "created_at": f"{row['inserted_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
        "updated_at": f"{row['updated_at']:%Y-%m-%dT%H:%M:%S.%f}Z",
    }


async def test_roles_show_the_callers_roles_in_the_client_of_the_token(http: httpx.AsyncClient, db: Db) -> None:
    mine, other = await factories.client(db), await factories.client(db)
    wanted = [await role(db, mine.user_id, client_id=mine.id, scope=scope) for scope in ("a:read b:write", "c:read")]
    await role(db, mine.user_id, client_id=other.id)
    await role(db, other.user_id, client_id=mine.id)
    await role(db, other.user_id, client_id=other.id)
    response = await http.get(ROLES, headers=await caller(db, mine, scope=None))
    assert response.status_code == 200
    assert response.json() == {"meta": meta(response, ROLES, "list"), "data": wanted}


async def test_a_global_role_is_not_shown_as_a_role_in_the_client(http: httpx.AsyncClient, db: Db) -> None:
    mine, elsewhere = await factories.client(db), await factories.client(db)
    given = await role(db, mine.user_id, client_id=elsewhere.id)
    await db.execute(
        "INSERT INTO global_user_roles (user_id, role_id) VALUES ($1, $2)", mine.user_id, UUID(given["role_id"])
    )
    response = await http.get(ROLES, headers=await caller(db, mine))
    assert (response.status_code, response.json()["data"]) == (200, [])


@pytest.mark.parametrize("client_type", TYPES_PINNED_TO_THEMSELVES + ADMINISTRATIVE_TYPES)
async def test_roles_of_other_users_are_not_shown(http: httpx.AsyncClient, db: Db, client_type: str) -> None:
    mine, foreign = await factories.client(db, client_type=client_type), await factories.client(db)
    own = await role(db, mine.user_id, client_id=mine.id)
    await role(db, foreign.user_id, client_id=foreign.id)
    query = {"user_id": str(foreign.user_id), "client_id": str(foreign.id)}
    response = await http.get(ROLES, params=query, headers=await caller(db, mine))
    assert response.json()["data"] == [own]


async def test_roles_are_those_of_the_tokens_user_not_of_the_clients_owner(http: httpx.AsyncClient, db: Db) -> None:
    client = await factories.client(db)
    doctor = factories.Client(client.id, await factories.user(db))
    await role(db, client.user_id, client_id=client.id)
    own = await role(db, doctor.user_id, client_id=client.id)
    assert (await http.get(ROLES, headers=await caller(db, doctor))).json()["data"] == [own]


async def test_roles_require_a_valid_token_and_no_scope(http: httpx.AsyncClient, db: Db) -> None:
    brokered = await factories.client(db, access_type="BROKER")
    answers = [
        await http.get(ROLES),
        await http.get(ROLES, headers=bearer("no-such-token")),
        await http.get(ROLES, headers=await caller(db, brokered)),
        await http.get(ROLES, headers=await caller(db, await factories.client(db), scope="")),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 200]
