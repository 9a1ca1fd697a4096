"""Signing in to the console: e-mail and password, the second factor, and a session for the first client that fits.

The rules are those of every sign-in (`users.service`, `oauth.second_factor`). A form that is sent twice leads on twice:
a browser drops the answer to the first one.
"""

import re
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, metrics, refusals, security
from mithril.audit.events import Actor
from mithril.console import rendering, sessions
from mithril.console.sessions import Beginning
from mithril.oauth import second_factor
from mithril.otp import store as factors
from mithril.pages import authorization_request, cookies, forms, login_sessions
from mithril.throttling import limits as throttling
from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Issued, NewToken, Token
from mithril.users import service as users
from mithril.users import store as user_store
from mithril.users.store import User
from mithril.web import requests, routing
from mithril.web.forms import NO_PARAMETERS, Parameters

PATH, HOME = "/console/sign-in", "/console"
SEE_OTHER, UNAUTHORIZED = 303, 401
# A page of the console, and nothing that a browser could take for another host or another path (rule CSL-7).
NEXT = re.compile(r"/(?:console|account)(?:/[a-z0-9-]+)*(?:\?[A-Za-z0-9%&=._~+-]*)?")


async def ask(request: Request, *, is_needed: bool = False, fields: Parameters = NO_PARAMETERS) -> Response:
    """Lead to the sign-in form, or show it where a form was sent in a session that is over.

    `is_needed`: the page that was asked for needs a session; afterwards the browser is led to it.
    """
    if not is_needed:
        return await show(request)
    here = rendering.here(request)
    if request.method != "POST":
        location = PATH if here == HOME else f"{PATH}?next={quote(here, safe='')}"
        return Response(status_code=SEE_OTHER, headers={"location": location})
    if new := fields.get("new"):
        here = f"{here}?new={quote(new, safe='')}"
    return _form(request, problem="over", status=UNAUTHORIZED, action=f"{PATH}?next={quote(here, safe='')}")


async def show(request: Request) -> Response:
    """Show the form of the step at which the browser is; with a session, lead on."""
    token = await sessions.find_token(request)
    if token and token.name == TokenKind.LOGIN_FACTOR and not token.is_used:
        return await _factor_form(request, token)
    if await sessions.find(request):
        return Response(status_code=SEE_OTHER, headers={"location": _next(request)})
    return _form(request, problem="password_changed" if "changed" in request.query_params else "")


async def receive(request: Request) -> Response:
    """Take the form of a step."""
    fields = await forms.read(request)
    decision = fields.get("decision")
    if not cookies.is_own_form(request, fields, bound_to=rendering.NO_SESSION, name=cookies.CONSOLE_FORM):
        requests.note_refusal(request.scope, refusals.ConsoleFormForeign())
        return _form(request, problem="form", status=refusals.ConsoleFormForeign.status)
    if not decision:
        return await _check_password(request, fields)
    token = await sessions.find_token(request)
    if decision == "switch":
        response = Response(status_code=SEE_OTHER, headers={"location": rendering.here(request)})
        cookies.forget(request, response, cookies.CONSOLE_SESSION)
        return response
    if token is None or token.name != TokenKind.LOGIN_FACTOR:
        return _form(request, problem="session_over", status=UNAUTHORIZED)
    return await (_send_again if decision == "again" else _confirm)(request, token, fields)


async def _check_password(request: Request, fields: Parameters) -> Response:
    email, password = fields.get("email"), fields.get("password")
    if email is None or password is None or len(email) > authorization_request.MAX_EMAIL:
        return _form(request, email=email, problem="incomplete", status=422)
    settings, database, _ = requests.resources(request)
    address = requests.network_address(request)
    try:
        with metrics.SIGN_INS:
            async with throttling.limited(request):
                user = await users.authenticate(
                    database, settings, email=email, password=password, network_address=address
                )
            users.check_password_age(user, settings)
        factor = await factors.find_factor(database, user.id)
        beginning = await _beginning(request, user, has_factor=factor is not None)
        if factor is None:
            return await _admit(request, user, beginning)
        waiting = await _begin_second_factor(request, user, beginning.client_id, phone=factor.phone)
    except refusals.FactorNotSet:
        return _form(request, email=email, problem="no_phone", status=403)
    except errors.MithrilError as refusal:
        requests.note_refusal(request.scope, refusal)
        problem = "expired" if isinstance(refusal, refusals.PasswordExpired) else refusal.page or "wrong"
        response = _form(request, email=email, problem=problem, status=refusal.status)
        response.headers.update(refusal.headers)
        return response
    return sessions.keep(request, _again(request), waiting.value)


