"""The head of a request, in bytes: target, Host, an offer to change the protocol, and what is no head at all."""

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import CapturingLogger

from mithril.server import connection
from support import factories
from support.cases import wait_until
from support.servers import Server, fresh_database, running_server
from support.sockets import connect, exchange, hear, read, statuses

pytestmark = pytest.mark.anyio

CLOSE = b"\r\nConnection: close\r\n\r\n"
PLAIN = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /no/such HTTP/1.1\r\nHost: x" + CLOSE


# Host (RFC 9112 section 3.2)


@pytest.mark.parametrize(
    "host",
    [
        b"x",
        b"api.example.ua",
        b"API.Example.UA:443",
        b"under_score.example",
        b"192.0.2.1:80",
        b"[::1]",
        b"[2001:db8::1]:4000",
        b"[::ffff:192.0.2.1]:4000",
        b"x:",
        b"a-b~c!d$e&f'g(h)i*j+k,l;m=n%C3%A9",
    ],
)
async def test_a_host_is_what_a_uri_may_have_as_one(server: Server, host: bytes) -> None:
    assert exchange(server, b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host:\r\n",
        b"Host: \t\r\n",
        b"Host: x\r\nHost: x\r\n",
        b"Host: x\r\nhOsT: y\r\n",
        b"Host: a b\r\n",
        b"Host: a.example, b.example\r\n",
        b"Host: user@x\r\n",
        b"Host: x/path\r\n",
        b"Host: http://x\r\n",
        b"Host: x?\r\n",
        b'Host: x"\r\n',
        b"Host: x\\y\r\n",
        b"Host: <x>\r\n",
        b"Host: x%\r\n",
        b"Host: x%zz\r\n",
        b"Host: \xd1\x8f\r\n",
        b"Host: \xa0x\r\n",
        b"Host: x:y\r\n",
        b"Host: x:-1\r\n",
        b"Host: x:80:80\r\n",
        b"Host: x:65536\r\n",
        b"Host: :80\r\n",
        b"Host: ::1\r\n",
        b"Host: [::1\r\n",
        b"Host: ::1]\r\n",
        b"Host: [::1]x\r\n",
        b"Host: [::g]\r\n",
        b"Host: [1:2]\r\n",
        b"Host: [::1%25lo]\r\n",
        b"Host: []\r\n",
        b"Host: " + b"a" * 256 + b"\r\n",
    ],
)
@pytest.mark.parametrize("is_internal", [False, True])
async def test_no_host_or_several_or_a_malformed_one_is_400(server: Server, lines: bytes, *, is_internal: bool) -> None:
    request = b"GET /healthz HTTP/1.1\r\n" + lines + b"\r\n"
    status, headers, body = exchange(server, request, is_internal=is_internal)
    assert (status, headers["connection"], body["error"]["type"]) == (400, "close", "request_malformed")
    base = server.internal_url if is_internal else server.url
    assert body["meta"]["url"] == f"{base}/healthz"


@pytest.mark.parametrize("version", [b"0.9", b"1.0"])
async def test_before_http_1_1_a_host_may_be_missing_but_not_be_wrong(server: Server, version: bytes) -> None:
    head = b"GET /healthz HTTP/" + version + b"\r\n"
    assert exchange(server, head + b"\r\n", is_internal=True)[0] == 200
    assert exchange(server, head + b"Host: a\r\nHost: b\r\n\r\n")[0] == 400
    assert exchange(server, head + b"Host: a b\r\n\r\n")[0] == 400


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"http://api.example.ua/healthz", b"x", "http://api.example.ua/healthz"),
        (b"HTTPS://api.example.ua:443/healthz?a=b", b"x", "http://api.example.ua:443/healthz"),
        (b"http://[2001:db8::1]//healthz/", b"x", "http://[2001:db8::1]/healthz"),
        (b"http://user@api.example.ua/healthz", b"x", None),
        (b"http:///healthz", b"x", None),
        (b"http://a b/healthz", b"x", None),
        (b"http://a%zz/healthz", b"x", None),
        (b"http://[::1/healthz", b"x", None),
        (b"http://x:65536/healthz", b"x", None),
        (b"ftp://x/healthz", b"x", None),
        (b"healthz", b"x", None),
        (b"http://x/healthz#a", b"x", None),
        (b"http://x/healthz", b"a b", None),
    ],
)
async def test_the_host_of_an_absolute_target_counts_and_is_held_to_the_same_rules(
    server: Server, target: bytes, host: bytes, expected: str | None
) -> None:
    status, _, body = exchange(server, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert status == (200 if expected else 400)
    assert expected is None or body["meta"]["url"] == expected


async def test_an_absolute_target_without_a_path_is_the_root(server: Server) -> None:
    status, _, body = exchange(
        server, b"GET http://api.example.ua?a HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n"
    )
    assert (status, body["meta"]["url"]) == (404, "http://api.example.ua/")


# The internal listener on a loopback IP address (rebinding of DNS names)


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/admin/clients", b"/metrics", b"/no/such", b"//healthz/"])
@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:4001",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"0.0.0.0",
        b"192.0.2.1",
        b"[2001:db8::1]:4001",
        b"[::ffff:192.0.2.1]",
    ],
)
async def test_on_a_loopback_address_without_a_key_a_foreign_host_is_misdirected(
    server: Server, path: bytes, host: bytes
) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    status, _, body = exchange(server, request, is_internal=True)
    assert (status, body["error"]["type"]) == (421, "misdirected_request")


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"http://evil.example/healthz", b"localhost"), (b"http://localhost/healthz", b"evil.example")],
)
async def test_neither_the_target_nor_the_host_header_may_be_foreign(
    server: Server, target: bytes, host: bytes
) -> None:
    request = b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert exchange(server, request, is_internal=True)[0] == 421


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST:9", b"127.0.0.1", b"127.0.0.1:4001", b"127.9.9.9", b"[::1]:4001", b"[::ffff:127.0.0.1]"],
)
async def test_loopback_hosts_reach_the_internal_listener(server: Server, host: bytes) -> None:
    request = b"GET /readyz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert exchange(server, request, is_internal=True)[0] == 200


