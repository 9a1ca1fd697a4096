"""`mithril user …`: users, how they are blocked, and which roles they have.

A password is asked for on the terminal, or read from a file: everybody on the machine can see an argument.
"""

import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from mithril.cli import output, scopes, session
from mithril.cli.options import (
    FIRST,
    SIZE,
    AsJson,
    PageNumber,
    PageSize,
    PasswordFile,
    Reason,
    UserName,
    Yes,
    changes,
    document,
    only_given,
    page,
)
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.scope_sets.store import ROLES
from mithril.settings import Settings
from mithril.user_roles import service as user_roles
from mithril.user_roles.store import GlobalRole, UserRole
from mithril.users import accounts
from mithril.users.store import UserRecord
from mithril.users.view import view
from mithril.web.query_parameters import LARGEST_SIZE

app = typer.Typer(help="Users: who they are, and which roles they have.", no_args_is_help=True)
COLUMNS = ("id", "email", "tax_id", "is_blocked", "inserted_at")
ROLE_COLUMNS = ("role_name", "client_id", "client_name", "scope")
NOUN = "user"

Email = Annotated[str | None, typer.Option("--email", help="The e-mail address for signing in.")]
TaxId = Annotated[str | None, typer.Option("--tax-id")]
PersonId = Annotated[str | None, typer.Option("--person-id")]
Phone = Annotated[str | None, typer.Option("--phone", metavar="+380XXXXXXXXX", help="The phone of the second factor.")]
UserSettings = Annotated[
    dict[str, Any] | None, typer.Option("--settings", parser=document, metavar="JSON", help="A JSON object.")
]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", help="The role's name or id.")]
InClient = Annotated[UUID | None, typer.Option("--client", help="In this client.")]
Everywhere = Annotated[bool, typer.Option("--everywhere", help="In every client, also in later ones.")]


@session.command(app, "list")
async def list_(
    opened: Database,
    _: Settings,
    *,
    tax_id: TaxId = None,
    blocked: Annotated[bool | None, typer.Option("--blocked/--not-blocked", help="Only those.")] = None,
    number: PageNumber = FIRST,
    size: PageSize = SIZE,
    as_json: AsJson = False,
) -> None:
    """List users, the oldest first."""
    filters = only_given(tax_id=tax_id, is_blocked=blocked)
    found = await accounts.list_users(opened, filters, page=page(number, size))
    output.print_page(found, map(view, found.rows), columns=COLUMNS, as_json=as_json)


@session.command(app, "show")
async def show(opened: Database, _: Settings, user: UserName, *, as_json: AsJson = False) -> None:
    """Show one user."""
    output.print_one(view(await find(opened, user)), as_json=as_json)


@session.command(app, "create")
async def create(
    opened: Database,
    chosen: Settings,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The e-mail address for signing in.")],
    *,
    password_file: PasswordFile = None,
    tax_id: TaxId = None,
    person_id: PersonId = None,
    second_factor: Annotated[
        bool | None,
        typer.Option(
            "--2fa/--no-2fa",
            help="Whether to ask for a second factor; the default is MITHRIL_USER_2FA_ENABLED.",
        ),
    ] = None,
    phone: Phone = None,
    user_settings: UserSettings = None,
    as_json: AsJson = False,
) -> None:
    """Add a user. The password is asked for."""
    fields = {
        "email": email,
        "password": _password(password_file),
        "tax_id": tax_id,
        "person_id": person_id,
        "2fa_enable": second_factor,
        "factor": phone,
        "settings": user_settings or {},
    }
    added = await accounts.add(opened, chosen, only_given(**fields), actor=session.actor("user create"))
    output.print_one(view(added), as_json=as_json)


@session.command(app, "change")
async def change(
    opened: Database,
    chosen: Settings,
    user: UserName,
    *,
    email: Email = None,
    tax_id: TaxId = None,
    person_id: PersonId = None,
    phone: Phone = None,
    user_settings: UserSettings = None,
    as_json: AsJson = False,
) -> None:
    """Change the named fields; the others stay as they are."""
    fields = changes(email=email, tax_id=tax_id, person_id=person_id, factor=phone, settings=user_settings)
    await _change(opened, chosen, user, fields, what="change", as_json=as_json)


@session.command(app, "set-password")
async def set_password(
    opened: Database, chosen: Settings, user: UserName, *, password_file: PasswordFile = None, as_json: AsJson = False
) -> None:
    """Set the password of a user, and revoke the user's tokens. It is asked for."""
    await find(opened, user)
    fields = {"password": _password(password_file)}
    await _change(opened, chosen, user, fields, what="set-password", as_json=as_json)


