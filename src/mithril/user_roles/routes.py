"""The public method of roles."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.access import Caller, protected
from mithril.user_roles import store
from mithril.user_roles.store import UserRole
from mithril.validation.bodies import Document
from mithril.web import envelope, requests


async def list_own(request: Request, caller: Caller, _: Document) -> Response:
    """The caller's roles in the client of the token (contract.md 3.1 and 3.9); not paged."""
    database = requests.resources(request).database
    roles = await store.list_own_roles(database, caller.user_id, client_id=caller.client_id)
    return envelope.answer(request, [view(role) for role in roles])


def view(role: UserRole) -> dict[str, object]:
    """The fields of a user role."""
    return {
        "id": role.id,
        "user_id": role.user_id,
        "role_id": role.role_id,
        "role_name": role.role_name,
        "client_id": role.client_id,
        "client_name": role.client_name,
        "scope": role.scope,
        "created_at": role.inserted_at,
        "updated_at": role.updated_at,
    }


ROUTES = [protected("/api/user/roles", list_own)]
