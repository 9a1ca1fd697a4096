"""The pages of one connection: what it is, its change log, a new secret, its end.

Every change is the use case of the API's method, for the version that the form was made for: of several submissions of
a form one makes the change (rule CSL-10).
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import access, errors
from mithril.connections import service as connections
from mithril.connections import transition_store
from mithril.connections.store import Connection
from mithril.connections.transition_store import Transition
from mithril.console import client_routes, gate, history, rendering
from mithril.console.history import Change
from mithril.console.sessions import Session
from mithril.database.lists import Page
from mithril.oauth import store as oauth
from mithril.tokens import store as tokens
from mithril.tokens.kinds import HELD_BY_CLIENTS, TokenKind
from mithril.web import requests
from mithril.web.forms import Parameters

CONNECTION = f"{client_routes.CLIENT}/connections/{{connection_id}}"
LOG_LINES = 25
DAY_SECONDS = 86_400
# The API's own limit is seven days; one day is what operators of other systems settled on.
DAYS, PRESET_DAYS = range(8), 1


class Shown(NamedTuple):
    """A connection with what its pages say about it."""

    connection: Connection
    path: str
    mis: str
    is_own: bool
    """Whether it is the connection of a MIS with itself, whose secret is its API-key."""
    last: Change | None
    transition: Transition | None


async def find(request: Request) -> Shown:
    """Return the connection that the path names. Raises NotFound."""
    database = requests.resources(request).database
    client_id, connection_id = client_routes.named(request, "client_id"), client_routes.named(request, "connection_id")
    connection = await connections.get_connection(database, connection_id, client_id=client_id)
    mis = await oauth.find_client(database, connection.consumer_id)
    events = await connections.list_history(database, connection_id, client_id=client_id, page=Page(1, 1))
    lines = await history.describe(database, events.rows, client_id=client_id)
    path = request.scope["path"].partition("/connections/")[0] + f"/connections/{connection.id}"
    is_own = connection.consumer_id == connection.client_id
    transition = None
    if connection.transition_redirect_uri is not None:
        transition = await transition_store.find_transition(database, connection_id, client_id=client_id)
    return Shown(connection, path, mis.name if mis else "", is_own, lines[0] if lines else None, transition)


async def show(request: Request, session: Session, _: Parameters) -> Response:
    """Show the connection, and above it what the user has just changed."""
    try:
        shown = await find(request)
    except errors.NotFound:
        return await gone(request, session)
    last, after = shown.last, request.query_params.get("after")
    # A link cannot fake it: the last change is this version, and this user's.
    is_done = last is not None and last.user_id == session.user.id and after == str(shown.connection.version)
    done = last if is_done else None
    return rendering.page(
        request, session, "connection.html", shown=shown, done=done, renews_forms="saved" in request.query_params
    )


async def gone(request: Request, session: Session) -> Response:
    """Say that the connection is not there any more, with a way to its log; else that there is nothing at all."""
    database = requests.resources(request).database
    client_id, connection_id = client_routes.named(request, "client_id"), client_routes.named(request, "connection_id")
    await connections.list_history(database, connection_id, client_id=client_id, page=Page(1, 1))
    path = request.scope["path"].partition("/connections/")[0] + f"/connections/{connection_id}"
    return rendering.page(request, session, "gone.html", status=404, path=path)


async def show_history(request: Request, session: Session, _: Parameters) -> Response:
    """Show who changed what, the newest first; also of a connection that is deleted."""
    database = requests.resources(request).database
    client_id, connection_id = client_routes.named(request, "client_id"), client_routes.named(request, "connection_id")
    page = client_routes.page_of(request, LOG_LINES)
    events = await connections.list_history(database, connection_id, client_id=client_id, page=page)
    lines = await history.describe(database, events.rows, client_id=client_id)
    try:
        connection = await connections.get_connection(database, connection_id, client_id=client_id)
    except errors.NotFound:
        connection = None
    path = request.scope["path"].removesuffix("/history")
    return rendering.page(
        request, session, "history.html", lines=lines, connection=connection, path=path, older=events.next
    )


async def conflict(request: Request, session: Session, fields: Parameters, *, again: str, act: str) -> Response:
    """Say that the connection has changed since the form was made: who did what; nothing else was done.

    `again`: where the user can do it all the same. `act`: what they wanted, by its name in the texts.
    """
    shown = await find(request)
    requests.note_refusal(request.scope, errors.PreconditionFailed())
    wanted = fields.get("new")
    return rendering.page(
        request, session, "conflict.html", status=412, shown=shown, wanted=wanted, again=again, act=act
    )


def version_of(fields: Parameters) -> list[int]:
    """Return the version for which a form was made; none fits what is no number."""
    text = fields.get("version") or ""
    return [int(text)] if text.isascii() and text.isdigit() and len(text) < 19 else []  # noqa: PLR2004


async def show_secret_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show what replacing the secret means, and ask how long the old one is to work."""
    return await _secret_form(request, session)


