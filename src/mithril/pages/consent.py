"""What a user is asked to allow. The rules are in `oauth.authorization`."""

from typing import NamedTuple

from mithril.database.database import Database
from mithril.oauth import authorization, store
from mithril.oauth.authorization import GrantableScope
from mithril.pages.authorization_request import AuthorizationRequest
from mithril.settings import Settings
from mithril.users.store import User


class Consent(NamedTuple):
    """The scopes that the client gets if the user allows it: `new` ones, and those that they allowed before."""

    granted: GrantableScope
    new: list[str]
    old: list[str]


async def find(database: Database, settings: Settings, asked: AuthorizationRequest, *, user: User) -> Consent:
    """Return what the user is asked to allow. Raises ScopeRefused."""
    known = authorization.identify_user(user)
    granted = await authorization.bound_scope(
        database, settings, redirect=asked.redirect, user=known, scope=asked.scope
    )
    async with database.connection() as connection:
        approval = await store.find_approval(connection, user.id, client_id=asked.redirect.client.id)
    before = set(approval.scope.split()) if approval else set()
    names = granted.scope.split()
    return Consent(granted, [n for n in names if n not in before], [n for n in names if n in before])


async def consumer_name(database: Database, asked: AuthorizationRequest) -> str | None:
    """Return the name of the system through which the client works, where that is another client."""
    connection = asked.redirect.connection
    if connection.consumer_id == connection.client_id:
        return None
    consumer = await store.find_client(database, connection.consumer_id)
    return consumer.name if consumer else None
