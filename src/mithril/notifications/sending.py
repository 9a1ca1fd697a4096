"""Sending a notification to a webhook: its signature, and a request to public hosts only (rules NTF-7, NTF-9).

A name is resolved once, each of its IP addresses is judged, and the connection is made to one that was judged: so no
later answer of the name service leads elsewhere. TLS checks the certificate against the name.
"""

import asyncio
import base64
import importlib.util
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from mithril import __version__, refusals, security
from mithril.identity import services
from mithril.notifications.store import Target
from mithril.settings import Settings

TIMEOUT_SECONDS = 10.0
# No backslash and no fragment: every reader of such a URL sees the same host.
URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:[1-9][0-9]{0,4})?"
    r"(?P<path>/[!$-;=?-\[\]_a-z~]*|\?[!$-;=?-\[\]_a-z~]*)?",
    re.ASCII | re.IGNORECASE,
)
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
# Threads of their own: a name service that does not answer must hold up nothing else.
_RESOLVERS = ThreadPoolExecutor(8, thread_name_prefix="webhooks")


class Refused(Exception):
    """A target that a notification may not go to, or that did not take it. The message has nothing of the target."""


class Gone(Refused):
    """A target that wants nothing any more: it answered 410."""


class Place(NamedTuple):
    """The parts of a URL. `path`: with the query."""

    scheme: str
    host: str
    port: str
    path: str


def check_available(settings: Settings) -> None:
    """Raise WebhooksOff without a key, WebhooksNotInstalled without the library that signs."""
    if not settings.webhook_key:
        raise refusals.WebhooksOff
    if importlib.util.find_spec("standardwebhooks") is None:
        raise refusals.WebhooksNotInstalled


def secret(settings: Settings, webhook_id: UUID, version: int) -> str:
    """Return a secret of a webhook: it is derived from the key of the settings, so that the database has none."""
    derived = security.derived(settings.webhook_key, f"webhook:{webhook_id}:{version}")
    return "whsec_" + base64.b64encode(base64.urlsafe_b64decode(derived)).decode()


def place_of(url: str, settings: Settings) -> Place:
    """Return the parts of a URL. Raises Refused for one that no notification is sent to."""
    found = URL.fullmatch(url)
    if found is None or int((found["port"] or ":1")[1:]) > 65535:  # noqa: PLR2004 -- the greatest port
        raise Refused("it must be a URL such as https://host/path, without user, password and fragment")
    if found["scheme"].lower() == "http" and settings.webhook_targets != "any":
        raise Refused("it must begin with https://")
    path = found["path"] or "/"
    return Place(found["scheme"].lower(), found["host"], found["port"] or "", path if path[0] == "/" else f"/{path}")


async def resolve(place: Place, settings: Settings) -> list[str]:
    """Return the IP addresses of a host. Raises Refused if any of them is not public and may not be used; OSError."""
    asked = place.host.strip("[]"), None, 0, socket.SOCK_STREAM
    found = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, socket.getaddrinfo, *asked)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if settings.webhook_targets == "public" and not all(map(is_public, addresses)):
        raise Refused("it leads to an IP address that is not public")
    return addresses


def is_public(text: str) -> bool:
    """Return whether an IP address is public: not private, loopback, link-local, multicast or of a tunnel."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (address not in GLOBAL_UNICAST or address.sixtofour):
        return False
    return address.is_global and not address.is_multicast


async def send(settings: Settings, target: Target, *, message_id: str, body: str) -> None:
    """Post a notification. Raises Refused unless the answer is 2xx, Gone if it is 410."""
    # The import takes a seventh of a second, and most processes send none.
    import httpx  # noqa: PLC0415

    assert target.url is not None, "a webhook has one"
    place, headers = place_of(target.url, settings), _signed(settings, target, message_id, body)
    failure: Exception = Refused("no IP address")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for address in await resolve(place, settings):
                try:
                    status = await _post(place, address, body.encode(), headers)
                except httpx.ConnectError as error:
                    failure = error
                    continue
                if not httpx.codes.is_success(status):
                    raise (Gone if status == httpx.codes.GONE else Refused)(f"status {status}")
                return
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        failure = error
    raise Refused(str(failure) if isinstance(failure, Refused) else type(failure).__name__) from None


async def _post(place: Place, address: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status of the answer. Nothing else of it is read, and no redirect is followed."""
    import httpx  # noqa: PLC0415 -- as above

    netloc = f"[{address}]" if ":" in address else address
    client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False, verify=services.tls())
    async with (
        client,
        client.stream(
            "POST",
            f"{place.scheme}://{netloc}{place.port}{place.path}",
            content=body,
            headers=headers | {"host": place.host + place.port},
            extensions={"sni_hostname": place.host.strip("[]")},
        ) as response,
    ):
        return response.status_code


def _signed(settings: Settings, target: Target, message_id: str, body: str) -> dict[str, str]:
    """Return the headers of the Standard Webhooks scheme; during a rotation both secrets sign. Raises Refused."""
    from standardwebhooks.webhooks import Webhook  # noqa: PLC0415 -- an extra, which few install

    assert target.secret_version is not None, "a webhook has one"
    secrets = [secret(settings, target.id, target.secret_version)]
    if security.digest(secrets[0]) != target.secret_digest:
        raise Refused("MITHRIL_WEBHOOK_KEY is another one: refresh the secret")
    if target.has_previous_secret:
        secrets.append(secret(settings, target.id, target.secret_version - 1))
    moment = datetime.now(UTC)
    return {
        "content-type": "application/json",
        "user-agent": f"Mithril/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(each).sign(message_id, moment, body) for each in secrets),
    }
