"""`mithril client …`: the programs and organisations that act for users."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril.cli import output, scopes, session, users
from mithril.cli.options import (
    FIRST,
    SIZE,
    AsJson,
    ClientId,
    PageNumber,
    PageSize,
    Reason,
    Yes,
    changes,
    document,
    only_given,
    page,
)
from mithril.clients import service, view
from mithril.clients.store import FullClient
from mithril.database.database import Database
from mithril.scope_sets.store import CLIENT_TYPES
from mithril.settings import Settings

app = typer.Typer(help="Clients: legal entities, medical information systems, and tools.", no_args_is_help=True)
COLUMNS = ("id", "name", "client_type_name", "access_type", "is_blocked", "inserted_at")
NOUN = "client"

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
    _: Settings,
    *,
    name: Annotated[str | None, typer.Option(help="Only those with this in their name, in any letter case.")] = None,
    owner: Owner = None,
    blocked: Annotated[bool | None, typer.Option("--blocked/--not-blocked", help="Only those.")] = None,
    number: PageNumber = FIRST,
    size: PageSize = SIZE,
    as_json: AsJson = False,
) -> None:
    """List clients, the oldest first."""
    user_id = None if owner is None else (await users.find(opened, owner)).id
    filters = only_given(name=name, user_id=user_id, is_blocked=blocked)
    found = await service.list_full_clients(opened, filters, page=page(number, size))
    output.print_page(found, map(_row, found.rows), columns=COLUMNS, as_json=as_json)


@session.command(app, "show")
async def show(opened: Database, _: Settings, client_id: ClientId, *, as_json: AsJson = False) -> None:
    """Show one client with its settings."""
    output.print_one(view.detailed_full_view(await find(opened, client_id)), as_json=as_json)


@session.command(app, "create")
async def create(
    opened: Database,
    _: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    *,
    client_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Name or id of its client type.")],
    owner: Annotated[str, typer.Option("--owner", metavar="USER", help="Its owner: id or e-mail address.")],
    access_type: AccessType = None,
    broker_scope: BrokerScope = None,
    client_settings: ClientSettings = None,
    client_id: Annotated[UUID | None, typer.Option("--id", help="Its id, such as that of a legal entity.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a client. It can do nothing without a connection: see `mithril connection create`."""
    fields = {
        "name": name,
        "client_type_id": str((await scopes.find(opened, CLIENT_TYPES, client_type)).id),
        "user_id": str((await users.find(opened, owner)).id),
        "settings": client_settings or {},
        "priv_settings": _priv_settings({"access_type": "BROKER"}, access_type, broker_scope),
    }
    added = await service.add_client(opened, fields, client_id=client_id, actor=session.actor("client create"))
    output.print_one(view.detailed_full_view(added), as_json=as_json)


@session.command(app, "change")
async def change(
    opened: Database,
    _: Settings,
    client_id: ClientId,
    *,
    name: Name = None,
    client_type: Type = None,
    owner: Owner = None,
    access_type: AccessType = None,
    broker_scope: BrokerScope = None,
    client_settings: ClientSettings = None,
    as_json: AsJson = False,
) -> None:
    """Change the named fields; the others stay as they are. With an empty broker scope it is no longer a broker."""
    changes(a=name, b=client_type, c=owner, d=access_type, e=broker_scope, f=client_settings)
    present = await find(opened, client_id)
    fields: dict[str, Any] = {"name": name, "settings": client_settings}
    if client_type is not None:
        fields["client_type_id"] = str((await scopes.find(opened, CLIENT_TYPES, client_type)).id)
    if owner is not None:
        fields["user_id"] = str((await users.find(opened, owner)).id)
    if access_type is not None or broker_scope is not None:
        kept = msgspec.json.decode(present.priv_settings)
        fields["priv_settings"] = _priv_settings(kept, access_type, broker_scope)
    await _change(opened, client_id, fields, what="change", as_json=as_json)


@session.command(app, "block")
async def block(
    opened: Database, _: Settings, client_id: ClientId, *, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Block a client, and revoke its tokens at once."""
    fields = {"is_blocked": True, "block_reason": reason}
    await _change(opened, client_id, fields, what="block", as_json=as_json)


@session.command(app, "unblock")
async def unblock(opened: Database, _: Settings, client_id: ClientId, *, as_json: AsJson = False) -> None:
    """Unblock a client. Its revoked tokens stay revoked."""
    fields = {"is_blocked": False, "block_reason": ""}
    await _change(opened, client_id, fields, what="unblock", as_json=as_json)


@session.command(app, "deactivate-tokens")
async def deactivate_tokens(
    opened: Database, _: Settings, client_id: ClientId, *, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Revoke every token of a client: its users sign in again."""
    client = await find(opened, client_id)
    output.confirm(f"Revoke all tokens of the client {client.name}?", yes=yes)
    with output.named(NOUN, client_id):
        await service.deactivate_tokens(opened, client_id, actor=session.actor("client deactivate-tokens"))
    output.print_done(f"The tokens of the client {client.name} are revoked.", {"id": client_id}, as_json=as_json)


@session.command(app, "delete")
async def delete(
    opened: Database, _: Settings, client_id: ClientId, *, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Delete a client with its connections, roles, approvals and tokens. It cannot be restored."""
    client = await find(opened, client_id)
    output.confirm(f"Delete the client {client.name} with its connections, roles, approvals and tokens?", yes=yes)
    with output.named(NOUN, client_id):
        await service.remove_client(opened, client_id, actor=session.actor("client delete"))
    output.print_done(f"The client {client.name} is deleted.", {"id": client_id, "deleted": True}, as_json=as_json)


async def find(opened: Database, client_id: UUID) -> FullClient:
    """Return the client. Raises Missing."""
    with output.named(NOUN, client_id):
        return await service.get_full_client(opened, client_id)


async def _change(opened: Database, client_id: UUID, fields: dict[str, Any], *, what: str, as_json: bool) -> None:
    given = only_given(**fields)
    with output.named(NOUN, client_id):
        changed = await service.change_client(opened, client_id, given, actor=session.actor(f"client {what}"))
    output.print_one(view.detailed_full_view(changed), as_json=as_json)


def _priv_settings(present: dict[str, Any], access_type: str | None, broker_scope: str | None) -> dict[str, Any]:
    wanted = present | only_given(access_type=access_type, broker_scope=broker_scope)
    return {name: value for name, value in wanted.items() if name != "broker_scope" or value}


def _row(client: FullClient) -> dict[str, object]:
    access_type = msgspec.json.decode(client.priv_settings).get("access_type")
    return view.detailed_full_view(client) | {"access_type": access_type}