@pytest.fixture
def keyed_server(postgres: str) -> Iterator[Server]:
    with fresh_database(postgres) as url, running_server(database_url=url, internal_key="a-key") as running:
        yield running


async def test_with_a_key_the_internal_listener_takes_any_host(keyed_server: Server) -> None:
    request = b"GET /admin/clients HTTP/1.1\r\nHost: mithril.internal:4001\r\nX-Mithril-Key: a-key\r\n\r\n"
    assert exchange(keyed_server, request, is_internal=True)[0] == 200


# Upgrade (RFC 9110 section 7.8)

OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Connection: Upgrade\r\nUpgrade: TLS/1.0, h2c\r\n",
    b"Upgrade: h2c\r\n",
    b"Connection: upgrade\r\n",
]


def login(offer: bytes, *, is_chunked: bool) -> tuple[bytes, bytes]:
    """A head and a body that is answered with the name of a missing field, so that it was read."""
    document = json.dumps({"token": {"grant_type": "password", "email": "nobody@example.ua"}}).encode()
    length = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(document)
    head = (
        b"POST /auth/login HTTP/1.1\r\nHost: x\r\n" + offer + b"Content-Type: application/json\r\n" + length + b"\r\n"
    )
    return head + b"\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(document), document) if is_chunked else document


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("cut", ["whole", "head and body", "bytes"])
async def test_an_offer_to_change_the_protocol_is_ignored(
    server: Server, offer: bytes, cut: str, *, is_chunked: bool
) -> None:
    head, body = login(offer, is_chunked=is_chunked)
    whole = head + body
    pieces = {"whole": [whole], "head and body": [head, body], "bytes": [bytes([byte]) for byte in whole]}[cut]
    with connect(server) as opened:
        for piece in pieces:
            opened.sendall(piece)
        status, _, answer = read(opened)
        assert (status, [each["entry"] for each in answer["error"]["invalid"]]) == (
            422,
            ["$.client_id", "$.password", "$.scope"],
        )
        if not is_chunked:  # after a refusal, the rest of what has no length is not waited for
            opened.sendall(PLAIN)
            assert read(opened)[0] == 200


async def test_offers_on_pipelined_requests_are_ignored_one_by_one(server: Server) -> None:
    with_body = b"".join(login(OFFERS[0], is_chunked=False))
    without = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + OFFERS[1] + b"\r\n"
    assert statuses(hear(server, with_body + without + PLAIN + with_body + LAST)) == [422, 200, 200, 422, 404]


async def test_an_offer_by_http_1_0_is_ignored_too(server: Server) -> None:
    head, body = login(OFFERS[0], is_chunked=False)
    assert statuses(hear(server, head.replace(b"HTTP/1.1", b"HTTP/1.0") + body)) == [422]
    assert statuses(hear(server, head.replace(b"Upgrade,", b"close, Upgrade,") + body)) == [422]


# What is no HTTP, behind what is

