"""Sending an e-mail to a user who has no phone: `Mailer` and its adapters. None of them logs or stores a text."""

import ssl
import sys
from email.header import Header
from email.message import EmailMessage
from email.policy import Policy
from email.utils import formatdate, make_msgid
from functools import partial
from urllib.parse import unquote, urlsplit

from mithril import errors
from mithril.identifiers import is_loopback
from mithril.settings import Settings

TIMEOUT_SECONDS = 10.0
PERMANENT = 500  # and more: a refusal that another attempt does not change


class Mailer:
    """Refuse to send, when no mail server is configured; what sends e-mails derives from it."""

    async def send(self, recipient: str, *, subject: str, text: str, html: str = "") -> None:  # noqa: ARG002 -- as of every adapter
        """Return when the e-mail is accepted for delivery. Raises MessageNotSent."""
        raise errors.MessageNotSent(detail="MITHRIL_SMTP_URL is not set")


class ConsoleMailer(Mailer):
    """Print e-mails to standard output, for a demo without a mail server."""

    async def send(self, recipient: str, *, subject: str, text: str, html: str = "") -> None:  # noqa: ARG002 -- the text says it all
        """Print one line at once, also when standard output is a pipe."""
        sys.stdout.write(f"E-mail to {recipient}: {text}\n")
        sys.stdout.flush()


class _Subject(str):
    """A subject that keeps its spaces: the one at which `EmailMessage` breaks a line that is not ASCII is lost."""

    __slots__ = ()
    name = "Subject"

    def fold(self, *, policy: Policy) -> str:
        """Return the lines of the header."""
        text = " ".join(self.split())
        folded = text if text.isascii() else Header(text, "utf-8", header_name=self.name).encode(linesep=policy.linesep)
        return f"{self.name}: {folded}{policy.linesep}"


class SmtpMailer(Mailer):
    """Send e-mails through a mail server: `smtps` with TLS from the start, `smtp` with STARTTLS.

    Only a mail server on this machine may do without TLS.
    """

    def __init__(self, url: str, *, sender: str) -> None:
        """Connect to nothing yet."""
        # The import takes time, and most processes have no mail server.
        import aiosmtplib  # noqa: PLC0415

        self._sender, parts = sender, urlsplit(url)
        is_local, is_tls = is_loopback(parts.hostname or ""), parts.scheme == "smtps"
        self._client = partial(
            aiosmtplib.SMTP,
            hostname=parts.hostname,
            port=parts.port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            use_tls=is_tls,
            start_tls=None if is_tls or is_local else True,
            tls_context=ssl.create_default_context(),
            timeout=TIMEOUT_SECONDS,
        )
        self._failures = (aiosmtplib.SMTPException, OSError, ValueError)

    async def send(self, recipient: str, *, subject: str, text: str, html: str = "") -> None:
        """Hand the e-mail over, where `html` is given in both forms. Raises MessageNotSent, MessageRefused."""
        try:
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = self._sender, recipient, _Subject(subject)
            message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=self._sender.partition("@")[2])
            message.set_content(text)
            if html:
                message.add_alternative(html, subtype="html")
            async with self._client() as client:
                await client.send_message(message)
        except self._failures as error:
            # A recipient that is refused for now has a smaller code (RFC 5321 section 4.2.1).
            codes = [each.code for each in getattr(error, "recipients", ())]
            is_final = isinstance(error, ValueError) or min(codes, default=0) >= PERMANENT
            kind = errors.MessageRefused if is_final else errors.MessageNotSent
            raise kind(detail=f"mail server: {type(error).__name__}") from None


def mailer(settings: Settings) -> Mailer:
    """Return the adapter that the settings ask for. The console is for demos only."""
    if settings.smtp_url:
        return SmtpMailer(settings.smtp_url, sender=settings.smtp_sender)
    return ConsoleMailer() if settings.demo else Mailer()
