"""The pages against forged forms, hostile texts and other origins."""

import html
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from support.cases import (
    ENTRANCES,
    HOSTILE,
    PASSWORD,
    Case,
    consent_page,
    decide,
    form_token,
    make_case,
    sent_back,
    sign_in,
)
from support.factories import Db
from support.servers import Server, running_server
from support.sockets import hear, statuses

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


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", "", "Same-Origin", "same-origin, same-origin"])
@pytest.mark.parametrize("entrance", ENTRANCES)
async def test_a_form_from_another_site_is_refused(
    http: httpx.AsyncClient, db: Db, case: Case, entrance: str, site: str
) -> None:
    http.cookies.clear()
    url = f"{entrance}?{case.changed()}"
    page = await consent_page(http, url, case)
    data = {"form_token": form_token(page), "decision": "allow", "scope": case.query["scope"]}
    for sites in ([site], ["same-origin", site]):
        refused = await http.post(url, data=data, headers=[("sec-fetch-site", each) for each in sites])
        assert refused.status_code == 403
        assert "sent from another site" in refused.text
        assert "location" not in refused.headers
    assert await db.fetchval("SELECT count(*) FROM apps WHERE user_id = $1", case.user_id) == 0
    allowed = await http.post(url, data=data, headers={"sec-fetch-site": "same-origin"})
    assert "code" in sent_back(allowed, case)


