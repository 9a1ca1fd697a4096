"""The console by HTTP: what its pages show and change, and what they refuse."""

import asyncio
import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from mithril import logs, security
from mithril.connections import redirect_uris
from mithril.console import redirect_uri_page, rendering
from mithril.pages import texts
from support import factories, repository
from support.cases import HOSTILE, PASSWORD, form_token
from support.console import NEW, OLD, SCOPE, Owner, events, filled, make_owner, send, sign_in
from support.factories import Db, bearer
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio

SESSION, FORM = "mithril-console", "mithril-console-form"


async def connection_row(db: Db, owner: Owner) -> dict[str, Any]:
    row = await db.fetchrow("SELECT * FROM connections WHERE id = $1", owner.connection.id)
    assert row is not None
    return dict(row)


# What the API would say


PAGES = {
    "": ("GET", ""),
    "/history": ("GET", "/history"),
    "/address": ("PATCH", ""),
    "/secret": ("PATCH", "/actions/refresh_secret"),
    "/delete": ("DELETE", ""),
}


@pytest.mark.parametrize("left_out", SCOPE.split())
@pytest.mark.parametrize("by", ["scope", "type_scope"])
async def test_a_page_needs_the_scope_that_the_api_needs(
    http: httpx.AsyncClient, db: Db, left_out: str, by: str
) -> None:
    """The verdicts equal, whether the role or the type of the client lacks the scope."""
    left = " ".join(name for name in SCOPE.split() if name != left_out)
    owner = await make_owner(db, access_type="DIRECT", **{by: left})
    await sign_in(http, owner.email)
    token = await factories.token(db, client=owner.client, scope=left)
    headers = bearer(token) | {"if-match": '"999"', "content-type": "application/json"}
    refused = set()
    for page, (method, path) in PAGES.items():
        body = json.dumps({"redirect_uri": OLD}) if (method, path) == ("PATCH", "") else None
        answer = await http.request(method, f"{owner.connection.path}{path}", headers=headers, content=body)
        shown = await http.get(f"{owner.page}{page}")
        lacks = left_out in answer.headers.get("www-authenticate", "")
        assert (shown.status_code == 403) == lacks, page
        assert shown.status_code in (200, 403)
        refused |= {left_out} if lacks else set()
    assert refused == {left_out} - {"client:read"}


