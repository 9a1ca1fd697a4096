"""Scopes: space-separated names, what bounds them, and what is left of them later."""

from collections.abc import Iterable
from uuid import UUID

from mithril import refusals
from mithril.database.database import Source
from mithril.oauth import store
from mithril.oauth.store import RegisteredClient
from mithril.validation import scopes as syntax


def joined(*scopes: Iterable[str]) -> str:
    """Return all names once, in the order in which they come."""
    return " ".join(dict.fromkeys(name for part in scopes for name in part))


def checked(scope: str) -> str:
    """Return the scope as it is stored: each name once, one space between two. Raises ScopeMalformed (rule CNV-51)."""
    text = syntax.folded(scope)
    if text is None:
        raise refusals.ScopeMalformed
    return text


def check_client_type(client: RegisteredClient, scope: str) -> None:
    """Check that the client's type allows all of `scope`. Raises ScopeNotOfClientType."""
    lacking = set(scope.split()) - set(client.type_scope.split())
    if lacking:
        raise refusals.ScopeNotOfClientType(detail=f"not of the type: {joined(sorted(lacking))}")


async def role_scope(source: Source, user_id: UUID, *, client_id: UUID) -> str:
    """Return all that the user's roles in the client, and their global roles, allow."""
    parts = await store.list_role_scopes(source, user_id, client_id=client_id)
    return joined(*(part.split() for part in parts))


def check_roles(allowed: str, scope: str) -> None:
    """Check that the roles allow all of `scope`. Raises ScopeNotOfRoles."""
    lacking = set(scope.split()) - set(allowed.split())
    if lacking:
        raise refusals.ScopeNotOfRoles(detail=f"not of the roles: {joined(sorted(lacking))}")
