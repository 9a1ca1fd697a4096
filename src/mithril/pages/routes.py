"""The routes of both entrances, and what follows each form. The whole flow is drawn in the package's docstring."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, metrics, refusals
from mithril.oauth import authorization, signature_login
from mithril.pages import (
    answers,
    authorization_request,
    consent,
    cookies,
    forms,
    home,
    login_sessions,
    password_links,
    rendering,
)
from mithril.pages.authorization_request import AuthorizationRequest, Entrance
from mithril.pages.consent import Consent
from mithril.pages.login_sessions import LoginSession
from mithril.throttling import limits as throttling
from mithril.tokens.kinds import LOGIN_SECONDS, TokenKind
from mithril.tokens.store import Issued
from mithril.users import passwords, phones
from mithril.users import service as users
from mithril.users.store import User
from mithril.web import conditional, requests, routing
from mithril.web.forms import NO_PARAMETERS, Parameters

SIGN_IN = Entrance("/sign-in", is_standard=False)
AUTHORIZE = Entrance("/oauth2/authorize", is_standard=True)
REFUSAL_VIEWS = dict.fromkeys((SIGN_IN.path, AUTHORIZE.path, password_links.PATH), rendering.refusal)

# What the forms before consent decide, in their order.
DECISIONS = ("phone", "again", "confirm", "password")

PageHandler = Callable[[Request, AuthorizationRequest, Parameters], Awaitable[Response]]
Step = Callable[[Request, AuthorizationRequest, Parameters, LoginSession], Awaitable[Response]]


def page(entrance: Entrance, handler: PageHandler, method: str) -> Route:
    """Return a route whose refusals are pages or, once client and redirect URI are right, errors for the client."""

    async def shown(request: Request) -> Response:
        # The body first: an early answer would leave it unread.
        fields = await forms.read(request) if method == "POST" else NO_PARAMETERS
        asked = await authorization_request.read(request, entrance)
        try:
            settings, database, _ = requests.resources(request)
            requests.note_caller(request.scope, client_id=asked.redirect.client.id)
            await authorization_request.check(database, settings, asked)
            return await handler(request, asked, fields)
        except (errors.AuthorizationError, refusals.ScopeRefused) as refusal:
            keeps_session = "decision" in fields.values
            if isinstance(refusal, refusals.ScopeNotOfRoles) and not entrance.is_standard:
                return answers.explain_roles(request, asked, refusal, keeps_session=keeps_session)
            return answers.send_back(request, asked, refusal, keeps_session=keeps_session)

    return routing.route(entrance.path, shown, method)


async def ask(request: Request, asked: AuthorizationRequest, _: Parameters) -> Response:
    """Show the form of the step at which the browser is."""
    return password_links.show(request, asked) or await _form(request, asked)


async def receive(request: Request, asked: AuthorizationRequest, fields: Parameters) -> Response:
    """Take a form that was sent."""
    decision = fields.get("decision")
    if decision == "link":
        return await password_links.send(request, asked, fields)
    session = await login_sessions.find(request, asked, form=fields) if decision else None
    requests.note_caller(request.scope, user_id=session.user.id if session else None)
    if session is None and decision == "switch":
        return answers.next_step(request)
    if session is None and decision:
        return await _session_over(request, asked, fields)
    if not cookies.is_own_form(request, fields, bound_to=_form_binding(asked, session)):
        return await _form(request, asked, problem="form", status=403)
    if session is None:
        return await (_sign_in(request, asked, fields) if asked.user_data is None else _sign(request, asked))
    return await _step(session, decision)(request, asked, fields, session)


async def show_style(request: Request) -> Response:
    """Show the style sheet of the pages."""
    return _file(request, rendering.STYLE, "text/css")


async def show_icon(request: Request) -> Response:
    """Show the icon of the pages, which browsers ask for beside any other answer, too."""
    return _file(request, rendering.ICON, "image/x-icon")


def _file(request: Request, content: bytes, media_type: str) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "public, max-age=3600"}
    if conditional.is_known(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, media_type)


def _step(session: LoginSession, decision: str | None) -> Step:
    """Return what takes a form of this session."""
    if decision == "switch":
        return _switch
    if session.waits_for_second_factor:
        return _confirm
    if decision in (DECISIONS if session.is_complete else DECISIONS[:-1]):
        return _go_on
    return _decide if session.is_complete else _change_password


async def _sign_in(request: Request, asked: AuthorizationRequest, fields: Parameters) -> Response:
    email, password = fields.get("email"), fields.get("password")
    if email is None or password is None or len(email) > authorization_request.MAX_EMAIL:
        return await _sign_in_form(request, asked, email=email, problem="incomplete", status=422)
    settings, database, _ = requests.resources(request)
    try:
        with metrics.SIGN_INS:
            async with throttling.limited(request):
                address = requests.network_address(request)
                user = await users.authenticate(
                    database, settings, email=email, password=password, network_address=address
                )
            waiting = await login_sessions.begin_second_factor(request, asked, user)
    except errors.MithrilError as refusal:
        return await _refuse(request, asked, refusal, email=email, problem="wrong")
    if waiting is None:
        return await _admit(request, asked, user, after=None)
    return _next_step(request, waiting.value)


async def _sign(request: Request, asked: AuthorizationRequest) -> Response:
    """Sign in the user who has signed `user_data`; the consent form always follows, since a link led here."""
    settings, database, _ = requests.resources(request)
    verifier, client = authorization_request.verifier_for(settings, asked), asked.redirect.client
    try:
        with metrics.SIGN_INS:
            async with throttling.limited(request):
                signed = await signature_login.identify(
                    database, settings, verifier=verifier, signed_content=asked.user_data or "", client_id=client.id
                )
                session = await login_sessions.begin(request, asked, signed.user, nonce=signed.nonce)
    except errors.MithrilError as refusal:
        value = login_sessions.signed_value(request, asked)
        if isinstance(refusal, refusals.JwtInvalid) and await login_sessions.find(request, asked, value=value):
            return _next_step(request, value)  # the user clicked twice
        return await _refuse(request, asked, refusal, problem="signature")
    requests.note_caller(request.scope, user_id=signed.user.id, client_id=client.id)
    return _next_step(request, session.value)


async def _refuse(
    request: Request,
    asked: AuthorizationRequest,
    refusal: errors.MithrilError,
    *,
    email: str | None = None,
    problem: str,
) -> Response:
    """Show the form of the sign-in again. `problem`: where the refusal has no text of its own."""
    requests.note_refusal(request.scope, refusal)
    response = await _sign_in_form(request, asked, email=email, problem=refusal.page or problem, status=refusal.status)
    response.headers.update(refusal.headers)
    return response


async def _confirm(
    request: Request, asked: AuthorizationRequest, fields: Parameters, session: LoginSession
) -> Response:
    """Take the form of the second factor."""
    if fields.get("decision") == "again":
        return await _send_again(request, asked, fields, session)
    if fields.get("decision") == "phone":
        return await _name_phone(request, asked, fields, session)
    try:
        await login_sessions.confirm(request, asked, session, fields)
    except (errors.NotFound, refusals.FactorNotSet, refusals.FactorNotInitiated):
        return await _form(request, asked, problem="session_over", status=401)
    except errors.OtpRefused as refusal:
        requests.note_refusal(request.scope, refusal)
        over = not isinstance(refusal, refusals.OtpInvalid) or await login_sessions.find(request, asked) is None
        problem = "code_over" if over else "code_wrong"
        return await _form(request, asked, problem=problem, status=401, starts_over=over)
    return await _admit(request, asked, session.user, after=session)


async def _name_phone(
    request: Request, asked: AuthorizationRequest, fields: Parameters, session: LoginSession
) -> Response:
    """Take the form of the first phone, or show it once more for another number."""
    phone = fields.get("phone") or ""
    if not phone and session.named_phone:
        return _phone_form(request, asked, session)
    if not phones.is_phone(phone):
        return _phone_form(request, asked, session, problem="phone", status=422)
    if phone == session.named_phone:
        return answers.next_step(request)
    return await _send_code(request, asked, login_sessions.name_phone(request, asked, session, fields))


async def _send_again(
    request: Request, asked: AuthorizationRequest, fields: Parameters, session: LoginSession
) -> Response:
    return await _send_code(request, asked, login_sessions.send_again(request, asked, session, fields))


async def _send_code(request: Request, asked: AuthorizationRequest, sending: Awaitable[Issued]) -> Response:
    try:
        waiting = await sending
    except (errors.NotFound, errors.Unauthorized, refusals.FactorNotSet):
        return await _form(request, asked, problem="session_over", status=401, starts_over=True)
    except (errors.TooManyMessages, errors.ServiceUnavailable) as refusal:
        requests.note_refusal(request.scope, refusal)
        return await _form(request, asked, problem=refusal.page or "wrong", status=refusal.status)
    return _next_step(request, waiting.value)


async def _admit(request: Request, asked: AuthorizationRequest, user: User, *, after: LoginSession | None) -> Response:
    """Lead a user who has just proved who they are to the consent form, or, with nothing new to allow, to the client.

    Any program can use the identifier of a public client, so its users always see the form (RFC 8252 section 8.6).
    """
    requests.note_caller(request.scope, user_id=user.id, client_id=asked.redirect.client.id)
    settings, database, _ = requests.resources(request)
    if users.is_password_expired(user, settings):
        session = await login_sessions.begin(request, asked, user, after=after, kind=TokenKind.LOGIN_PASSWORD)
        return _next_step(request, session.value)
    wanted = await consent.find(database, settings, asked, user=user)
    if not wanted.new and not asked.redirect.client.is_public:
        return await _give_code(request, asked, user, wanted, keeps_session=after is not None)
    session = await login_sessions.begin(request, asked, user, after=after)
    return _next_step(request, session.value)


async def _change_password(
    request: Request, asked: AuthorizationRequest, fields: Parameters, session: LoginSession
) -> Response:
    """Take the form of a new password, and lead to the consent form in another login session."""
    if fields.get("password") != fields.get("password_again"):
        return await _form(request, asked, problem="not_the_same", status=422)
    try:
        following = await login_sessions.change_password(request, asked, session, fields)
    except errors.ValidationFailed as refusal:
        requests.note_refusal(request.scope, refusal)
        if await login_sessions.find(request, asked) is None:  # the same form has come first
            return await _session_over(request, asked, fields)
        return await _form(request, asked, problem=passwords.problem_name(refusal), status=422)
    except errors.Unauthorized:
        return await _session_over(request, asked, fields)
    return _next_step(request, following.value)


async def _session_over(request: Request, asked: AuthorizationRequest, fields: Parameters) -> Response:
    """Show the sign-in form again. A user who clicked twice learns that the first click changed the password."""
    is_changed = await login_sessions.has_changed_password(request, asked, fields)
    problem = "password_changed" if is_changed else "session_over"
    return await _form(request, asked, problem=problem, status=401, starts_over=True)


async def _decide(request: Request, asked: AuthorizationRequest, fields: Parameters, session: LoginSession) -> Response:
    """Take the consent form. The session is used up first: any other form of the same session gives nothing.

    The same form leads to the same end again, and each time to a code of its own: no two requests to the client have
    the same one, of which the second would revoke what the first one gave.
    """
    decision = fields.get("decision")
    if decision not in ("allow", "deny"):
        raise refusals.PageUnreadable
    settings, database, _ = requests.resources(request)
    try:
        wanted = await consent.find(database, settings, asked, user=session.user)
    except refusals.ScopeRefused:
        await login_sessions.answer(request, asked, session, fields)
        raise
    if decision == "allow" and fields.get("scope") != wanted.granted.scope:
        return await _form(request, asked, problem="changed", status=409)
    if not await login_sessions.answer(request, asked, session, fields):
        return await _form(request, asked, problem="session_over", status=401)
    if decision == "deny":
        raise refusals.AuthorizationDenied
    return await _give_code(request, asked, session.user, wanted, keeps_session=True)


async def _give_code(
    request: Request, asked: AuthorizationRequest, user: User, wanted: Consent, *, keeps_session: bool
) -> Response:
    settings, database, _ = requests.resources(request)
    actor = login_sessions.actor(request, asked, user)
    code = await authorization.approve(
        database, settings, wanted.granted, actor=actor, code_challenge=asked.code_challenge
    )
    return answers.give_code(request, asked, code.value, keeps_session=keeps_session)


async def _go_on(request: Request, *_: object) -> Response:
    """Lead to the next form: the user clicked twice, and the browser kept no more than the first answer's cookie."""
    return answers.next_step(request)