async def test_a_connection_of_another_client_is_not_there(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    other = await make_owner(db)
    for page in PAGES:
        mixed = f"{owner.path}/connections/{other.connection.id}{page}"
        assert (await inside.get(mixed)).status_code == 404
        assert (await inside.get(f"{other.page}{page}")).status_code == 403
        assert (await inside.get(f"{owner.path}/connections/x{page}")).status_code == 404
    data = filled(await inside.get(f"{owner.page}/address?new={NEW}"))
    assert (await inside.post(f"{other.page}/address", data=data)).status_code == 403
    assert (await inside.post(f"{owner.path}/connections/{other.connection.id}/address", data=data)).status_code == 404
    assert (await connection_row(db, other))["redirect_uri"] == OLD


# Another redirect URI


async def test_the_redirect_uri_is_changed_as_patch_does(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    before = await connection_row(db, owner)
    response = await send(inside, f"{owner.page}/address", of=f"{owner.page}/address?new={NEW}")
    assert (response.status_code, response.headers["location"]) == (303, f"{owner.page}?after=2")
    after = await connection_row(db, owner)
    assert after.pop("redirect_uri") == NEW
    assert {name for name in after if after[name] != before[name]} == {"version", "updated_at", "redirect_uri_since"}
    (event,) = await events(db, owner.connection.id)
    assert (event["action"], event["old"], event["new"]) == (
        "connection.update",
        {"redirect_uri": OLD},
        {"redirect_uri": NEW},
    )
    assert (event["actor_user_id"], event["actor_client_id"]) == (owner.user_id, owner.client.id)
    page = await inside.get(response.headers["location"], headers={"accept-language": "en"})
    assert "The address is changed." in page.text
    assert "The address is changed." not in (await inside.get(owner.page, headers={"accept-language": "en"})).text
    link = re.search(r'href="([^"]+)">Bring the old one back', page.text)
    assert link
    assert link[1] == f"{owner.page}/history/{event['id']}/revert"
    assert (await send(inside, link[1])).status_code == 303
    assert (await connection_row(db, owner))["redirect_uri"] == OLD
    (_, event) = await events(db, owner.connection.id)
    assert (event["action"], event["new"]["reverts"]) == ("connection.revert", int(link[1].split("/")[-2]))


async def test_a_former_redirect_uri_is_brought_back_as_revert_does(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    """From the log, with a transition under way, which it ends; once, whatever is sent twice."""
    await send(inside, f"{owner.page}/address", of=f"{owner.page}/address?new={NEW}", days="0")
    await send(inside, f"{owner.page}/address", of=f"{owner.page}/address?new={NEW}er", days="3")
    (first, second) = await events(db, owner.connection.id)
    log = await inside.get(f"{owner.page}/history")
    path = f"{owner.page}/history/{first['id']}/revert"
    assert path in log.text
    form = await inside.get(path, headers={"accept-language": "en"})
    assert 'name="days"' not in form.text
    assert "this address will be the only one" in form.text
    for fields, status in (({"password": "wrong"}, 422), ({"password": None}, 422), ({"version": "1"}, 412)):
        assert (await inside.post(path, data=filled(form, **fields))).status_code == status
    assert len(await events(db, owner.connection.id)) == 2
    answers = await asyncio.gather(*(inside.post(path, data=filled(form)) for _ in range(32)))
    row = await connection_row(db, owner)
    done = f"{owner.page}?after={row['version']}"
    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {(303, done)}
    assert (row["redirect_uri"], row["transition_redirect_uri"]) == (OLD, None)
    assert len(await events(db, owner.connection.id)) == 3
    assert (await inside.get(path)).headers["location"] == owner.page, "there is nothing left to bring back"
    assert (await inside.get(f"{owner.page}/history/{second['id']}/revert")).status_code == 409
    other = await make_owner(db)
    for number in ("0", "x", "9" * 12, str(first["id"] + 1000)):
        assert (await inside.get(f"{owner.page}/history/{number}/revert")).status_code == 404
    assert (await inside.get(f"{other.page}/history/{first['id']}/revert")).status_code == 403


async def test_a_former_redirect_uri_that_is_refused_today_is_not_brought_back(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    script = "javascript:alert(1)"
    record = (
        "INSERT INTO audit_events (action, subject_id, client_id, old, new) VALUES ($3, $1, $2, $4, $5) RETURNING id"
    )
    values = [json.dumps({"redirect_uri": uri}) for uri in (script, OLD)]
    args = (owner.connection.id, owner.client.id, "connection.update", *values)
    path = f"{owner.page}/history/{await db.fetchval(record, *args)}/revert"
    page = await inside.get(path)
    assert (page.status_code, rendering.words_of_reason("scheme", "uk") in page.text) == (422, True)
    assert not re.search(r'(?:href|action)="\s*javascript:', page.text)
    data = filled(await inside.get(f"{owner.page}/secret"))
    assert (await inside.post(path, data=data)).status_code == 422
    assert (await connection_row(db, owner))["redirect_uri"] == OLD


async def test_a_change_of_someone_else_is_not_said_to_be_ones_own(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    await db.execute("UPDATE connections SET redirect_uri = $2, version = 2 WHERE id = $1", owner.connection.id, NEW)
    page = await inside.get(f"{owner.page}?after=2")
    assert rendering.words("uk")["done_connection.update"] not in page.text


async def test_the_confirmation_shows_both_and_says_what_follows(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    mis = await factories.client(db, client_type="MIS")
    new = "https://other.example.com/old"
    await factories.connection(db, client_id=owner.client.id, consumer_id=mis.id, redirect_uri=new)
    await factories.token(db, client=owner.client, name="authorization_code", connection_id=owner.connection.id)
    page = await inside.get(f"{owner.page}/address?new={new}", headers={"accept-language": "en"})
    assert "https://<mark>mis</mark>.example.com/old" in page.text
    assert "https://<mark>other</mark>.example.com/old" in page.text
    assert "What differs: the server." in page.text
    assert "Another server: <bdi>mis.example.com</bdi> → <bdi>other.example.com</bdi>." in page.text
    assert "Signing in at this moment: 1." in page.text
    assert "Another connection of this institution has the same address" in page.text
    assert (await connection_row(db, owner))["redirect_uri"] == OLD


REFUSED = {
    "empty": "",
    "too_long": "https://mis.example.com/" + "a" * 2048,
    "non_ascii": "https://мис.example.com",
    "illegal_character": "https://mis.example.com/a\tb",
    "bad_percent_escape": "https://mis.example.com/%",
    "fragment": "https://mis.example.com/#a",
    "not_absolute": "mis.example.com",
    "scheme": "http://mis.example.com",
    "no_authority": "https:mis.example.com",
    "not_canonical": "https://MIS.example.com/",
    "empty_host": "https:///a",
    "userinfo": "https://a@mis.example.com",
    "wildcard": "https://*.example.com",
    "ip_literal": "https://10.0.0.1",
    "percent_in_host": "https://m%69s.example.com",
    "port": "https://mis.example.com:0",
    "trailing_dot": "https://mis.example.com./",
    "host_syntax": "https://-mis.example.com",
    "non_public_host": "https://mis.local",
    "punycode": "https://xn--80ak6aa92e.com",
    "encoded_control": "https://mis.example.com/%00",
    "bad_utf8": "https://mis.example.com/%ff",
    "encoded_delimiter": "https://mis.example.com/%2f",
    "dot_segment": "https://mis.example.com/../a",
    "double_slash": "https://mis.example.com//a",
    "reserved_parameter": "https://mis.example.com/?code=1",
    "duplicate_parameter": "https://mis.example.com/?a=1&a=2",
}


def test_every_reason_has_its_example_and_its_words() -> None:
    assert (
        REFUSED.keys()
        == redirect_uris.DESCRIPTIONS.keys()
        == texts.load("texts.json", rendering.PACKAGE)["reasons"].keys()
    )


@pytest.mark.parametrize("language", texts.LANGUAGES)
async def test_every_reason_is_said_in_words(inside: httpx.AsyncClient, db: Db, owner: Owner, language: str) -> None:
    for reason, uri in REFUSED.items():
        page = await inside.get(f"{owner.page}/address", params={"new": uri, "lang": language})
        assert page.status_code == 422, reason
        words = (
            html.escape(rendering.words_of_reason(reason, language))
            .replace("&#x27;", "&#39;")
            .replace("&quot;", "&#34;")
        )
        assert words in page.text, reason
        draft = await inside.get(f"{owner.page}/address", params={"new": uri, "lang": language, "draft": "1"})
        assert (draft.status_code, words in draft.text, "autofocus" in draft.text) == (200, True, False)
    assert (await connection_row(db, owner))["redirect_uri"] == OLD


@pytest.mark.parametrize(
    ("typed", "offer"),
    [
        ("https://MIS.example.com:443/a", "https://mis.example.com/a"),
        (" https://mis.example.com/a", "https://mis.example.com/a"),
        ("https://MIS.example.com/a ", "https://mis.example.com/a"),
        ("https://mis.example.com/a#b", None),
    ],
)
def test_an_offer_is_made_where_it_is_certain(typed: str, offer: str | None) -> None:
    verdict = redirect_uri_page.judge(typed, redirect_uris.STRICT)
    assert (verdict.offer, verdict.is_padded) == (offer, typed.strip() != typed)


@pytest.mark.parametrize(
    ("old", "new", "marked"),
    [
        ("https://a.example/x", "https://b.example/x", ("a", "b")),
        ("https://a.example/x", "https://a.example/x/", ("", "/")),
        ("https://a.example/aaa", "https://a.example/aa", ("a", "")),
        ("https://a.example", "https://a.example", ("", "")),
        ("", "https://a.example", ("", "https://a.example")),
    ],
)
def test_what_differs_is_set_apart(old: str, new: str, marked: tuple[str, str]) -> None:
    sides = redirect_uri_page.sides(old, new)
    assert tuple(side.different for side in sides) == marked
    assert ["".join(side) for side in sides] == [old, new]


async def test_the_present_redirect_uri_is_no_change(inside: httpx.AsyncClient, owner: Owner) -> None:
    page = await inside.get(f"{owner.page}/address?new={OLD}")
    assert rendering.words("uk")["same_redirect_uri"] in page.text


async def test_a_refused_redirect_uri_is_refused_in_the_form_of_the_password_too(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    page = await inside.get(f"{owner.page}/address?new={NEW}")
    for uri in ("javascript:alert(1)", "https://mis.example.com/#x", ""):
        response = await inside.post(f"{owner.page}/address", data=filled(page, new=uri))
        assert response.status_code == 422
    assert await events(db, owner.connection.id) == []


@pytest.mark.parametrize("path", ["address", "secret", "delete"])
@pytest.mark.parametrize(("password", "problem"), [(None, "no_password"), ("wrong", "password_wrong")])
async def test_nothing_changes_without_the_password(  # noqa: PLR0917 -- fixtures
    inside: httpx.AsyncClient, db: Db, owner: Owner, path: str, password: str | None, problem: str
) -> None:
    page = f"{owner.page}/{path}"
    query = f"?new={NEW}" if path == "address" else ""
    response = await send(inside, page, of=page + query, password=password, understood="yes")
    assert response.status_code == 422
    assert rendering.words("uk")[f"problem_{problem}"] in response.text
    assert 'tabindex="-1" autofocus' in response.text
    assert await events(db, owner.connection.id) == []


async def test_wrong_passwords_count_as_failed_sign_ins(inside: httpx.AsyncClient, owner: Owner, db: Db) -> None:
    page = await inside.get(f"{owner.page}/address?new={NEW}")
    texts_seen = [
        (await inside.post(f"{owner.page}/address", data=filled(page, password="wrong"))).text for _ in range(11)
    ]
    assert rendering.words("uk")["problem_password_wrong"] in texts_seen[0]
    assert rendering.words("uk")["problem_password_too_many"] in texts_seen[-1]
    response = await inside.post(f"{owner.page}/address", data=filled(page))
    assert response.status_code == 422, "the right one too"
    await db.execute("DELETE FROM attempts")


async def test_a_form_for_an_older_version_changes_nothing(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    asked = f"{owner.page}/address?new={NEW}"
    page, secret, delete = [await inside.get(path) for path in (asked, f"{owner.page}/secret", f"{owner.page}/delete")]
    token = await factories.token(db, client=owner.client)
    await db.execute('UPDATE clients SET priv_settings = \'{"access_type": "DIRECT"}\' WHERE id = $1', owner.client.id)
    third = "https://mis.example.com/third"
    assert (
        await inside.patch(owner.connection.path, json={"redirect_uri": third}, headers=bearer(token))
    ).status_code == 200
    response = await inside.post(f"{owner.page}/address", data=filled(page))
    assert (response.status_code, third in response.text, NEW in response.text) == (412, True, True)
    again = re.search(r'class="button" href="([^"]+)"', response.text)
    assert again
    assert again[1] == f"{owner.page}/address?new=https%3A//mis.example.com/new"
    assert (await inside.post(f"{owner.page}/secret", data=filled(secret))).status_code == 412
    assert (await inside.post(f"{owner.page}/delete", data=filled(delete, understood="yes"))).status_code == 412
    for version in ("", "x", "9" * 30, "-1"):
        assert (await inside.post(f"{owner.page}/address", data=filled(page, version=version))).status_code == 412
    assert len(await events(db, owner.connection.id)) == 1


async def test_of_many_submissions_of_a_form_one_makes_the_change(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    page = await inside.get(f"{owner.page}/address?new={NEW}")
    answers = await asyncio.gather(*(inside.post(f"{owner.page}/address", data=filled(page)) for _ in range(32)))
    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {(303, f"{owner.page}?after=2")}
    assert len(await events(db, owner.connection.id)) == 1


async def test_of_two_forms_and_a_patch_at_once_one_makes_the_change(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    """Of one version: every other caller is told, and nothing is lost unseen."""
    await db.execute('UPDATE clients SET priv_settings = \'{"access_type": "DIRECT"}\' WHERE id = $1', owner.client.id)
    token = await factories.token(db, client=owner.client)
    headers = bearer(token) | {"if-match": '"1"'}
    forms = [await inside.get(f"{owner.page}/address?new={NEW}{number}") for number in range(4)]
    secrets = [await inside.get(f"{owner.page}/secret") for _ in range(4)]
    answers = await asyncio.gather(
        *(inside.post(f"{owner.page}/address", data=filled(form)) for form in forms),
        *(inside.post(f"{owner.page}/secret", data=filled(form)) for form in secrets),
        *(inside.patch(owner.connection.path, json={"redirect_uri": f"{OLD}/{n}"}, headers=headers) for n in range(4)),
    )
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(412) == len(answers) - 1, statuses
    assert len(await events(db, owner.connection.id)) == 1
    assert (await connection_row(db, owner))["version"] == 2


async def test_a_block_ends_the_sessions_that_are_changing_something(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    form = await inside.get(f"{owner.page}/address?new={NEW}")
    block = db.execute("UPDATE users SET is_blocked = true WHERE id = $1", owner.user_id)
    await asyncio.gather(block, *(inside.post(f"{owner.page}/address", data=filled(form)) for _ in range(8)))
    assert (await inside.get(owner.page)).status_code == 303
    assert len(await events(db, owner.connection.id)) <= 1


# A move without a gap


async def test_both_redirect_uris_are_good_for_a_time(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    path, asked = f"{owner.page}/address", f"{owner.page}/address?new={NEW}"
    form = await inside.get(asked, headers={"accept-language": "en"})
    assert '<option value="1" selected>' in form.text
    response = await inside.post(path, data=filled(form, days="30"))
    assert response.headers["location"] == f"{owner.page}?after=2"
    again = await inside.post(path, data=filled(form, days="30"))
    assert again.headers["location"] == f"{owner.page}?after=2"
    row = await connection_row(db, owner)
    assert (row["redirect_uri"], row["transition_redirect_uri"]) == (OLD, NEW)
    assert timedelta(days=29) < row["transition_ends_at"] - datetime.now(UTC) < timedelta(days=31)
    code = await factories.token(db, client=owner.client, name="authorization_code", connection_id=owner.connection.id)
    await db.execute(
        "UPDATE tokens SET used_at = now(), details = jsonb_build_object('redirect_uri', $2::text) WHERE digest = $1",
        security.digest(code),
        NEW,
    )
    page = await inside.get(f"{owner.page}?after=2", headers={"accept-language": "en"})
    assert "The move has begun: both addresses work." in page.text
    assert re.search(r"sign-ins since then: 0.+sign-ins since then: 1", page.text, re.DOTALL)
    assert NEW in (await inside.get(owner.path)).text
    history = await inside.get(f"{owner.page}/history", headers={"accept-language": "en"})
    assert "Move to a new address begun" in history.text
    assert f'Move to the address: after</dt><dd><code class="uri">{NEW}' in history.text


@pytest.mark.parametrize(
    ("then", "action"),
    [(NEW, "complete_transition"), (OLD, "cancel_transition"), (f"{NEW}er", "update")],
)
async def test_a_move_is_completed_cancelled_or_given_up(
    inside: httpx.AsyncClient, db: Db, owner: Owner, then: str, action: str
) -> None:
    path = f"{owner.page}/address"
    await send(inside, path, of=f"{path}?new={NEW}", days="3")
    form = await inside.get(f"{path}?new={then}")
    assert ('name="days"' in form.text) == (action == "update")
    days = {"days": "1"} if action != "update" else {}  # which a form of a move that ends does not have
    assert (await inside.post(path, data=filled(form, **days))).status_code == 303
    row = await connection_row(db, owner)
    assert (row["redirect_uri"], row["transition_redirect_uri"]) == (then, None)
    assert [event["action"] for event in await events(db, owner.connection.id)] == [
        "connection.begin_transition",
        f"connection.{action}",
    ]
    page = await inside.get(f"{owner.page}?after={row['version']}")
    assert rendering.words("uk")[f"done_connection.{action}"] in page.text


# Another secret


async def test_the_previous_secret_is_ended_early(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    path = f"{owner.page}/previous_secret"
    assert (await inside.get(path)).status_code == 404
    await send(inside, f"{owner.page}/secret", days="7")
    assert rendering.words("uk")["not_used"] in (await inside.get(owner.page)).text
    form = await inside.get(path)
    assert (await inside.post(path, data=filled(form, password="wrong"))).status_code == 422
    assert (await inside.post(path, data=filled(form, version="99"))).status_code == 412
    assert (await inside.post(path, data=filled(form))).status_code == 303
    assert (await connection_row(db, owner))["previous_secret_digest"] is None
    (*_, event) = await events(db, owner.connection.id)
    assert (event["action"], event["api_key_client_id"]) == ("connection.end_previous_secret", None)
    assert (await inside.post(path, data=filled(form))).status_code == 404


@pytest.mark.parametrize("days", ["0", "1", "7", "8", "x"])
async def test_a_new_secret_is_shown_once(inside: httpx.AsyncClient, db: Db, owner: Owner, days: str) -> None:
    works = days != "0"
    form = await inside.get(f"{owner.page}/secret")
    page = await inside.post(f"{owner.page}/secret", data=filled(form, days=days))
    found = re.search(r"data-secret>([^<]{32})<", page.text)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert found
    row = await connection_row(db, owner)
    assert row["secret_digest"] == security.digest(found[1])
    assert (row["previous_secret_digest"] == security.digest(owner.connection.secret)) == works
    if works:
        wanted = timedelta(days=int(days) if days in "1234567" else 1)
        assert abs(row["previous_secret_expires_at"] - datetime.now(UTC) - wanted) < timedelta(minutes=2)
    again = await inside.post(f"{owner.page}/secret", data=filled(form, days=days))
    assert (again.status_code, rendering.words("uk")["secret_conflict"] in again.text) == (412, True)
    assert (await connection_row(db, owner))["secret_digest"] == security.digest(found[1])
    (event,) = await events(db, owner.connection.id)
    assert (event["action"], event["api_key_client_id"]) == ("connection.refresh_secret", None)
    history = await inside.get(f"{owner.page}/history")
    assert rendering.words("uk")["used_no_key"] in history.text
    shown = [await inside.get(path) for path in (owner.page, owner.path, f"{owner.page}?saved&after=2")]
    assert not [one for one in [*shown, history, again] if found[1] in one.text]
    assert found[1] not in str(await db.fetch("SELECT old, new FROM audit_events"))
    assert FORM in shown[-1].cookies, "another cookie makes the browser forget the page in memory"
    assert rendering.words("uk")["done_connection.refresh_secret"] in shown[-1].text


async def test_secrets_and_passwords_are_in_no_log(
    server: Server, db: Db, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[logs.Answered] = []
    monkeypatch.setattr(logs, "configure", lambda **_: None)
    monkeypatch.setattr(logs, "request_writer", lambda **_: lines.append)
    with running_server(database_url=server.database_url, log_level="debug") as running:
        async with httpx.AsyncClient(base_url=running.url) as browser:
            await sign_in(browser, owner.email)
            page = await send(browser, f"{owner.page}/secret")
            value = browser.cookies[SESSION]
    secret = re.search(r"data-secret>([^<]{32})<", page.text)
    assert secret
    assert lines[-1].user_id == str(owner.user_id)
    logged = "".join(map(repr, lines))
    assert f"{owner.page}/secret" in logged
    assert not [word for word in (secret[1], PASSWORD, value, owner.email) if word in logged]


# The end of a connection, and the log


async def test_a_connection_is_deleted_with_what_it_ends(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    for name, used in (("access_token", False), ("refresh_token", False), ("authorization_code", True)):
        value = await factories.token(db, client=owner.client, name=name, connection_id=owner.connection.id)
        if used:
            await db.execute("UPDATE tokens SET used_at = now() WHERE digest = $1", security.digest(value))
    page = await inside.get(f"{owner.page}/delete", headers={"accept-language": "en"})
    assert "Tokens that end at once: 2" in page.text
    refused = await inside.post(f"{owner.page}/delete", data=filled(page, understood=None))
    assert (refused.status_code, rendering.words("uk")["problem_not_understood"] in refused.text) == (422, True)
    response = await inside.post(f"{owner.page}/delete", data=filled(page, understood="yes"))
    assert (response.status_code, response.headers["location"]) == (303, f"{owner.page}/history")
    history = await inside.get(f"{owner.page}/history")
    assert rendering.words("uk")["act_connection.delete"] in history.text
    gone = await inside.get(owner.page)
    assert (gone.status_code, rendering.words("uk")["gone"] in gone.text) == (404, True)
    assert (await inside.post(f"{owner.page}/delete", data=filled(page, understood="yes"))).status_code == 404
    assert rendering.words("uk")["no_connections"] in (await inside.get(owner.path)).text
    assert (await inside.get(f"{owner.path}/connections/{uuid4()}")).status_code == 404


async def test_the_log_names_users_of_the_client_and_clients_of_others(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    admin = await make_owner(db, client_type="NHS ADMIN")
    record = (
        "INSERT INTO audit_events (action, subject_id, client_id, old, new, actor_user_id, actor_client_id, request_id)"
        " VALUES ('connection.update', $1, $2, $3, $4, $5, $6, 'a request id')"
    )
    old, new = (json.dumps({"redirect_uri": f"https://mis.example.com/{name}"}) for name in ("one", "two"))
    actors = [(None, None), (admin.user_id, admin.client.id), (owner.user_id, owner.client.id), (uuid4(), uuid4())]
    for actor in actors:
        await db.execute(record, owner.connection.id, owner.client.id, old, new, *actor)
    page = await inside.get(f"{owner.page}/history", headers={"accept-language": "en"})
    name = await db.fetchval("SELECT name FROM clients WHERE id = $1", admin.client.id)
    assert "Operator of the system" in page.text
    assert f"<bdi>{name}</bdi>" in page.text
    assert f"<bdi>{owner.email}</bdi>" in page.text
    assert admin.email not in page.text
    assert str(actors[-1][1]) in page.text
    assert page.text.count("https://mis.example.com/one") >= 4


async def test_older_lines_of_the_log_are_on_further_pages(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    assert rendering.words("uk")["no_changes"] in (await inside.get(f"{owner.page}/history")).text
    await db.execute(
        "INSERT INTO audit_events (action, subject_id, client_id, new)"
        " SELECT 'connection.update', $1, $2, jsonb_build_object('redirect_uri', 'https://mis.example.com/' || n)"
        " FROM generate_series(1, 30) n",
        owner.connection.id,
        owner.client.id,
    )
    first = await inside.get(f"{owner.page}/history")
    assert ("/30<" in first.text, "/5<" in first.text, "?after=" in first.text) == (True, False, True)
    (after,) = re.findall(r'href="[?]after=([^"]+)"', first.text)
    second = await inside.get(f"{owner.page}/history?after={after}")
    assert ("/5<" in second.text, 'id="more"' in second.text) == (True, False)
    assert "/30<" in (await inside.get(f"{owner.page}/history?after=x")).text
    for number in ("0", "x", "-1", "9" * 12, "²"):
        assert (await inside.get(f"{owner.page}/history", params={"page": number})).status_code == 200


# Forged and hostile


async def test_a_forged_form_changes_nothing(inside: httpx.AsyncClient, server: Server, db: Db, owner: Owner) -> None:
    path = f"{owner.page}/address"
    data = filled(await inside.get(f"{path}?new={NEW}"))
    async with httpx.AsyncClient(base_url=server.url) as other:
        await sign_in(other, owner.email)
        foreign = filled(await other.get(f"{path}?new={NEW}"))
    for forged in ({**data, "form_token": foreign["form_token"]}, {**data, "form_token": "x" * 32}):
        assert (await inside.post(path, data=forged)).status_code == 403
    assert (await inside.post(path, data={k: v for k, v in data.items() if k != "form_token"})).status_code == 403
    for site in ("cross-site", "same-site", "none"):
        assert (await inside.post(path, data=data, headers={"sec-fetch-site": site})).status_code == 403
    assert (await inside.post(path, json=data)).status_code == 415
    body = httpx.QueryParams(data)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await inside.post(path, content=f"{body}&new=x", headers=headers)).status_code == 400
    assert (await inside.get(path, params=data)).status_code == 200
    assert (await inside.get(f"{owner.page}/delete", params=data)).status_code == 200
    assert (await inside.get("/console/sign-out")).status_code == 405
    cookie = {SESSION: inside.cookies[SESSION]}
    async with httpx.AsyncClient(base_url=server.url, cookies=cookie) as without_form_cookie:
        assert (await without_form_cookie.post(path, data=data)).status_code == 403
    assert await events(db, owner.connection.id) == []
    assert (await inside.post(path, data=data, headers={"sec-fetch-site": "same-origin"})).status_code == 303


async def test_a_form_in_a_session_that_is_over_leads_back_to_its_page(
    inside: httpx.AsyncClient, db: Db, owner: Owner
) -> None:
    data = filled(await inside.get(f"{owner.page}/address?new={NEW}"))
    await db.execute("UPDATE tokens SET expires_at = now() WHERE user_id = $1", owner.user_id)
    page = await inside.post(f"{owner.page}/address", data=data)
    assert (page.status_code, rendering.words("uk")["problem_over"] in page.text) == (401, True)
    action = re.search(r'<form method="post" action="([^"]+)"', page.text)
    assert action
    sign_in_data = {"form_token": form_token(page), "email": owner.email, "password": PASSWORD}
    response = await inside.post(html.unescape(action[1]), data=sign_in_data)
    assert response.headers["location"] == f"{owner.page}/address?new=https%3A%2F%2Fmis.example.com%2Fnew"
    assert await events(db, owner.connection.id) == []


async def test_imported_texts_are_shown_and_never_run(inside: httpx.AsyncClient, db: Db, owner: Owner) -> None:
    rtl = f"{HOSTILE}\u202e"
    await db.execute("UPDATE clients SET name = $2 WHERE id = ANY ($1)", [owner.client.id, owner.mis.id], rtl)
    script = "javascript:alert(document.domain)//\u202e"
    await db.execute("UPDATE connections SET redirect_uri = $2 WHERE id = $1", owner.connection.id, script)
    record = "INSERT INTO audit_events (action, subject_id, client_id, old, new) VALUES ($3, $1, $2, $4, $4)"
    value = json.dumps({"redirect_uri": script, "secret_tail": HOSTILE})
    for action in ("connection.update", HOSTILE, "connection.<b>"):
        await db.execute(record, owner.connection.id, owner.client.id, action, value)
    paths = [owner.path, owner.page, "/console?choose", "/console/session"]
    paths += [f"{owner.page}/{path}" for path in ("history", "address", "secret", "delete", f"address?new={NEW}")]
    for path in paths:
        page = await inside.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<b>" not in page.text
        assert not re.search(r'(?:href|src|action)="\s*javascript:', page.text)


async def test_pages_are_stored_nowhere_and_load_nothing_from_elsewhere(
    inside: httpx.AsyncClient, owner: Owner
) -> None:
    page = await inside.get(owner.page)
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["content-security-policy"] == rendering.POLICY
    assert not re.findall(r'(?:src|href|action)="(?!/|\?|#)', page.text)
    for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript")):
        file = await inside.get(f"/console/{name}")
        assert file.headers["content-type"].startswith(kind)
        assert not re.findall(r"https?://|@import|url\(", file.text)
        known = await inside.get(f"/console/{name}", headers={"if-none-match": file.headers["etag"]})
        assert known.status_code == 304


async def test_over_https_the_cookies_cannot_be_set_by_a_neighbouring_host(
    server: Server, db: Db, owner: Owner
) -> None:
    with running_server(database_url=server.database_url, public_url="https://auth.example.org") as running:
        async with httpx.AsyncClient(base_url=running.url) as browser:
            page = await browser.get("/console/sign-in")
            cookie = page.headers["set-cookie"]
            assert cookie.startswith("__Host-mithril-console-form=")
            assert all(part in cookie for part in ("Path=/;", "Secure", "HttpOnly", "SameSite=lax"))
            data = {"form_token": form_token(page), "email": owner.email, "password": PASSWORD}
            headers = {"cookie": cookie.partition(";")[0]}
            response = await browser.post("/console/sign-in", data=data, headers=headers)
            assert response.headers["set-cookie"].startswith("__Host-mithril-console=")
            assert "Max-Age" not in response.headers["set-cookie"]


# Words


def test_every_act_of_a_connection_has_words() -> None:
    sources = "".join(path.read_text() for path in (repository() / "src/mithril/connections").glob("*.py"))
    acts = set(re.findall(r"'connection\.(\w+)'", sources)) | {"create", "update", "delete", "revert"}
    acts |= {f"{verb}_transition" for verb in ("begin", "replace", "cancel", "complete")}
    assert {f"act_connection.{act}" for act in acts} <= rendering.words("uk").keys()


def test_both_languages_have_the_same_words_and_all_are_used() -> None:
    words = texts.load("texts.json", rendering.PACKAGE)
    assert words["uk"].keys() == words["en"].keys()
    assert all(text.strip() for language in texts.LANGUAGES for text in words[language].values())
    folder = repository() / "src/mithril"
    used = "".join(path.read_text() for path in (folder / "console").rglob("*.*") if path.suffix in (".py", ".html"))
    used += "".join(path.read_text() for path in (folder / "pages/templates").glob("*.html"))
    made = (
        "problem_",
        "error_",
        "act_",
        "done_",
        "days_",
        "both_",
        "part_",
        "transition",
        "title_",
        "means_",
        "refused_",
    )
    assert [key for key in words["uk"] if not key.startswith(made) and not re.search(rf"\b{key}\b", used)] == []
    for key in words["uk"]:
        fields = [set(re.findall(r"\{(\w+)\}", words[language][key])) for language in texts.LANGUAGES]
        assert fields[0] == fields[1], key


def test_the_redirect_uri_has_one_name_in_ukrainian() -> None:
    for package in (texts.PAGES, rendering.PACKAGE):
        for text in texts.load("texts.json", package)["uk"].values():
            assert not re.search("повернення|зворотнього", text)


async def test_the_language_that_was_chosen_lasts_from_form_to_form(inside: httpx.AsyncClient, owner: Owner) -> None:
    assert 'lang="uk"' in (await inside.get(owner.path)).text
    await inside.get(f"{owner.path}?lang=en")
    page = await inside.get(owner.page)
    assert '<html lang="en">' in page.text
    inside.cookies.set("mithril-language", "xx")


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (datetime(2026, 7, 1, 12, tzinfo=UTC), "01.07.2026, 15:00"),
        (datetime(2026, 12, 1, 12, tzinfo=UTC), "01.12.2026, 14:00"),
        (datetime(2026, 12, 31, 23, tzinfo=UTC), "01.01.2027, 01:00"),
    ],
)
def test_times_are_those_of_kyiv(moment: datetime, shown: str) -> None:
    assert shown in rendering.kyiv_time(moment)
    assert f'datetime="{moment:%Y-%m-%dT%H:%M:%SZ}"' in rendering.kyiv_time(moment)
