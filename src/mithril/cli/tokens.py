"""`mithril token …`: tokens of users. A value is printed once, by the command that adds the token."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer

from mithril import refusals
from mithril.audit.events import Actor
from mithril.cli import clients, output, session, users
from mithril.cli.options import AsJson, ClientId, UserName, Yes, only_given
from mithril.cli.output import Done, Many, One
from mithril.clients.store import FullClient
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.oauth import trusted_session
from mithril.settings import Settings
from mithril.tokens import records
from mithril.tokens.kinds import GrantType, TokenKind
from mithril.tokens.record_store import Record
from mithril.tokens.view import view

app = typer.Typer(name="token", help="Tokens of users.", no_args_is_help=True)
COLUMNS = ("id", "name", "user_id", "client_id", "scope", "expires_at")

TokenId = Annotated[UUID, typer.Argument(metavar="TOKEN", help="The token's id, not its value.")]
OfClient = Annotated[UUID | None, typer.Option("--client", help="Only those of this client.")]


@session.command(app, "list")
async def list_(
    opened: Database,
    *,
    user: Annotated[str | None, typer.Option(help="Only those of this user: id or e-mail address.")] = None,
    client: OfClient = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Only this kind, such as {TokenKind.ACCESS}.")] = None,
    page: Page,
    as_json: AsJson = False,
) -> Many:
    """List tokens, the oldest first, also expired ones."""
    user_id = None if user is None else (await users.find(opened, user)).id
    filters = only_given(user_id=user_id, client_id=client, name=kind)
    found = await records.list_records(opened, filters, page=page)
    return Many([_fields(each, as_json=as_json) for each in found.rows], COLUMNS, found)


@session.command(app, "show")
async def show(opened: Database, token_id: TokenId, *, as_json: AsJson = False) -> One:
    """Show one token, without its value."""
    return One(_fields(await find(opened, token_id), as_json=as_json))


@session.command(app, "create")
async def create(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    user: UserName,
    client_id: ClientId,
    *,
    scope: Annotated[str, typer.Option("--scope", help="What it may be used for, separated by spaces.")],
    as_json: AsJson = False,
) -> One:
    """Add an access token, as if the user had signed in through the client; older sessions there are revoked.

    Its value is printed now, and never again.
    """
    owner = await users.find(opened, user)
    client = await clients.find(opened, client_id)
    with _login_explained(client):
        issued = await trusted_session.begin(
            opened, chosen, user_id=owner.id, client_id=client_id, scope=scope, actor=actor
        )
    shown = _fields(await find(opened, issued.id), as_json=as_json)
    return One(shown | {"value": issued.value}, note="Keep the value: it is not shown again.")


@session.command(app, "change")
async def change(
    opened: Database,
    actor: Actor,
    token_id: TokenId,
    *,
    expires_in: Annotated[
        int, typer.Option("--expires-in", metavar="SECONDS", min=0, help="When it expires, from now on; 0 ends it.")
    ],
    as_json: AsJson = False,
) -> One:
    """Change when a token expires."""
    given = {"expires_at": int(datetime.now(UTC).timestamp()) + expires_in}
    with output.named("token", token_id):
        return One(_fields(await records.change(opened, token_id, given, actor=actor), as_json=as_json))


@session.command(app, "delete")
async def delete(opened: Database, actor: Actor, token_id: TokenId, *, yes: Yes = False) -> Done:
    """Delete a token, which ends access by it."""
    present = await find(opened, token_id)
    output.confirm(f"Delete the {present.name} {present.id}?", yes=yes)
    await records.remove(opened, token_id, actor=actor)
    return Done(f"The {present.name} {present.id} is deleted.", {"id": token_id, "deleted": True})


@session.command(app, "delete-all")
async def delete_all(
    opened: Database, actor: Actor, user: UserName, *, client: OfClient = None, yes: Yes = False
) -> Done:
    """Delete every token of a user, with all clients or with one."""
    owner = await users.find(opened, user)
    where = "" if client is None else f" with the client {client}"
    output.confirm(f"Delete all tokens of {owner.email}{where}?", yes=yes)
    await records.remove_all(opened, [owner.id], filters=only_given(client_id=client), actor=actor)
    done = {"user_id": owner.id, "client_id": client, "deleted": True}
    return Done(f"The tokens of {owner.email}{where} are deleted.", done)


async def find(opened: Database, token_id: UUID) -> Record:
    """Return the token. Raises Missing."""
    with output.named("token", token_id):
        return await records.get_record(opened, token_id)


@contextmanager
def _login_explained(client: FullClient) -> Iterator[None]:
    """Turn LoginNotAllowed in the block into one that names the command after which the client may log users in."""
    try:
        yield
    except refusals.LoginNotAllowed as refusal:
        present = msgspec.json.decode(client.settings, type=dict[str, Any])
        allowed = [*(present.get("allowed_grant_types") or ()), GrantType.PASSWORD]
        wanted = msgspec.json.encode(present | {"allowed_grant_types": allowed}).decode()
        command = f"mithril client change {client.id} --settings {shlex.quote(output.printable(wanted))}"
        raise refusals.LoginNotAllowed(f"{refusal.message} To allow it: {command}") from None


def _fields(record: Record, *, as_json: bool) -> dict[str, object]:
    """Return the fields as the API shows them; in a table, flat and with a time instead of a number."""
    published = view(record)
    if as_json:
        return published
    details = published.pop("details")
    flat = details if isinstance(details, dict) else {}
    return {**published, "expires_at": record.expires_at, **flat}
