"""What administrators see and do beyond an owner: find any client, block and unblock it, end its tokens, see its users.

Only a session for a client of an administrative type gets here, whatever its scopes are.
"""

from typing import Any, NamedTuple
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import access, errors, refusals
from mithril.clients import service as clients
from mithril.clients import store as client_store
from mithril.clients.store import Client
from mithril.console import client_routes, connection_routes, gate, rendering
from mithril.console import store as sessions
from mithril.console.gate import PageHandler
from mithril.console.sessions import Session
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.identifiers import parse_uuid
from mithril.tokens import records
from mithril.tokens import store as tokens
from mithril.tokens.kinds import HELD_BY_CLIENTS
from mithril.user_roles import store as user_roles
from mithril.users import store as users
from mithril.web import requests
from mithril.web.forms import Parameters

CLIENTS = "/console/clients"
SESSIONS = f"{client_routes.CLIENT}/people/{{user_id}}/sessions"
ON_A_PAGE = 25
MOST_ROLES = 200
LONGEST_REASON = 255


async def list_clients(request: Request, session: Session, _: Parameters) -> Response:
    """Find clients by a part of the name or by the identifier, perhaps only blocked ones."""
    asked = (request.query_params.get("q") or "").strip().replace("\0", "")
    only_blocked = request.query_params.get("blocked") == "yes"
    filters: dict[str, Any] = {"is_blocked": True} if only_blocked else {}
    if asked:
        identifier = parse_uuid(asked)
        filters |= {"name": asked} if identifier is None else {"id": identifier}
    page = client_routes.page_of(request, ON_A_PAGE, **filters)
    values: dict[str, Any] = {"found": None, "asked": asked, "only_blocked": only_blocked}
    try:
        database = requests.resources(request).database
        values["found"] = await client_store.list_clients(database, filters, only_id=None, page=page)
    except refusals.SearchTooWide as refusal:
        requests.note_refusal(request.scope, refusal)
    return rendering.page(request, session, "clients.html", status=200 if values["found"] else 422, **values)


class Person(NamedTuple):
    """A user with roles in a client."""

    email: str
    roles: list[str]


async def list_people(database: Database, client_id: UUID) -> dict[UUID, Person]:
    """Return the users with roles in the client, by their ids."""
    found = await user_roles.list_user_roles(database, {"client_id": client_id}, page=Page(1, MOST_ROLES))
    emails = await users.list_emails(database, [role.user_id for role in found.rows], client_id=client_id)
    people: dict[UUID, Person] = {}
    for role in found.rows:
        people.setdefault(role.user_id, Person(emails.get(role.user_id, ""), [])).roles.append(role.role_name)
    return people


async def show_people(request: Request, session: Session, _: Parameters) -> Response:
    """Show the users who have roles in the client."""
    database, client_id = requests.resources(request).database, client_routes.named(request, "client_id")
    client = await clients.get_client(database, client_id)
    people = await list_people(database, client_id)
    counted = None
    if session.may("token:read"):
        counted = await sessions.count_sessions(database, list(people), client_id=client_id)
    return rendering.page(request, session, "people.html", client=client, people=people, counted=counted)


async def show_sessions_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show how many sessions of the user would be ended."""
    return await _act_form(request, session, "sessions")


async def end_sessions(request: Request, session: Session, fields: Parameters) -> Response:
    """Delete the tokens of the user with the client, as `DELETE /admin/users/{user_id}/tokens` does."""
    if problem := await gate.problem_of_password(request, session, fields):
        return await _act_form(request, session, "sessions", problem=problem, status=422)
    client_id, user_id = (await _client(request)).id, client_routes.named(request, "user_id")
    database, actor = requests.resources(request).database, access.actor(request, session.caller)
    await _email(request, client_id)
    await records.remove_all(database, [user_id], filters={"client_id": client_id}, actor=actor)
    return gate.go_to(f"{client_routes.path_of(client_id)}/people")


async def show_block_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show what a block, or its end, means."""
    return await _act_form(request, session, "unblock" if (await _client(request)).is_blocked else "block")


