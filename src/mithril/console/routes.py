"""The routes of the console that need no client: the choice of one, sessions, signing out, and its two files."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, refusals
from mithril.console import (
    account_routes,
    activity_routes,
    administration_routes,
    client_routes,
    connection_routes,
    forgotten,
    gate,
    phone_routes,
    redirect_uri_routes,
    rendering,
    sessions,
    sign_in,
)
from mithril.console import store as session_store
from mithril.console.sessions import Beginning, Session
from mithril.identifiers import parse_uuid
from mithril.pages import cookies
from mithril.web import conditional, requests, routing
from mithril.web.forms import Parameters

SESSIONS = "/console/session"
# No page of the session is to come back from a cache; `no-store` alone does not keep a browser from that.
CLEARED = '"cache", "storage"'
TREE = "/console"
REFUSAL_VIEWS = {TREE: rendering.refusal, account_routes.ACCOUNT: rendering.refusal}


async def show_places(request: Request, session: Session, _: Parameters) -> Response:
    """Show the clients for which the user may act; lead on where there is only one."""
    offered = await sessions.list_places(request, session.user, has_factor=session.token.family_id is not None)
    places = [each.place for each in offered if each.opens or each.place.is_blocked]
    if session.is_open and len(places) == 1 and "choose" not in request.query_params:
        return gate.go_to(client_routes.path_of(session.caller.client_id))
    may_choose = not all(place.is_blocked for place in places)
    return rendering.page(request, session, "places.html", places=places, may_choose=may_choose)


async def choose_place(request: Request, session: Session, fields: Parameters) -> Response:
    """Go on for another client, in another session, which ends when this one would have."""
    client_id = parse_uuid(fields.get("client_id") or "")
    offered = await sessions.list_places(request, session.user, has_factor=session.token.family_id is not None)
    if client_id is None or client_id not in {each.place.id for each in offered if each.opens}:
        raise errors.Forbidden(detail="no client for which the user may act")
    try:
        value = await sessions.begin(request, session.user, Beginning(client_id), after=session.token)
    except (refusals.IssueDenied, refusals.TokenExpired):
        return gate.go_to(sign_in.HOME)
    return sessions.keep(request, gate.go_to(client_routes.path_of(client_id)), value)


async def show_sessions(request: Request, session: Session, _: Parameters) -> Response:
    """Show the user's sessions of the console."""
    found = await session_store.list_sessions(requests.resources(request).database, session.user.id)
    return rendering.page(request, session, "sessions.html", sessions=found)


async def end_sessions(request: Request, session: Session, fields: Parameters) -> Response:
    """End one of the user's sessions, or all of them."""
    only_id = parse_uuid(fields.get("session_id") or "")
    if only_id is None and fields.get("session_id") is not None:
        raise errors.NotFound
    await sessions.end(request, session.user.id, only_id=only_id)
    if only_id in (None, session.token.id):
        return _signed_out(request)
    return gate.go_to(SESSIONS)


async def sign_out(request: Request, session: Session, _: Parameters) -> Response:
    """End this session."""
    await sessions.end(request, session.user.id, only_id=session.token.id)
    return _signed_out(request)


def _signed_out(request: Request) -> Response:
    response = gate.go_to(sign_in.PATH)
    response.headers["clear-site-data"] = CLEARED
    cookies.forget(request, response, cookies.CONSOLE_SESSION)
    return response


async def show_file(request: Request) -> Response:
    """Show the style sheet or the script of the console."""
    name = request.scope["path"].rpartition("/")[2]
    content = rendering.FILES[name]
    tag = rendering.TAGS[name]
    headers = {"etag": tag, "cache-control": "public, max-age=3600"}
    if conditional.is_known(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "text/css" if name.endswith("css") else "text/javascript")


ROUTES: list[Route] = [
    *sign_in.ROUTES,
    *forgotten.ROUTES,
    gate.page(sign_in.HOME, show_places),
    gate.page(sign_in.HOME, choose_place, method="POST"),
    gate.page(SESSIONS, show_sessions),
    gate.page(SESSIONS, end_sessions, method="POST"),
    gate.page("/console/sign-out", sign_out, method="POST"),
    *account_routes.ROUTES,
    *phone_routes.ROUTES,
    *activity_routes.ROUTES,
    *administration_routes.ROUTES,
    *client_routes.ROUTES,
    *connection_routes.ROUTES,
    *redirect_uri_routes.ROUTES,
    *(routing.route(f"/console/{name}", show_file, takes_query=True) for name in rendering.FILES),
]
