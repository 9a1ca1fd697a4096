"""The pages of a forgotten password: asking for a link, beside the sign-in form, and the page of the link.

    sign-in form ──► `step=forgotten` ──► a link is sent, if there is such a user ──► `step=sent`
    the link ──► its value goes to a cookie ──► /new-password without it ──► a new password ──► `step=changed`

To open the link uses nothing up: programs that look at messages open it too. The rules are in `oauth.password_link`.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import errors, refusals, security
from mithril.audit.events import Actor
from mithril.oauth import password_link
from mithril.pages import answers, authorization_request, cookies, forms, rendering, texts
from mithril.pages.authorization_request import AuthorizationRequest
from mithril.tokens.kinds import LINK_SECONDS
from mithril.users import passwords
from mithril.web import requests, routing
from mithril.web.forms import Parameters

PATH = "/new-password"
STEP, FORGOTTEN, SENT, CHANGED = "step", "forgotten", "sent", "changed"


def show(request: Request, asked: AuthorizationRequest) -> Response | None:
    """Show the step that the query names, if it is one of these and links can be sent."""
    step = asked.fields.get(STEP)
    if step not in (FORGOTTEN, SENT) or not requests.resources(request).settings.sends_links:
        return None
    if step == SENT:
        return rendering.explanation(
            request, asked, "link_sent.html", status=200, sign_in=rendering.url(request, without=STEP)
        )
    return _forgotten_form(request, asked)


async def send(request: Request, asked: AuthorizationRequest, fields: Parameters) -> Response:
    """Take the form that asks for a link. The answer is the same, and comes as fast, whether there is such a user."""
    settings, database, messenger = requests.resources(request)
    email = fields.get("email")
    if not settings.sends_links:
        return answers.next_step(request)
    if not cookies.is_own_form(request, fields, bound_to=str(asked.redirect.client.id)):
        return _forgotten_form(request, asked, problem="form", status=403)
    if email is None or len(email) > authorization_request.MAX_EMAIL:
        return _forgotten_form(request, asked, problem="no_email", status=422)
    try:
        await password_link.count(database, email=email, network_address=requests.network_address(request))
    except refusals.TooManyLinks as refusal:
        response = _forgotten_form(request, asked, problem=refusal.page, status=refusal.status)
        response.headers.update(refusal.headers)
        return response
    words, url = texts.words(rendering.language(request)), f"{requests.origin(request.scope)}{PATH}?link="
    messenger.send_later(
        password_link.send(
            database,
            settings,
            client_id=asked.redirect.client.id,
            email=email,
            text=password_link.Text(words["link_subject"], words["link_text"], url),
            messenger=messenger,
        )
    )
    return answers.see(rendering.step_url(request, SENT))


async def ask(request: Request) -> Response:
    """Show the form for a new password, or that it is changed; take the value of a link out of the URL first."""
    fields = forms.read_query(request)
    link = fields.get("link")
    if link is not None:
        await _find(request, link)
        response = answers.see(rendering.url(request, without="link"))
        cookies.keep(request, response, cookies.LINK, link, lives_seconds=LINK_SECONDS)
        return response
    if fields.get(STEP) == CHANGED:
        return rendering.explanation(request, None, "password_changed.html", status=200)
    return await _form(request)


async def receive(request: Request) -> Response:
    """Take a new password."""
    fields = await forms.read(request)
    value = cookies.read(request, cookies.LINK) or ""
    if not cookies.is_own_form(request, fields, bound_to=_binding(value)):
        return await _form(request, problem="form", status=403)
    if fields.get("password") != fields.get("password_again"):
        return await _form(request, problem="not_the_same", status=422)
    database = requests.resources(request).database
    answer = security.derived(value, msgspec.json.encode(sorted(fields.values.items())).decode())
    actor = Actor(request_id=request.scope["request_id"], network_address=requests.network_address(request))
    try:
        await password_link.set_password(
            database, value=value, password=fields.get("password") or "", answer=answer, actor=actor
        )
    except (refusals.LinkOver, refusals.TokenExpired, errors.ValidationFailed) as refusal:
        # A user who clicked twice sees the second answer only.
        if not await password_link.is_used_by(database, value, answer=answer):
            if isinstance(refusal, errors.ValidationFailed):
                return await _form(request, problem=passwords.problem_name(refusal), status=422)
            raise refusals.LinkOver from None
    return answers.see(rendering.step_url(request, CHANGED))


async def _form(request: Request, *, problem: str = "", status: int = 200) -> Response:
    value = cookies.read(request, cookies.LINK) or ""
    email = await _find(request, value)
    values = {"problem": problem, "email": email, "bound_to": _binding(value)}
    return rendering.form_page(request, None, "link.html", status=status, **values)


async def _find(request: Request, value: str) -> str:
    """Return the e-mail address of the link's user. Raises LinkOver."""
    async with requests.resources(request).database.connection() as connection:
        _, recipient = await password_link.find(connection, value)
    return recipient.email


def _forgotten_form(request: Request, asked: AuthorizationRequest, *, problem: str = "", status: int = 200) -> Response:
    values = {"problem": problem, "email": asked.email, "sign_in": rendering.url(request, without=STEP)}
    bound_to = str(asked.redirect.client.id)
    return rendering.form_page(request, asked, "forgotten.html", bound_to=bound_to, status=status, **values)


def _binding(value: str) -> str:
    """Return what the token of the form is bound to."""
    return security.digest(value).hex()


ROUTES = [routing.route(PATH, ask), routing.route(PATH, receive, "POST")]
