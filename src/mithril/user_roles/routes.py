"""The public method of roles."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.access import Caller, protected
from mithril.user_roles import store, view
from mithril.validation.bodies import Document
from mithril.web import envelope, requests


async def list_own(request: Request, caller: Caller, _: Document) -> Response:
    """List the caller's roles in the client of the token (rule CLI-5); not paged."""
    database = requests.resources(request).database
    roles = await store.list_own_roles(database, caller.user_id, client_id=caller.client_id)
    return envelope.answer(request, [view.view(role) for role in roles])


ROUTES = [protected("/api/user/roles", list_own)]