async def block(request: Request, session: Session, fields: Parameters) -> Response:
    """Block the client with a reason, or unblock it: what the form was made for, and only where that is still to do."""
    client, wanted, reason = await _client(request), fields.get("act"), fields.get("reason") or ""
    if wanted not in ("block", "unblock"):
        raise errors.NotFound
    if client.is_blocked == (wanted == "block"):
        return gate.go_to(client_routes.path_of(client.id))
    problem = ""
    if wanted == "block" and not 0 < len(reason.strip()) <= LONGEST_REASON:
        problem = "no_reason"
    if problem := problem or await gate.problem_of_password(request, session, fields):
        return await _act_form(request, session, wanted, problem=problem, reason=reason, status=422)
    given = {"is_blocked": wanted == "block", "block_reason": reason.strip() if wanted == "block" else ""}
    actor = access.actor(request, session.caller)
    await clients.change_client(requests.resources(request).database, client.id, given, actor=actor)
    return gate.go_to(client_routes.path_of(client.id))


async def show_tokens_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show how many tokens would be ended."""
    return await _act_form(request, session, "tokens")


async def end_tokens(request: Request, session: Session, fields: Parameters) -> Response:
    """Revoke every token of the client, sessions of the console too, unless that was done since the form was made."""
    if problem := await gate.problem_of_password(request, session, fields):
        return await _act_form(request, session, "tokens", problem=problem, status=422)
    client_id, actor = (await _client(request)).id, access.actor(request, session.caller)
    database, seen = requests.resources(request).database, connection_routes.version_of(fields)
    await clients.deactivate_tokens(database, client_id, expected_versions=seen, actor=actor)
    return gate.go_to(client_routes.path_of(client_id))


async def _act_form(
    request: Request, session: Session, act: str, *, problem: str = "", reason: str = "", status: int = 200
) -> Response:
    client, database, counted, email = await _client(request), requests.resources(request).database, None, ""
    if act == "sessions":
        email, user_id = await _email(request, client.id), client_routes.named(request, "user_id")
        if session.may("token:read"):
            counted = (await sessions.count_sessions(database, [user_id], client_id=client.id))[user_id]
    elif session.may("token:read"):
        counted = await tokens.count_active(database, client.id, kinds=HELD_BY_CLIENTS, of="client")
    is_own = client.id == session.caller.client_id and email in ("", session.user.email)
    values: dict[str, Any] = {"act": act, "client": client, "counted": counted, "email": email, "is_own": is_own}
    values |= {"problem": problem, "reason": reason}
    if act == "tokens":
        values["version"] = await client_store.find_last_revocation(database, client.id)
    return rendering.page(request, session, "act.html", status=status, **values)


async def _email(request: Request, client_id: UUID) -> str:
    """Return the e-mail address of the user in the path. Raises NotFound for one without a role in the client."""
    user_id = client_routes.named(request, "user_id")
    found = await users.list_emails(requests.resources(request).database, [user_id], client_id=client_id)
    return errors.found(found.get(user_id))


async def _client(request: Request) -> Client:
    client_id = client_routes.named(request, "client_id")
    return await clients.get_client(requests.resources(request).database, client_id)


def _page(path: str, handler: PageHandler, *, scope: str, method: str = "GET") -> Route:
    async def handle(request: Request, session: Session, fields: Parameters) -> Response:
        if not session.caller.is_administrative:
            raise errors.Forbidden(detail="the client is of no administrative type")
        return await handler(request, session, fields)

    return gate.page(path, handle, method=method, scope=scope)


ROUTES: list[Route] = [
    _page(CLIENTS, list_clients, scope="client:read"),
    _page(f"{client_routes.CLIENT}/people", show_people, scope="user:read"),
    _page(SESSIONS, show_sessions_form, scope="token:delete"),
    _page(SESSIONS, end_sessions, method="POST", scope="token:delete"),
    _page(f"{client_routes.CLIENT}/block", show_block_form, scope="client:write"),
    _page(f"{client_routes.CLIENT}/block", block, method="POST", scope="client:write"),
    _page(f"{client_routes.CLIENT}/tokens", show_tokens_form, scope="token:delete"),
    _page(f"{client_routes.CLIENT}/tokens", end_tokens, method="POST", scope="token:delete"),
]
