"""Login sessions: for some minutes, the browser of a user who has just proved who they are, with one client.

A login session is a token of a kind of its own, whose value the browser has in a cookie; no API takes it. One that
waits for the second factor or for a new password is another kind, and gives nothing yet; it leaves the user's tokens
of the API as they are. Each is used by one answer. A user who clicks twice sends that answer again, and their browser
drops what the first one led to: so the same form with the same cookie leads on again, as long as the session would
have lived. The rules of the second factor are in `oauth.second_factor`.
"""

from typing import NamedTuple
from uuid import UUID

import msgspec
from starlette.requests import Request

from mithril import errors, refusals, security
from mithril.audit.events import Actor
from mithril.oauth import nonce as nonces
from mithril.oauth import password_change, phone_change, second_factor
from mithril.otp import store as factors
from mithril.pages import cookies
from mithril.pages.authorization_request import AuthorizationRequest
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import HELD_BY_BROWSERS, Details, TokenKind
from mithril.tokens.store import Issued, NewToken, Token
from mithril.users import store as users
from mithril.users.store import User
from mithril.web import requests
from mithril.web.forms import Parameters

MASK = "•••"
SHOWN_DIGITS = 2


class LoginSession(NamedTuple):
    """A token of a browser, with its value and its user."""

    token: Token
    value: str
    user: User

    @property
    def waits_for_second_factor(self) -> bool:
        """Whether the user has proved only that they know the password."""
        return self.token.name == TokenKind.LOGIN_FACTOR

    @property
    def is_complete(self) -> bool:
        """Whether only consent is missing. Else it waits for the second factor, or for a new password."""
        return self.token.name == TokenKind.LOGIN_SESSION

    @property
    def named_phone(self) -> str | None:
        """The phone that becomes the factor of a user who had none, if its one-time password is right."""
        return self.token.details.request_authentication_factor

    @property
    def form_binding(self) -> str:
        """What the forms of this session are bound to; no browser knows it, and all sessions of one sign-in share it.

        A browser that dropped an answer may have kept its cookie, and sends the form of the session before it.
        """
        return str(self.token.family or self.token.id)


async def find(
    request: Request, asked: AuthorizationRequest, *, form: Parameters | None = None, value: str | None = None
) -> LoginSession | None:
    """Return the browser's session with the client that asks; None where there is none, or the user is blocked.

    `form`: what the browser sends; then also the session that exactly this form has used. `value`: that of the session,
    in place of the one in the cookie.
    """
    value = value or cookies.read(request, cookies.LOGIN_SESSION)
    if value is None:
        return None
    async with requests.resources(request).database.connection() as connection:
        token = await token_store.find_token(connection, value)
        if token is None or token.name not in HELD_BY_BROWSERS or token.is_expired or token.is_revoked:
            return None
        if token.is_used and (form is None or token.details.answer != answer_of(request, asked, value, form)):
            return None
        user = await users.find_user(connection, token.user_id)
    if user is None or user.is_blocked or token.client_id != asked.redirect.client.id:
        return None
    if token.details.user_data != asked.user_data_digest:
        return None
    return LoginSession(token, value, user)


def answer_of(request: Request, asked: AuthorizationRequest, value: str, form: Parameters) -> str:
    """Return what stands for this form, sent for this authorization request with the cookie `value`.

    It tells nothing of the one-time password in a form to a reader without the cookie.
    """
    sent = (asked.entrance.path, request.scope["query_string"].decode("latin-1"), sorted(form.values.items()))
    return security.derived(value, msgspec.json.encode(sent).decode())


async def begin(
    request: Request,
    asked: AuthorizationRequest,
    user: User,
    *,
    after: LoginSession | None = None,
    kind: TokenKind = TokenKind.LOGIN_SESSION,
    nonce: UUID | None = None,
) -> Issued:
    """Issue the session of a user who has proved who they are. `after`: the one in which the second factor was.

    `nonce`: the one that the user has signed, which this uses up. Raises JwtInvalid when it was used meanwhile.
    """
    settings, database, _ = requests.resources(request)
    new = NewToken(
        kind=kind,
        user_id=user.id,
        client_id=asked.redirect.client.id,
        family_id=after.token.family if after else None,
        seen=after.token.seen if after else None,
        details=Details(user_data=asked.user_data_digest),
    )
    async with database.transaction(new.user_id, new.client_id) as transaction:
        if nonce is not None:
            await nonces.consume(transaction, nonce, client_id=asked.redirect.client.id)
        return await tokens.issue(transaction, settings, new, value=signed_value(request, asked) if nonce else None)


def signed_value(request: Request, asked: AuthorizationRequest) -> str:
    """Return the value of the session that this browser gets for its signature.

    It is always the same one, so that a second click finds what the first one began.
    """
    return security.derived(cookies.browser_secret(request), asked.user_data or "")


async def begin_second_factor(request: Request, asked: AuthorizationRequest, user: User) -> Issued | None:
    """Send a one-time password, and issue a session that waits for it; None for a user without an active factor.

    Where the factor has no phone yet, the session waits for one. Raises TooManyMessages, MessageNotSent; then nothing
    is stored.
    """
    settings, database, messenger = requests.resources(request)
    factor = await factors.find_factor(database, user.id)
    if factor is None:
        return None
    new = NewToken(kind=TokenKind.LOGIN_FACTOR, user_id=user.id, client_id=asked.redirect.client.id)
    return await second_factor.begin(database, settings, new, messenger=messenger, phone=factor.phone)


