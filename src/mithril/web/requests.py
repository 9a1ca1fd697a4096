"""What a handler reads from a request: the resources of the process, single headers, the peer and the origin."""

import functools
import ipaddress
import re
from typing import NamedTuple, cast
from uuid import UUID

from starlette.requests import Request
from starlette.types import Scope

from mithril import errors, identifiers
from mithril.database.database import Database
from mithril.settings import Settings
from mithril.sms.messenger import Messenger

# The host of a URI, and a port (RFC 3986 section 3.2.2); the text between brackets is parsed further.
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255})(?::([0-9]{0,5}))?")
LARGEST_PORT = 65_535
# Of the hosts that the RFC allows, those that are repeated in an answer.
SHOWN_HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")
# The scope keys of the authority of a request target in absolute form, and of all hosts that a request names.
AUTHORITY, HOSTS = "mithril.authority", "mithril.hosts"
# The scope key of the client that asks to sign a user in, or for tokens: its id, or None while it is not known.
ASKING = "mithril.asking"
# The scope keys of what the log line of the request has: the ids of user and client, and why it is refused.
CALLER, REFUSAL = "mithril.caller", "mithril.refusal"
# The scope key of headers that are added to any refusal of the request.
REFUSAL_HEADERS = "mithril.refusal_headers"


class Resources(NamedTuple):
    """The resources of a process that every handler may use."""

    settings: Settings
    database: Database
    messenger: Messenger


def resources(request: Request) -> Resources:
    """Return the resources of the process that serves `request`."""
    return cast("Resources", request.scope["resources"])


def network_address(request: Request) -> str | None:
    """Return the IP address of the peer, or the one that a trusted proxy names."""
    return identifiers.plain_ip(request.client.host) if request.client else None


def note_caller(scope: Scope, *, user_id: UUID | str | None = None, client_id: UUID | str | None = None) -> None:
    """Note for the log line of the request who the caller is, or says to be. What was noted before stays."""
    known = {name: str(value) for name, value in (("user_id", user_id), ("client_id", client_id)) if value}
    scope[CALLER] = {**known, **scope.get(CALLER, {})}


def note_refusal(scope: Scope, refusal: errors.MithrilError) -> None:
    """Note for the log line of the request why it is refused, and whom that is about."""
    scope[REFUSAL] = f"{refusal.name}: {refusal.detail}" if refusal.detail else refusal.name
    note_caller(scope, **refusal.concerned)


class Host(NamedTuple):
    """A host that a request names: without port and brackets, in lower case; and as it was sent, if it is shown."""

    name: str
    is_loopback: bool
    shown: str | None


@functools.lru_cache(maxsize=256)
def parse_host(value: bytes) -> Host | None:
    """Parse the value of a Host header, with or without a port; None if it is malformed (RFC 9112 section 3.2)."""
    found = HOST.fullmatch(value)
    if found is None or int(found[2] or 0) > LARGEST_PORT:
        return None
    name = found[1].decode().lower()
    if name.startswith("["):
        name = name.strip("[]")
        try:
            ipaddress.IPv6Address(name)
        except ValueError:
            return None
    return Host(name, identifiers.is_loopback(name), value.decode() if SHOWN_HOST.fullmatch(value) else None)


def header(request: Request, name: str) -> str | None:
    """Return the value of a header, or None when it is absent, or ambiguous because it is repeated."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else None


def origin(scope: Scope) -> str:
    """Return the scheme and host by which the caller reaches this server, without a final slash; OAuth's `iss`."""
    public_url: str = scope["resources"].settings.public_url
    return public_url.rstrip("/") if public_url else listener_origin(scope)


def listener_origin(scope: Scope) -> str:
    """Return the scheme and host of this very request: on the internal listener, which has no public URL."""
    return f"{scope['scheme']}://{_host(scope)}"


def own_origin(settings: Settings) -> str:
    """Return scheme and host by which a browser on this machine, or beyond a proxy, reaches the public listener."""
    return settings.public_url.rstrip("/") or f"http://{reached_at(settings.host, settings.port)}"


def reached_at(host: str, port: int) -> str:
    """Return host and port by which this machine reaches what listens there."""
    return authority({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 -- to connect to


def _host(scope: Scope) -> str:
    hosts: list[Host] = scope.get(HOSTS, [])
    if hosts and hosts[0].shown:
        return hosts[0].shown
    return authority(*scope["server"])


def authority(host: str, port: int) -> str:
    """Return host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
