"""Parsing of UUIDs and IP addresses that callers send."""

import ipaddress
import re
from uuid import UUID

_HEX_GROUPS = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
CANONICAL_UUID = re.compile(_HEX_GROUPS, re.IGNORECASE)


def parse_uuid(text: str) -> UUID | None:
    """Return the UUID in canonical form and any letter case, or None for anything else."""
    return UUID(text) if CANONICAL_UUID.fullmatch(text) else None


def plain_ip(text: str) -> str:
    """Return the IPv4 part of an IPv4-mapped IP address (RFC 4291 section 2.5.5.2), and other text as it is."""
    if ":" not in text:
        return text
    try:
        mapped = ipaddress.IPv6Address(text).ipv4_mapped
    except ValueError:
        return text
    return str(mapped) if mapped else text


def is_ip(text: str) -> bool:
    """Whether it is an IP address, without the zone that some systems write behind one."""
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether it is `localhost` or an IP address of this machine alone."""
    try:
        return ipaddress.ip_address(plain_ip(host)).is_loopback
    except ValueError:
        return host.lower() == "localhost"
