"""Lists beyond their first pages: cursors, the end of pages by number, and searches that would take too long."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mithril.database import lists
from support import factories
from support.factories import Db, bearer

pytestmark = pytest.mark.anyio

ADMIN = "/admin/clients"
TOO_FAR = "Pages by number end at entry 10000. Go on with after, the paging.next of a page."
UNKNOWN = "This after is not of this list with these filters. Begin again without it."


async def page(http: httpx.AsyncClient, path: str, **query: Any) -> tuple[list[str], dict[str, Any]]:
    """The ids on a page, and its paging."""
    response = await http.get(path, params=query)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["data"]], response.json()["paging"]


async def refusal(http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    response = await http.get(path, params=query)
    assert response.status_code == 422
    error = response.json()["error"]
    return error["message"] if error["type"] == "request_malformed" else error["invalid"]


async def several(db: Db, count: int = 5, **given: Any) -> tuple[str, list[str]]:
    """An owner, and their clients in the order of lists."""
    owner = await factories.user(db)
    made = [str((await factories.client(db, user_id=owner, **given)).id) for _ in range(count)]
    return str(owner), made


@pytest.fixture
async def nhs(http: httpx.AsyncClient, db: Db) -> httpx.AsyncClient:
    """The public client as an administrator."""
    caller = await factories.client(db, client_type="NHS")
    http.headers.update(bearer(await factories.token(db, client=caller, scope="client:read")))
    return http


@pytest.mark.parametrize("listener", ["public", "internal"])
async def test_a_cursor_leads_through_the_whole_list(
    nhs: httpx.AsyncClient, internal: httpx.AsyncClient, db: Db, listener: str
) -> None:
    client, path = (nhs, "/api/clients") if listener == "public" else (internal, ADMIN)
    owner, made = await several(db)
    found, paging = await page(client, path, user_id=owner, page_size=2)
    pages = [paging["page_number"]]
    while "next" in paging:
        rows, paging = await page(client, path, user_id=owner, page_size=2, after=paging["next"])
        found += rows
        pages.append(paging["page_number"])
        assert (paging["total_entries"], paging["total_pages"]) == (5, 3)
    assert (found, pages) == (made, [1, 2, 3])


async def test_rows_that_come_and_go_move_no_cursor(internal: httpx.AsyncClient, db: Db) -> None:
    owner, made = await several(db)
    _, paging = await page(internal, ADMIN, user_id=owner, page_size=2)
    await db.execute("DELETE FROM clients WHERE id = ANY ($1)", made[:2])  # also the one at which the cursor is
    newest = await factories.client(db, user_id=UUID(owner))
    found, paging = await page(internal, ADMIN, user_id=owner, page_size=2, after=paging["next"])
    assert found == made[2:4]
    assert await page(internal, ADMIN, user_id=owner, page_size=9, after=paging["next"]) == (
        [made[4], str(newest.id)],
        {"page_number": 1, "page_size": 9, "total_entries": 6, "total_pages": 1},
    )


async def test_rows_of_the_same_moment_are_each_found_once(internal: httpx.AsyncClient, db: Db) -> None:
    owner, made = await several(db)
    await db.execute("UPDATE clients SET inserted_at = now() WHERE user_id = $1", owner)
    found, paging = await page(internal, ADMIN, user_id=owner, page_size=1)
    while "next" in paging:
        rows, paging = await page(internal, ADMIN, user_id=owner, page_size=1, after=paging["next"])
        found += rows
    assert found == sorted(made)


async def test_a_history_has_a_cursor_too(http: httpx.AsyncClient, db: Db) -> None:
    owner = await factories.client(db)
    connection = await factories.connection(db, client_id=owner.id)
    headers = bearer(await factories.token(db, client=owner, scope="connection:read connection:write"))
    for number in range(3):
        body = {"redirect_uri": f"https://new.example.com/{number}"}
        assert (await http.patch(connection.path, json=body, headers=headers)).status_code == 200
    path = f"{connection.path}/history"
    every = (await http.get(path, headers=headers)).json()["data"]
    first = (await http.get(path, params={"page_size": 2}, headers=headers)).json()
    rest = (await http.get(path, params={"after": first["paging"]["next"]}, headers=headers)).json()
    assert [*first["data"], *rest["data"]] == every
    assert "next" not in rest["paging"]


async def test_a_cursor_wants_its_own_list_and_filters(internal: httpx.AsyncClient, db: Db) -> None:
    owner, _ = await several(db)
    _, paging = await page(internal, ADMIN, user_id=owner, page_size=1)
    after = paging["next"]
    assert await refusal(internal, ADMIN, after=after) == UNKNOWN
    assert await refusal(internal, ADMIN, user_id=str(uuid4()), after=after) == UNKNOWN
    assert await refusal(internal, ADMIN, user_id=owner, is_blocked="false", after=after) == UNKNOWN
    assert await refusal(internal, "/admin/tokens", user_id=owner, after=after) == UNKNOWN


async def test_a_cursor_is_taken_as_it_was_given_or_refused(internal: httpx.AsyncClient, db: Db) -> None:
    owner, made = await several(db)
    _, paging = await page(internal, ADMIN, user_id=owner, page_size=1)
    after = paging["next"]
    rule = {"rule": "cast", "description": "is invalid", "params": ["cursor"]}
    cast = [{"entry": "$.after", "rules": [rule], "entry_type": "json_data_property"}]
    raw = base64.urlsafe_b64decode(after + "==")
    for number in range(len(raw)):
        changed = raw[:number] + bytes([raw[number] ^ 1]) + raw[number + 1 :]
        text = base64.urlsafe_b64encode(changed).decode().rstrip("=")
        assert await refusal(internal, ADMIN, user_id=owner, after=text) in (UNKNOWN, cast), changed
    for text in ("x", "\0", f"{after}=", f"{after} ", after[:-1], f"{after}AAAA", "🏥", "A" * 2_000):
        assert await refusal(internal, ADMIN, user_id=owner, after=text) == cast, text
    assert (await page(internal, ADMIN, user_id=owner, after="", page_size=1))[0] == made[:1]
    assert (await page(internal, ADMIN, user_id=owner, after=after, page=10**9, page_size=1))[0] == made[1:2]


async def test_a_forged_cursor_is_no_error_of_ours(internal: httpx.AsyncClient) -> None:
    """The place of a list by number in one by time, and times at the ends of the calendar."""
    subject = lists.page_of(ADMIN, {}, size=1).subject
    for number in (1, 2**63 - 1):
        after = lists.Cursor.of(subject, 1, None, number).encoded()
        assert await refusal(internal, ADMIN, after=after) == UNKNOWN
    for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)):
        after = lists.Cursor.of(subject, 2**53, moment, UUID(int=0)).encoded()
        await page(internal, ADMIN, after=after)


async def test_pages_by_number_end_where_the_refusal_names_the_cursor(internal: httpx.AsyncClient) -> None:
    for number, size in ((200, 50), (20, 500), (10_000, 1)):
        await page(internal, ADMIN, page=number, page_size=size)
        assert await refusal(internal, ADMIN, page=number + 1, page_size=size) == TOO_FAR
    assert await refusal(internal, ADMIN, page_number=2**63) == TOO_FAR


async def test_a_search_that_would_read_too_much_is_refused(
    internal: httpx.AsyncClient, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of a list. The embedded PostgreSQL has no index of trigrams."""
    owner, made = await several(db)
    await db.execute("UPDATE clients SET name = 'Rare' WHERE id = ANY ($1)", [made[0], made[4]])
    monkeypatch.setattr(lists, "LOOK_LIMIT", 4)
    assert "pg_trgm" in await refusal(internal, ADMIN, user_id=owner, name="rare")
    monkeypatch.setattr(lists, "LOOK_LIMIT", 6)
    found, paging = await page(internal, ADMIN, user_id=owner, name="rare", page_size=1)
    assert (found, paging["total_entries"]) == (made[:1], 2)
    found, paging = await page(internal, ADMIN, user_id=owner, name="rare", page_size=1, after=paging["next"])
    assert (found, paging) == (made[4:], {"page_number": 2, "page_size": 1, "total_entries": 2, "total_pages": 2})


