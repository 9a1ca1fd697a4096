"""What the values of settings must be beyond their types, such as a URL with a host; `settings` refuses any other."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from mithril.identifiers import parse_uuid

# The longest name of a host, in characters (RFC 1035 section 2.3.4).
LONGEST_NAME = 253


def _is_proxies(text: str) -> bool:
    try:
        return text == "*" or all(ipaddress.ip_network(each.strip()) for each in text.split(","))
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    """Whether it is an IP address, or a name that a host can have (RFC 1123 section 2.1, and the underscore)."""
    try:
        return bool(ipaddress.ip_address(text)) and text.isprintable() and " " not in text
    except ValueError:
        return len(text) <= LONGEST_NAME and bool(_NAME.fullmatch(text))


def _has_host(url: str) -> bool:
    """Whether a URL names a host, and a port that can be one if it names a port."""
    try:
        parts = urlsplit(url)
        return _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def _is_key(text: str) -> bool:
    try:
        return len(text.encode()) >= NONCE_KEY_BYTES
    except UnicodeEncodeError:
        return False


# What HS512 needs (RFC 7518 section 3.2).
NONCE_KEY_BYTES = 64
WEBHOOK_KEY_CHARACTERS = 32
_LABEL = r"[A-Za-z0-9_](?:[\w-]{0,61}[A-Za-z0-9_])?"
# A name that ends in a number would be an IPv4 address.
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+\.?$){_LABEL}\.?", re.ASCII)
_HOST = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?"
_PUBLIC_URL = re.compile(rf"https?://{_HOST}/?", re.ASCII | re.IGNORECASE)
_URL = re.compile(rf"https?://(?:[!-~]*@)?{_HOST}(?:[/?][!-~]*)?", re.ASCII | re.IGNORECASE)
_DATABASE_HOST = r"(?:[^/?#@:,\s\[\]]*|\[[0-9A-Fa-f:.%]+\])(?::\d+)?"
# Without a host, that of the variables of libpq (PGHOST and the like).
_SMTP_URL = re.compile(rf"smtps?://(?:[!-~]*@)?{_HOST}/?", re.ASCII | re.IGNORECASE)
_SENDER = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,190}")
_DATABASE_URL = re.compile(
    rf"postgres(?:ql)?://(?:[^/?#@\[\]]*@)?{_DATABASE_HOST}(?:,{_DATABASE_HOST})*(?:/[^/?#@]*)?(?:\?[^#]*)?", re.ASCII
)
# What a value must be beyond its type, for a setting that has one: a judgement, and what it asks for in words.
MEANINGS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "public_url": (
        lambda text: bool(_PUBLIC_URL.fullmatch(text)) and _has_host(text),
        "scheme and host, such as https://auth.example.org",
    ),
    **dict.fromkeys(
        ("otp_endpoint", "digital_signature_endpoint", "mpi_endpoint", "traces_endpoint"),
        (lambda text: bool(_URL.fullmatch(text)) and _has_host(text), "an http or https URL"),
    ),
    "smtp_url": (
        lambda text: bool(_SMTP_URL.fullmatch(text)) and _has_host(text),
        "a URL such as smtps://user:password@host:465",
    ),
    "smtp_sender": (lambda text: bool(_SENDER.fullmatch(text)), "an e-mail address"),
    "host": (_is_host, "an IP address or a host name"),
    "internal_host": (_is_host, "an IP address or a host name"),
    "webhook_key": (
        lambda text: text.isascii() and len(text) >= WEBHOOK_KEY_CHARACTERS,
        f"at least {WEBHOOK_KEY_CHARACTERS} characters of ASCII",
    ),
    "jwt_secret": (_is_key, f"a key of at least {NONCE_KEY_BYTES} bytes"),
    "database_url": (
        lambda text: bool(_DATABASE_URL.fullmatch(text)),
        "a URL such as postgresql://user@host/name, with each of @ : / # ? % in user and password percent-encoded",
    ),
    "trusted_proxies": (_is_proxies, "IP addresses or networks, separated by commas"),
    "trusted_client_ids": (lambda text: parse_uuid(text) is not None, "UUIDs, separated by commas"),
    "internal_key": (
        lambda text: text.isascii() and text.isprintable() and text == text.strip(),
        "printable ASCII, as a header has it",
    ),
    "otp_sms_template": (lambda text: "<otp.code>" in text, "a text with <otp.code> in it"),
}
