"""`mithril role …` and `mithril client-type …`: named lists of scopes, the same commands for both."""

from typing import Annotated

import typer

from mithril.cli import output, session
from mithril.cli.options import FIRST, SIZE, AsJson, PageNumber, PageSize, Yes, changes, page
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.scope_sets import service
from mithril.scope_sets.admin_routes import NAMED_SCOPE, view
from mithril.scope_sets.store import CLIENT_TYPES, ROLES, Kind, NamedScope
from mithril.settings import Settings
from mithril.validation import fields as validation

COLUMNS = ("id", "name", "scope")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")]
Scope = Annotated[str | None, typer.Option("--scope", help="The scopes, by space.")]


async def find(opened: Database, kind: Kind, name: str) -> NamedScope:
    """The client type or role of that id or name. Raises Missing."""
    row_id, noun = parse_uuid(name), noun_of(kind)
    if row_id is not None:
        with output.named(noun, name):
            return await service.get_named(opened, kind, row_id)
    found = await service.list_named(opened, kind, {"name": name}, page=page(1, 1))
    if not found.rows:
        raise output.Missing(noun, name)
    return found.rows[0]


def noun_of(kind: Kind) -> str:
    """What people call it."""
    return kind.audited.noun.replace("_", " ")


def _group(kind: Kind, about: str) -> typer.Typer:
    app, noun = typer.Typer(help=about, no_args_is_help=True), noun_of(kind)
    constraints = {kind.name_index: "$.name"}

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
        found = await service.list_named(opened, kind, {"scope": scope} if scope else {}, page=page(number, size))
        output.print_page(found, map(view, found.rows), columns=COLUMNS, as_json=as_json)

    @session.command(app, "show", help=f"Show one {noun}.")
    async def show(opened: Database, _: Settings, name: Name, *, as_json: AsJson = False) -> None:
        output.print_one(view(await find(opened, kind, name)), as_json=as_json)

    @session.command(app, "create", help=f"Make a {noun}.")
    async def create(
        opened: Database,
        _: Settings,
        name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other has.")],
        *,
        scope: Annotated[str, typer.Option("--scope", help="The scopes, by space.")],
        as_json: AsJson = False,
    ) -> None:
        columns, actor = NAMED_SCOPE.new({"name": name, "scope": scope}), session.actor(f"{noun} create")
        with validation.constraints(constraints):
            added = await service.add_named(opened, kind, columns, actor=actor)
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
        fields = changes(name=new_name, scope=scope)
        row, actor = await find(opened, kind, name), session.actor(f"{noun} change")
        with validation.constraints(constraints):
            changed = await service.change_named(opened, kind, row.id, NAMED_SCOPE.changes(fields), actor=actor)
        output.print_one(view(changed), as_json=as_json)

    @session.command(app, "delete", help=f"Delete a {noun}.")
    async def delete(opened: Database, _: Settings, name: Name, *, yes: Yes = False, as_json: AsJson = False) -> None:
        row = await find(opened, kind, name)
        output.confirm(f"Delete the {noun} {row.name}?", yes=yes)
        await service.remove_named(opened, kind, row.id, actor=session.actor(f"{noun} delete"))
        output.print_done(f"The {noun} {row.name} is deleted.", {"id": row.id, "deleted": True}, as_json=as_json)

    return app


roles = _group(ROLES, "Roles: what people may do, in one client or everywhere.")
client_types = _group(CLIENT_TYPES, "Client types: what a client's tokens may carry at most.")