async def test_a_full_page_of_a_search_needs_no_more_rows(
    internal: httpx.AsyncClient, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, made = await several(db)
    monkeypatch.setattr(lists, "LOOK_LIMIT", 3)
    name = str(await db.fetchval("SELECT left(name, 3) FROM clients WHERE user_id = $1 LIMIT 1", owner))
    found, paging = await page(internal, ADMIN, user_id=owner, name=name, page_size=2)
    assert (found, paging["total_entries"], paging["total_pages"]) == (made[:2], 3, 2)
    found, paging = await page(internal, ADMIN, user_id=owner, name=name, page_size=2, after=paging["next"])
    assert (found, paging["total_entries"], paging["total_pages"]) == (made[2:4], 5, 3)


async def test_tokens_of_rare_names_are_found_by_their_index(
    internal: httpx.AsyncClient, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await factories.client(db)
    for _ in range(4):
        await factories.token(db, client=owner)
    monkeypatch.setattr(lists, "LOOK_LIMIT", 3)
    query = {"client_id": str(owner.id), "page_size": 1}
    assert (await page(internal, "/admin/tokens", **query, name="ACCESS"))[1]["total_entries"] == 3
    assert (await page(internal, "/admin/tokens", **query, name="zzzz"))[0] == []
    assert "quickly" in await refusal(internal, "/admin/tokens", **query, name="refresh")
    await factories.token(db, client=owner, name="ROBOT 100%")
    assert (await page(internal, "/admin/tokens", **query, name="bot 100%"))[1]["total_entries"] == 1
    assert (await page(internal, "/admin/tokens", **query, name="bot%1"))[0] == []
