"""`mithril role …` and `mithril client-type …`: named lists of scopes, the same commands for both."""

from typing import Annotated

import typer

from mithril.audit.rows import AuditedTable
from mithril.cli import output, session
from mithril.cli.options import FIRST, SIZE, AsJson, PageNumber, PageSize, Yes, changes, page
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.scope_sets import service
from mithril.scope_sets.store import CLIENT_TYPES, ROLES, NamedScope
from mithril.scope_sets.view import view
from mithril.settings import Settings

COLUMNS = ("id", "name", "scope")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")]
Scope = Annotated[str | None, typer.Option("--scope", help="The scopes, separated by spaces.")]


async def find(opened: Database, table: AuditedTable, name: str) -> NamedScope:
    """Return the client type or role of this id or name. Raises Missing."""
    row_id, noun = parse_uuid(name), noun_of(table)
    if row_id is not None:
        with output.named(noun, name):
            return await service.get_named(opened, table, row_id)
    found = await service.list_named(opened, table, {"name": name}, page=page(1, 1))
    if not found.rows:
        raise output.Missing(noun, name)
    return found.rows[0]


def noun_of(table: AuditedTable) -> str:
    """Return the word for one of them."""
    return table.noun.replace("_", " ")


def _group(table: AuditedTable, about: str) -> typer.Typer:
    app, noun = typer.Typer(help=about, no_args_is_help=True), noun_of(table)

    @session.command(app, "list", help=f"List {noun}s, the oldest first.")
    async def list_(
        opened: Database,
        _: Settings,
        *,
        scope: Annotated[list[str] | None, typer.Option(help="Only those with this scope; may be repeated.")] = None,
        number: PageNumber = FIRST,
        size: PageSize = SIZE,
        as_json: AsJson = False,
    ) -> None:
        found = await service.list_named(opened, table, {"scope": scope} if scope else {}, page=page(number, size))
        output.print_page(found, map(view, found.rows), columns=COLUMNS, as_json=as_json)

    @session.command(app, "show", help=f"Show one {noun}.")
    async def show(opened: Database, _: Settings, name: Name, *, as_json: AsJson = False) -> None:
        output.print_one(view(await find(opened, table, name)), as_json=as_json)

    @session.command(app, "create", help=f"Add a {noun}.")
    async def create(
        opened: Database,
        _: Settings,
        name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other has.")],
        *,
        scope: Annotated[str, typer.Option("--scope", help="The scopes, separated by spaces.")],
        as_json: AsJson = False,
    ) -> None:
        given, actor = {"name": name, "scope": scope}, session.actor(f"{noun} create")
        added = await service.add_named(opened, table, given, actor=actor)
        output.print_one(view(added), as_json=as_json)

    @session.command(app, "change", help=f"Give a {noun} another name, other scopes, or both. It takes effect at once.")
    async def change(
        opened: Database,
        _: Settings,
        name: Name,
        *,
        new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
        scope: Scope = None,
        as_json: AsJson = False,
    ) -> None:
        given = changes(name=new_name, scope=scope)
        row, actor = await find(opened, table, name), session.actor(f"{noun} change")
        changed = await service.change_named(opened, table, row.id, given, actor=actor)
        output.print_one(view(changed), as_json=as_json)

    @session.command(app, "delete", help=f"Delete a {noun}.")
    async def delete(opened: Database, _: Settings, name: Name, *, yes: Yes = False, as_json: AsJson = False) -> None:
        row = await find(opened, table, name)
        output.confirm(f"Delete the {noun} {row.name}?", yes=yes)
        await service.remove_named(opened, table, row.id, actor=session.actor(f"{noun} delete"))
        output.print_done(f"The {noun} {row.name} is deleted.", {"id": row.id, "deleted": True}, as_json=as_json)

    return app


roles = _group(ROLES, "Roles: what users may do, in one client or in every client.")
client_types = _group(CLIENT_TYPES, "Client types: what a client's tokens may carry at most.")
