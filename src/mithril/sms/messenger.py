"""Sending a text message to a phone: `Messenger` and its adapters.

The content and the frequency of messages are decided in `otp` and `oauth.second_factor`. No adapter logs or stores a
text or a phone number: a text carries a one-time password.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import structlog

from mithril import errors, tracing
from mithril.settings import Settings
from mithril.sms.mailer import Mailer, mailer

MILLISECONDS = 1000
MOST_SENDING = 100  # messages at a time
log = structlog.stdlib.get_logger("mithril")


class Messenger:
    """Send nothing and report success, for MITHRIL_SMS_ENABLED=false; what else sends messages derives from it."""

    def __init__(self) -> None:
        """`mailer`: by which a user without a phone is reached."""
        self.mailer = Mailer()
        self._sending: set[asyncio.Task[None]] = set()

    async def send(self, phone: str, text: str) -> None:
        """Return when the text is accepted for delivery. Raises MessageNotSent."""

    def send_later(self, sending: Coroutine[Any, Any, None]) -> None:
        """Run what sends a message and raises nothing, beside all else; drop it where very many are running."""
        if len(self._sending) >= MOST_SENDING:
            sending.close()
            log.error("message_dropped", detail="too many are being sent")
            return
        task = asyncio.create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def finish(self) -> None:
        """Wait for all that is sent beside."""
        await asyncio.gather(*self._sending, return_exceptions=True)

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
        super().__init__()
        # The import takes a seventh of a second, and most processes have no SMS service.
        import httpx  # noqa: PLC0415

        self._url = endpoint.rstrip("/") + "/sms/send"
        self._timeout_seconds = timeout_seconds
        # The settings alone configure this process, so proxy variables of the environment are ignored.
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False, event_hooks=tracing.hooks())
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
    """Return the adapter that the settings ask for, with its mailer. The console is for demos only."""
    found = _messenger(settings)
    found.mailer = mailer(settings)
    return found


def _messenger(settings: Settings) -> Messenger:
    if not settings.sms_enabled:
        return Messenger()
    if settings.otp_endpoint:
        timeout_seconds = settings.otp_request_timeout / MILLISECONDS
        return HttpMessenger(settings.otp_endpoint, timeout_seconds=timeout_seconds)
    return ConsoleMessenger() if settings.demo else NoMessenger()
