"""E-mails to a mail server: what it gets, and that nothing goes out without TLS to another machine."""

import base64
import email
import email.policy

import pytest

from mithril import errors
from mithril.settings import Settings, SettingsError, load
from mithril.sms import mailer
from mithril.sms.messenger import messenger
from support.mailing import MailServer, listening

pytestmark = pytest.mark.anyio

SENDER = "no-reply@auth.example.org"


async def send(url: str, recipient: str = "user@example.com") -> None:
    await mailer.SmtpMailer(url, sender=SENDER).send(recipient, subject="Новий пароль", text="Посилання: <link>")


async def test_a_mail_server_gets_the_email_and_the_credentials() -> None:
    server = MailServer()
    async with listening(server) as port:
        await send(f"smtp://user:p%40ss%3A@127.0.0.1:{port}")
    (auth,) = (line for line in server.commands if line.startswith("AUTH"))
    assert base64.b64decode(auth.split()[-1]).split(b"\0") == [b"", b"user", b"p@ss:"]
    (sent,) = server.messages
    message = email.message_from_bytes(sent, policy=email.policy.default)
    assert [message[name] for name in ("From", "To", "Subject")] == [SENDER, "user@example.com", "Новий пароль"]
    assert message.get_content().startswith("Посилання: <link>")
    assert message["Date"]
    assert message["Message-ID"].endswith("@auth.example.org>")


@pytest.mark.parametrize("verb", ["AUTH", "MAIL", "RCPT", "DATA"])
async def test_a_mail_server_that_refuses_is_an_error_without_the_text(verb: str) -> None:
    server = MailServer({verb: "550 no"})
    async with listening(server) as port:
        with pytest.raises(errors.MessageNotSent) as refused:
            await send(f"smtp://user:secret@127.0.0.1:{port}")
    assert "secret" not in f"{refused.value} {refused.value.detail}"
    assert "user@example.com" not in f"{refused.value} {refused.value.detail}"


async def test_nothing_goes_to_another_machine_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailer, "is_loopback", lambda _: False)
    server = MailServer()
    async with listening(server) as port:
        for scheme in ("smtp", "smtps"):
            with pytest.raises(errors.MessageNotSent):
                await send(f"{scheme}://user:secret@127.0.0.1:{port}")
    assert not [line for line in server.commands if line.startswith(("AUTH", "MAIL"))]


async def test_a_recipient_cannot_add_a_header() -> None:
    server = MailServer()
    async with listening(server) as port:
        with pytest.raises(errors.MessageNotSent):
            await send(f"smtp://127.0.0.1:{port}", "user@example.com\r\nBcc: other@example.com")
    assert not server.messages


@pytest.mark.parametrize(
    ("reply", "kind"), [("550 no such user", errors.MessageRefused), ("450 later", errors.MessageNotSent)]
)
async def test_a_recipient_that_does_not_exist_is_told_from_one_that_is_refused_for_now(
    reply: str, kind: type[errors.MessageNotSent]
) -> None:
    async with listening(MailServer({"RCPT": reply})) as port:
        with pytest.raises(errors.MessageNotSent) as refused:
            await send(f"smtp://127.0.0.1:{port}")
    assert type(refused.value) is kind


async def test_an_unreachable_mail_server_is_an_error() -> None:
    with pytest.raises(errors.MessageNotSent):
        await send("smtp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, mailer.Mailer),
        ({"demo": True}, mailer.ConsoleMailer),
        ({"demo": True, "smtp_url": "smtps://mail.example.org", "smtp_sender": SENDER}, mailer.SmtpMailer),
    ],
)
async def test_the_settings_decide_how_emails_are_sent(changes: dict[str, object], kind: type[mailer.Mailer]) -> None:
    assert type(messenger(Settings(**changes)).mailer) is kind  # type: ignore[arg-type]


async def test_without_a_mail_server_an_email_is_an_error_and_a_demo_prints_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(errors.MessageNotSent):
        await mailer.Mailer().send("user@example.com", subject="x", text="the link")
    await mailer.ConsoleMailer().send("user@example.com", subject="x", text="the link")
    assert capsys.readouterr().out == "E-mail to user@example.com: the link\n"


@pytest.mark.parametrize(
    ("url", "sender", "named"),
    [
        ("smtps://user:pass@mail.example.org:465", "", "MITHRIL_SMTP_SENDER"),
        ("https://mail.example.org", SENDER, "MITHRIL_SMTP_URL"),
        ("smtp://", SENDER, "MITHRIL_SMTP_URL"),
        ("smtp://mail.example.org", "no address", "MITHRIL_SMTP_SENDER"),
        ("smtp://mail.example.org", "a@b\nBcc: c@d", "MITHRIL_SMTP_SENDER"),
    ],
)
def test_settings_of_a_mail_server_are_checked(url: str, sender: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load({"MITHRIL_SMTP_URL": url, "MITHRIL_SMTP_SENDER": sender})


@pytest.mark.parametrize(
    ("changes", "sends"),
    [
        ({}, False),
        ({"demo": True}, True),
        ({"otp_endpoint": "http://sms"}, False),
        ({"otp_endpoint": "http://sms", "public_url": "https://auth.example.org"}, True),
        ({"otp_endpoint": "http://sms", "public_url": "https://auth.example.org", "sms_enabled": False}, False),
        ({"smtp_url": "smtp://mail", "public_url": "https://auth.example.org"}, True),
    ],
)
def test_links_are_offered_where_they_can_be_sent_and_lead_to_a_fixed_host(
    changes: dict[str, object], *, sends: bool
) -> None:
    """The host of a request would let a caller choose to which host a user's link leads."""
    assert Settings(**changes).sends_links is sends  # type: ignore[arg-type]
