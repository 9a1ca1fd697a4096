"""The two authorization endpoints over plain HTTP: the way to a code, and each refusal."""

import html
import json
import re
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import httpx
import pytest

from mithril import security
from mithril.pages import texts
from support import factories
from support.cases import (
    CHALLENGE,
    ENTRANCES,
    PASSWORD,
    Case,
    approve,
    code_in,
    consent_page,
    decide,
    form_token,
    make_case,
    redeem,
    sent_back,
    sign_in,
)
from support.factories import Db
from support.servers import Server, running_server
from support.sockets import hear, statuses

pytestmark = pytest.mark.anyio


# Sign-in and approval


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_user_signs_in_and_approves_and_the_client_gets_a_code(
    http: httpx.AsyncClient, db: Db, server: Server, case: Case, entrance: str
) -> None:
    url = f"{entrance}?{case.changed()}"
    page = await consent_page(http, url, case)
    answer = sent_back(await decide(http, url, page, "allow"), case)

    code = answer.pop("code")
    expected = {"state": "a b+ü&=%"} | ({"iss": server.url} if entrance == "/oauth2/authorize" else {})
    assert answer == expected
    row = await db.fetchrow("SELECT * FROM tokens WHERE digest = $1", security.digest(code))
    assert row is not None
    assert (row["name"], row["user_id"], row["client_id"]) == ("authorization_code", case.user_id, case.client_id)
    assert json.loads(row["details"])["redirect_uri"] == case.redirect_uri
    approval = await db.fetchval("SELECT scope FROM apps WHERE user_id = $1", case.user_id)
    assert approval == "legal_entity:read employee:read"


