"""`mithril role …` and `mithril client-type …`: named lists of scopes, the same commands for both."""

from typing import Annotated

import typer

from mithril import errors
from mithril.audit.events import Actor
from mithril.audit.rows import AuditedTable
from mithril.cli import output, session
from mithril.cli.options import Yes, changes
from mithril.cli.output import Done, Many, One
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.identifiers import parse_uuid
from mithril.scope_sets import service, store
from mithril.scope_sets.store import CLIENT_TYPES, ROLES, NamedScope
from mithril.scope_sets.view import view

COLUMNS = ("id", "name", "scope")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")]
Scope = Annotated[str | None, typer.Option("--scope", help="The scopes, separated by spaces.")]


async def find(opened: Database, table: AuditedTable, name: str) -> NamedScope:
    """Return the client type or role of this id or name. Raises Missing."""
    with output.named(table.words, name):
        if row_id := parse_uuid(name):
            return await service.get_named(opened, table, row_id)
        found = await store.list_named(opened, table, {"name": name}, page=Page(1, 1))
        return errors.found(next(iter(found.rows), None))


def _group(table: AuditedTable, about: str) -> typer.Typer:
    noun = table.words
    app = typer.Typer(name=noun.replace(" ", "-"), help=about, no_args_is_help=True)

    @session.command(app, "list", help=f"List {noun}s, the oldest first.")
    async def list_(
        opened: Database,
        *,
        scope: Annotated[list[str] | None, typer.Option(help="Only those with this scope; may be repeated.")] = None,
        page: Page,
    ) -> Many:
        found = await store.list_named(opened, table, {"scope": scope} if scope else {}, page=page)
        return Many([view(each) for each in found.rows], COLUMNS, found)

    @session.command(app, "show", help=f"Show one {noun}.")
    async def show(opened: Database, name: Name) -> One:
        return One(view(await find(opened, table, name)))

    @session.command(app, "create", help=f"Add a {noun}.")
    async def create(
        opened: Database,
        actor: Actor,
        name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other has.")],
        *,
        scope: Annotated[str, typer.Option("--scope", help="The scopes, separated by spaces.")],
    ) -> One:
        return One(view(await service.add_named(opened, table, {"name": name, "scope": scope}, actor=actor)))

    @session.command(app, "change", help=f"Give a {noun} another name, other scopes, or both. It takes effect at once.")
    async def change(
        opened: Database,
        actor: Actor,
        name: Name,
        *,
        new_name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
        scope: Scope = None,
    ) -> One:
        given = changes(name=new_name, scope=scope)
        row = await find(opened, table, name)
        return One(view(await service.change_named(opened, table, row.id, given, actor=actor)))

    @session.command(app, "delete", help=f"Delete a {noun}.")
    async def delete(opened: Database, actor: Actor, name: Name, *, yes: Yes = False) -> Done:
        row = await find(opened, table, name)
        output.confirm(f"Delete the {noun} {row.name}?", yes=yes)
        await service.remove_named(opened, table, row.id, actor=actor)
        return Done(f"The {noun} {row.name} is deleted.", {"id": row.id, "deleted": True})

    return app


roles = _group(ROLES, "Roles: what users may do, in one client or in every client.")
client_types = _group(CLIENT_TYPES, "Client types: what a client's tokens may carry at most.")
