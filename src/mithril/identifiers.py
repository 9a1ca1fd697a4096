"""UUIDs and IP addresses: parsing what callers send, and UUIDs that begin with the time."""

import ipaddress
import re
import secrets
import time
from datetime import UTC, datetime
from uuid import UUID

_HEX_GROUPS = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME_ORDERED = 7  # the version of a UUID that begins with the time (RFC 9562 section 5.7)
ROW_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
CANONICAL_UUID = re.compile(_HEX_GROUPS, re.IGNORECASE)


def parse_uuid(text: str) -> UUID | None:
    """Return the UUID in canonical form and any letter case, or None for anything else."""
    return UUID(text) if CANONICAL_UUID.fullmatch(text) else None


def parse_row_number(text: str) -> int | None:
    """Return the number of a row as this server writes it, or None for anything else."""
    return int(text) if ROW_NUMBER.fullmatch(text) else None


def time_ordered_uuid() -> UUID:
    """Return a new UUID that begins with the time: later ones are greater, so an index grows at its end."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | TIME_ORDERED << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return UUID(int=number)


def time_of(identifier: UUID) -> datetime | None:
    """Return when such a UUID was made, by the clock of its maker; None for any other."""
    if identifier.version != TIME_ORDERED:
        return None
    try:
        return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
    except ValueError:  # a year that no datetime has
        return None


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
