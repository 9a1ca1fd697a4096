"""The rules of moving a redirect URI: without a gap, and back (rules CON-27 to CON-39).

    one redirect URI ──── begin ───► two are good ──── its time is over, or an update to the new one ──► the new one
           ▲                          │      │
           │                          │      └── an update to any other one ──► that one
           └── cancel, or an update ──┘
               to the present one

Whatever changes the redirect URI of a connection that may have a transition comes here, also an import. What counts at
a moment is computed by the statements, by the clock of the database.
"""

from datetime import datetime
from uuid import UUID

from mithril import errors, refusals
from mithril.audit import events
from mithril.audit.events import Actor, Event
from mithril.audit.rows import Transaction
from mithril.connections import fields, transition_store
from mithril.connections.store import Connection
from mithril.connections.transition_store import Transition
from mithril.database.database import Database
from mithril.settings import Settings


async def begin(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    redirect_uri: str,
    lasts_seconds: int,
    expected_versions: list[int] | None,
    actor: Actor,
) -> Connection:
    """Let a second redirect URI be good for so many seconds, and then be the only one; return the new state.

    It replaces a transition that has not ended; the redirect URI that this gives up is dead, with its codes. It must
    have passed `fields.TRANSITION`. Raises NotFound, ValidationFailed for the present redirect URI,
    PreconditionFailed.
    """
    async with database.transaction(connection_id) as transaction:
        present = errors.found(await transition_store.lock_connection(transaction, connection_id, client_id=client_id))
        if redirect_uri == present.redirect_uri:
            raise errors.ValidationFailed([errors.Invalid(fields.ENTRY, [fields.UNCHANGED])])
        check_version(present, expected_versions)
        await transition_store.move(
            transaction,
            connection_id,
            redirect_uri=present.redirect_uri,
            transition_redirect_uri=redirect_uri,
            lasts_seconds=lasts_seconds,
            action=_action(present, present.redirect_uri, redirect_uri),
            more={},
            actor=actor,
        )
        return await transition_store.show_connection(transaction, connection_id)


async def cancel(
    database: Database, connection_id: UUID, *, client_id: UUID, expected_versions: list[int] | None, actor: Actor
) -> None:
    """End the transition before its time: only the old redirect URI is good. Raises NotFound, PreconditionFailed."""
    async with database.transaction(connection_id) as transaction:
        present = errors.found(await transition_store.lock_connection(transaction, connection_id, client_id=client_id))
        errors.found(present.transition_redirect_uri)
        check_version(present, expected_versions)
        await set_redirect_uri(transaction, present, present.redirect_uri, actor=actor)


async def get_transition(database: Database, connection_id: UUID, *, client_id: UUID) -> Transition:
    """Return the transition of this connection of the client. Raises NotFound where there is none."""
    return errors.found(await transition_store.find_transition(database, connection_id, client_id=client_id))


async def end_by_update(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    redirect_uri: str,
    expected_versions: list[int] | None,
    actor: Actor,
) -> Connection:
    """Change the redirect URI of a connection that has a transition: afterwards exactly one is good.

    Raises NotFound, PreconditionFailed.
    """
    async with database.transaction(connection_id) as transaction:
        present = errors.found(await transition_store.lock_connection(transaction, connection_id, client_id=client_id))
        check_version(present, expected_versions)
        await set_redirect_uri(transaction, present, redirect_uri, actor=actor)
        return await transition_store.show_connection(transaction, connection_id)


async def revert(
    database: Database,
    settings: Settings,
    connection_id: UUID,
    event_id: int | None,
    *,
    client_id: UUID,
    expected_versions: list[int] | None,
    actor: Actor,
) -> Connection:
    """Set the redirect URI from before an event of the history again, as a new version; return the new state.

    It ends a transition. Secrets stay as they are, and no code that was revoked comes back. Raises NotFound,
    EventWithoutMove, ValidationFailed where the rules of today refuse the redirect URI, PreconditionFailed.
    """
    async with database.transaction(connection_id) as transaction:
        present = errors.found(await transition_store.lock_connection(transaction, connection_id, client_id=client_id))
        event = errors.found(await events.find_event(transaction, event_id, subject_id=connection_id))
        redirect_uri = redirect_uri_before(event)
        fields.CONNECTION_UPDATE.check({"redirect_uri": redirect_uri}, settings)
        check_version(present, expected_versions)
        await set_redirect_uri(transaction, present, redirect_uri, reverts=event.id, actor=actor)
        return await transition_store.show_connection(transaction, connection_id)


async def set_redirect_uri(
    transaction: Transaction, present: Connection, redirect_uri: str, *, actor: Actor, reverts: int | None = None
) -> bool:
    """Let a locked connection have this redirect URI and no other; return whether that changed anything.

    `reverts`: the event that is taken back.
    """
    if redirect_uri == present.redirect_uri and present.transition_redirect_uri is None:
        return False
    action = _action(present, redirect_uri, None) if reverts is None else "revert"
    more = {} if reverts is None else {"reverts": reverts}
    await transition_store.move(
        transaction, present.id, redirect_uri=redirect_uri, action=action, more=more, actor=actor
    )
    return True


async def bring(
    transaction: Transaction,
    connection_id: UUID,
    *,
    client_id: UUID,
    redirect_uri: str,
    transition_redirect_uri: str | None,
    ends_at: datetime | None,
    keeps_transition: bool,
    actor: Actor,
) -> bool:
    """Bring a connection to what a file says of its redirect URIs; return whether that changed anything.

    `keeps_transition`: the file says nothing of transitions, so that the same redirect URI leaves one as it is.
    """
    present = errors.found(await transition_store.lock_connection(transaction, connection_id, client_id=client_id))
    if redirect_uri == present.redirect_uri:
        of_file = (transition_redirect_uri, ends_at)
        if keeps_transition or of_file == (present.transition_redirect_uri, present.transition_ends_at):
            return False
    if transition_redirect_uri is None:
        return await set_redirect_uri(transaction, present, redirect_uri, actor=actor)
    if redirect_uri != present.redirect_uri:
        await set_redirect_uri(transaction, present, redirect_uri, actor=actor)
        present = errors.found(await transition_store.lock_connection(transaction, connection_id, client_id=client_id))
    await transition_store.move(
        transaction,
        connection_id,
        redirect_uri=redirect_uri,
        transition_redirect_uri=transition_redirect_uri,
        ends_at=ends_at,
        action=_action(present, redirect_uri, transition_redirect_uri),
        more={},
        actor=actor,
    )
    return True


def check_version(connection: Connection | None, expected_versions: list[int] | None) -> None:
    """Raise PreconditionFailed unless the version is expected; an absent connection has none (RFC 9110 13.1.1)."""
    if expected_versions is not None and (connection is None or connection.version not in expected_versions):
        raise errors.PreconditionFailed


def _action(present: Connection, redirect_uri: str, transition_redirect_uri: str | None) -> str:
    """Return what the trail calls a change to these redirect URIs."""
    if transition_redirect_uri is not None:
        return "begin_transition" if present.transition_redirect_uri is None else "replace_transition"
    if redirect_uri == present.transition_redirect_uri:
        return "complete_transition"
    return "cancel_transition" if redirect_uri == present.redirect_uri else "update"


def redirect_uri_before(event: Event) -> str:
    """Return the redirect URI before an event that changed it. Raises EventWithoutMove."""
    old, new = events.decoded(event.old), events.decoded(event.new)
    before = old.get("redirect_uri")
    if not isinstance(before, str) or before == new.get("redirect_uri"):
        raise refusals.EventWithoutMove
    return before
