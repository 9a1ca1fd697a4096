"""A new redirect URI for a connection: one form to check it, one to confirm it with the password.

A former one is brought back by the form that confirms it, through the use case of `POST …/actions/revert`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import access, errors
from mithril.audit import events
from mithril.connections import fields as connection_fields
from mithril.connections import service as connections
from mithril.connections import store as connection_store
from mithril.connections import transitions
from mithril.connections.redirect_uris import Policy
from mithril.connections.store import Connection
from mithril.console import client_routes, connection_routes, gate, redirect_uri_page, rendering
from mithril.console.connection_routes import Shown
from mithril.console.sessions import Session
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.identifiers import parse_row_number
from mithril.tokens import store as tokens
from mithril.tokens.kinds import TokenKind
from mithril.web import requests
from mithril.web.forms import Parameters

PATH = f"{connection_routes.CONNECTION}/address"
REVERT = f"{connection_routes.CONNECTION}/history/{{event_id}}/revert"
MOST_CONNECTIONS = 500
DAY_SECONDS = 86_400
# For how long both redirect URIs are good; the API's own limit is 30 days.
DAYS, PRESET_DAYS = (1, 3, 7, 14, 30, 0), 1


async def show(request: Request, session: Session, _: Parameters) -> Response:
    """Show the form for a redirect URI, or what a checked one would change.

    `draft` in the query: the user is still typing, and wants to know only what is wrong.
    """
    shown = await connection_routes.find(request)
    new = request.query_params.get("new")
    if new is None:
        return rendering.page(request, session, "address.html", shown=shown, new=None, verdict=None, is_draft=False)
    verdict = redirect_uri_page.judge(new, Policy.of(requests.resources(request).settings))
    is_draft = "draft" in request.query_params
    is_same = new == shown.connection.redirect_uri and shown.transition is None
    if verdict.reasons or is_draft or is_same:
        status = 422 if verdict.reasons and not is_draft else 200
        values: dict[str, Any] = {"new": new, "verdict": verdict, "is_draft": is_draft}
        return rendering.page(request, session, "address.html", status=status, shown=shown, **values)
    return await _confirmation(request, session, shown, new)


async def _confirmation(
    request: Request,
    session: Session,
    shown: Shown,
    new: str,
    *,
    days: int = PRESET_DAYS,
    problem: str = "",
    status: int = 200,
    reverts: bool = False,
) -> Response:
    """Show the old and the new redirect URI side by side, and what the change means.

    `reverts`: the new one is a former one, to which a revert leads at once.
    """
    database, connection = requests.resources(request).database, shown.connection
    old, servers = connection.redirect_uri, None
    ends_transition = _ends_transition(connection, new)
    if new == old:  # it takes the place of the one to which the connection is moving
        old = connection.transition_redirect_uri or old
    now = datetime.now(UTC)
    if redirect_uri_page.server(old) != redirect_uri_page.server(new):
        servers = (redirect_uri_page.server(old), redirect_uri_page.server(new))
    return rendering.page(
        request,
        session,
        "confirm.html",
        status=status,
        shown=shown,
        new=new,
        sides=redirect_uri_page.sides(old, new),
        differences=redirect_uri_page.differences(old, new),
        servers=servers,
        is_shared=await _is_shared(database, connection, new),
        signing_in=await tokens.count_active(database, connection.id, kinds=[TokenKind.CODE]),
        problem=problem,
        ends_transition=ends_transition,
        choices=[] if ends_transition or reverts else [(days, now + timedelta(days=days)) for days in DAYS],
        reverts=reverts,
        chosen=days,
    )


async def change(request: Request, session: Session, fields: Parameters) -> Response:
    """Change the redirect URI as `PATCH` does, or begin a transition as `PUT` does, and go to the connection.

    The same form once more finds its change made, and ends there too, without another one.
    """
    days = next((number for number in DAYS if fields.get("days") == str(number)), 0)
    settings, database, _ = requests.resources(request)
    shown, new = await connection_routes.find(request), fields.get("new") or ""
    try:
        connection_fields.CONNECTION_UPDATE.check({"redirect_uri": new}, settings)
    except errors.ValidationFailed:
        verdict = redirect_uri_page.judge(new, Policy.of(settings))
        return rendering.page(
            request, session, "address.html", status=422, shown=shown, new=new, verdict=verdict, is_draft=False
        )
    if problem := await gate.problem_of_password(request, session, fields):
        return await _confirmation(request, session, shown, new, days=days, problem=problem, status=422)
    connection = shown.connection
    at: dict[str, Any] = {
        "client_id": connection.client_id,
        "redirect_uri": new,
        "expected_versions": connection_routes.version_of(fields),
        "actor": access.actor(request, session.caller),
    }
    try:
        if days and not _ends_transition(connection, new):
            changed = await transitions.begin(database, connection.id, lasts_seconds=days * DAY_SECONDS, **at)
        else:
            changed = await connections.change_redirect_uri(database, connection.id, **at)
    except errors.PreconditionFailed:
        made = await _made_before(request, session.user.id, new)
        if made is None:
            again = f"{shown.path}/address"
            return await connection_routes.conflict(request, session, fields, again=again, act="address")
        changed = made
    return gate.go_to(shown.path, after=changed.version)


async def show_revert(request: Request, session: Session, _: Parameters) -> Response:
    """Show the redirect URI from before a change of the log beside the present one, if the rules of today accept it."""
    return await _revert_form(request, session)


async def _revert_form(request: Request, session: Session, *, problem: str = "", status: int = 200) -> Response:
    shown, former = await connection_routes.find(request), await _former(request)
    if former == shown.connection.redirect_uri and shown.transition is None:
        return gate.go_to(shown.path)
    verdict = redirect_uri_page.judge(former, Policy.of(requests.resources(request).settings))
    if verdict.reasons:
        values: dict[str, Any] = {"new": former, "verdict": verdict, "is_draft": False}
        return rendering.page(request, session, "address.html", status=422, shown=shown, **values)
    return await _confirmation(request, session, shown, former, problem=problem, status=status, reverts=True)


async def revert(request: Request, session: Session, fields: Parameters) -> Response:
    """Take the change back, as `POST …/actions/revert` does, and go to the connection."""
    if problem := await gate.problem_of_password(request, session, fields):
        return await _revert_form(request, session, problem=problem, status=422)
    settings, database, _ = requests.resources(request)
    shown, former = await connection_routes.find(request), await _former(request)
    try:
        changed = await transitions.revert(
            database,
            settings,
            shown.connection.id,
            _event_id(request),
            client_id=shown.connection.client_id,
            expected_versions=connection_routes.version_of(fields),
            actor=access.actor(request, session.caller),
        )
    except errors.ValidationFailed:
        return await _revert_form(request, session)
    except errors.PreconditionFailed:
        made = await _made_before(request, session.user.id, former)
        if made is None:
            again = request.scope["path"]
            return await connection_routes.conflict(request, session, fields, again=again, act="address")
        changed = made
    return gate.go_to(shown.path, after=changed.version)


async def _former(request: Request) -> str:
    """Return the redirect URI from before the event that the path names. Raises NotFound, EventWithoutMove."""
    connection_id = client_routes.named(request, "connection_id")
    database = requests.resources(request).database
    event = await events.find_event(database, _event_id(request), subject_id=connection_id)
    return transitions.redirect_uri_before(errors.found(event))


def _event_id(request: Request) -> int:
    return errors.found(parse_row_number(request.path_params["event_id"]))


async def _made_before(request: Request, user_id: UUID, new: str) -> Connection | None:
    """Return the connection where the last change was this one, by this user; else None."""
    shown = await connection_routes.find(request)
    present = shown.connection
    is_there = new in (present.redirect_uri, present.transition_redirect_uri)
    is_made = shown.last is not None and shown.last.user_id == user_id and is_there
    return shown.connection if is_made else None


def _ends_transition(connection: Connection, new: str) -> bool:
    """Return whether a change to `new` completes or cancels a transition; then there is no time to choose."""
    both = (connection.redirect_uri, connection.transition_redirect_uri)
    return connection.transition_redirect_uri is not None and new in both


async def _is_shared(database: Database, connection: Connection, new: str) -> bool:
    """Return whether another connection of the client has that redirect URI: at a sign-in the oldest counts."""
    found = await connection_store.list_connections(
        database, {"redirect_uri": new}, client_id=connection.client_id, page=Page(1, MOST_CONNECTIONS)
    )
    return any(other.id != connection.id and other.redirect_uri == new for other in found.rows)


ROUTES: list[Route] = [
    gate.page(PATH, show, scope="connection:write"),
    gate.page(PATH, change, method="POST", scope="connection:write"),
    gate.page(REVERT, show_revert, scope="connection:write"),
    gate.page(REVERT, revert, method="POST", scope="connection:write"),
]