async def send_again(request: Request, asked: AuthorizationRequest, session: LoginSession, form: Parameters) -> Issued:
    """Send another one-time password, for another session.

    Raises as `second_factor.send_again` and `phone_change.find_named`.
    """
    settings, database, messenger = requests.resources(request)
    answer = answer_of(request, asked, session.value, form)
    named = await phone_change.find_named(database, session.token)
    return await second_factor.send_again(
        database, settings, session.token, messenger=messenger, phone=named, answer=answer
    )


async def name_phone(request: Request, asked: AuthorizationRequest, session: LoginSession, form: Parameters) -> Issued:
    """Send a one-time password to the phone in this form, for another session. Raises as `phone_change.name_first`."""
    settings, database, messenger = requests.resources(request)
    answer, phone = answer_of(request, asked, session.value, form), form.get("phone") or ""
    return await phone_change.name_first(
        database, settings, token=session.token, phone=phone, messenger=messenger, answer=answer
    )


async def confirm(request: Request, asked: AuthorizationRequest, session: LoginSession, form: Parameters) -> None:
    """Check the one-time password, and use it up with its session; keep a phone that was named for it.

    Raises OtpRefused, FactorNotSet, and FactorNotInitiated where another phone was named meanwhile.

    A form that has used the session before is good again, also when the first one is not finished yet.
    """
    if session.token.is_used:
        return
    try:
        await _confirm(request, asked, session, form)
    except (errors.OtpRefused, refusals.FactorNotInitiated):
        found = await find(request, asked, form=form)
        if found is None or not found.token.is_used:
            raise


async def _confirm(request: Request, asked: AuthorizationRequest, session: LoginSession, form: Parameters) -> None:
    settings, database, _ = requests.resources(request)
    answer, code = answer_of(request, asked, session.value, form), form.get("code") or ""
    by, token = actor(request, asked, session.user), session.token
    named = await phone_change.find_named(database, token)
    phone = named or await second_factor.find_phone(database, token.user_id)
    otp_id = await second_factor.confirm(
        database, settings, token, value=session.value, phone=phone, code=code, actor=by
    )
    async with database.transaction(token.user_id) as transaction:
        await second_factor.use(transaction, settings, token, otp_id=otp_id, answer=answer)
        if named:
            await phone_change.keep_named(transaction, token, actor=by)


async def change_password(
    request: Request, asked: AuthorizationRequest, session: LoginSession, form: Parameters
) -> Issued:
    """Set the new password in this form, revoke every token of the user, and issue the session that follows.

    All in one transaction: the new session is there when the old one is used up, and nothing is revoked after it is
    issued. Raises ValidationFailed, TokenExpired, and Unauthorized where the user was blocked meanwhile.
    """
    settings, database, _ = requests.resources(request)
    password_hash = await password_change.hashed(database, session.user.id, form.get("password") or "")
    by, answer = actor(request, asked, session.user), answer_of(request, asked, session.value, form)
    token = session.token
    # It has seen nothing yet: what the password change revokes is not this one.
    new = NewToken(
        kind=TokenKind.LOGIN_SESSION, user_id=token.user_id, client_id=token.client_id, family_id=token.family
    )
    async with database.transaction(new.user_id, new.client_id) as transaction:
        await password_change.change(transaction, token, password_hash=password_hash, actor=by, answer=answer)
        return await tokens.issue(transaction, settings, new)


async def has_changed_password(request: Request, asked: AuthorizationRequest, form: Parameters) -> bool:
    """Return whether it was this form, sent before with the same cookie, that changed the user's password."""
    value = cookies.read(request, cookies.LOGIN_SESSION)
    if value is None:
        return False
    async with requests.resources(request).database.connection() as connection:
        token = await token_store.find_token(connection, value)
    if token is None or token.name != TokenKind.LOGIN_PASSWORD or not token.is_used:
        return False
    return token.details.answer == answer_of(request, asked, value, form)


async def answer(request: Request, asked: AuthorizationRequest, session: LoginSession, form: Parameters) -> bool:
    """Use the session up by this form; False when another one has used it, or it has expired meanwhile."""
    async with requests.resources(request).database.transaction(session.token.id) as transaction:
        token_id = session.token.id
        return await token_store.answer_token(transaction, token_id, answer_of(request, asked, session.value, form))


async def end(request: Request, session: LoginSession) -> None:
    """Revoke the session: nothing that was sent in it is good again."""
    async with requests.resources(request).database.transaction(session.token.id) as transaction:
        await token_store.revoke_token(transaction, session.token.id)


async def masked_phone(request: Request, session: LoginSession) -> str | None:
    """Return the end of the number that the message went to; None where the user has named none yet."""
    factor = await factors.find_factor(requests.resources(request).database, session.user.id)
    phone = session.named_phone or (factor and factor.phone)
    return MASK + phone[-SHOWN_DIGITS:] if phone else MASK if factor is None else None


def actor(request: Request, asked: AuthorizationRequest, user: User) -> Actor:
    """Return who the audit trail will say it was."""
    return Actor(
        user_id=user.id,
        client_id=asked.redirect.client.id,
        request_id=request.scope["request_id"],
        network_address=requests.network_address(request),
    )
