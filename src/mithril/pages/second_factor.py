"""The second step of signing in on the pages: a code from the phone, for whoever has an active factor.

How codes are made, sent, kept and tried is decided in `otp`. A visit that waits for its code is no session of the
API: it ends none of the person's tokens.
"""

from starlette.requests import Request

from mithril import errors, security
from mithril.otp import service as codes
from mithril.otp import store as factors
from mithril.pages import login_sessions
from mithril.pages.authorization_request import Question
from mithril.pages.login_sessions import Visit
from mithril.tokens import store as token_store
from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Issued
from mithril.users import service as users
from mithril.users.store import User
from mithril.web import requests

MASK = "•••"
SHOWN_DIGITS = 2


class PhoneMissing(Exception):
    """The person has an active factor that names no phone yet, so no code can be sent."""


async def begin(request: Request, question: Question, user: User, *, replaces: Visit | None = None) -> Issued | None:
    """Sends a code, and begins a visit that waits for it; None for a person without an active factor.

    `replaces`: the waiting visit whose code did not arrive. Raises PhoneMissing, TooManyMessages, MessageNotSent;
    then nothing is stored.
    """
    settings, database, messenger = requests.resources(request)
    factor = await factors.find_factor(database, user.id)
    if factor is None:
        return None
    if factor.phone is None:
        raise PhoneMissing
    value = security.new_secret()
    sent = await codes.send(database, settings, messenger=messenger, user_id=user.id, phone=factor.phone, holder=value)
    replaced = replaces.id if replaces else None
    async with database.transaction() as transaction:
        issued = await login_sessions.begin(
            transaction, TokenKind.LOGIN_FACTOR, user=user, question=question, value=value
        )
        await codes.keep(transaction, settings, sent, token_id=issued.id, replaced_token_id=replaced)
        if replaces is not None:
            await token_store.consume_token(transaction, replaces.id)
    return issued


async def confirm(request: Request, question: Question, visit: Visit, code: str) -> bool:
    """Whether the code is right; then it and the waiting visit are used up.

    A failure is counted for the person, who is blocked at the last one. Raises OtpRefused.
    """
    settings, database, _ = requests.resources(request)
    factor = await factors.find_factor(database, visit.user.id)
    if factor is None or factor.phone is None:
        return False
    try:
        key = codes.key_of(visit.id, factor.phone)
        code_id = await codes.try_code(database, settings, key=key, holder=visit.value, code=code)
    except errors.OtpRefused as refusal:
        if refusal.is_failure:
            actor = login_sessions.actor(request, question, visit.user)
            await users.count_refused_code(database, settings, visit.user.id, actor=actor)
        raise
    async with database.transaction() as transaction:
        await users.forget_refused_codes(transaction, visit.user.id)
        await codes.use_code(transaction, settings, code_id)
        return await token_store.consume_token(transaction, visit.id)


async def masked_phone(request: Request, user: User) -> str:
    """The end of the number that the code went to."""
    factor = await factors.find_factor(requests.resources(request).database, user.id)
    return MASK + (factor.phone or "")[-SHOWN_DIGITS:] if factor else MASK
