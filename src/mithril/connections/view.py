"""What is shown of a connection and of its history. A secret is never part of it."""

import msgspec

from mithril.audit.events import Event
from mithril.connections.store import Connection
from mithril.connections.transition_store import Transition


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
    """Return the published fields, the transition, and what tells which secrets are deployed and used."""
    transition = {"redirect_uri": connection.transition_redirect_uri, "ends_at": connection.transition_ends_at}
    return view(connection) | {
        "transition": None if connection.transition_redirect_uri is None else transition,
        "secret_tail": connection.secret_tail,
        "previous_secret_expires_at": connection.previous_secret_expires_at,
        "secret_last_used_at": connection.secret_last_used_at,
        "previous_secret_last_used_at": connection.previous_secret_last_used_at,
        "moved_redirect_uri_attempts": connection.moved_redirect_uri_attempts,
    }


def transition_view(transition: Transition) -> dict[str, object]:
    """Return a transition, and what tells whether it is safe to end the old redirect URI."""
    return {
        "redirect_uri": transition.redirect_uri,
        "began_at": transition.began_at,
        "ends_at": transition.ends_at,
        "sign_ins": transition.sign_ins,
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
