"""The way of a text to a person's phone: the port that the rest knows, and its adapters.

What a text says, and how often one may be sent, is not decided here (`otp`, `oauth.second_factor`). No adapter
logs or keeps a text or a number: a text carries a one-time password.
"""

import asyncio
import sys
from typing import Protocol

from mithril import errors
from mithril.settings import Settings

MILLISECONDS = 1000


class Messenger(Protocol):
    """Whatever can bring a text to a phone."""

    async def send(self, phone: str, text: str) -> None:
        """Returns once the text is accepted for delivery. Raises MessageNotSent."""

    async def close(self) -> None:
        """Lets go of what it holds."""


class ConsoleMessenger:
    """Prints to standard output, for a demo without any phone; the one place where a code may be seen."""

    async def send(self, phone: str, text: str) -> None:
        """One line, at once, also where standard output is a pipe."""
        sys.stdout.write(f"SMS to {phone}: {text}\n")
        sys.stdout.flush()

    async def close(self) -> None:
        """Holds nothing."""


class HttpMessenger:
    """Posts to an SMS service: `POST {endpoint}/sms/send` (contract.md 3.10)."""

    def __init__(self, endpoint: str, *, timeout_seconds: float) -> None:
        """Connects to nothing yet. `timeout_seconds` bounds a whole delivery, however slowly the service drips."""
        # A seventh of a second to import, and most processes have no SMS service.
        import httpx  # noqa: PLC0415

        self._url = endpoint.rstrip("/") + "/sms/send"
        self._timeout_seconds = timeout_seconds
        # Settings are the only way to configure this process: no proxies from variables that nobody here lists.
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False)
        self._failures = (httpx.HTTPError, httpx.InvalidURL, TimeoutError)

    async def send(self, phone: str, text: str) -> None:
        """Any answer but 2xx is a failure. Raises MessageNotSent."""
        document = {"phone_number": phone, "body": text, "type": "2FA"}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.post(self._url, json=document)
        except self._failures as error:
            raise errors.MessageNotSent(detail=f"SMS service: {type(error).__name__}") from None
        if not response.is_success:
            raise errors.MessageNotSent(detail=f"SMS service: status {response.status_code}")

    async def close(self) -> None:
        """Closes the connections that were kept open."""
        await self._client.aclose()


class SilentMessenger:
    """Sends nothing and says that all is well: MITHRIL_SMS_ENABLED=false."""

    async def send(self, phone: str, text: str) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Holds nothing."""


class NoMessenger:
    """There is no way to send anything: a person with a second factor must not get in without it."""

    async def send(self, phone: str, text: str) -> None:  # noqa: ARG002 -- the port's parameters
        """Raises MessageNotSent."""
        raise errors.MessageNotSent(detail="MITHRIL_OTP_ENDPOINT is not set")

    async def close(self) -> None:
        """Holds nothing."""


def messenger(settings: Settings) -> Messenger:
    """The adapter that the settings ask for; the console is for demos only."""
    if not settings.sms_enabled:
        return SilentMessenger()
    if settings.otp_endpoint:
        timeout_seconds = settings.otp_request_timeout / MILLISECONDS
        return HttpMessenger(settings.otp_endpoint, timeout_seconds=timeout_seconds)
    return ConsoleMessenger() if settings.demo else NoMessenger()
