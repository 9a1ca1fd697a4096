"""The rules of connections."""

from uuid import UUID

from mithril import errors, refusals, security
from mithril.audit import events
from mithril.audit.events import Actor, Event
from mithril.connections import fields, store, transition_store, transitions
from mithril.connections.store import Connection
from mithril.connections.transitions import check_version
from mithril.database.database import Database, Source
from mithril.database.lists import Listed, Page
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.validation.bodies import Document
from mithril.validation.fields import constraints


async def get_connection(source: Source, connection_id: UUID, *, client_id: UUID) -> Connection:
    """Return this connection of the client. Raises NotFound."""
    return errors.found(await store.find_connection(source, connection_id, client_id=client_id))


async def change_redirect_uri(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    redirect_uri: str,
    expected_versions: list[int] | None,
    actor: Actor,
) -> Connection:
    """Change the redirect URI, which receives the authorization codes of the client's users; return the new state.

    It takes effect at once, and ends a transition; it must have passed `fields.CONNECTION_UPDATE`. `expected_versions`:
    one of them must be the present version; None accepts any.
    Raises NotFound, PreconditionFailed. Source: API-009-001-006-0339; RFC 9110 section 13.1.1.
    """
    replaced = errors.found(
        await store.replace_redirect_uri(
            database,
            connection_id,
            client_id=client_id,
            redirect_uri=redirect_uri,
            expected_versions=expected_versions,
            actor=actor,
        )
    )
    if replaced.connection.transition_redirect_uri is not None:
        return await transitions.end_by_update(
            database,
            connection_id,
            client_id=client_id,
            redirect_uri=redirect_uri,
            expected_versions=expected_versions,
            actor=actor,
        )
    if not replaced.is_expected_version:
        raise errors.PreconditionFailed
    return replaced.connection


async def put_connection(
    database: Database,
    settings: Settings,
    client_id: UUID,
    given: Document,
    *,
    expected_versions: list[int] | None,
    actor: Actor,
    may_change: bool = True,
) -> tuple[Connection, str | None]:
    """Add the connection of a client and of the consumer that `given` names, or change the one that they have.

    Returns its state, and the secret of a new one, which is stored nowhere; None for one that existed. Of several
    requests for a new pair, one adds it and the others change it.
    Raises NotFound, ConnectionExists where they have one and `may_change` is false, ValidationFailed, also for a
    consumer that does not exist, and PreconditionFailed, in this order. Source: rules CON-21 to CON-23.
    """
    consumer_id = errors.found(parse_uuid(str(given.get("consumer_id"))))
    secret = security.new_secret()
    async with database.transaction(client_id) as transaction:
        if not await store.hold_client(transaction, client_id):
            raise errors.NotFound
        while True:
            before = await transition_store.lock_pair(transaction, client_id=client_id, consumer_id=consumer_id)
            if before is not None and not may_change:
                raise refusals.ConnectionExists
            columns = fields.columns(given, settings, is_new=before is None)
            check_version(before, expected_versions)
            if before is not None:
                if "redirect_uri" in columns:
                    await transitions.set_redirect_uri(transaction, before, columns["redirect_uri"], actor=actor)
                return await transition_store.show_connection(transaction, before.id), None
            with constraints(fields.CONSTRAINTS):
                added = await store.add_pair(
                    transaction, columns, secret, client_id=client_id, consumer_id=consumer_id, actor=actor
                )
            if added is not None:
                return await get_connection(transaction, added, client_id=client_id), secret


async def refresh_secret(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    previous_expires_in_seconds: int,
    expected_versions: list[int] | None,
    api_key_was_sent: bool,
    actor: Actor,
    needs_api_key: bool = True,
) -> tuple[Connection, str]:
    """Give the connection a new secret, and return it with the new state; nothing else ever shows it.

    The previous secret stops working at once, or after `previous_expires_in_seconds`; a still older one at once.
    `needs_api_key`: false for operators, who can change the database itself.
    Raises NotFound, AccessDenied and Forbidden (for the API-key: rule CON-13), PreconditionFailed.
    """
    secret = security.new_secret()
    async with database.transaction(connection_id) as transaction:
        connection = errors.found(
            await transition_store.lock_connection(transaction, connection_id, client_id=client_id)
        )
        if needs_api_key:
            _check_api_key(connection, actor.api_key_client_id, was_sent=api_key_was_sent)
        check_version(connection, expected_versions)
        await store.replace_secret(
            transaction, connection.id, secret, previous_expires_in_seconds=previous_expires_in_seconds, actor=actor
        )
        connection = await transition_store.show_connection(transaction, connection.id)
    return connection, secret


async def end_previous_secret(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    expected_versions: list[int] | None,
    api_key_was_sent: bool,
    actor: Actor,
    needs_api_key: bool = True,
) -> None:
    """Revoke the previous secret before its time.

    `needs_api_key`: as for `refresh_secret`. Raises NotFound, also where there is no previous secret; AccessDenied and
    Forbidden (rule CON-13), PreconditionFailed.
    """
    async with database.transaction(connection_id) as transaction:
        connection = errors.found(
            await transition_store.lock_connection(transaction, connection_id, client_id=client_id)
        )
        if needs_api_key:
            _check_api_key(connection, actor.api_key_client_id, was_sent=api_key_was_sent)
        errors.found(connection.previous_secret_expires_at)
        check_version(connection, expected_versions)
        await transition_store.end_previous_secret(transaction, connection_id, actor=actor)


async def delete_connection(
    database: Database,
    connection_id: UUID,
    *,
    client_id: UUID,
    expected_versions: list[int] | None,
    actor: Actor,
) -> None:
    """Delete the connection, and revoke every token and code issued through it. It cannot be restored.

    Raises NotFound, PreconditionFailed.
    """
    async with database.transaction(connection_id) as transaction:
        connection = errors.found(
            await transition_store.lock_connection(transaction, connection_id, client_id=client_id)
        )
        check_version(connection, expected_versions)
        await store.delete_connection(transaction, connection.id, actor=actor)


async def list_history(database: Database, connection_id: UUID, *, client_id: UUID, page: Page) -> Listed[Event]:
    """List what happened to this connection of the client, newest first; also after its deletion.

    Raises NotFound for a connection that does not exist and of which nothing is recorded.
    """
    history = await events.list_events(database, "connection", connection_id, client_id=client_id, page=page)
    if not history.total_entries:
        await get_connection(database, connection_id, client_id=client_id)
    return history


def _check_api_key(connection: Connection, api_key_client_id: UUID | None, *, was_sent: bool) -> None:
    """Require the API-key of the consumer, unless the consumer is the client itself (rule CON-13)."""
    if connection.consumer_id == connection.client_id:
        return
    if not was_sent:
        raise refusals.ApiKeyMissing(description="no API-key header")
    if api_key_client_id is None:
        description = "The API-key is not that of a client that is known and not blocked."
        raise refusals.ApiKeyUnknown(error="invalid_token", description=description)
    if api_key_client_id != connection.consumer_id:
        raise errors.Forbidden(detail="the API-key belongs to another consumer than the connection's")