async def _secret_form(
    request: Request, session: Session, *, days: int = PRESET_DAYS, problem: str = "", status: int = 200
) -> Response:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "shown": await find(request),
        "choices": [(number, now + timedelta(days=number)) for number in (1, *DAYS[2:], 0)],
        "chosen": days,
        "problem": problem,
    }
    return rendering.page(request, session, "secret.html", status=status, **values)


async def replace_secret(request: Request, session: Session, fields: Parameters) -> Response:
    """Replace the secret, and show the new one: here, and never again.

    The owner is present with a password, so no API-key of the MIS is asked for; the log says so (rule CSL-12).
    """
    days = next((number for number in DAYS if fields.get("days") == str(number)), PRESET_DAYS)
    if problem := await gate.problem_of_password(request, session, fields):
        return await _secret_form(request, session, days=days, problem=problem, status=422)
    before = await find(request)
    try:
        connection, secret = await connections.refresh_secret(
            requests.resources(request).database,
            before.connection.id,
            client_id=before.connection.client_id,
            previous_expires_in_seconds=days * DAY_SECONDS,
            expected_versions=version_of(fields),
            api_key_was_sent=False,
            needs_api_key=False,
            actor=access.actor(request, session.caller),
        )
    except errors.PreconditionFailed:
        return await conflict(request, session, fields, again=f"{before.path}/secret", act="secret")
    old = before.connection.secret_tail
    return rendering.page(
        request, session, "new_secret.html", connection=connection, secret=secret, old=old, before=before
    )


async def show_end_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show what the early end of the previous secret means."""
    return await _end_form(request, session)


async def _end_form(request: Request, session: Session, *, problem: str = "", status: int = 200) -> Response:
    shown = await find(request)
    errors.found(shown.connection.previous_secret_expires_at)
    return rendering.page(request, session, "end_secret.html", status=status, shown=shown, problem=problem)


async def end_previous_secret(request: Request, session: Session, fields: Parameters) -> Response:
    """End the previous secret, as `DELETE …/previous_secret` does."""
    if problem := await gate.problem_of_password(request, session, fields):
        return await _end_form(request, session, problem=problem, status=422)
    shown = await find(request)
    try:
        await connections.end_previous_secret(
            requests.resources(request).database,
            shown.connection.id,
            client_id=shown.connection.client_id,
            expected_versions=version_of(fields),
            api_key_was_sent=False,
            needs_api_key=False,
            actor=access.actor(request, session.caller),
        )
    except errors.PreconditionFailed:
        return await conflict(request, session, fields, again=f"{shown.path}/previous_secret", act="end_secret")
    return gate.go_to(shown.path, after=(await find(request)).connection.version)


async def show_delete_form(request: Request, session: Session, _: Parameters) -> Response:
    """Show what the end of the connection ends."""
    return await _delete_form(request, session)


async def _delete_form(request: Request, session: Session, *, problem: str = "", status: int = 200) -> Response:
    shown = await find(request)
    ended = await tokens.count_active(
        requests.resources(request).database, shown.connection.id, kinds=(*HELD_BY_CLIENTS, TokenKind.CODE)
    )
    return rendering.page(request, session, "delete.html", status=status, shown=shown, ended=ended, problem=problem)


async def delete(request: Request, session: Session, fields: Parameters) -> Response:
    """Delete the connection, and go to its log."""
    problem = "not_understood" if fields.get("understood") != "yes" else ""
    if problem := problem or await gate.problem_of_password(request, session, fields):
        return await _delete_form(request, session, problem=problem, status=422)
    shown = await find(request)
    try:
        await connections.delete_connection(
            requests.resources(request).database,
            shown.connection.id,
            client_id=shown.connection.client_id,
            expected_versions=version_of(fields),
            actor=access.actor(request, session.caller),
        )
    except errors.PreconditionFailed:
        return await conflict(request, session, fields, again=f"{shown.path}/delete", act="delete")
    return gate.go_to(f"{shown.path}/history")


ROUTES: list[Route] = [
    gate.page(CONNECTION, show, scope="connection:read"),
    gate.page(f"{CONNECTION}/history", show_history, scope="connection:read"),
    gate.page(f"{CONNECTION}/secret", show_secret_form, scope="connection:refresh_secret"),
    gate.page(f"{CONNECTION}/secret", replace_secret, method="POST", scope="connection:refresh_secret"),
    gate.page(f"{CONNECTION}/previous_secret", show_end_form, scope="connection:refresh_secret"),
    gate.page(f"{CONNECTION}/previous_secret", end_previous_secret, method="POST", scope="connection:refresh_secret"),
    gate.page(f"{CONNECTION}/delete", show_delete_form, scope="connection:delete"),
    gate.page(f"{CONNECTION}/delete", delete, method="POST", scope="connection:delete"),
]