async def test_the_token_of_a_form_is_bound_to_its_login_session(http: httpx.AsyncClient, db: Db, case: Case) -> None:
    """A neighbouring host that could set the cookie of the forms would know the token of every form but these."""
    http.cookies.clear()
    url = f"/sign-in?{case.changed()}"
    before = form_token(await http.get(url))
    first = await consent_page(http, url, case)
    await decide(http, url, first, "switch")
    other = await make_case(db)
    foreign = form_token(await http.get(f"/sign-in?{other.changed()}"))
    second = await consent_page(http, url, case)
    assert len({before, foreign, form_token(first), form_token(second)}) == 4
    data = {"decision": "allow", "scope": case.query["scope"]}
    for token in (before, foreign, form_token(first), http.cookies["mithril-form"]):
        refused = await http.post(url, data=data | {"form_token": token})
        assert (refused.status_code, "was not sent from this page" in refused.text) == (403, True)
    sign_in_data = {"form_token": foreign, "email": case.email, "password": PASSWORD}
    assert (await http.post(url, data=sign_in_data)).status_code == 403
    assert "code" in sent_back(await decide(http, url, second, "allow"), case)


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
    # On a form no `form-action`: Chromium applies it to every redirect that follows, also to those of the client.
    for page, forms in ((form, []), (error, ["form-action 'none'"])):
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["content-security-policy"].split("; ") == [
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            *forms,
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


OURS = b"__Host-mithril-visit"
# What some parser takes for a cookie of ours, beside the real one or alone: the name, and what is around the value.
DISGUISES = [
    *[
        around + OURS + b"=%s"
        for around in (b"\xa0", b"\x85", b"\xc2\xa0", b"\xe2\x80\x83", b"\t", b"  ", b'"', b"=", b",")
    ],
    *[OURS + around + b"=%s" for around in (b"\xa0", b"\x85", b"\xc2\xa0", b"\t", b" ", b'"')],
    *[OURS + b"=" + around + b"%s" for around in (b"\xa0", b" ", b"\t", b"=", b"\\", b'"')],
    *[OURS + b"=%s" + around for around in (b"\xa0", b" ", b"=", b'"', b",")],
    OURS + b'="%s"',
    OURS,
    OURS + b"=",
]


@pytest.fixture(scope="module")
def https(server: Server) -> Iterator[Server]:
    """A server behind a proxy that speaks https."""
    with running_server(database_url=server.database_url, public_url="https://auth.example.com") as running:
        yield running


class Browser:
    """A client that sends exactly the bytes of its Cookie headers."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.client, self.url, self.kept = client, url, dict[bytes, bytes]()

    async def send(self, method: str, *cookies: bytes, **data: str) -> httpx.Response:
        headers = [(b"cookie", cookie) for cookie in cookies or [self.cookies]]
        response = await self.client.request(method, self.url, data=data or None, headers=headers)
        for cookie in response.headers.get_list("set-cookie"):
            name, _, rest = cookie.partition("=")
            self.kept[name.encode()] = rest.partition(";")[0].encode()
        self.client.cookies.clear()
        return response

    @property
    def cookies(self) -> bytes:
        return b"; ".join(name + b"=" + value for name, value in self.kept.items())


@pytest.fixture
async def consenting(https: Server, case: Case) -> AsyncIterator[Browser]:
    """A browser with a login session, on the consent form."""
    async with httpx.AsyncClient(base_url=https.url) as client:
        browser = Browser(client, f"/oauth2/authorize?{case.changed()}")
        token = form_token(await browser.send("GET"))
        await browser.send("POST", form_token=token, email=case.email, password=PASSWORD)
        assert set(browser.kept) == {OURS, b"__Host-mithril-form"}
        yield browser


@pytest.mark.parametrize("disguise", DISGUISES)
async def test_a_cookie_with_anything_around_its_name_or_value_is_not_ours(
    consenting: Browser, disguise: bytes
) -> None:
    value, form = consenting.kept[OURS], b"__Host-mithril-form=" + consenting.kept[b"__Host-mithril-form"]
    planted, real = disguise.replace(b"%s", value), OURS + b"=" + value
    assert 'value="allow"' in (await consenting.send("GET", form + b"; other=1; " + real)).text
    planted = b"a=1; " + planted + b"; b=2"  # spaces at the end of a header are not part of it
    for cookies in (
        [planted + b"; " + form],
        [form + b"; " + planted],
        [real + b"; " + planted + b"; " + form],
        [planted + b"; " + form + b"; " + real],
        [form + b"; " + real, planted],
    ):
        shown = await consenting.send("GET", *cookies)
        assert 'type="password"' in shown.text, cookies


async def test_a_cookie_that_is_sent_twice_is_not_ours(consenting: Browser, case: Case) -> None:
    form = b"__Host-mithril-form=" + consenting.kept[b"__Host-mithril-form"]
    real = OURS + b"=" + consenting.kept[OURS]
    for cookies in (
        [real + b"; " + real, form],
        [real, real, form],
        [real + b";" + form + b";" + real],
        [real, form + b"; " + real],
    ):
        assert 'type="password"' in (await consenting.send("GET", *cookies)).text
    for cookies in ([real, form], [form + b";" + real], [b"other=" + b"x" * 9_000 + b"; " + form + b"; " + real]):
        page = await consenting.send("GET", *cookies)
        assert 'value="allow"' in page.text
    data = {"form_token": form_token(page), "decision": "allow", "scope": case.query["scope"]}
    for cookies in (
        [real, form, form],
        [real + b"; \xa0" + form],
        [real, form + b"; \xa0" + form],
        [form + b"; __Host-mithril-form=x; " + real],
    ):
        assert (await consenting.send("POST", *cookies, **data)).status_code == 403
    assert "code" in sent_back(await consenting.send("POST", real + b"; " + form, **data), case)


# Header lines in which no cookie of ours is, whatever another parser may find there; `%s` is a good value.
NONE_OF_OURS = [
    *[
        b"Cookie: " + name + b"=%s"
        for name in (b"__host-mithril-visit", b"__HOST-mithril-visit", b"__Host-Mithril-Visit")
    ],
    *[
        b"Cookie: " + name + b"=%s"
        for name in (b"mithril-visit", b"__Secure-mithril-visit", b"%%5F_Host-mithril-visit")
    ],
    *[b"Cookie: " + OURS + byte + b"=%s" for byte in (b"\x01", b"\x0b", b"\x1f", b"\x7f", b"\xff", b"\0", b"+", b":")],
    *[b"Cookie: " + byte + OURS + b"=%s" for byte in (b"\x01", b"\x0b", b"\x1f", b"\x7f", b"\xff", b"\0", b"$", b"'")],
    *[
        b"Cookie: " + OURS + b"=%s" + byte
        for byte in (b"\x01", b"\x7f", b"\xff", b"\0", b"%%3B", b"\t;", b" ;", b";" + OURS)
    ],
    *[
        b"Cookie: " + OURS + b"=%s" + more
        for more in (b"; " + OURS + b"=", b";" + OURS + b"=x", b";;\t" + OURS + b"=%s")
    ],
    b"Cookie: " + OURS + b"=" + b"x" * 20_000,
    b"Cookie: " + OURS + b"=%s" * 100,
    b"Cookie: " + OURS + b"=%s, " + OURS + b"=%s",
    b'Cookie: a="; ' + OURS + b'="%s"',
    b'Cookie: a="\\"; ' + OURS + b'="%s"; b="',
    b"Cookie: a=1, " + OURS + b"=%s",
    b"Cookie: a=" + OURS + b"=%s",
    b"Cookie: a\r\n " + OURS + b"=%s",
    b"Cookie : " + OURS + b"=%s",
    b"Cookie2: " + OURS + b"=%s",
    b"Set-Cookie: " + OURS + b"=%s",
    b"Cookie:\r\nCookie: " + OURS + b"=\r\nCookie: " + OURS + b"=%s",
    b"COOKIE: " + OURS + b"=%s\r\ncookie: " + OURS + b"=%s",
    b"Cookie: " + OURS + b"=%s\r\nX-Between: a\r\nCookie: b=1; " + OURS,
    b"Cookie: " + OURS + b"=%s\r\nCookie: \xa0" + OURS + b"=",
]


async def test_bytes_that_only_look_like_a_cookie_of_ours_are_none(
    https: Server, consenting: Browser, case: Case
) -> None:
    """The browser gets the sign-in form as if it had sent no cookie, or nothing at all for bytes that are no HTTP."""
    value = consenting.kept[OURS]
    head = f"GET /oauth2/authorize?{case.changed()} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    for lines in NONE_OF_OURS:
        sent = lines.replace(b"%s", value).replace(b"%%", b"%")
        for request in (head + sent, head + b"X: a\r\n" + sent + b"\r\nCookie: c=1; d=2"):
            received = hear(https, request + b"\r\n\r\n")
            assert statuses(received) in ([200], [400]), lines
            assert b'value="allow"' not in received, lines
            assert (b'type="password"' in received) == (statuses(received) == [200]), lines
    good = head + b"COOKIE: a=1;  b=2; " + OURS + b"=" + value + b"\r\ncookie: c=3\r\n\r\n"
    assert b'value="allow"' in hear(https, good)


async def test_the_style_sheet_is_served_by_this_server(http: httpx.AsyncClient, case: Case) -> None:
    for entrance in ENTRANCES:
        page = await http.get(f"{entrance}?{case.changed()}")
        link = re.search(r'rel="stylesheet" href="([^"]+)"', page.text)
        assert link
        style = await http.get(httpx.URL(str(http.base_url)).join(entrance).join(link[1]))
        assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
        known = await http.get(str(style.url), headers={"if-none-match": style.headers["etag"]})
        assert known.status_code == 304
