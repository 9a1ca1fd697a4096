"""`mithril connection …`: a client, its consumer, a redirect URI and a secret."""

from typing import Annotated
from uuid import UUID

import typer

from mithril.cli import clients, output, session
from mithril.cli.options import FIRST, SIZE, AsJson, ClientId, PageNumber, PageSize, Yes, page
from mithril.connections import fields, service, view
from mithril.connections.store import Connection
from mithril.database.database import Database
from mithril.settings import Option, Settings

app = typer.Typer(help="Connections: a client, its consumer, a redirect URI and a secret.", no_args_is_help=True)
COLUMNS = ("id", "consumer_id", "redirect_uri", "secret_tail", "updated_at")
NOUN = "connection of that client"
LONGEST_SECONDS = 604_800

ConnectionId = Annotated[UUID, typer.Argument(metavar="CONNECTION", help="The connection's id.")]
RedirectUri = Annotated[
    str, typer.Option("--redirect-uri", metavar="URI", help="The URI that receives the authorization codes.")
]


@session.command(app, "list")
async def list_(
    opened: Database,
    _: Settings,
    client_id: ClientId,
    *,
    consumer: Annotated[UUID | None, typer.Option(help="Only those with this consumer.")] = None,
    number: PageNumber = FIRST,
    size: PageSize = SIZE,
    as_json: AsJson = False,
) -> None:
    """List the connections of a client, the oldest first."""
    await clients.find(opened, client_id)
    filters = {} if consumer is None else {"consumer_id": consumer}
    found = await service.list_connections(opened, filters, client_id=client_id, page=page(number, size))
    output.print_page(found, map(view.detailed_view, found.rows), columns=COLUMNS, as_json=as_json)


@session.command(app, "show")
async def show(
    opened: Database, _: Settings, client_id: ClientId, connection_id: ConnectionId, *, as_json: AsJson = False
) -> None:
    """Show one connection. Of its secret only the last four characters are known."""
    output.print_one(view.detailed_view(await find(opened, client_id, connection_id)), as_json=as_json)


@session.command(app, "create", Option.DEMO)
async def create(
    opened: Database,
    chosen: Settings,
    client_id: ClientId,
    *,
    redirect_uri: RedirectUri,
    consumer: Annotated[
        UUID | None,
        typer.Option(metavar="CLIENT", help="The consumer; by default the client itself."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Connect a client and a consumer. The secret is printed now, and never again."""
    await clients.find(opened, client_id)
    connection, secret = await service.put_connection(
        opened,
        chosen,
        client_id,
        {"consumer_id": consumer or client_id, "redirect_uri": redirect_uri},
        expected_versions=None,
        may_change=False,
        actor=session.actor("connection create"),
    )
    assert secret is not None, "a new connection has one"
    _print_with_secret(connection, secret, as_json=as_json)


@session.command(app, "change", Option.DEMO)
async def change(
    opened: Database,
    chosen: Settings,
    client_id: ClientId,
    connection_id: ConnectionId,
    *,
    redirect_uri: RedirectUri,
    as_json: AsJson = False,
) -> None:
    """Change the redirect URI. Codes issued for the old one end at once; tokens stay active."""
    await find(opened, client_id, connection_id)
    fields.CONNECTION_UPDATE.check({"redirect_uri": redirect_uri}, chosen)
    with output.named(NOUN, connection_id):
        connection = await service.change_redirect_uri(
            opened,
            connection_id,
            client_id=client_id,
            redirect_uri=redirect_uri,
            expected_versions=None,
            actor=session.actor("connection change"),
        )
    output.print_one(view.detailed_view(connection), as_json=as_json)


@session.command(app, "refresh-secret")
async def refresh_secret(
    opened: Database,
    _: Settings,
    client_id: ClientId,
    connection_id: ConnectionId,
    *,
    keep: Annotated[
        int,
        typer.Option("--keep", min=0, max=LONGEST_SECONDS, help="Seconds in which the present secret still works."),
    ] = 0,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Replace the secret of a connection. The new one is printed now, and never again."""
    present = await find(opened, client_id, connection_id)
    if not keep:
        output.confirm(f"The secret that ends in {present.secret_tail} stops working at once. Go on?", yes=yes)
    with output.named(NOUN, connection_id):
        connection, secret = await service.refresh_secret(
            opened,
            connection_id,
            client_id=client_id,
            previous_expires_in_seconds=keep,
            expected_versions=None,
            needs_api_key=False,
            api_key_was_sent=False,
            actor=session.actor("connection refresh-secret"),
        )
    _print_with_secret(connection, secret, as_json=as_json)


@session.command(app, "delete")
async def delete(
    opened: Database,
    _: Settings,
    client_id: ClientId,
    connection_id: ConnectionId,
    *,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a connection, and revoke every token and code issued through it. It cannot be restored."""
    present = await find(opened, client_id, connection_id)
    output.confirm(f"Delete the connection to {present.redirect_uri}, and revoke its tokens?", yes=yes)
    with output.named(NOUN, connection_id):
        await service.delete_connection(
            opened,
            connection_id,
            client_id=client_id,
            expected_versions=None,
            actor=session.actor("connection delete"),
        )
    done = {"id": connection_id, "deleted": True}
    output.print_done(f"The connection to {present.redirect_uri} is deleted.", done, as_json=as_json)


async def find(opened: Database, client_id: UUID, connection_id: UUID) -> Connection:
    """Return this connection of the client. Raises Missing."""
    with output.named(NOUN, connection_id):
        return await service.get_connection(opened, connection_id, client_id=client_id)


def _print_with_secret(connection: Connection, secret: str, *, as_json: bool) -> None:
    output.print_one(view.detailed_view(connection) | {"secret": secret}, as_json=as_json)
    output.note("Keep the secret: it is not shown again.")
