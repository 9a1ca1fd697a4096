"""Where the requests of webhooks go, and how long they wait (rules NTF-7, NTF-9)."""

import asyncio
import ipaddress
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mithril import security
from mithril.identity import services
from mithril.notifications import sending, store
from mithril.settings import Settings
from support.receiving import receiving

pytestmark = pytest.mark.anyio

KEY = "key of the tests, of 32 characters and more"


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.com",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "https://user:pass@hooks.example.com/",
        "https://hooks.example.com/#a",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks example.com/",
        "https://hooks.example.com/a\nb",
        "https://гак.example/",
        "https://",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]:8443/",
    ],
)
async def test_a_url_that_is_not_https_to_a_public_host_is_refused(url: str) -> None:
    settings = Settings(webhook_key=KEY)
    with pytest.raises(sending.Refused):
        await sending.resolve(sending.place_of(url, settings), settings)


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        *((each, True) for each in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")),
        *((each, False) for each in ("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.9.9.9", "169.254.169.254", "224.0.0.1")),
        *((each, False) for each in ("172.16.0.1", "192.168.0.1", "255.255.255.255", "::", "::1", "fe80::1%eth0")),
        *((each, False) for each in ("::ffff:8.8.8.8", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "ff02::1")),
    ],
)
def test_only_ip_addresses_of_the_internet_are_public(address: str, is_public: bool) -> None:  # noqa: FBT001
    assert sending.is_public(address) is is_public
    assert ipaddress.ip_address(address)


def target(url: str, settings: Settings) -> store.Target:
    made = UUID(int=1)
    return store.Target(
        id=made,
        last_event_id=0,
        url=url,
        events=[],
        secret_version=1,
        secret_digest=security.digest(sending.secret(settings, made, 1)),
        has_previous_secret=False,
    )


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were looked up; each leads to 127.0.0.1, and at its second look-up elsewhere."""
    names: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "127.0.0.1":
            return real(host, *arguments, **options)
        names.append(host)
        return real("127.0.0.1" if len(names) == 1 else "127.9.9.9", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


async def test_the_connection_is_made_to_the_address_that_was_judged(resolved: list[str]) -> None:
    settings = Settings(webhook_key=KEY, webhook_targets="any")
    async with receiving(host="hooks.example.com") as receiver:
        await sending.send(settings, target(receiver.url, settings), message_id="event_1", body="{}")
    assert resolved == ["hooks.example.com"]
    assert receiver.requests[0][0]["host"].startswith("hooks.example.com:")


async def test_a_name_that_leads_to_a_private_address_is_refused(resolved: list[str]) -> None:
    settings = Settings(webhook_key=KEY)
    with pytest.raises(sending.Refused, match="not public"):
        await sending.send(settings, target("https://hooks.example.com/", settings), message_id="event_1", body="{}")


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The TLS of a receiver with a certificate for hooks.example.com, which this process trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example.com")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = made.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "both.pem").write_bytes(
        certificate
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    trusting = ssl.create_default_context(cadata=certificate.decode())
    monkeypatch.setattr(services, "tls", lambda: trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    return context


@pytest.mark.parametrize(("host", "is_taken"), [("hooks.example.com", True), ("other.example.com", False)])
async def test_the_certificate_must_be_that_of_the_name(
    certified: ssl.SSLContext, resolved: list[str], host: str, *, is_taken: bool
) -> None:
    settings = Settings(webhook_key=KEY, webhook_targets="private")
    async with receiving(tls=certified, host=host) as receiver:
        sent = sending.send(settings, target(receiver.url, settings), message_id="event_1", body="{}")
        if is_taken:
            await sent
        else:
            with pytest.raises(sending.Refused, match="ConnectError"):
                await sent
    assert bool(receiver.requests) is is_taken


@pytest.mark.parametrize("answer", ["200 OK", "500 Internal Server Error"])
async def test_an_answer_that_never_ends_is_not_read(answer: str) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {answer}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        with suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await writer.drain()

    settings = Settings(webhook_key=KEY, webhook_targets="any")
    async with await asyncio.start_server(pour, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        sent = sending.send(settings, target(url, settings), message_id="event_1", body="{}")
        if answer.startswith("200"):
            await sent
        else:
            with pytest.raises(sending.Refused, match="status 500"):
                await sent


async def test_a_receiver_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TIMEOUT_SECONDS", 0.1)
    settings = Settings(webhook_key=KEY, webhook_targets="any")
    async with receiving() as receiver:
        receiver.delay_seconds = 5
        with pytest.raises(sending.Refused, match="Timeout"):
            await sending.send(settings, target(receiver.url, settings), message_id="event_1", body="{}")
