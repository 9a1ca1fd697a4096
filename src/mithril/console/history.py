"""The change log of a connection: who did what, when, from which state to which."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from mithril.audit import events
from mithril.audit.events import Event
from mithril.database.database import Database
from mithril.oauth import store as oauth
from mithril.users import store as users

# What of a connection changes is shown, in this order.
SHOWN = ("redirect_uri", "transition", "secret_tail")
NEED_A_KEY = ("connection.refresh_secret", "connection.end_previous_secret")


class Change(NamedTuple):
    """One line of the log. `who`: an e-mail address, or the name of a client; None for an operator of the system."""

    id: int
    occurred_at: datetime
    action: str
    who: str | None
    user_id: UUID | None
    values: dict[str, tuple[str | None, str | None]]
    """What changed, by its name: the value before and the one after."""
    used_no_key: bool
    request_id: str | None

    @property
    def former(self) -> str | None:
        """The redirect URI that this change replaced, or that would be given up by a transition."""
        old, new = self.values.get("redirect_uri", (None, None))
        return old if new else None


async def describe(database: Database, found: list[Event], *, client_id: UUID) -> list[Change]:
    """Return events as lines of the log. Of a user without a role in the client only the client is named."""
    user_ids = list({event.actor_user_id for event in found if event.actor_user_id})
    emails = await users.list_emails(database, user_ids, client_id=client_id) if user_ids else {}
    names: dict[UUID, str] = {}
    for actor_id in {event.actor_client_id for event in found if event.actor_client_id}:
        client = await oauth.find_client(database, actor_id)
        names[actor_id] = client.name if client else str(actor_id)
    return [_line(event, emails, names) for event in found]


def _line(event: Event, emails: dict[UUID, str], names: dict[UUID, str]) -> Change:
    user_id, actor_client = event.actor_user_id, event.actor_client_id
    who = emails.get(user_id) if user_id else None
    if who is None and actor_client:
        who = names[actor_client]
    old, new = events.decoded(event.old), events.decoded(event.new)
    values = {name: (_text(old.get(name)), _text(new.get(name))) for name in SHOWN}
    values = {
        name: pair for name, pair in values.items() if pair[0] != pair[1] or (any(pair) and name == "secret_tail")
    }
    used_no_key = event.action in NEED_A_KEY and user_id is not None and event.api_key_client_id is None
    return Change(event.id, event.occurred_at, event.action, who, user_id, values, used_no_key, event.request_id)


def _text(value: object) -> str | None:
    """Return a text; of a transition its redirect URI."""
    if isinstance(value, dict):
        value = value.get("redirect_uri")
    return value if isinstance(value, str) else None