@session.command(app, "block")
async def block(
    opened: Database, _: Settings, user: UserName, *, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Block a user, and revoke all tokens of the user at once."""
    found, actor = await find(opened, user), session.actor("user block")
    blocked = await accounts.block(opened, found.id, {"block_reason": reason}, actor=actor)
    output.print_one(view(blocked), as_json=as_json)


@session.command(app, "unblock")
async def unblock(
    opened: Database, _: Settings, user: UserName, *, reason: Reason = None, as_json: AsJson = False
) -> None:
    """Unblock a user, and reset the counters of failures."""
    found, actor = await find(opened, user), session.actor("user unblock")
    unblocked = await accounts.unblock(opened, found.id, {"block_reason": reason}, actor=actor)
    output.print_one(view(unblocked), as_json=as_json)


@session.command(app, "delete")
async def delete(opened: Database, _: Settings, user: UserName, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a user with all clients, approvals, roles and tokens. It cannot be restored."""
    found = await find(opened, user)
    question = f"Delete {found.email} with all clients, approvals, roles and tokens?"
    output.confirm(question, yes=yes)
    with output.named(NOUN, user):
        await accounts.remove(opened, found.id, actor=session.actor("user delete"))
    output.print_done(f"{found.email} is deleted.", {"id": found.id, "deleted": True}, as_json=as_json)


@session.command(app, "roles")
async def list_roles(opened: Database, _: Settings, user: UserName, *, as_json: AsJson = False) -> None:
    """List the roles of a user: those in every client, then those in one."""
    found = await find(opened, user)
    everywhere = await user_roles.list_global_roles(opened, found.id, page=page(1, LARGEST_SIZE))
    somewhere = await user_roles.list_user_roles(opened, {"user_id": found.id}, page=page(1, LARGEST_SIZE))
    rows = [*map(_role, everywhere.rows), *map(_role, somewhere.rows)]
    if as_json:
        output.print_json(rows)
    elif rows:
        output.print_table(rows, columns=ROLE_COLUMNS)
    else:
        output.note("none")


@session.command(app, "grant")
async def grant(
    opened: Database,
    _: Settings,
    user: UserName,
    role: RoleName,
    *,
    client: InClient = None,
    everywhere: Everywhere = False,
    as_json: AsJson = False,
) -> None:
    """Give a user a role, in one client or in every client. It takes effect with the next token."""
    _check_place(client, everywhere=everywhere)
    found, wanted = await find(opened, user), await scopes.find(opened, ROLES, role)
    actor = session.actor("user grant")
    if client is None:
        given: UserRole | GlobalRole = await user_roles.give_global_role(
            opened, found.id, {"role_id": str(wanted.id)}, actor=actor
        )
    else:
        fields = {"role_id": str(wanted.id), "client_id": str(client)}
        given = await user_roles.give_role(opened, found.id, fields, actor=actor)
    output.print_one(_role(given), as_json=as_json)


@session.command(app, "revoke")
async def revoke(
    opened: Database,
    _: Settings,
    user: UserName,
    role: RoleName,
    *,
    client: InClient = None,
    everywhere: Everywhere = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take a role from a user, in one client or in every client; other roles stay."""
    _check_place(client, everywhere=everywhere)
    found, given = await find(opened, user), await scopes.find(opened, ROLES, role)
    actor = session.actor("user revoke")
    where = "every client" if client is None else f"client {client}"
    output.confirm(f"Take the role {given.name} in {where} from {found.email}?", yes=yes)
    if client is None:
        has = await user_roles.list_global_roles(opened, found.id, page=page(1, LARGEST_SIZE))
        row_id = next((each.id for each in has.rows if each.role_id == given.id), None)
        if row_id is None:
            raise output.Missing("such role of that user in every client:", given.name)
        await user_roles.take_global_role(opened, row_id, user_id=found.id, actor=actor)
    else:
        filters = {"user_id": found.id, "role_id": given.id, "client_id": client}
        if not await user_roles.take_roles(opened, filters, actor=actor):
            raise output.Missing("such role of that user in that client:", given.name)
    done = {"user_id": found.id, "role_id": given.id, "client_id": client, "revoked": True}
    output.print_done(f"{found.email} no longer has the role {given.name} in {where}.", done, as_json=as_json)


async def find(opened: Database, user: str) -> UserRecord:
    """Return the user of this id or e-mail address. Raises Missing."""
    user_id = parse_uuid(user)
    if user_id is not None:
        with output.named(NOUN, user):
            return await accounts.get(opened, user_id)
    found = await accounts.list_users(opened, {"email": user}, page=page(1, 1))
    if not found.rows:
        raise output.Missing(NOUN, user)
    return found.rows[0]


async def _change(
    opened: Database, chosen: Settings, user: str, fields: dict[str, Any], *, what: str, as_json: bool
) -> None:
    found, actor = await find(opened, user), session.actor(f"user {what}")
    changed = await accounts.change(opened, chosen, found.id, fields, actor=actor)
    output.print_one(view(changed), as_json=as_json)


def _check_place(client: UUID | None, *, everywhere: bool) -> None:
    """Refuse a command without --client or --everywhere: a role in every client must be asked for by name."""
    if (client is None) != everywhere:
        raise typer.BadParameter("say where: --client CLIENT, or --everywhere")


def _password(file: str | None) -> str:
    """Read the password from the file, without its line end, or ask for it twice without showing it."""
    if file is None and not sys.stdin.isatty():
        output.fail("there is no terminal to ask for the password: give --password-file FILE, or - for standard input")
    if file is None:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    try:
        content = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        output.fail(f"cannot read {file}: {type(error).__name__}")
    return content.removesuffix("\n").removesuffix("\r")


def _role(given: UserRole | GlobalRole) -> dict[str, object]:
    return {
        "id": given.id,
        "user_id": given.user_id,
        "role_id": given.role_id,
        "role_name": given.role_name,
        "client_id": getattr(given, "client_id", None),
        "client_name": getattr(given, "client_name", "(every client)"),
        "scope": given.scope,
    }
