"""The rules of connections. An identifier that is None names nothing: NotFound."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from mithril import errors, refusals, security
from mithril.audit import events, rows
from mithril.audit.events import Actor, Event
from mithril.audit.rows import Document
from mithril.connections import store
from mithril.connections.store import Connection
from mithril.database.database import Database, Listed, Page, PooledConnection, Source


async def list_connections(
    database: Database, filters: dict[str, Any], *, client_id: UUID | None, page: Page
) -> Listed[Connection]:
    """The connections of one client; none for a client that is not there. Raises NotFound for None."""
    if client_id is None:
        raise errors.NotFound
    return await store.list_connections(database, filters, client_id=client_id, page=page)


async def get_connection(source: Source, connection_id: UUID | None, *, client_id: UUID | None) -> Connection:
    """That client's connection. Raises NotFound."""
    if connection_id is None or client_id is None:
        raise errors.NotFound
    connection = await store.find_connection(source, connection_id, client_id=client_id)
    if connection is None:
        raise errors.NotFound
    return connection


async def change_redirect_uri(
    database: Database,
    connection_id: UUID | None,
    *,
    client_id: UUID | None,
    redirect_uri: str,
    expected_versions: list[int] | None,
    actor: Actor,
) -> Connection:
    """Moves the address that receives the authorization codes of that client's users; returns the new state.

    The address takes effect at once; it must have passed `redirect_uris.problems`. `expected_versions`: any of
    them will do; None: whatever it is.
    Raises NotFound, PreconditionFailed. Source: API-009-001-006-0339; RFC 9110 section 13.1.1.
    """
    if connection_id is None or client_id is None:
        raise errors.NotFound
    replaced = await store.replace_redirect_uri(
        database,
        connection_id,
        client_id=client_id,
        redirect_uri=redirect_uri,
        expected_versions=expected_versions,
        actor=actor,
    )
    if replaced is None:
        raise errors.NotFound
    if not replaced.is_expected_version:
        raise errors.PreconditionFailed
    return replaced.connection


async def put_connection(
    database: Database,
    client_id: UUID | None,
    *,
    consumer_id: UUID | None,
    new: Callable[[], Document],
    changes: Callable[[], Document],
    expected_versions: list[int] | None,
    actor: Actor,
) -> tuple[Connection, str | None]:
    """Makes the connection of the two, or moves the address of the one that they have (contract.md 6.1).

    Returns its state, and the secret of a new one, which is nowhere else; None for one that was there. Of several
    requests for a new pair one makes it, and the others change it. `new` and `changes` give the columns for either
    case, and may refuse.
    Raises NotFound, what these two raise, PreconditionFailed, and Violation for a consumer that is not there.
    """
    if client_id is None or consumer_id is None:
        raise errors.NotFound
    secret = security.new_secret()
    async with database.transaction() as transaction:
        if not await store.hold_client(transaction, client_id):
            raise errors.NotFound
        while True:
            before = await store.lock_pair(transaction, client_id=client_id, consumer_id=consumer_id)
            columns = new() if before is None else changes()
            _check_version(before, expected_versions)
            if before is not None:
                await rows.update(transaction, store.ROWS, columns, row_id=before.id, actor=actor)
                return await get_connection(transaction, before.id, client_id=client_id), None
            added = await store.add_pair(
                transaction, columns, secret, client_id=client_id, consumer_id=consumer_id, actor=actor
            )
            if added is not None:
                return await get_connection(transaction, added, client_id=client_id), secret


async def refresh_secret(
    database: Database,
    connection_id: UUID | None,
    *,
    client_id: UUID | None,
    previous_lives_seconds: int,
    expected_versions: list[int] | None,
    api_key_was_sent: bool,
    actor: Actor,
    needs_api_key: bool = True,
) -> tuple[Connection, str]:
    """Gives the connection a new secret, which is returned here and never again; the old one dies.

    The old one dies at once, or after so many seconds in which both work; a still older one dies at once.
    `needs_api_key`: not asked of an operator, who has the database itself.
    Raises NotFound, AccessDenied and Forbidden (the API-key rule of contract.md 6.2), PreconditionFailed.
    """
    secret = security.new_secret()
    async with database.transaction() as transaction:
        connection = await _locked(transaction, connection_id, client_id)
        if needs_api_key:
            _check_api_key(connection, actor.api_key_client_id, was_sent=api_key_was_sent)
        _check_version(connection, expected_versions)
        connection = await store.replace_secret(
            transaction, connection.id, secret, previous_lives_seconds=previous_lives_seconds, actor=actor
        )
    return connection, secret


async def delete_connection(
    database: Database,
    connection_id: UUID | None,
    *,
    client_id: UUID | None,
    expected_versions: list[int] | None,
    actor: Actor,
) -> None:
    """Deletes the connection and ends every token and code issued through it. It cannot be restored.

    Raises NotFound, PreconditionFailed.
    """
    async with database.transaction() as transaction:
        connection = await _locked(transaction, connection_id, client_id)
        _check_version(connection, expected_versions)
        await store.delete_connection(transaction, connection.id, actor=actor)


async def list_history(
    database: Database, connection_id: UUID | None, *, client_id: UUID | None, page: Page
) -> Listed[Event]:
    """What happened to that client's connection, newest first; also to one that has been deleted.

    Raises NotFound for a connection that is not there and of which nothing is recorded.
    """
    if connection_id is None or client_id is None:
        raise errors.NotFound
    history = await events.list_events(database, "connection", connection_id, client_id=client_id, page=page)
    if not history.total_entries:
        await get_connection(database, connection_id, client_id=client_id)
    return history


async def _locked(transaction: PooledConnection, connection_id: UUID | None, client_id: UUID | None) -> Connection:
    if connection_id is None or client_id is None:
        raise errors.NotFound
    connection = await store.lock_connection(transaction, connection_id, client_id=client_id)
    if connection is None:
        raise errors.NotFound
    return connection


def _check_version(connection: Connection | None, expected_versions: list[int] | None) -> None:
    """A connection that is not there has no version at all (RFC 9110 section 13.1.1)."""
    if expected_versions is not None and (connection is None or connection.version not in expected_versions):
        raise errors.PreconditionFailed


def _check_api_key(connection: Connection, api_key_client_id: UUID | None, *, was_sent: bool) -> None:
    """A connection that a MIS uses is rotated only with a key of that MIS; a client's own, without one."""
    if connection.consumer_id == connection.client_id:
        return
    if not was_sent:
        raise refusals.ApiKeyMissing(description="no API-key header")
    if api_key_client_id is None:
        description = "The API-key is not that of a client that is known and not blocked."
        raise refusals.ApiKeyUnknown(error="invalid_token", description=description)
    if api_key_client_id != connection.consumer_id:
        raise errors.Forbidden(detail="the API-key belongs to another consumer than the connection's")