async def _begin_second_factor(request: Request, user: User, client_id: UUID, *, phone: str | None) -> Issued:
    """Send a one-time password, and issue a token that waits for it. Raises FactorNotSet without a phone."""
    if phone is None:
        raise refusals.FactorNotSet
    settings, database, messenger = requests.resources(request)
    new = NewToken(kind=TokenKind.LOGIN_FACTOR, user_id=user.id, client_id=client_id)
    return await second_factor.begin(database, settings, new, messenger=messenger, phone=phone)


async def _confirm(request: Request, token: Token, fields: Parameters) -> Response:
    settings, database, _ = requests.resources(request)
    value, answer = _answer(request, fields)
    user = await user_store.find_user(database, token.user_id)
    if user is None or (token.is_used and token.details.answer != answer):
        return _form(request, problem="session_over", status=UNAUTHORIZED)
    if not token.is_used:
        actor = Actor(request_id=request.scope["request_id"], network_address=requests.network_address(request))
        try:
            phone = await second_factor.find_phone(database, user.id)
            otp_id = await second_factor.confirm(
                database, settings, token, value=value, phone=phone, code=fields.get("code") or "", actor=actor
            )
            async with database.transaction(user.id) as transaction:
                await second_factor.use(transaction, settings, token, otp_id=otp_id, answer=answer)
        except refusals.FactorNotSet:
            return _form(request, problem="session_over", status=UNAUTHORIZED)
        except errors.OtpRefused as refusal:
            requests.note_refusal(request.scope, refusal)
            found = await sessions.find_token(request)
            if not isinstance(refusal, refusals.OtpInvalid) or found is None:
                return _form(request, problem="code_over", status=UNAUTHORIZED)
            return await _factor_form(request, token, problem="code_wrong", status=UNAUTHORIZED)
    return await _admit(request, user, await _beginning(request, user, has_factor=True), after=token)


async def _send_again(request: Request, token: Token, fields: Parameters) -> Response:
    settings, database, messenger = requests.resources(request)
    _, answer = _answer(request, fields)
    try:
        waiting = await second_factor.send_again(database, settings, token, messenger=messenger, answer=answer)
    except (refusals.FactorNotSet, refusals.TokenExpired):
        return _form(request, problem="session_over", status=UNAUTHORIZED)
    except (errors.TooManyMessages, errors.ServiceUnavailable) as refusal:
        return await _factor_form(request, token, problem=refusal.page, status=refusal.status)
    return sessions.keep(request, _again(request), waiting.value)


async def _admit(request: Request, user: User, beginning: Beginning, *, after: Token | None = None) -> Response:
    requests.note_caller(request.scope, user_id=user.id, client_id=beginning.client_id)
    value = await sessions.begin(request, user, beginning, after=after)
    return sessions.keep(request, Response(status_code=SEE_OTHER, headers={"location": _next(request)}), value)


async def _beginning(request: Request, user: User, *, has_factor: bool) -> Beginning:
    """Return with which client the first session begins: that of the page to come goes first."""
    wanted = sessions.client_in(_next(request))
    return await sessions.choose(request, user, has_factor=has_factor, wanted=wanted)


def _next(request: Request) -> str:
    wanted = request.query_params.get("next") or HOME
    return wanted if NEXT.fullmatch(wanted) else HOME


def _again(request: Request) -> Response:
    return Response(status_code=SEE_OTHER, headers={"location": rendering.here(request)})


def _answer(request: Request, fields: Parameters) -> tuple[str, str]:
    """Return the value of the cookie, and what stands for this form, sent with it."""
    value = cookies.read(request, cookies.CONSOLE_SESSION) or ""
    return value, security.derived(value, msgspec.json.encode(sorted(fields.values.items())).decode())


def _form(
    request: Request, *, email: str | None = None, problem: str = "", status: int = 200, action: str = ""
) -> Response:
    sends_links = requests.resources(request).settings.sends_links
    values: dict[str, Any] = {"email": email or "", "problem": problem, "sends_links": sends_links}
    if action:
        values["sends_to"] = action
    return rendering.page(request, None, "sign_in.html", status=status, **values)


async def _factor_form(request: Request, token: Token, *, problem: str = "", status: int = 200) -> Response:
    factor = await factors.find_factor(requests.resources(request).database, token.user_id)
    phone = login_sessions.MASK + ((factor.phone if factor else "") or "")[-login_sessions.SHOWN_DIGITS :]
    return rendering.page(request, None, "factor.html", status=status, phone=phone, problem=problem, may_name=False)


ROUTES: list[Route] = [
    routing.route(PATH, show, takes_query=True),
    routing.route(PATH, receive, "POST", takes_query=True),
]
