"""The ESOZ routes of the second factor and of a new password (rules SGN-25 to SGN-36).

The two grants here are dispatched by `esoz_routes`. The rules are in `login`, `phone_change` and `password_change`.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mithril import access, errors, refusals
from mithril.audit.events import Actor
from mithril.errors import Invalid
from mithril.oauth import bearers, login, password_change, phone_change, token_view
from mithril.oauth.login import NextStep
from mithril.throttling import limits as throttling
from mithril.tokens.kinds import GrantType
from mithril.tokens.store import Token
from mithril.users import phones
from mithril.users.view import view as user_view
from mithril.validation.bodies import Document
from mithril.validation.fields import MESSAGE, Fields
from mithril.web import envelope, requests, routing, wrapped_bodies

ACTIONS = "/oauth/users/actions"
DIGITS = re.compile(r"[0-9]{1,20}")

OTP = Fields("mithril.oauth", "authorize_2fa.json")
FACTOR = Fields("mithril.oauth", "init_factor.json")
PASSWORD = Fields("mithril.oauth", "update_password.json")


async def authorize_2fa(request: Request, fields: Document) -> Response:
    """Exchange a one-time password for a session: the grant authorize_2fa_access_token."""
    code = _code(fields)
    settings, database, _ = requests.resources(request)
    issued = await login.authorize(database, settings, bearer=_bearer(request), code=code, actor=_actor(request))
    return envelope.answer(request, token_view.view(issued), status=201, urgent={"next_step": NextStep.REQUEST_APPS})


async def refresh_2fa(request: Request, _: Document) -> Response:
    """Send another one-time password: the grant refresh_2fa_access_token."""
    settings, database, messenger = requests.resources(request)
    begun = await login.refresh(database, settings, bearer=_bearer(request), messenger=messenger)
    return envelope.answer(request, token_view.view(begun.token), status=201, urgent={"next_step": begun.next_step})


async def init_factor(request: Request) -> Response:
    """Send a one-time password to the phone that is to be the user's second factor."""
    settings, database, messenger = requests.resources(request)
    token = await _token(request)
    bearers.check_active(token)
    await bearers.check_client_and_user(database, token)
    given = _factor(await wrapped_bodies.read_bare(request))
    begun = await phone_change.init_factor(
        database, settings, token=token, factor_type=given["type"], phone=given["factor"], messenger=messenger
    )
    return envelope.answer(
        request, token_view.brief_view(begun.token), status=201, urgent={"next_step": begun.next_step}
    )


async def approve_factor(request: Request) -> Response:
    """Make that phone the user's second factor."""
    settings, database, _ = requests.resources(request)
    bearer, token = _bearer(request), await _token(request)
    bearers.check_active(token)
    phone_change.check_initiated(token)
    await bearers.check_client_and_user(database, token)
    code = _code(await wrapped_bodies.read_bare(request))
    issued = await phone_change.approve_factor(
        database, settings, token=token, bearer=bearer, code=code, actor=_actor(request)
    )
    return envelope.answer(request, token_view.view(issued), status=201)


async def update_password(request: Request) -> Response:
    """Set a new password for the user of a change-password token."""
    database = requests.resources(request).database
    token = await _token(request)
    bearers.check_active(token)
    password_change.check_kind(token)
    await bearers.check_client_and_user(database, token)
    given = PASSWORD.cast(await wrapped_bodies.read_wrapped(request, "user"))
    actor = _actor(request, token)
    try:
        user = await password_change.update_password(database, token=token, password=given["password"], actor=actor)
    except errors.ValidationFailed as refusal:
        raise errors.ValidationFailed(refusal.invalid, message=MESSAGE) from None
    return envelope.answer(request, user_view(user))


async def _token(request: Request) -> Token:
    """Return the bearer token of a login that goes on. Raises BearerMissing, TokenInvalid."""
    token = await bearers.find(requests.resources(request).database, _bearer(request))
    requests.note_caller(request.scope, user_id=token.user_id, client_id=token.client_id)
    return token


def _bearer(request: Request) -> str:
    """Return the bearer token. Raises BearerMissing, TokenInvalid (rules SGN-25, SGN-26)."""
    values = request.headers.getlist("authorization")
    if len(values) != 1 or values[0].partition(" ")[0].lower() != "bearer":
        raise refusals.BearerMissing
    credentials = access.BEARER.fullmatch(values[0])
    if credentials is None:
        raise refusals.TokenInvalid
    return credentials[1]


def _code(fields: Document) -> str:
    """Return the digits that were sent, as a number or as text, without leading zeros."""
    otp = fields.get("otp")
    if isinstance(otp, str) and DIGITS.fullmatch(otp):
        fields = {**fields, "otp": int(otp)}
    return str(int(OTP.cast(fields)["otp"]))


def _factor(fields: Document) -> Document:
    """Return type and phone. Raises ValidationFailed, with the broken rules of both."""
    invalid: list[Any] = []
    try:
        given = FACTOR.cast(fields)
    except errors.ValidationFailed as refusal:
        invalid, given = refusal.invalid, fields
    if isinstance(given.get("factor"), str) and given["factor"].strip() and not phones.is_phone(given["factor"]):
        invalid = [Invalid("$.factor", [phones.INVALID]), *invalid]
    if invalid:
        raise errors.ValidationFailed(invalid, message=MESSAGE)
    return given


def _actor(request: Request, token: Token | None = None) -> Actor:
    return Actor(
        user_id=token.user_id if token else None,
        client_id=token.client_id if token else None,
        request_id=request.scope["request_id"],
        network_address=requests.network_address(request),
    )


LOGIN_GRANTS: dict[str, Callable[[Request, Document], Awaitable[Response]]] = {
    GrantType.AUTHORIZE_2FA: authorize_2fa,
    GrantType.REFRESH_2FA: refresh_2fa,
}


ROUTES = [
    routing.route(f"{ACTIONS}/init_factor", throttling.limiting(init_factor), "POST"),
    routing.route(f"{ACTIONS}/approve_factor", throttling.limiting(approve_factor), "POST"),
    routing.route(f"{ACTIONS}/update_password", throttling.limiting(update_password), "POST"),
]
