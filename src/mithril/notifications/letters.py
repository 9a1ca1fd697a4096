"""E-mails to the owner of a client about what has changed, in Ukrainian and in English (rule NTF-11)."""

import functools
import html
from datetime import datetime
from importlib import resources as package_files
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import structlog

from mithril import errors, metrics
from mithril.database.database import Database
from mithril.notifications import store
from mithril.notifications.messages import Notification
from mithril.notifications.store import Noticed, Owner
from mithril.settings import Settings
from mithril.sms.mailer import Mailer

KYIV = ZoneInfo("Europe/Kyiv")
log = structlog.stdlib.get_logger("mithril")


async def send(
    database: Database, settings: Settings, mailer: Mailer, event: Noticed, notification: Notification
) -> None:
    """Send a notification to the owner of the client, if it has one, unless it is too late for that.

    Raises MessageNotSent where it is worth another attempt; a mail server that will never take it is logged.
    """
    owner = None if event.is_old or event.client_id is None else await store.find_owner(database, event.client_id)
    if owner is None:
        return
    both = [lines(language, settings, owner, notification) for language in ("uk", "en")]
    subject = f"{' / '.join(each[0].rstrip('.') for each in both)}: {owner.client}"
    text = "\n\n---\n\n".join("\n\n".join(each) for each in both)
    page = "<hr>".join("".join(map(_paragraph, each)) for each in both)
    try:
        await mailer.send(owner.email, subject=subject, text=text + "\n", html=f"<html><body>{page}</body></html>")
    except errors.MessageRefused as refusal:
        metrics.NOTIFICATIONS.add("email", "refused")
        log.warning("notification_not_sent", event_id=event.id, client_id=str(event.client_id), detail=refusal.detail)
    else:
        metrics.NOTIFICATIONS.add("email", metrics.OK)


def lines(language: str, settings: Settings, owner: Owner, notification: Notification) -> list[str]:
    """Return the lines of an e-mail, the first of which is also its subject."""
    words, data = _texts()[language], notification.data
    transition = data["after"].get("transition") or {}
    facts = {
        "client": owner.client,
        "at": _kyiv(notification.timestamp),
        "connection": data["connection_id"],
        "before": data["before"].get("redirect_uri"),
        "after": data["after"].get("redirect_uri"),
        "next": transition.get("redirect_uri"),
        "ends_at": _kyiv(transition.get("ends_at") or data["after"].get("previous_secret_expires_at")),
        "who": data["by"]["name"],
        "event": data["event_id"],
    }
    told = [f"{words['facts'][name]}: {value}" for name, value in facts.items() if value is not None]
    console = [f"{words['console']} {settings.public_url.rstrip('/')}/console"] if settings.public_url else []
    return [words[notification.type], "\n".join(told), words["unexpected"], *console, words["automatic"]]


def _paragraph(lines_of_text: str) -> str:
    """Return a paragraph of HTML whose lines stay lines."""
    return f"<p>{'<br>'.join(html.escape(lines_of_text).splitlines())}</p>"


def _kyiv(moment: str | datetime | None) -> str | None:
    """Return a moment as Kyiv's clocks show it."""
    if moment is None:
        return None
    found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{found.astimezone(KYIV):%d.%m.%Y, %H:%M}"


@functools.cache
def _texts() -> dict[str, Any]:
    return msgspec.json.decode(package_files.files(__package__).joinpath("letters.json").read_bytes(), type=dict)
