"""The pages against forged forms, hostile texts and other origins."""

import html
import re

import httpx
import pytest

from support.cases import (
    ENTRANCES,
    HOSTILE,
    PASSWORD,
    Case,
    consent_page,
    form_token,
    sent_back,
    sign_in,
)
from support.factories import Db
from support.servers import Server, running_server

pytestmark = pytest.mark.anyio


# Forged, repeated, oversized forms


@pytest.mark.parametrize("token", ["", "x" * 32, None])
async def test_a_form_with_a_wrong_token_is_shown_again(http: httpx.AsyncClient, case: Case, token: str | None) -> None:
    url = f"/sign-in?{case.changed()}"
    await http.get(url)
    data = {"email": case.email, "password": PASSWORD} | ({} if token is None else {"form_token": token})
    response = await http.post(url, data=data)
    assert response.status_code == 403
    assert "was not sent from this page" in response.text
    assert form_token(response)


async def test_a_form_without_the_cookie_is_refused(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    token = form_token(await http.get(url))
    http.cookies.clear()
    response = await http.post(url, data={"form_token": token, "email": case.email, "password": PASSWORD})
    assert response.status_code == 403


async def test_consent_cannot_be_forged(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    url = f"/sign-in?{case.changed()}"
    await consent_page(http, url, case)
    response = await http.post(url, data={"form_token": "x" * 32, "decision": "allow", "scope": case.query["scope"]})
    assert response.status_code == 403
    assert 'value="allow"' in response.text
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 0


async def test_a_get_never_issues_a_code(http: httpx.AsyncClient, case: Case) -> None:
    url = f"/sign-in?{case.changed(decision='allow')}"
    await consent_page(http, url, case)
    assert (await http.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"email=a&email=b", "application/x-www-form-urlencoded", 400),
        (b"email", "application/x-www-form-urlencoded", 400),
        (b"email=%FF", "application/x-www-form-urlencoded", 400),
        (b"email=%00", "application/x-www-form-urlencoded", 400),
        ("email=ü".encode(), "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 415),
        (b"email=a", "application/x-www-form-urlencoded; charset=latin-1", 415),
        (b"email=" + b"a" * 9_000, "application/x-www-form-urlencoded", 413),
        (b"email=" + b"a" * 200_000, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_malformed_form_gets_an_error_page(
    http: httpx.AsyncClient, case: Case, content: bytes, media_type: str, status: int
) -> None:
    response = await http.post(f"/sign-in?{case.changed()}", content=content, headers={"content-type": media_type})
    assert response.status_code == status
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-request-id"] in response.text


async def test_a_failure_is_a_neutral_page(postgres: str, case: Case) -> None:
    with running_server(database_url="postgresql://nobody@127.0.0.1:1/none", pool_timeout=0.5) as running:
        async with httpx.AsyncClient(base_url=running.url) as client:
            response = await client.get(f"/sign-in?{case.changed()}")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert "not available for the moment" in response.text
    assert "postgresql" not in response.text


# Escaping


@pytest.mark.parametrize("name", ["state", "email", "client_id", "redirect_uri", "scope", "lang", HOSTILE])
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_nothing_of_the_query_reaches_the_page_unescaped(
    http: httpx.AsyncClient, case: Case, entrance: str, name: str
) -> None:
    response = await http.get(f"{entrance}?{case.changed(**{name: HOSTILE})}")
    assert "<script" not in response.text
    assert ">49<" not in response.text
    # Unescaped, as a browser may send it.
    raw = f"{entrance}?{case.changed()}&x=\"><script>'".encode()
    response = await http.get(httpx.URL(str(http.base_url)).copy_with(raw_path=raw))
    assert "<script" not in response.text


async def test_hostile_names_are_escaped(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    await db.execute("UPDATE clients SET name = $2 WHERE id = $1", case.client_id, HOSTILE)
    url = f"/sign-in?{case.changed()}"
    pages = [await http.get(url), await consent_page(http, url, case)]
    pages += [await http.get(f"/sign-in?{case.changed(redirect_uri='x')}")]
    for page in pages:
        assert "<script" not in page.text
        assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page.text


# Headers and cookies


@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_every_page_has_the_strict_headers(http: httpx.AsyncClient, case: Case, entrance: str) -> None:
    form, error = await http.get(f"{entrance}?{case.changed()}"), await http.get(entrance)
    for page, targets in ((form, "'self' https:"), (error, "'none'")):
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["content-security-policy"].split("; ") == [
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            f"form-action {targets}",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]


async def test_cookies_over_plain_http_are_limited_to_the_path(http: httpx.AsyncClient, case: Case) -> None:
    response = await sign_in(http, f"/sign-in?{case.changed()}", email=case.email)
    name, _, rest = response.headers["set-cookie"].partition("=")
    assert name == "mithril-visit"
    assert set(rest.split("; ")[1:]) == {"HttpOnly", "Max-Age=600", "Path=/sign-in", "SameSite=lax"}


async def test_cookies_over_https_are_limited_to_this_host(server: Server, case: Case) -> None:
    changes = {"database_url": server.database_url, "public_url": "https://auth.example.com"}
    with running_server(**changes) as running:
        async with httpx.AsyncClient(base_url=running.url) as client:
            page = await client.get(f"/oauth2/authorize?{case.changed()}")
            cookie = page.headers["set-cookie"]
            name, _, rest = cookie.partition("=")
            assert name == "__Host-mithril-form"
            assert set(rest.split("; ")[1:]) == {"HttpOnly", "Path=/", "SameSite=lax", "Secure"}
            signed_in = await client.post(
                f"/oauth2/authorize?{case.changed()}",
                data={"form_token": form_token(page), "email": case.email, "password": PASSWORD},
                headers={"cookie": cookie.partition(";")[0]},
            )
            assert signed_in.status_code == 303
            assert signed_in.headers["set-cookie"].startswith("__Host-mithril-visit=")
            refused = await client.get(f"/oauth2/authorize?{case.changed(scope='no:such')}")
            assert sent_back(refused, case)["iss"] == "https://auth.example.com"


async def test_the_style_sheet_is_served_by_this_server(http: httpx.AsyncClient, case: Case) -> None:
    for entrance in ENTRANCES:
        page = await http.get(f"{entrance}?{case.changed()}")
        link = re.search(r'rel="stylesheet" href="([^"]+)"', page.text)
        assert link
        style = await http.get(httpx.URL(str(http.base_url)).join(entrance).join(link[1]))
        assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
        known = await http.get(str(style.url), headers={"if-none-match": style.headers["etag"]})
        assert known.status_code == 304
