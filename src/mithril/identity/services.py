"""Asking a service for JSON over HTTP, within limits of time and size. What it answers is untrusted."""

import asyncio
import functools
import ssl
from typing import Any, NamedTuple, TypeVar

import msgspec

from mithril import errors, tracing

MILLISECONDS = 1000
# A body of a request has less, and the answer repeats what was signed.
MOST_BYTES = 262_144
REDIRECTION, CLIENT_ERROR, SERVER_ERROR = 300, 400, 500

Content = TypeVar("Content")


class Service(NamedTuple):
    """A service: its name in the log, its URL, and the seconds that a whole answer may take."""

    name: str
    endpoint: str
    timeout_seconds: float


class Answer(NamedTuple):
    """What a service answered: 2xx or 4xx."""

    service: Service
    status: int
    body: bytes

    @property
    def is_refusal(self) -> bool:
        """Whether the status is 4xx."""
        return self.status >= CLIENT_ERROR

    def decoded(self, kind: type[Content]) -> Content:
        """Return the JSON of the answer. Raises ServiceUnavailable where it is a refusal, or of another form."""
        if self.is_refusal:
            raise _unavailable(self.service, f"status {self.status}")
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise _unavailable(self.service, "an answer of another form") from None


async def ask(service: Service, method: str, path: str, document: Any = None) -> Answer:  # noqa: ANN401 -- JSON
    """Return the answer of the service. Raises ServiceUnavailable for none, a 5xx, a redirect, and a too long one.

    Each request has a connection of its own: few are made, and none may hit a connection that was just closed.
    """
    # The import takes a seventh of a second, and most processes ask no service.
    import httpx  # noqa: PLC0415

    # The settings alone configure this process, so proxy variables of the environment are ignored. No encoding: a small
    # answer could become a large one.
    limited = httpx.AsyncClient(
        timeout=service.timeout_seconds,
        trust_env=False,
        follow_redirects=False,
        verify=tls(),
        headers={"accept": "application/json", "accept-encoding": "identity"},
        event_hooks=tracing.hooks(),
    )
    url = service.endpoint.rstrip("/") + path
    try:
        async with (
            asyncio.timeout(service.timeout_seconds),
            limited,
            limited.stream(method, url, json=document) as response,
        ):
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MOST_BYTES:
                    raise _unavailable(service, "an answer that is too long")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise _unavailable(service, type(error).__name__) from None
    if not (response.is_success or CLIENT_ERROR <= response.status_code < SERVER_ERROR):
        raise _unavailable(service, f"status {response.status_code}")
    return Answer(service, response.status_code, bytes(body))


@functools.cache
def tls() -> ssl.SSLContext:
    """Return what checks the certificates of services; making it takes long."""
    import httpx  # noqa: PLC0415 -- as above

    return httpx.create_ssl_context(trust_env=False)


def _unavailable(service: Service, reason: str) -> errors.ServiceUnavailable:
    return errors.ServiceUnavailable(detail=f"{service.name}: {reason}")
