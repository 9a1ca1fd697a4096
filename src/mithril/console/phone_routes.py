"""Another phone for the second factor: the password, and a code that goes to the new phone. The old phone is told.

    /account/phone ──► password, new phone ──► a code, and a token that waits for it ──► code ──► the new phone counts
                            ▲                       │
                            └─────── another number ┘

The token that waits is of a kind of its own, whose value the browser has in a cookie of its own; it gives nothing else.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import access, errors, refusals
from mithril.console import account_routes, gate, rendering
from mithril.console.sessions import Session
from mithril.oauth import phone_change, second_factor
from mithril.otp import store as factors
from mithril.pages import cookies, login_sessions
from mithril.tokens import store as token_store
from mithril.tokens.kinds import LOGIN_SECONDS, TokenKind
from mithril.tokens.store import Token
from mithril.users import phones
from mithril.web import requests
from mithril.web.forms import Parameters

PATH = f"{account_routes.ACCOUNT}/phone"


async def show(request: Request, session: Session, _: Parameters) -> Response:
    """Show the form of the step at which the browser is."""
    waiting = await _waiting(request, session)
    return await _code_form(request, session, waiting) if waiting else await _phone_form(request, session)


async def receive(request: Request, session: Session, fields: Parameters) -> Response:
    """Take the form of a step."""
    decision = fields.get("decision")
    if decision is None:
        return await _name(request, session, fields)
    if decision == "other":
        response = gate.go_to(PATH)
        cookies.forget(request, response, cookies.CONSOLE_PHONE)
        return response
    waiting = await _waiting(request, session)
    if waiting is None:
        return await _over(request, session)
    return await (_send_again if decision == "again" else _confirm)(request, session, waiting, fields)


async def _name(request: Request, session: Session, fields: Parameters) -> Response:
    """Send a code to the phone in the form, which the password confirms."""
    settings, database, messenger = requests.resources(request)
    phone, present = fields.get("phone") or "", await _present_phone(request, session)
    problem = "" if phones.is_phone(phone) else "phone"
    if phone == present:
        problem = "same_phone"
    if problem := problem or await gate.problem_of_password(request, session, fields):
        return await _phone_form(request, session, phone=phone, problem=problem, status=422)
    try:
        issued = await phone_change.name_other(
            database, settings, session=session.token, phone=phone, messenger=messenger
        )
    except (errors.TooManyMessages, errors.MessageNotSent) as refusal:
        return await _phone_form(request, session, phone=phone, problem=refusal.page, status=refusal.status)
    return _keep(request, issued.value)


async def _send_again(request: Request, session: Session, waiting: Token, _: Parameters) -> Response:
    settings, database, messenger = requests.resources(request)
    try:
        phone = await phone_change.find_named(database, waiting)
        issued = await second_factor.send_again(database, settings, waiting, messenger=messenger, phone=phone)
    except (errors.NotFound, errors.Unauthorized):
        return await _over(request, session)
    except (errors.TooManyMessages, errors.MessageNotSent) as refusal:
        return await _code_form(request, session, waiting, problem=refusal.page, status=refusal.status)
    return _keep(request, issued.value)


async def _confirm(request: Request, session: Session, waiting: Token, fields: Parameters) -> Response:
    settings, database, messenger = requests.resources(request)
    before = await _present_phone(request, session)
    value, actor = cookies.read(request, cookies.CONSOLE_PHONE) or "", access.actor(request, session.caller)
    try:
        await phone_change.confirm_other(
            database, settings, token=waiting, value=value, code=fields.get("code") or "", actor=actor
        )
    except errors.OtpRefused as refusal:
        requests.note_refusal(request.scope, refusal)
        left = await _waiting(request, session) if isinstance(refusal, refusals.OtpInvalid) else None
        if left is None:
            return await _over(request, session)
        return await _code_form(request, session, left, problem="code_wrong", status=422)
    except (errors.NotFound, refusals.FactorNotInitiated):
        return await _over(request, session)
    messenger.send_later(
        phone_change.tell(messenger, before, rendering.words(rendering.language(request))["phone_told"])
    )
    return _done(request)


async def _over(request: Request, session: Session) -> Response:
    """Begin again; but a form that was sent twice finds its change made, and leads on."""
    sent = await _sent(request)
    named = sent.details.request_authentication_factor if sent and sent.user_id == session.user.id else None
    if named and named == await _present_phone(request, session):
        return _done(request)
    return await _phone_form(request, session, problem="phone_over", status=422)


async def _present_phone(request: Request, session: Session) -> str:
    """Return the phone of the user's second factor. Raises NotFound where there is none to be replaced."""
    factor = await factors.find_factor(requests.resources(request).database, session.user.id)
    return errors.found(factor.phone if factor else None)


async def _waiting(request: Request, session: Session) -> Token | None:
    """Return the token that waits for the code, of this browser and this user; None where there is none any more."""
    token = await _sent(request)
    if token is None or token.is_used or token.is_expired or token.is_revoked or token.user_id != session.user.id:
        return None
    return token


async def _sent(request: Request) -> Token | None:
    value = cookies.read(request, cookies.CONSOLE_PHONE)
    token = await token_store.find_token(requests.resources(request).database, value) if value else None
    return token if token is not None and token.name == TokenKind.CONSOLE_PHONE else None


async def _phone_form(
    request: Request, session: Session, *, phone: str = "+380", problem: str = "", status: int = 200
) -> Response:
    present = _masked(await _present_phone(request, session))
    values: dict[str, Any] = {"phone": phone, "present": present, "problem": problem}
    return rendering.page(request, session, "new_phone.html", status=status, **values)


async def _code_form(
    request: Request, session: Session, waiting: Token, *, problem: str = "", status: int = 200
) -> Response:
    phone = _masked(waiting.details.request_authentication_factor or "")
    return rendering.page(request, session, "phone_code.html", status=status, phone=phone, problem=problem)


def _masked(phone: str) -> str:
    return login_sessions.MASK + phone[-login_sessions.SHOWN_DIGITS :]


def _keep(request: Request, value: str) -> Response:
    response = gate.go_to(PATH)
    cookies.keep(request, response, cookies.CONSOLE_PHONE, value, lives_seconds=LOGIN_SECONDS)
    return response


def _done(request: Request) -> Response:
    response = gate.go_to(account_routes.ACCOUNT)
    cookies.forget(request, response, cookies.CONSOLE_PHONE)
    return response


ROUTES: list[Route] = [gate.page(PATH, show), gate.page(PATH, receive, method="POST")]
