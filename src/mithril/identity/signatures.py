"""Judging a signed document: `Verifier` and its adapters.

Whose signature it must be, and what must be signed, is decided in `oauth.signature_login`. No adapter logs or stores
what was signed.
"""

import base64
import functools
from importlib import resources as package_files
from typing import Any
from uuid import UUID

import msgspec
import structlog

from mithril import refusals
from mithril.identity import services
from mithril.identity.services import Service
from mithril.settings import Settings

REFUSED = "The signature service refused the signed content."
DEMO_FORM = 'The demo takes base64 of {"jwt": "...", "drfo": "..."} in place of a signature.'

log = structlog.stdlib.get_logger("mithril")


class Signer(msgspec.Struct, frozen=True):
    """Who signed; `drfo` is the tax id, where it is a text."""

    drfo: Any = None


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature, and what the service says about it."""

    is_valid: bool
    signer: Signer | None = None
    validation_error_message: str | None = None


class SignedContent(msgspec.Struct, frozen=True):
    """What was signed, JSON of any form, and by whom."""

    content: Any
    signatures: list[Signature]


class Verifier:
    """What judges signatures."""

    people: frozenset[UUID] | None = None
    """The users who may sign; None for all."""

    async def verify(self, signed_content: str) -> SignedContent:
        """Return what the base64 contains. Raises SignatureRefused, ServiceUnavailable."""
        raise NotImplementedError


class _Envelope(msgspec.Struct):
    data: SignedContent


class HttpVerifier(Verifier):
    """Ask the digital-signature service: `POST {endpoint}/digital_signatures` (rule SGN-44)."""

    def __init__(self, endpoint: str, *, timeout_seconds: float) -> None:
        """Connect to nothing yet."""
        self._service = Service("signature service", endpoint, timeout_seconds)

    async def verify(self, signed_content: str) -> SignedContent:
        """Post the content. A refusal of the service is raised with its status and its words."""
        document = {"signed_content": signed_content, "signed_content_encoding": "base64"}
        answer = await services.ask(self._service, "POST", "/digital_signatures", document)
        if answer.is_refusal:
            raise refusals.SignatureRefused(_words(answer.body) or REFUSED, status=answer.status)
        return answer.decoded(_Envelope).data


class DemoVerifier(Verifier):
    """Believe what is in the content, for users of the demo alone, whose passwords are public too (rule SGN-50)."""

    def __init__(self) -> None:
        """Read who the users of the demo are."""
        self.people = _demo_people()

    async def verify(self, signed_content: str) -> SignedContent:
        """Return the content as signed by whom it names, and say so in the log."""
        try:
            content = msgspec.json.decode(base64.b64decode(signed_content))
        except (ValueError, msgspec.DecodeError, RecursionError):
            raise refusals.SignatureRefused(DEMO_FORM) from None
        if not isinstance(content, dict):
            raise refusals.SignatureRefused(DEMO_FORM)
        log.warning("signature_not_checked", reason="a demo believes its own users")
        return SignedContent(content, [Signature(is_valid=True, signer=Signer(content.get("drfo")))])


def verifier(settings: Settings) -> Verifier | None:
    """Return the adapter that the settings ask for; None where no signature is accepted. Only a demo believes any."""
    if settings.digital_signature_endpoint:
        timeout_seconds = settings.digital_signature_request_timeout / services.MILLISECONDS
        return HttpVerifier(settings.digital_signature_endpoint, timeout_seconds=timeout_seconds)
    return DemoVerifier() if settings.demo else None


def _words(body: bytes) -> str:
    """Return the message of a refusal, or nothing."""
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (ValueError, msgspec.DecodeError, RecursionError, LookupError, TypeError):
        return ""
    return message if isinstance(message, str) else ""


@functools.cache
def _demo_people() -> frozenset[UUID]:
    data = msgspec.json.decode(package_files.files("mithril.snapshots").joinpath("demo.json").read_bytes())
    return frozenset(UUID(user["id"]) for user in data["users"] if "password" in user)
