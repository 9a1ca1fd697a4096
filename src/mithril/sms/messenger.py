"""Sending a text message to a phone: `Messenger` and its adapters.

The content and the frequency of messages are decided in `otp` and `oauth.second_factor`. No adapter logs or stores a
text or a phone number: a text carries a one-time password.
"""

import asyncio
import sys

from mithril import errors
from mithril.settings import Settings

MILLISECONDS = 1000


class Messenger:
    """Send nothing and report success, for MITHRIL_SMS_ENABLED=false; what else sends messages derives from it."""

    async def send(self, phone: str, text: str) -> None:
        """Return when the text is accepted for delivery. Raises MessageNotSent."""

    async def close(self) -> None:
        """Release the resources, if there are any."""


class ConsoleMessenger(Messenger):
    """Print messages to standard output, for a demo without a phone. No other output shows a one-time password."""

    async def send(self, phone: str, text: str) -> None:
        """Print one line at once, also when standard output is a pipe."""
        sys.stdout.write(f"SMS to {phone}: {text}\n")
        sys.stdout.flush()


class HttpMessenger(Messenger):
    """Send messages through an SMS service: `POST {endpoint}/sms/send` (rule SGN-24)."""

    def __init__(self, endpoint: str, *, timeout_seconds: float) -> None:
        """Connect to nothing yet. `timeout_seconds` limits a whole delivery, also to a slow service."""
        # The import takes a seventh of a second, and most processes have no SMS service.
        import httpx  # noqa: PLC0415

        self._url = endpoint.rstrip("/") + "/sms/send"
        self._timeout_seconds = timeout_seconds
        # The settings alone configure this process, so proxy variables of the environment are ignored.
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False)
        self._failures = (httpx.HTTPError, httpx.InvalidURL, TimeoutError)

    async def send(self, phone: str, text: str) -> None:
        """Post the message. Raises MessageNotSent unless the answer is 2xx."""
        document = {"phone_number": phone, "body": text, "type": "2FA"}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.post(self._url, json=document)
        except self._failures as error:
            raise errors.MessageNotSent(detail=f"SMS service: {type(error).__name__}") from None
        if not response.is_success:
            raise errors.MessageNotSent(detail=f"SMS service: status {response.status_code}")

    async def close(self) -> None:
        """Close the connections that were kept open."""
        await self._client.aclose()


class NoMessenger(Messenger):
    """Refuse to send, when no service is configured: a user with a second factor must not log in without it."""

    async def send(self, phone: str, text: str) -> None:  # noqa: ARG002 -- as of every adapter
        """Raise MessageNotSent."""
        raise errors.MessageNotSent(detail="MITHRIL_OTP_ENDPOINT is not set")


def messenger(settings: Settings) -> Messenger:
    """Return the adapter that the settings ask for. The console is for demos only."""
    if not settings.sms_enabled:
        return Messenger()
    if settings.otp_endpoint:
        timeout_seconds = settings.otp_request_timeout / MILLISECONDS
        return HttpMessenger(settings.otp_endpoint, timeout_seconds=timeout_seconds)
    return ConsoleMessenger() if settings.demo else NoMessenger()