async def _switch(request: Request, _: AuthorizationRequest, __: Parameters, session: LoginSession) -> Response:
    await login_sessions.end(request, session)
    response = answers.next_step(request)
    cookies.forget(request, response, cookies.LOGIN_SESSION)
    return response


def _next_step(request: Request, value: str) -> Response:
    response = answers.next_step(request)
    cookies.keep(request, response, cookies.LOGIN_SESSION, value, lives_seconds=LOGIN_SECONDS)
    return response


async def _form(
    request: Request, asked: AuthorizationRequest, *, problem: str = "", status: int = 200, starts_over: bool = False
) -> Response:
    session = None if starts_over else await login_sessions.find(request, asked)
    if session is None:
        return await _sign_in_form(request, asked, problem=problem, status=status)
    if session.waits_for_second_factor:
        phone = await login_sessions.masked_phone(request, session)
        if phone is None:
            return _phone_form(request, asked, session, problem=problem, status=status)
        values: dict[str, Any] = {"phone": phone, "may_name": session.named_phone is not None}
        values |= {"problem": problem, "bound_to": session.form_binding}
        return rendering.form_page(request, asked, "factor.html", status=status, **values)
    if not session.is_complete:
        values = {"problem": problem, "email": session.user.email, "bound_to": session.form_binding}
        return rendering.form_page(request, asked, "new_password.html", status=status, **values)
    return await _consent_form(request, asked, session, problem=problem, status=status)


