"""`mithril connection …`: a client, its consumer, a redirect URI and a secret."""

from typing import Annotated
from uuid import UUID

import typer

from mithril.audit.events import Actor
from mithril.cli import clients, output, session
from mithril.cli.options import ClientId, Yes, only_given
from mithril.cli.output import Done, Many, One
from mithril.connections import fields, service, store, transition_store, view
from mithril.connections.store import Connection
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.settings import Option, Settings

app = typer.Typer(
    name="connection", help="Connections: a client, its consumer, a redirect URI and a secret.", no_args_is_help=True
)
COLUMNS = (
    *("id", "consumer_id", "redirect_uri", "transition.redirect_uri", "transition.ends_at"),
    *("secret_tail", "updated_at"),
)
LONGEST_SECONDS = 604_800

ConnectionId = Annotated[UUID, typer.Argument(metavar="CONNECTION", help="The connection's id.")]
RedirectUri = Annotated[
    str, typer.Option("--redirect-uri", metavar="URI", help="The URI that receives the authorization codes.")
]


@session.command(app, "list")
async def list_(
    opened: Database,
    client_id: ClientId,
    *,
    consumer: Annotated[UUID | None, typer.Option(help="Only those with this consumer.")] = None,
    page: Page,
) -> Many:
    """List the connections of a client, the oldest first."""
    await clients.find(opened, client_id)
    found = await store.list_connections(opened, only_given(consumer_id=consumer), client_id=client_id, page=page)
    return Many([view.detailed_view(each) for each in found.rows], COLUMNS, found)


@session.command(app, "show")
async def show(opened: Database, client_id: ClientId, connection_id: ConnectionId) -> One:
    """Show one connection, and during a transition how many signed in through each redirect URI.

    Of its secret only the last four characters are known.
    """
    shown = view.detailed_view(await find(opened, client_id, connection_id))
    transition = await transition_store.find_transition(opened, connection_id, client_id=client_id)
    return One(shown if transition is None else shown | {"sign_ins": transition.sign_ins})


@session.command(app, "create", Option.DEMO)
async def create(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    client_id: ClientId,
    *,
    redirect_uri: RedirectUri,
    consumer: Annotated[
        UUID | None,
        typer.Option(metavar="CLIENT", help="The consumer; by default the client itself."),
    ] = None,
) -> One:
    """Connect a client and a consumer. The secret is printed now, and never again."""
    await clients.find(opened, client_id)
    given = {"consumer_id": consumer or client_id, "redirect_uri": redirect_uri}
    connection, secret = await service.put_connection(
        opened, chosen, client_id, given, expected_versions=None, may_change=False, actor=actor
    )
    assert secret is not None, "a new connection has one"
    return _with_secret(connection, secret)


@session.command(app, "change", Option.DEMO)
async def change(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    client_id: ClientId,
    connection_id: ConnectionId,
    *,
    redirect_uri: RedirectUri,
) -> One:
    """Change the redirect URI. Codes issued for the old one are revoked at once; tokens stay active.

    `mithril connection move` lets both be good for a time.
    """
    await find(opened, client_id, connection_id)
    fields.CONNECTION_UPDATE.check({"redirect_uri": redirect_uri}, chosen)
    await service.change_redirect_uri(
        opened,
        connection_id,
        client_id=client_id,
        redirect_uri=redirect_uri,
        expected_versions=None,
        actor=actor,
    )
    return One(view.detailed_view(await find(opened, client_id, connection_id)))


@session.command(app, "refresh-secret")
async def refresh_secret(
    opened: Database,
    actor: Actor,
    client_id: ClientId,
    connection_id: ConnectionId,
    *,
    keep: Annotated[
        int,
        typer.Option("--keep", min=0, max=LONGEST_SECONDS, help="Seconds in which the present secret still works."),
    ] = 0,
    yes: Yes = False,
) -> One:
    """Replace the secret of a connection. The new one is printed now, and never again."""
    present = await find(opened, client_id, connection_id)
    if not keep:
        output.confirm(f"The secret that ends in {present.secret_tail} stops working at once. Go on?", yes=yes)
    connection, secret = await service.refresh_secret(
        opened,
        connection_id,
        client_id=client_id,
        previous_expires_in_seconds=keep,
        expected_versions=None,
        needs_api_key=False,
        api_key_was_sent=False,
        actor=actor,
    )
    return _with_secret(connection, secret)


@session.command(app, "delete")
async def delete(
    opened: Database, actor: Actor, client_id: ClientId, connection_id: ConnectionId, *, yes: Yes = False
) -> Done:
    """Delete a connection, and revoke every token and code issued through it. It cannot be restored."""
    present = await find(opened, client_id, connection_id)
    output.confirm(f"Delete the connection to {present.redirect_uri}, and revoke its tokens?", yes=yes)
    await service.delete_connection(opened, connection_id, client_id=client_id, expected_versions=None, actor=actor)
    return Done(f"The connection to {present.redirect_uri} is deleted.", {"id": connection_id, "deleted": True})


async def find(opened: Database, client_id: UUID, connection_id: UUID) -> Connection:
    """Return this connection of the client. Raises Missing."""
    with output.named("connection of that client", connection_id):
        return await service.get_connection(opened, connection_id, client_id=client_id)


def _with_secret(connection: Connection, secret: str) -> One:
    return One(view.detailed_view(connection) | {"secret": secret}, note="Keep the secret: it is not shown again.")
