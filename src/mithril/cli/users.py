"""`mithril user …`: users, how they are blocked, and which roles they have.

A password is asked for on the terminal, or read from a file: every user of the machine can see an argument.
"""

import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from mithril import errors
from mithril.audit.events import Actor
from mithril.cli import output, scopes, session
from mithril.cli.options import Blocked, PasswordFile, Reason, UserName, Yes, changes, document, only_given
from mithril.cli.output import Done, Many, One
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.identifiers import parse_uuid
from mithril.scope_sets.store import ROLES
from mithril.settings import Settings
from mithril.user_roles import service as user_roles
from mithril.user_roles import store as role_store
from mithril.user_roles.store import GlobalRole, UserRole
from mithril.users import accounts, store
from mithril.users.store import UserRecord
from mithril.users.view import view
from mithril.web.query_parameters import LARGEST_SIZE

app = typer.Typer(name="user", help="Users: who they are, and which roles they have.", no_args_is_help=True)
COLUMNS = ("id", "email", "tax_id", "is_blocked", "inserted_at")
ROLE_COLUMNS = ("role_name", "client_id", "client_name", "scope")
ALL = Page(1, LARGEST_SIZE)
PHONE_MISSING = "There is no phone yet for the second factor: `mithril user change {} --phone +380XXXXXXXXX` sets one."

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
async def list_(opened: Database, *, tax_id: TaxId = None, blocked: Blocked = None, page: Page) -> Many:
    """List users, the oldest first."""
    found = await store.list_users(opened, only_given(tax_id=tax_id, is_blocked=blocked), page=page)
    return Many([view(user) for user in found.rows], COLUMNS, found)


@session.command(app, "show")
async def show(opened: Database, user: UserName) -> One:
    """Show one user."""
    return One(view(await find(opened, user)))


@session.command(app, "create")
async def create(
    opened: Database,
    chosen: Settings,
    actor: Actor,
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
) -> One:
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
    added = await accounts.add(opened, chosen, only_given(**fields), actor=actor)
    needs_phone = phone is None and (chosen.user_2fa_enabled if second_factor is None else second_factor)
    return One(view(added), note=PHONE_MISSING.format(added.email) if needs_phone else "")


@session.command(app, "change")
async def change(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    user: UserName,
    *,
    email: Email = None,
    tax_id: TaxId = None,
    person_id: PersonId = None,
    phone: Phone = None,
    user_settings: UserSettings = None,
) -> One:
    """Change the named fields; the others stay as they are."""
    given = changes(email=email, tax_id=tax_id, person_id=person_id, factor=phone, settings=user_settings)
    found = await find(opened, user)
    return One(view(await accounts.change(opened, chosen, found.id, given, actor=actor)))


@session.command(app, "set-password")
async def set_password(
    opened: Database, chosen: Settings, actor: Actor, user: UserName, *, password_file: PasswordFile = None
) -> One:
    """Set the password of a user, and revoke the user's tokens. It is asked for."""
    found = await find(opened, user)
    given = {"password": _password(password_file)}
    return One(view(await accounts.change(opened, chosen, found.id, given, actor=actor)))


@session.command(app, "block")
async def block(opened: Database, actor: Actor, user: UserName, *, reason: Reason = None) -> One:
    """Block a user, and revoke all tokens of the user at once."""
    found = await find(opened, user)
    return One(view(await accounts.block(opened, found.id, {"block_reason": reason}, actor=actor)))


@session.command(app, "unblock")
async def unblock(opened: Database, actor: Actor, user: UserName, *, reason: Reason = None) -> One:
    """Unblock a user, and reset the counters of failures."""
    found = await find(opened, user)
    return One(view(await accounts.unblock(opened, found.id, {"block_reason": reason}, actor=actor)))


@session.command(app, "delete")
async def delete(opened: Database, actor: Actor, user: UserName, *, yes: Yes = False) -> Done:
    """Delete a user with all clients, approvals, roles and tokens. It cannot be restored."""
    found = await find(opened, user)
    output.confirm(f"Delete {found.email} with all clients, approvals, roles and tokens?", yes=yes)
    await accounts.remove(opened, found.id, actor=actor)
    return Done(f"{found.email} is deleted.", {"id": found.id, "deleted": True})


@session.command(app, "roles")
async def list_roles(opened: Database, user: UserName) -> Many:
    """List the roles of a user: those in every client, then those in one."""
    found = await find(opened, user)
    everywhere = await role_store.list_global_roles(opened, found.id, page=ALL)
    somewhere = await role_store.list_user_roles(opened, {"user_id": found.id}, page=ALL)
    return Many([*map(_role, everywhere.rows), *map(_role, somewhere.rows)], ROLE_COLUMNS)


@session.command(app, "grant")
async def grant(
    opened: Database,
    actor: Actor,
    user: UserName,
    role: RoleName,
    *,
    client: InClient = None,
    everywhere: Everywhere = False,
) -> One:
    """Give a user a role, in one client or in every client. It takes effect with the next token."""
    _check_place(client, everywhere=everywhere)
    found, wanted = await find(opened, user), await scopes.find(opened, ROLES, role)
    fields = {"role_id": str(wanted.id)}
    if client is None:
        return One(_role(await user_roles.give_global_role(opened, found.id, fields, actor=actor)))
    fields["client_id"] = str(client)
    return One(_role(await user_roles.give_role(opened, found.id, fields, actor=actor)))


@session.command(app, "revoke")
async def revoke(
    opened: Database,
    actor: Actor,
    user: UserName,
    role: RoleName,
    *,
    client: InClient = None,
    everywhere: Everywhere = False,
    yes: Yes = False,
) -> Done:
    """Take a role from a user, in one client or in every client; other roles stay."""
    _check_place(client, everywhere=everywhere)
    found, given = await find(opened, user), await scopes.find(opened, ROLES, role)
    where = "every client" if client is None else f"client {client}"
    output.confirm(f"Take the role {given.name} in {where} from {found.email}?", yes=yes)
    if client is None:
        has = await role_store.list_global_roles(opened, found.id, page=ALL)
        row_id = next((each.id for each in has.rows if each.role_id == given.id), None)
        if row_id is None:
            raise output.Missing("such role of that user in every client:", given.name)
        await user_roles.take_global_role(opened, row_id, user_id=found.id, actor=actor)
    else:
        filters = {"user_id": found.id, "role_id": given.id, "client_id": client}
        if not await user_roles.take_roles(opened, filters, actor=actor):
            raise output.Missing("such role of that user in that client:", given.name)
    done = {"user_id": found.id, "role_id": given.id, "client_id": client, "revoked": True}
    return Done(f"{found.email} no longer has the role {given.name} in {where}.", done)


async def find(opened: Database, user: str) -> UserRecord:
    """Return the user of this id or e-mail address. Raises Missing."""
    with output.named("user", user):
        if user_id := parse_uuid(user):
            return await accounts.get(opened, user_id)
        found = await store.list_users(opened, {"email": user}, page=Page(1, 1))
        return errors.found(next(iter(found.rows), None))


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