async def test_the_audit_trail_names_the_user_who_approved(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    response = await decide(http, url, await consent_page(http, url, case), "allow")
    row = await db.fetchrow("SELECT * FROM audit_events WHERE client_id = $1", case.client_id)
    assert row is not None
    assert (row["action"], row["actor_user_id"]) == ("approval.create", case.user_id)
    assert row["request_id"] == response.headers["x-request-id"]
    assert row["network_address"] == "127.0.0.1"


async def test_the_registered_redirect_uri_is_not_changed(http: httpx.AsyncClient, db: Db) -> None:
    case = await make_case(db, redirect_uri="https://mis.example.com/%D0%B1?b=2&a=%7E1")
    url = f"/sign-in?{case.changed()}"
    response = await decide(http, url, await consent_page(http, url, case), "allow")
    assert response.headers["location"].startswith("https://mis.example.com/%D0%B1?b=2&a=%7E1&code=")


async def test_without_a_state_none_is_returned(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed(state=None)}"
    response = await decide(http, url, await consent_page(http, url, case), "allow")
    assert set(sent_back(response, case)) == {"code"}


async def test_the_challenge_is_stored_with_the_code(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/oauth2/authorize?{case.changed(code_challenge=CHALLENGE, code_challenge_method='S256')}"
    answer = sent_back(await decide(http, url, await consent_page(http, url, case), "allow"), case)
    details = await db.fetchval("SELECT details FROM tokens WHERE digest = $1", security.digest(answer["code"]))
    assert json.loads(details)["code_challenge"] == CHALLENGE


async def test_the_user_denies_and_the_client_gets_access_denied(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    answer = sent_back(await decide(http, url, await consent_page(http, url, case), "deny"), case)
    assert (answer["error"], answer["state"]) == ("access_denied", "a b+ü&=%")
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 0


# Consent


async def test_new_scopes_are_shown_first_and_those_allowed_before_are_folded(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    await approve(db, case, "legal_entity:read declaration:read")
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(http, url, case)
    new, _, before = page.text.partition("<details>")
    assert re.findall("<small>(.*)</small>", new) == ["employee:read"]
    assert "which you have given before: 1<" in before
    assert re.findall("<small>(.*)</small>", before) == ["legal_entity:read"]
    assert str(texts.scope_words("legal_entity:read", "en")) in html.unescape(before)
    assert "code" in sent_back(await decide(http, url, page, "allow"), case)
    assert (await db.fetchval("SELECT scope FROM apps WHERE user_id = $1", case.user_id)).split() == [
        *("legal_entity:read", "employee:read", "declaration:read")
    ]


async def test_many_scopes_are_listed_by_area_with_their_names_folded(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    known = "division:read employee:read person:read client:read legal_entity:read"
    scope = f"{known} {' '.join(f'unknown:{letter}' for letter in 'abcdef')}"
    await db.execute("UPDATE roles SET scope = $1", scope)
    await db.execute("UPDATE client_types SET scope = $1", scope)
    page = await consent_page(http, f"/sign-in?{case.changed(scope=scope)}", case)
    shown, _, folded = page.text.partition("<details>")
    assert re.findall("<h2>(.*)</h2>", shown) == [
        *("The institution", "Employees", "Patients", "Connections and access", "Other")
    ]
    words = [str(texts.scope_words(name, "en")) for name in known.split()]
    assert all(each in html.unescape(shown) for each in words)
    assert re.findall("<li><code>(.*)</code></li>", shown) == [f"unknown:{letter}" for letter in "abcdef"]
    assert f"<code>{scope}</code>" in folded


async def test_without_new_scopes_the_code_is_issued_right_after_sign_in(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    await approve(db, case, "employee:read legal_entity:read declaration:read")
    url = f"/sign-in?{case.changed()}"
    response = await sign_in(http, url, email=case.email)
    assert set(sent_back(response, case)) == {"code", "state"}
    assert "sign-in" not in (await http.get(url)).headers.get("location", "")
    assert 'type="password"' in (await http.get(url)).text


async def test_a_public_client_always_needs_consent(http: httpx.AsyncClient, db: Db) -> None:
    case = await make_case(db, settings={"public": True})
    await approve(db, case, "legal_entity:read employee:read")
    url = f"/oauth2/authorize?{case.changed(code_challenge=CHALLENGE, code_challenge_method='S256')}"
    page = await consent_page(http, url, case)
    assert "Continue?" in page.text
    assert set(sent_back(await decide(http, url, page, "allow"), case)) == {"code", "state", "iss"}


async def test_a_scope_without_a_description_is_shown_by_its_name(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    strange = "x<b>y:read"
    await db.execute("UPDATE client_types SET scope = $1 WHERE name LIKE 'Type %'", strange)
    await db.execute("UPDATE roles SET scope = $1", strange)
    page = await consent_page(http, f"/sign-in?{case.changed(scope=strange)}", case)
    assert "<code>x&lt;b&gt;y:read</code>" in page.text
    await db.execute("UPDATE client_types SET scope = 'legal_entity:read employee:read declaration:read'")
    await db.execute("UPDATE roles SET scope = 'legal_entity:read employee:read'")


async def test_a_changed_list_of_scopes_is_shown_again(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(http, url, case)
    other = page.text.replace("legal_entity:read employee:read", "legal_entity:read")
    response = await decide(http, url, httpx.Response(200, text=other), "allow")
    assert response.status_code == 409
    assert "has changed" in response.text
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 0


async def test_the_consent_page_names_client_host_consumer_and_user(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    consumer = await factories.client(db)
    await db.execute("UPDATE clients SET name = 'Some MIS' WHERE id = $1", consumer.id)
    await db.execute("UPDATE clients SET name = 'Some clinic' WHERE id = $1", case.client_id)
    await db.execute("UPDATE connections SET consumer_id = $2 WHERE client_id = $1", case.client_id, consumer.id)
    page = await consent_page(http, f"/sign-in?{case.changed()}", case)
    for shown in ("Some clinic", "Some MIS", "mis.example.com", case.email, "View the institution&#39;s data"):
        assert shown in page.text


async def test_another_account_ends_the_login_session(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(http, url, case)
    response = await decide(http, url, page, "switch")
    assert response.status_code == 303
    assert 'type="password"' in (await http.get(url)).text


async def test_a_login_session_is_valid_only_for_the_client_of_the_request(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    await consent_page(http, f"/sign-in?{case.changed()}", case)
    other = await make_case(db)
    assert 'type="password"' in (await http.get(f"/sign-in?{other.changed()}")).text


async def test_a_login_session_expires(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(http, url, case)
    lives = (
        "SELECT extract(epoch FROM expires_at - inserted_at) FROM tokens WHERE name = 'sign_in_visit' AND user_id = $1"
    )
    assert 600 <= await db.fetchval(lives, case.user_id) <= 900
    await db.execute("UPDATE tokens SET expires_at = now() WHERE user_id = $1", case.user_id)
    response = await decide(http, url, page, "allow")
    assert response.status_code == 401
    assert "Sign in again." in response.text


async def test_a_user_who_is_blocked_during_the_consent_cannot_approve(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(http, url, case)
    await db.execute("UPDATE users SET is_blocked = true WHERE id = $1", case.user_id)
    assert (await decide(http, url, page, "allow")).status_code == 401


async def test_the_cookie_of_a_login_session_is_not_an_access_token(http: httpx.AsyncClient, case: Case) -> None:
    http.cookies.clear()
    await consent_page(http, f"/sign-in?{case.changed()}", case)
    response = await http.get("/api/clients", headers=factories.bearer(http.cookies["mithril-visit"]))
    assert response.status_code == 401


# Client and redirect URI: errors that never redirect


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"client_id": None}, "required parameter is missing"),
        ({"redirect_uri": None}, "required parameter is missing"),
        ({"redirect_uri": ""}, "required parameter is missing"),
        ({"client_id": "no-uuid"}, "There is no such client"),
        ({"client_id": str(uuid4())}, "There is no such client"),
        ({"redirect_uri": "https://evil.example/"}, "is not registered"),
        ({"redirect_uri": "https://mis.example.com/callback"}, "is not registered"),
        ({"redirect_uri": "https://mis.example.com/callback?clinic=7&x=1"}, "is not registered"),
        ({"redirect_uri": "https://MIS.example.com/callback?clinic=7"}, "is not registered"),
        ({"redirect_uri": "https://mis.example.com/callback?clinic=7\x00"}, "cannot be read"),
    ],
)
async def test_a_wrong_client_or_redirect_uri_is_explained_and_never_followed(
    http: httpx.AsyncClient, case: Case, entrance: str, changes: dict[str, str | None], told: str
) -> None:
    for response in (
        await http.get(f"{entrance}?{case.changed(**changes)}"),
        await http.post(f"{entrance}?{case.changed(**changes)}", data={"email": case.email, "password": PASSWORD}),
    ):
        assert response.status_code == 400
        assert "location" not in response.headers
        assert told in response.text
        assert response.headers["x-request-id"] in response.text
        assert "evil.example/</code>" in response.text or "evil" not in response.text


async def test_a_blocked_client_is_explained_and_never_followed(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    await db.execute("UPDATE clients SET is_blocked = true WHERE id = $1", case.client_id)
    response = await http.get(f"/sign-in?{case.changed(response_type='token')}")
    assert response.status_code == 400
    assert "This client is blocked" in response.text
    assert "location" not in response.headers


async def test_the_redirect_uri_of_another_client_is_not_followed(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    other = await make_case(db, redirect_uri="https://other.example.com/callback")
    response = await http.get(f"/sign-in?{case.changed(redirect_uri=other.redirect_uri)}")
    assert response.status_code == 400


async def test_a_redirect_uri_that_is_changed_during_the_consent_gets_no_code(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    url = f"/sign-in?{case.changed()}"
    page = await consent_page(http, url, case)
    await db.execute(
        "UPDATE connections SET redirect_uri = $2 WHERE client_id = $1", case.client_id, "https://n.example"
    )
    response = await decide(http, url, page, "allow")
    assert response.status_code == 400
    assert "location" not in response.headers


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_a_repeated_client_id_or_redirect_uri_is_not_followed(
    http: httpx.AsyncClient, case: Case, name: str
) -> None:
    response = await http.get(f"/oauth2/authorize?{case.changed()}&{urlencode({name: case.query[name]})}")
    assert response.status_code == 400
    assert "more than once" in response.text


@pytest.mark.parametrize("query", ["client_id=%FF", "client_id=%zz", "&".join(f"p{n}=1" for n in range(60))])
async def test_a_malformed_query_is_explained(http: httpx.AsyncClient, query: str) -> None:
    response = await http.get(f"/sign-in?{query}&lang=en")
    assert response.status_code == 400
    assert "cannot be read" in response.text


async def test_the_page_without_a_request_explains_how_to_open_it(http: httpx.AsyncClient) -> None:
    response = await http.get("/sign-in", headers={"accept-language": "en"})
    assert response.status_code == 400
    assert "opened by an information system" in response.text


# Later errors are returned to the client


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": CHALLENGE}, "invalid_request"),
        ({"code_challenge": CHALLENGE, "code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
        ({"code_challenge_method": "S256"}, "invalid_request"),
        ({"scope": "app:delete"}, "invalid_scope"),
        ({"scope": 'a"b'}, "invalid_scope"),
    ],
)
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_later_error_is_returned_to_the_client_with_the_state(
    http: httpx.AsyncClient, case: Case, entrance: str, changes: dict[str, str], error: str
) -> None:
    answer = sent_back(await http.get(f"{entrance}?{case.changed(**changes)}"), case)
    assert answer.pop("error_description")
    issuer = {"iss": str(http.base_url)} if entrance == "/oauth2/authorize" else {}
    assert answer == {"error": error, "state": "a b+ü&=%", **issuer}


async def test_the_standard_authorization_endpoint_requires_a_response_type(
    http: httpx.AsyncClient, case: Case
) -> None:
    answer = sent_back(await http.get(f"/oauth2/authorize?{case.changed(response_type=None)}"), case)
    assert answer["error"] == "invalid_request"


async def test_the_esoz_authorization_endpoint_needs_no_response_type(http: httpx.AsyncClient, case: Case) -> None:
    assert (await http.get(f"/sign-in?{case.changed(response_type=None)}")).status_code == 200


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_public_client_must_send_a_challenge(http: httpx.AsyncClient, db: Db, entrance: str) -> None:
    case = await make_case(db, settings={"public": True})
    answer = sent_back(await http.get(f"{entrance}?{case.changed()}"), case)
    assert answer["error"] == "invalid_request"
    assert "code_challenge" in answer["error_description"]


async def test_a_repeated_parameter_is_returned_as_an_error_without_a_repeated_state(
    http: httpx.AsyncClient, case: Case
) -> None:
    doubled = sent_back(await http.get(f"/sign-in?{case.changed()}&scope=x"), case)
    assert (doubled["error"], doubled["state"]) == ("invalid_request", "a b+ü&=%")
    assert "state" not in sent_back(await http.get(f"/sign-in?{case.changed()}&state=x"), case)


async def test_a_scope_outside_the_roles_is_returned_as_an_error_by_the_standard_endpoint(
    http: httpx.AsyncClient, case: Case
) -> None:
    http.cookies.clear()
    url = f"/oauth2/authorize?{case.changed(scope='declaration:read')}"
    answer = sent_back(await sign_in(http, url, email=case.email), case)
    assert answer["error"] == "invalid_scope"
    assert answer["error_description"].endswith(" Refused: declaration:read (role).")
    assert "mithril-visit" not in http.cookies


@pytest.mark.parametrize("language", ["en", "uk"])
async def test_a_scope_outside_the_roles_is_explained_by_the_esoz_endpoint(
    http: httpx.AsyncClient, case: Case, language: str
) -> None:
    http.cookies.clear()
    url = f"/sign-in?{case.changed(scope='legal_entity:read declaration:read', lang=language)}"
    page = await sign_in(http, url, email=case.email)
    words = texts.words(language)
    assert (page.status_code, page.headers["content-language"]) == (403, language)
    assert "form-action 'none'" in page.headers["content-security-policy"]
    assert all(words[name] in page.text for name in ("role_title", "role_lead", "role_remedy", "role_back"))
    assert f"{texts.scope_words('declaration:read', language)} <small>declaration:read</small>" in page.text
    assert "<small>legal_entity:read</small>" not in page.text
    assert "<form" not in page.text
    assert "mithril-visit" not in http.cookies
    back, again = (html.unescape(link) for link in re.findall(r'<a href="([^"]+)"(?: class="button")?>', page.text))
    assert back.startswith(case.redirect_uri + "&")
    answer = dict(parse_qsl(back.removeprefix(case.redirect_uri + "&"), strict_parsing=True))
    assert (answer["error"], answer["state"]) == ("invalid_scope", "a b+ü&=%")
    assert answer["error_description"].endswith(" Refused: declaration:read (role).")
    assert words["sign_in_title"] in (await http.get(again)).text


async def test_a_role_that_is_lost_while_consent_is_asked_is_explained(
    http: httpx.AsyncClient, db: Db, case: Case
) -> None:
    http.cookies.clear()
    url = f"/sign-in?{case.changed()}"
    await consent_page(http, url, case)
    await db.execute("DELETE FROM user_roles WHERE user_id = $1", case.user_id)
    page = await http.get(url)
    assert (page.status_code, texts.words("en")["role_title"] in page.text) == (403, True)
    assert texts.words("en")["sign_in_title"] in (await http.get(url)).text


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_what_the_type_or_the_broker_does_not_have_redirects_at_once_and_is_named(
    http: httpx.AsyncClient, db: Db, entrance: str
) -> None:
    case = await make_case(db)
    narrow = "UPDATE clients SET priv_settings = $2 WHERE id = $1"
    await db.execute(narrow, case.client_id, '{"access_type": "BROKER", "broker_scope": "legal_entity:read"}')
    scope = "legal_entity:read employee:read app:delete"
    answer = sent_back(await http.get(f"{entrance}?{case.changed(scope=scope)}"), case)
    assert answer["error"] == "invalid_scope"
    refused = "Refused: employee:read (broker), app:delete (unknown)."
    assert answer["error_description"] == f"Scope is not allowed by client type. {refused}"
    answer = sent_back(await http.get(f"{entrance}?{case.changed()}"), case)
    assert answer["error_description"] == "Scope is not allowed by broker. Refused: employee:read (broker)."


@pytest.mark.parametrize("scope", [None, "", " ", "  "])
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_without_a_scope_no_password_is_asked_for(
    http: httpx.AsyncClient, case: Case, entrance: str, scope: str | None
) -> None:
    answer = sent_back(await http.get(f"{entrance}?{case.changed(scope=scope)}"), case)
    assert (answer["error"], answer["state"]) == ("invalid_scope", "a b+ü&=%")


@pytest.mark.parametrize("scope", [None, "", " "])
async def test_a_trusted_client_without_a_scope_gets_all_that_the_roles_allow(
    server: Server, case: Case, scope: str | None
) -> None:
    trusted = [str(case.client_id).upper()]
    with running_server(database_url=server.database_url, trusted_client_ids=trusted) as running:
        async with httpx.AsyncClient(base_url=running.url) as client:
            url = f"/oauth2/authorize?{case.changed(scope=scope)}"
            answer = sent_back(await decide(client, url, await consent_page(client, url, case), "allow"), case)
            tokens = await redeem(client, case, answer["code"])
    assert tokens.json()["scope"] == "legal_entity:read employee:read"


# Paths with extra slashes, which mean the same

WRITTEN = ["{}/", "/{}", "//{}/", "%"]
LINK = re.compile(r'(?:href|action)="([^"]+)"')


def written(entrance: str, form: str) -> str:
    """The path as someone may write it; in the last form its second letter is escaped."""
    escaped = f"/{entrance[1]}%{ord(entrance[2]):02x}{entrance[3:]}"
    return escaped if "%" in form else form.format(entrance)


def links(page: httpx.Response, entrance: str) -> list[httpx.URL]:
    """Return where the links and the form lead: to the style sheet and to the path of the cookies."""
    found = [page.url.join(html.unescape(link)) for link in LINK.findall(page.text)]
    assert {url.raw_path.partition(b"?")[0].decode() for url in found} == {"/sign-in/style.css", entrance}
    return found


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_path_with_extra_slashes_leads_through_all_pages(
    demo: httpx.AsyncClient, case: Case, phone: list[str], entrance: str, form: str
) -> None:
    """As a browser goes: it sends a cookie to the path of the cookie only, and each form to where the form says."""
    start = f"{demo.base_url}{written(entrance, form)}?{case.changed()}"
    shown = await demo.get(start)
    style, other_language, action, forgotten = links(shown, entrance)
    links(await demo.get(forgotten), entrance)
    assert (await demo.get(style)).headers["content-type"] == "text/css; charset=utf-8"
    assert 'lang="uk"' in (await demo.get(other_language)).text
    data = {"form_token": form_token(shown), "email": case.email, "password": PASSWORD}
    second_factor = await demo.post(action, data=data, follow_redirects=True)
    assert 'name="code"' in second_factor.text
    *_, action = links(second_factor, entrance)
    data = {"form_token": form_token(second_factor), "code": code_in(phone[-1]), "decision": "confirm"}
    consent = await demo.post(action, data=data, follow_redirects=True)
    *_, action = links(consent, entrance)
    assert "code" in sent_back(await decide(demo, str(action), consent, "allow"), case)


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_so_do_the_links_of_a_page_that_explains_an_error(
    http: httpx.AsyncClient, case: Case, entrance: str, form: str
) -> None:
    for query in ("", "?client_id=x", f"?{case.changed(redirect_uri='https://evil.example')}"):
        for method, status in (("GET", 400), ("PUT", 405)):
            page = await http.request(method, f"{http.base_url}{written(entrance, form)}{query}")
            assert page.status_code == status
            style, other_language = links(page, entrance)
            assert (await http.get(style)).status_code == 200
            assert (await http.get(other_language)).status_code == 400


@pytest.mark.parametrize(
    "path", ["/sign-in/", "//sign-in", "/oauth2/authorize/", "/sign-in/more", "/sign-in/style.css"]
)
@pytest.mark.parametrize("hosts", [b"", b"Host: a b\r\n", b"Host: x\r\nHost: x\r\n"])
async def test_a_request_for_no_host_is_explained_on_a_page(server: Server, path: str, hosts: bytes) -> None:
    received = hear(server, b"GET " + path.encode() + b" HTTP/1.1\r\n" + hosts + b"\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert statuses(received) == [400]
    assert b"\r\ncontent-type: text/html; charset=utf-8\r\n" in head
    assert b"form-action 'none'" in head
    assert b'href="/sign-in/style.css"' in body
