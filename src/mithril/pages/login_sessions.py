"""A visit: for some minutes the browser of somebody who has just proved who they are, with one client.

It is a token of a kind of its own, of which the browser has the value in a cookie; no API takes it. A visit that
waits for its second factor is another kind, and gives nothing yet. Each is used once.
"""

from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request

from mithril.audit.events import Actor
from mithril.database.database import PooledConnection
from mithril.pages import cookies
from mithril.pages.authorization_request import Question
from mithril.tokens import service as tokens
from mithril.tokens import store as token_store
from mithril.tokens.kinds import HELD_BY_BROWSERS, TokenKind
from mithril.tokens.store import Issued
from mithril.users import store as users
from mithril.users.store import User
from mithril.web import requests

LIVES_SECONDS = 600


class Visit(NamedTuple):
    """Who is there. `value` is that of the cookie."""

    id: UUID
    kind: TokenKind
    value: str
    user: User


async def find(request: Request, question: Question) -> Visit | None:
    """The browser's visit with the client that asks; None where there is none, or the person is blocked by now."""
    value = cookies.read(request, cookies.VISIT)
    if value is None:
        return None
    async with requests.resources(request).database.transaction() as transaction:
        token = await token_store.find_token(transaction, value)
        if token is None or token.name not in HELD_BY_BROWSERS or token.is_expired or token.is_used:
            return None
        user = await users.find_user(transaction, token.user_id)
    if user is None or user.is_blocked or token.client_id != question.asked.client.id:
        return None
    return Visit(token.id, TokenKind(token.name), value, user)


async def begin(
    transaction: PooledConnection, kind: TokenKind, *, user: User, question: Question, value: str | None = None
) -> Issued:
    """A new visit. `value`: as in `tokens.service.issue`."""
    return await tokens.issue(
        transaction,
        kind,
        user_id=user.id,
        client_id=question.asked.client.id,
        lives_seconds=LIVES_SECONDS,
        value=value,
    )


async def end(request: Request, visit: Visit) -> bool:
    """Ends the visit; False when it was over already. Of several forms sent at once one is the first."""
    async with requests.resources(request).database.transaction() as transaction:
        return await token_store.consume_token(transaction, visit.id)


def actor(request: Request, question: Question, user: User) -> Actor:
    """Who the audit trail will say it was."""
    return Actor(
        user_id=user.id,
        client_id=question.asked.client.id,
        request_id=request.scope["request_id"],
        network_address=requests.network_address(request),
    )
