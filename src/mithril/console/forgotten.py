"""A forgotten password, or one that is too old: the console asks for the link of `pages.password_links`.

The link leads to the same page, and its rules are in `oauth.password_link`. Here only its client is found: a link is a
token, and no request names a client.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, refusals
from mithril.console import rendering, sessions
from mithril.oauth import password_link
from mithril.pages import authorization_request, cookies, forms, password_links
from mithril.users import store as users
from mithril.web import requests, routing

PATH, SIGN_IN = "/console/forgotten", "/console/sign-in"


async def show(request: Request) -> Response:
    """Show the form for the link, or that it is on its way; the answer is the same whether there is such a user."""
    if not requests.resources(request).settings.sends_links:
        raise errors.NotFound
    if "sent" in request.query_params:
        return rendering.page(request, None, "link_sent.html", sign_in=SIGN_IN)
    return _form(request)


async def send(request: Request) -> Response:
    """Take the form. The link is sent when the answer has gone out, which shows nothing of it."""
    fields, (settings, database, messenger) = await forms.read(request), requests.resources(request)
    if not settings.sends_links:
        raise errors.NotFound
    if not cookies.is_own_form(request, fields, bound_to=rendering.NO_SESSION, name=cookies.CONSOLE_FORM):
        return _form(request, problem="form", status=refusals.ConsoleFormForeign.status)
    email = fields.get("email")
    if email is None or len(email) > authorization_request.MAX_EMAIL:
        return _form(request, problem="no_email", status=422)
    try:
        await password_link.count(database, email=email, network_address=requests.network_address(request))
    except refusals.TooManyLinks as refusal:
        response = _form(request, problem=refusal.page, status=refusal.status)
        response.headers.update(refusal.headers)
        return response
    messenger.send_later(_send(request, email))
    return Response(status_code=303, headers={"location": f"{PATH}?sent"})


async def _send(request: Request, email: str) -> None:
    settings, database, messenger = requests.resources(request)
    user = await users.find_user_by_email(database, email)
    if user is None:
        return
    try:
        beginning = await sessions.choose(request, user, has_factor=False)
    except errors.NotFound:
        return
    words = rendering.words(rendering.language(request))
    url = f"{requests.origin(request.scope)}{password_links.PATH}?link="
    text = password_link.Text(words["link_subject"], words["link_text"], url)
    await password_link.send(
        database, settings, client_id=beginning.client_id, email=email, text=text, messenger=messenger
    )


def _form(request: Request, *, problem: str = "", status: int = 200) -> Response:
    values = {"email": "", "problem": problem, "sign_in": SIGN_IN}
    return rendering.page(request, None, "forgotten.html", status=status, renews_forms=False, **values)


ROUTES: list[Route] = [
    routing.route(PATH, show, takes_query=True),
    routing.route(PATH, send, "POST", takes_query=True),
]