def _phone_form(
    request: Request, asked: AuthorizationRequest, session: LoginSession, *, problem: str = "", status: int = 200
) -> Response:
    values = {"problem": problem, "bound_to": session.form_binding}
    return rendering.form_page(request, asked, "phone.html", status=status, **values)


async def _sign_in_form(
    request: Request, asked: AuthorizationRequest, *, email: str | None = None, problem: str, status: int
) -> Response:
    values = {"problem": problem, "email": email or asked.email, "bound_to": _form_binding(asked, None)}
    sends_links = requests.resources(request).settings.sends_links
    values["forgotten"] = rendering.step_url(request, password_links.FORGOTTEN) if sends_links else ""
    template = "sign_in.html" if asked.user_data is None else "signature.html"
    return rendering.form_page(request, asked, template, status=status, **values)


async def _consent_form(
    request: Request, asked: AuthorizationRequest, session: LoginSession, *, problem: str, status: int
) -> Response:
    settings, database, _ = requests.resources(request)
    wanted = await consent.find(database, settings, asked, user=session.user)
    values: dict[str, Any] = {
        "problem": problem,
        "email": session.user.email,
        "may_switch": asked.user_data is None,
        "scope": wanted.granted.scope,
        "new": rendering.in_words(request, wanted.new),
        "old": rendering.in_words(request, wanted.old),
        "consumer": await consent.consumer_name(database, asked),
    }
    return rendering.form_page(request, asked, "consent.html", bound_to=session.form_binding, status=status, **values)


def _form_binding(asked: AuthorizationRequest, session: LoginSession | None) -> str:
    """Return what the token of a form is bound to: its login session or, of the sign-in form, the client."""
    return session.form_binding if session else str(asked.redirect.client.id)


ROUTES = [
    page(SIGN_IN, ask, "GET"),
    page(SIGN_IN, receive, "POST"),
    page(AUTHORIZE, ask, "GET"),
    page(AUTHORIZE, receive, "POST"),
    *password_links.ROUTES,
    routing.route("/", home.show),
    routing.route(rendering.STYLE_PATH, show_style),
    routing.route(rendering.ICON_PATH, show_icon),
]
