"""What a notification says: its type, and its body, made from an event of the trail (rules NTF-4 to NTF-6)."""

from datetime import datetime
from typing import Any

import msgspec

from mithril.audit import events
from mithril.database.database import Database
from mithril.notifications.store import Noticed
from mithril.oauth import store as oauth
from mithril.users import store as users

REDIRECT_URI_CHANGED, SECRET_ROTATED = "connection.redirect_uri_changed", "connection.secret_rotated"
TYPES = {
    "connection.revert": REDIRECT_URI_CHANGED,
    "connection.complete_transition": REDIRECT_URI_CHANGED,
    "connection.begin_transition": "connection.transition_begun",
    "connection.replace_transition": "connection.transition_begun",
    "connection.cancel_transition": "connection.transition_canceled",
    "notification.transition_ending": "connection.transition_ending",
    "connection.refresh_secret": SECRET_ROTATED,
    "notification.previous_secret_ending": "connection.previous_secret_ending",
    "connection.end_previous_secret": "connection.previous_secret_ended",
    "connection.delete": "connection.deleted",
}
CLIENT_BLOCKED = "client.blocked"
# What is told of the values before and after. Of a secret nothing is, not even its last characters.
TOLD = ("redirect_uri", "transition", "previous_secret_expires_at")


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """The body that a target gets."""

    type: str
    timestamp: datetime
    data: dict[str, Any]


def type_of(event: Noticed) -> str | None:
    """Return the type of the notification of an event, or None where there is none."""
    if event.action in TYPES:
        return TYPES[event.action]
    old, new = events.decoded(event.old), events.decoded(event.new)
    if event.action == "connection.update":
        if old.get("redirect_uri") != new.get("redirect_uri"):
            return REDIRECT_URI_CHANGED
        return SECRET_ROTATED if "secret_tail" in new else None
    return CLIENT_BLOCKED if event.action == "client.update" and new.get("is_blocked") else None


async def notification(database: Database, event: Noticed, kind: str) -> Notification:
    """Return the notification of an event whose type is that one."""
    is_of_client = kind == CLIENT_BLOCKED
    before, after = (_told(values) for values in (event.old, event.new))
    by = {
        "user_id": event.actor_user_id,
        "client_id": event.actor_client_id,
        "api_key_client_id": event.api_key_client_id,
        "name": await _name(database, event),
    }
    data = {
        "event_id": event.id,
        "client_id": event.client_id,
        "connection_id": None if is_of_client else event.subject_id,
        "before": before,
        "after": after,
        "by": by,
    }
    return Notification(type=kind, timestamp=event.occurred_at, data=data)


def _told(values: str | None) -> dict[str, Any]:
    return {name: value for name, value in events.decoded(values).items() if name in TOLD}


async def _name(database: Database, event: Noticed) -> str | None:
    """Return who made a change as the console shows it: the e-mail address of a user of the client, or a client."""
    user_id, client_id = event.actor_user_id, event.actor_client_id
    if user_id and event.client_id:
        emails = await users.list_emails(database, [user_id], client_id=event.client_id)
        if user_id in emails:
            return emails[user_id]
    client = await oauth.find_client(database, client_id) if client_id else None
    return client.name if client else None
