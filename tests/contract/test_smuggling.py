"""A request that two parsers could read differently is refused with one answer, and the connection is closed."""

import pytest

from support import factories, sockets
from support.factories import Db
from support.servers import Server

pytestmark = pytest.mark.anyio

LAST = b"\r\nHost: x\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /no/such/hidden HTTP/1.1" + LAST
CHUNKED_HIDDEN = b"0\r\n\r\n" + HIDDEN


def speak(server: Server, sent: bytes, *, least: int = 1) -> list[int]:
    """Return the statuses of all answers until the server closes or falls silent."""
    return sockets.statuses(sockets.hear(server, sent, least=least))


def post(*lines: bytes, body: bytes = HIDDEN) -> bytes:
    return b"\r\n".join([b"POST /auth/login HTTP/1.1", b"Host: x", *lines, b"", b""]) + body


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKED_HIDDEN), id="CL.TE"),
        pytest.param(post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKED_HIDDEN), id="TE.CL"),
        pytest.param(post(b"Content-Length: 0", b"Content-Length: 60"), id="two lengths"),
        pytest.param(post(b"Content-Length: 60", b"Content-Length: 60"), id="the same length twice"),
        pytest.param(post(b"Content-Length: 0, 60"), id="a list of lengths"),
        pytest.param(post(b"Content-Length: +60"), id="a length with a sign"),
        pytest.param(post(b"Content-Length: 0x3c"), id="a hexadecimal length"),
        pytest.param(post(b"Content-Length: 6 0"), id="a length with a space in it"),
        pytest.param(post(b"Content-Length : 60"), id="a space before the colon"),
        pytest.param(post(b"Content-Length: 99999999999999999999999"), id="a length beyond all numbers"),
        pytest.param(post(b"Transfer-Encoding: chunked, identity", body=CHUNKED_HIDDEN), id="chunked is not last"),
        pytest.param(post(b"Transfer-Encoding: xchunked", body=CHUNKED_HIDDEN), id="an unknown coding"),
        pytest.param(post(b"Transfer-Encoding:\x0bchunked", body=CHUNKED_HIDDEN), id="a coding after a control"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"3c\n" + HIDDEN), id="a chunk size with a bare LF"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"-1\r\n" + HIDDEN), id="a negative chunk"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"1ffffffffffffffff\r\n" + HIDDEN), id="a chunk beyond"),
        pytest.param(post(b"Transfer-Encoding: chunked", body=b"5\r\nabcdeXX" + HIDDEN), id="a chunk too short"),
        pytest.param(post(b"X-Folded: a", b" b: c", b"Content-Length: 0"), id="a folded header"),
        pytest.param(post(b"X-Nul: a\x00b", b"Content-Length: 0"), id="NUL in a value"),
        pytest.param(post(b"X\x00Nul: a", b"Content-Length: 0"), id="NUL in a name"),
        pytest.param(post(b"X-Bare: a\nContent-Length: 60"), id="a bare LF in the head"),
        pytest.param(post(b"X-Bare: a\rContent-Length: 60"), id="a bare CR in the head"),
        pytest.param(post(b": empty", b"Content-Length: 0"), id="a header without a name"),
        pytest.param(b"GET /healthz HTTP/1.1\nHost: x\n\n" + HIDDEN, id="bare LF everywhere"),
        pytest.param(b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n" + HIDDEN, id="an unknown version"),
        pytest.param(post(b"Host: y", b"Content-Length: 0"), id="two hosts"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n" + HIDDEN, id="no host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n" + HIDDEN, id="no valid host"),
        pytest.param(b"GET /healthz#a HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, id="a fragment"),
        pytest.param(b"CONNECT http://x/ HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, id="CONNECT in absolute form"),
        pytest.param(b"CONNECT /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, id="CONNECT to a path"),
        pytest.param(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, id="CONNECT"),
    ],
)
async def test_an_ambiguous_request_hides_no_second_one(server: Server, sent: bytes) -> None:
    assert speak(server, sent) in ([400], [413])


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(post(b"Content-Length: 60"), [415], id="what is in the body is body"),
        pytest.param(post(b"Content-Length: 0"), [415, 404], id="what is after it is not"),
        pytest.param(
            post(b"Transfer-Encoding: chunked", body=b"5;a=b\r\nabcde\r\n" + CHUNKED_HIDDEN),
            [415],
            id="a body of unknown length is not waited for",
        ),
        pytest.param(
            b"GET http://evil.example/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            [200],
            id="absolute form",
        ),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [404], id="asterisk form"),
        pytest.param(b"GET /healthz\r\n\r\n" + HIDDEN, [200], id="HTTP/0.9 closes"),
        pytest.param(b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN, [200, 404], id="two spaces"),
        pytest.param(
            post(b"Content-Type: application/json", b"Content-Length: 2", body=b'{}"rest": 1}\r\n\r\n'),
            [400, 400],
            id="a body that is longer than it says",
        ),
        pytest.param(b"GET /healthz HTTP/1.0\r\n\r\n" + HIDDEN, [200], id="HTTP/1.0 closes"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + HIDDEN, [200], id="close"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", [200], id="upgrade"
        ),
    ],
)
async def test_an_unambiguous_request_gets_its_answer(server: Server, sent: bytes, statuses: list[int]) -> None:
    assert speak(server, sent, least=len(statuses)) == statuses


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a%0d%0aX-Injected: 1", "a\u010a\u010dX-Injected: 1"])
async def test_no_request_value_becomes_a_header_of_the_answer(server: Server, db: Db, value: str) -> None:
    """Request ids, hosts, paths and queries are repeated, but not line breaks in them."""
    owner = await factories.client(db)
    token = await factories.token(db, client=owner)
    raw = value.encode()
    for sent in (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: 01234567890123456789" + raw + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: " + raw + b"\r\n\r\n",
        b"GET /sign-in?client_id="
        + raw.replace(b"\r\n", b"%0d%0a").replace(b" ", b"+")
        + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/clients/"
        + raw.replace(b"\r\n", b"%0d%0a").replace(b" ", b"%20")
        + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        + token.encode()
        + b"\r\n\r\n",
    ):
        with sockets.connect(server) as connection:
            connection.sendall(sent)
            head = connection.recv(65_536)
        assert b"\r\nx-injected" not in head.lower().partition(b"\r\n\r\n")[0]
