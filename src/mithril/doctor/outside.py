"""What the doctor looks at outside the database: the services that the settings name, by a TLS handshake."""

import asyncio
import ipaddress
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mithril.doctor.findings import Finding
from mithril.identifiers import is_loopback
from mithril.settings import Settings

TIMEOUT_SECONDS = 5.0
FEWEST_DAYS = 14
DAY_SECONDS = 86_400
PORTS = {"http": 80, "https": 443, "smtp": 25, "smtps": 465}


class Peer(NamedTuple):
    """Who answered: its certificate, if it has shown one, and its IP address."""

    certificate: dict[str, Any] | None
    ip_address: str


async def examine(settings: Settings) -> list[Finding]:
    """Return what was found of each service that is configured."""
    return await asyncio.gather(*(asyncio.to_thread(_service, name, url) for name, url in _configured(settings)))


def _configured(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.otp_endpoint and settings.sms_enabled:
        yield "SMS service", settings.otp_endpoint
    if settings.digital_signature_endpoint:
        yield "signature service", settings.digital_signature_endpoint
    if settings.mpi_endpoint:
        yield "register of patients", settings.mpi_endpoint
    if settings.smtp_url:
        yield "mail server", settings.smtp_url


def _service(name: str, url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    where = f"{host} port {port}"
    try:
        peer = _shake(parts.scheme, host, port)
    except ssl.SSLCertVerificationError as error:
        return Finding(
            name, "problem", f"{where}: {error.verify_message}", "Renew its certificate, or let this machine trust it."
        )
    except (OSError, smtplib.SMTPException) as error:
        text = f"{where} does not answer: {getattr(error, 'strerror', None) or error or type(error).__name__}"
        return Finding(name, "problem", text, "Look at the service, the setting, and the network between.")
    if peer.certificate is None:
        if ipaddress.ip_address(peer.ip_address.partition("%")[0]).is_global:
            return Finding(name, "warning", f"{where} is asked without TLS, over a public network", "Use https.")
        return Finding(name, "ok", f"{where} answers, without TLS")
    left = (ssl.cert_time_to_seconds(peer.certificate["notAfter"]) - time.time()) / DAY_SECONDS
    text = f"{where} answers; its certificate is good for {left:.0f} days"
    return Finding(name, "ok", text) if left > FEWEST_DAYS else Finding(name, "warning", text, "Renew it.")


def _shake(scheme: str, host: str, port: int) -> Peer:
    """Connect as the service does, and say no more. Raises OSError, SMTPException."""
    if scheme == "smtp":
        with smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS) as mail:
            if not (is_loopback(host) and not mail.has_extn("starttls")):
                mail.starttls(context=ssl.create_default_context())
            return _peer(mail.sock)
    with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as plain:
        if scheme == "http":
            return _peer(plain)
        with _trusted(scheme).wrap_socket(plain, server_hostname=host) as encrypted:
            return _peer(encrypted)


def _trusted(scheme: str) -> ssl.SSLContext:
    """Return whom the senders trust: e-mails the system, the others what their HTTP client brings with it."""
    if scheme == "smtps":
        return ssl.create_default_context()
    import httpx  # noqa: PLC0415 -- the import takes a seventh of a second

    return httpx.create_ssl_context(trust_env=False)


def _peer(connected: socket.socket | None) -> Peer:
    assert connected is not None, "it is connected"
    certificate = connected.getpeercert() if isinstance(connected, ssl.SSLSocket) else None
    return Peer(certificate, connected.getpeername()[0])
