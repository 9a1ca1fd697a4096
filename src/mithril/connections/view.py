"""What is shown of a connection and of its history. A secret is never part of it."""

import msgspec

from mithril.audit.events import Event
from mithril.connections.store import Connection


def view(connection: Connection) -> dict[str, object]:
    """Return the published fields."""
    return {
        "id": connection.id,
        "client_id": connection.client_id,
        "consumer_id": connection.consumer_id,
        "redirect_uri": connection.redirect_uri,
        "inserted_at": connection.inserted_at,
        "updated_at": connection.updated_at,
    }


def detailed_view(connection: Connection) -> dict[str, object]:
    """Return the published fields, and what tells which secret is deployed."""
    return view(connection) | {
        "secret_tail": connection.secret_tail,
        "previous_secret_expires_at": connection.previous_secret_expires_at,
    }


def event_view(event: Event) -> dict[str, object]:
    """Return an event of the audit trail without the IP address, which only operators see."""
    return {
        "id": event.id,
        "occurred_at": event.occurred_at,
        "action": event.action,
        "actor_user_id": event.actor_user_id,
        "actor_client_id": event.actor_client_id,
        "api_key_client_id": event.api_key_client_id,
        "request_id": event.request_id,
        "operation_id": event.operation_id,
        "old": None if event.old is None else msgspec.Raw(event.old.encode()),
        "new": None if event.new is None else msgspec.Raw(event.new.encode()),
    }
