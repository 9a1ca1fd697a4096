"""The way into every page of the console: session, scope, client, form; then the handler.

The steps and their order are those of `access.protected`, with the API's own `Caller`. The form is read first, because
an early answer would leave it unread, and judged last.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, refusals
from mithril.console import rendering, sessions, sign_in
from mithril.console.sessions import Session
from mithril.pages import cookies, forms
from mithril.throttling import limits as throttling
from mithril.users import service as users
from mithril.web import requests, routing
from mithril.web.forms import NO_PARAMETERS, Parameters

PageHandler = Callable[[Request, Session, Parameters], Awaitable[Response]]
# Problems of the password, which are said at its field.
PASSWORD_PROBLEMS = ("wrong", "too_many", "blocked")


def page(path: str, handler: PageHandler, *, method: str = "GET", scope: str | None = None) -> Route:
    """Return a route that needs a session and, unless it is None, `scope`; its refusals are pages.

    If the path has a parameter `client_id`, it must name a client for which the session may act.
    """

    async def shown(request: Request) -> Response:
        fields = await forms.read(request) if method == "POST" else NO_PARAMETERS
        session = await sessions.find(request)
        if session is None:
            return await sign_in.ask(request, is_needed=True, fields=fields)
        try:
            if scope is not None:
                session.caller.require_scope(scope)
            if "client_id" in request.path_params:
                session.caller.require_client(request.path_params["client_id"])
            if method == "POST":
                check_form(request, fields, session)
            return await handler(request, session, fields)
        except errors.ScopeMissing as refusal:
            requests.note_refusal(request.scope, refusal)
            return rendering.refused(request, session, refusal, lacks=scope or "")
        except errors.MithrilError as refusal:
            if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            requests.note_refusal(request.scope, refusal)
            return rendering.refused(request, session, refusal)

    return routing.route(path, shown, method, takes_query=True)


def check_form(request: Request, fields: Parameters, session: Session | None) -> None:
    """Raise ConsoleFormForeign unless the form was made for this browser and this session."""
    bound_to = rendering.binding(session)
    if not cookies.is_own_form(request, fields, bound_to=bound_to, name=cookies.CONSOLE_FORM):
        raise refusals.ConsoleFormForeign


async def problem_of_password(request: Request, session: Session, fields: Parameters) -> str:
    """Return what is wrong with the password that confirms a change, by its words in the texts; empty if nothing is.

    It is judged and counted as at a sign-in. Raises what is no fault of it, such as ServiceUnavailable.
    """
    settings, database, _ = requests.resources(request)
    password, address = fields.get("password"), requests.network_address(request)
    if password is None:
        return "no_password"
    try:
        async with throttling.limited(request):
            await users.authenticate(
                database, settings, email=session.user.email, password=password, network_address=address
            )
    except errors.MithrilError as refusal:
        if refusal.page not in PASSWORD_PROBLEMS:
            raise
        requests.note_refusal(request.scope, refusal)
        return f"password_{refusal.page}"
    return ""


def go_to(path: str, **query: str | int) -> Response:
    """Redirect to a page of the console by GET, so that neither "reload" nor "back" sends a form again."""
    text = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"location": f"{path}?{text}" if text else path})
