"""What a person is asked to allow, and what comes of their allowing it. The rules are in `oauth.authorization`."""

from typing import NamedTuple

from starlette.requests import Request

from mithril.oauth import authorization, store
from mithril.pages import login_sessions
from mithril.pages.authorization_request import Question
from mithril.users.store import User
from mithril.web import requests


class Wanted(NamedTuple):
    """The scopes that the client will get if the person allows it: `new` ones, and those allowed before."""

    scope: str
    new: list[str]
    old: list[str]


async def wanted(request: Request, question: Question, user: User) -> Wanted:
    """Raises ScopeRefused when client type or roles do not allow it, or nothing is asked for."""
    settings, database, _ = requests.resources(request)
    client = question.asked.client
    scope = await authorization.granted_scope(database, settings, client=client, user_id=user.id, scope=question.scope)
    async with database.transaction() as transaction:
        approval = await store.find_approval(transaction, user.id, client_id=client.id)
    before = set(approval.scope.split()) if approval else set()
    names = scope.split()
    return Wanted(scope, [n for n in names if n not in before], [n for n in names if n in before])


async def allow(request: Request, question: Question, user: User, scope: str) -> str:
    """Records the approval; the value of the code. `scope` must be that of `wanted`."""
    settings, database, _ = requests.resources(request)
    issued = await authorization.approve(
        database,
        settings,
        asked=question.asked,
        user_id=user.id,
        scope=scope,
        actor=login_sessions.actor(request, question, user),
        code_challenge=question.code_challenge,
    )
    return issued.value


async def consumer_name(request: Request, question: Question) -> str | None:
    """The system through which the client works, where that is another client than itself."""
    connection = question.asked.connection
    if connection.consumer_id == connection.client_id:
        return None
    consumer = await store.find_client(requests.resources(request).database, connection.consumer_id)
    return consumer.name if consumer else None