RUBBISH = [b"x\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n"]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    capturing = CapturingLogger()
    monkeypatch.setattr(connection, "log", capturing)
    return capturing


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize(
    "before",
    [
        PLAIN,
        PLAIN * 3,
        b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"".join(login(b"", is_chunked=False)),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + OFFERS[0] + b"\r\n",
        b"",
    ],
)
async def test_rubbish_behind_requests_is_answered_whole_with_one_quiet_line(
    server: Server, rubbish: bytes, before: bytes, lines: CapturingLogger, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="uvicorn.error"):
        received = hear(server, before + rubbish)
    last = received[received.rindex(b"HTTP/1.1 ") :]
    head, _, body = last.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"content-length: {len(body)}\r\n".encode() in head + b"\r\n"
    answer: Any = json.loads(body)
    assert answer["error"]["type"] == "request_malformed"
    wait_until(lambda: lines.calls)
    (line,) = lines.calls
    assert line.method_name == "info"
    assert line.kwargs["request_id"] == answer["meta"]["request_id"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_follows_a_last_answer_is_thrown_away_without_a_word(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    last = b"".join(login(b"", is_chunked=True))
    with caplog.at_level(logging.DEBUG, logger="uvicorn.error"):
        assert statuses(hear(server, last + PLAIN + PLAIN)) == [422]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# Slashes


@pytest.mark.parametrize("path", ["//healthz", "/healthz/", "///healthz", "//healthz/", "/////healthz/"])
@pytest.mark.parametrize("is_internal", [False, True])
async def test_extra_slashes_lead_to_the_same_handler(server: Server, path: str, *, is_internal: bool) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    status, _, body = exchange(server, request, is_internal=is_internal)
    assert (status, body["meta"]["url"]) == (200, "http://127.0.0.1/healthz")


@pytest.mark.parametrize(
    "path",
    ["/healthz//", "/%2fhealthz", "/healthz%2f", "/%2Fhealthz/", "/oauth//tokens", "/oauth/tokens//", "/", "//", "///"],
)
async def test_other_slashes_do_not(server: Server, path: str) -> None:
    assert exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n".encode())[0] == 404


@pytest.mark.parametrize("path", ["//admin/clients", "/admin/clients/", "///admin/clients/", "//metrics", "/metrics/"])
async def test_slashes_open_nothing_of_the_internal_listener(server: Server, path: str) -> None:
    assert exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())[0] == 404


@pytest.mark.parametrize("path", ["//admin/clients", "/admin/clients/", "///admin/clients/", "//metrics", "/docs/"])
async def test_slashes_go_round_no_key(keyed_server: Server, path: str) -> None:
    assert exchange(keyed_server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), is_internal=True)[0] == 401


@pytest.mark.parametrize("path", ["//auth/login", "/auth/login/", "//auth/login/"])
async def test_a_body_is_read_behind_extra_slashes_too(server: Server, path: str) -> None:
    head, body = login(b"", is_chunked=False)
    status, headers, answer = exchange(server, head.replace(b"/auth/login", path.encode()) + body)
    assert status == 422
    assert "location" not in headers
    assert answer["meta"]["url"] == "http://x/auth/login"


# The IP address of the caller


@pytest.fixture(scope="module")
def proxied_server(postgres: str) -> Iterator[Server]:
    trusted = "127.0.0.1, ::ffff:10.0.0.0/104"
    with fresh_database(postgres) as url, running_server(database_url=url, trusted_proxies=trusted) as running:
        yield running


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:0207", "192.0.2.7"),
        ("0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:4711", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("198.51.100.1, ::ffff:192.0.2.7, ::ffff:10.1.2.3, 10.3.2.1", "192.0.2.7"),
        ("198.51.100.1, [::ffff:192.0.2.7]:1, [::ffff:10.1.2.3]:2, 10.3.2.1:3", "192.0.2.7"),
    ],
)
async def test_an_ipv4_mapped_address_is_that_ipv4_address(
    proxied_server: Server, forwarded: str, expected: str
) -> None:
    assert await audited_address(proxied_server, forwarded) == expected


@pytest.mark.parametrize(
    "forwarded",
    [
        *("", ",", "unknown", "_hidden", "localhost", "192.0.2.7, unknown", "192.0.2.7,", "192.0.2.7/24", "0xc0.2.7"),
        *("2001:db8::7%eth0", "2001:db8::7%" + "z" * 5_000, "[2001:db8::7", "\xa0192.0.2.7x", "'; DROP", "<script>"),
        hashlib.shake_128(b"").hexdigest(8_000),
    ],
)
async def test_what_is_no_ip_address_names_no_caller(proxied_server: Server, forwarded: str) -> None:
    """The proxy itself counts: caller's text would be stored in counters, of which each could be another one."""
    assert await audited_address(proxied_server, forwarded) == "127.0.0.1"
    login = (
        b'{"token":{"grant_type":"password","email":"a@b.cd","password":"x","client_id":"%s","scope":"a"}}'
        % str(uuid4()).encode()
    )
    head = f"POST /auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Forwarded-For: {forwarded}\r\n"
    request = f"{head}Content-Length: {len(login)}\r\n\r\n".encode("latin-1") + login
    assert exchange(proxied_server, request)[0] == 401


async def audited_address(server: Server, forwarded: str) -> str:
    db = await asyncpg.connect(server.database_url)
    try:
        owner = await factories.client(db)
        row = await factories.connection(db, client_id=owner.id)
        token = await factories.token(db, client=owner)
        body = json.dumps({"redirect_uri": "https://n.ua/callback"}).encode()
        head = (
            f"PATCH {row.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Forwarded-For: {forwarded}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        assert exchange(server, head.encode("latin-1") + body)[0] == 200
        address: str = await db.fetchval("SELECT network_address FROM audit_events ORDER BY id DESC LIMIT 1")
        return address
    finally:
        await db.close()
