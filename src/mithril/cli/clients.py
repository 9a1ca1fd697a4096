"""`mithril client …`: the programs and organisations that act for users."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril.audit.events import Actor
from mithril.cli import output, scopes, session, users
from mithril.cli.options import Blocked, ClientId, Reason, Yes, changes, document, only_given
from mithril.cli.output import Done, Many, One
from mithril.clients import service, store, view
from mithril.clients.store import FullClient
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.scope_sets.store import CLIENT_TYPES

app = typer.Typer(
    name="client", help="Clients: legal entities, medical information systems, and tools.", no_args_is_help=True
)
COLUMNS = ("id", "name", "client_type_name", "access_type", "is_blocked", "inserted_at")

Name = Annotated[str | None, typer.Option("--name", help="Its name.")]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Name or id of its client type.")]
Owner = Annotated[str | None, typer.Option("--owner", metavar="USER", help="Its owner: id or e-mail address.")]
AccessType = Annotated[
    str | None, typer.Option("--access-type", metavar="DIRECT|BROKER", help="BROKER: works through a MIS's API-key.")
]
BrokerScope = Annotated[
    str | None, typer.Option("--broker-scope", help="Makes it a broker: what its API-key allows, separated by spaces.")
]
ClientSettings = Annotated[
    dict[str, Any] | None,
    typer.Option("--settings", parser=document, metavar="JSON", help='Such as {"allowed_grant_types": ["password"]}.'),
]


@session.command(app, "list")
async def list_(
    opened: Database,
    *,
    name: Annotated[str | None, typer.Option(help="Only those with this in their name, in any letter case.")] = None,
    owner: Owner = None,
    blocked: Blocked = None,
    page: Page,
) -> Many:
    """List clients, the oldest first."""
    user_id = None if owner is None else (await users.find(opened, owner)).id
    filters = only_given(name=name, user_id=user_id, is_blocked=blocked)
    found = await store.list_full_clients(opened, filters, page=page)
    return Many([_row(client) for client in found.rows], COLUMNS, found)


@session.command(app, "show")
async def show(opened: Database, client_id: ClientId) -> One:
    """Show one client with its settings."""
    return One(view.detailed_full_view(await find(opened, client_id)))


@session.command(app, "create")
async def create(
    opened: Database,
    actor: Actor,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    *,
    client_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Name or id of its client type.")],
    owner: Annotated[str, typer.Option("--owner", metavar="USER", help="Its owner: id or e-mail address.")],
    access_type: AccessType = None,
    broker_scope: BrokerScope = None,
    client_settings: ClientSettings = None,
    client_id: Annotated[UUID | None, typer.Option("--id", help="Its id, such as that of a legal entity.")] = None,
) -> One:
    """Add a client. It can do nothing without a connection: see `mithril connection create`."""
    fields = {
        "name": name,
        "client_type_id": str((await scopes.find(opened, CLIENT_TYPES, client_type)).id),
        "user_id": str((await users.find(opened, owner)).id),
        "settings": client_settings or {},
        "priv_settings": _priv_settings({"access_type": "BROKER"}, access_type, broker_scope),
    }
    return One(view.detailed_full_view(await service.add_client(opened, fields, client_id=client_id, actor=actor)))


@session.command(app, "change")
async def change(
    opened: Database,
    actor: Actor,
    client_id: ClientId,
    *,
    name: Name = None,
    client_type: Type = None,
    owner: Owner = None,
    access_type: AccessType = None,
    broker_scope: BrokerScope = None,
    client_settings: ClientSettings = None,
) -> One:
    """Change the named fields; the others stay as they are. With an empty broker scope it is no longer a broker."""
    changes(a=name, b=client_type, c=owner, d=access_type, e=broker_scope, f=client_settings)
    present = await find(opened, client_id)
    fields = only_given(name=name, settings=client_settings)
    if client_type is not None:
        fields["client_type_id"] = str((await scopes.find(opened, CLIENT_TYPES, client_type)).id)
    if owner is not None:
        fields["user_id"] = str((await users.find(opened, owner)).id)
    if access_type is not None or broker_scope is not None:
        kept = msgspec.json.decode(present.priv_settings)
        fields["priv_settings"] = _priv_settings(kept, access_type, broker_scope)
    return await _change(opened, client_id, fields, actor=actor)


@session.command(app, "block")
async def block(opened: Database, actor: Actor, client_id: ClientId, *, reason: Reason = None) -> One:
    """Block a client, and revoke its tokens at once."""
    fields = {"is_blocked": True} | only_given(block_reason=reason)
    return await _change(opened, client_id, fields, actor=actor)


@session.command(app, "unblock")
async def unblock(opened: Database, actor: Actor, client_id: ClientId) -> One:
    """Unblock a client. Its revoked tokens stay revoked."""
    return await _change(opened, client_id, {"is_blocked": False, "block_reason": ""}, actor=actor)


@session.command(app, "deactivate-tokens")
async def deactivate_tokens(opened: Database, actor: Actor, client_id: ClientId, *, yes: Yes = False) -> Done:
    """Revoke every token of a client: its users sign in again."""
    client = await find(opened, client_id)
    output.confirm(f"Revoke all tokens of the client {client.name}?", yes=yes)
    await service.deactivate_tokens(opened, client_id, actor=actor)
    return Done(f"The tokens of the client {client.name} are revoked.", {"id": client_id})


@session.command(app, "delete")
async def delete(opened: Database, actor: Actor, client_id: ClientId, *, yes: Yes = False) -> Done:
    """Delete a client with its connections, roles, approvals and tokens. It cannot be restored."""
    client = await find(opened, client_id)
    output.confirm(f"Delete the client {client.name} with its connections, roles, approvals and tokens?", yes=yes)
    await service.remove_client(opened, client_id, actor=actor)
    return Done(f"The client {client.name} is deleted.", {"id": client_id, "deleted": True})


async def find(opened: Database, client_id: UUID) -> FullClient:
    """Return the client. Raises Missing."""
    with output.named("client", client_id):
        return await service.get_full_client(opened, client_id)


async def _change(opened: Database, client_id: UUID, given: dict[str, Any], *, actor: Actor) -> One:
    with output.named("client", client_id):
        return One(view.detailed_full_view(await service.change_client(opened, client_id, given, actor=actor)))


def _priv_settings(present: dict[str, Any], access_type: str | None, broker_scope: str | None) -> dict[str, Any]:
    wanted = present | only_given(access_type=access_type, broker_scope=broker_scope)
    return {name: value for name, value in wanted.items() if name != "broker_scope" or value}


def _row(client: FullClient) -> dict[str, object]:
    access_type = msgspec.json.decode(client.priv_settings).get("access_type")
    return view.detailed_full_view(client) | {"access_type": access_type}
