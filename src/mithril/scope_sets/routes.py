"""The public methods of roles, for callers with the scope `role:read` (rule CLI-16).

They are the only routes below `/admin` on the public listener, as ESOZ publishes them, and change nothing.
"""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.access import Caller, protected
from mithril.identifiers import parse_uuid
from mithril.scope_sets import service, store
from mithril.scope_sets.view import view
from mithril.validation.bodies import Document
from mithril.web import envelope, query_parameters, requests
from mithril.web.query_parameters import Query

FILTERS = Query(name=query_parameters.text)
PATH, SCOPE = "/admin/roles", "role:read"


async def list_(request: Request, _: Caller, __: Document) -> Response:
    """List all roles, or those whose name contains a text."""
    given, page = FILTERS.read(request)
    filters = {"part_of_name": given["name"]} if given else {}
    found = await store.list_named(requests.resources(request).database, store.ROLES, filters, page=page)
    return envelope.answer_page(request, found, view)


async def show(request: Request, _: Caller, __: Document) -> Response:
    """Show one role."""
    role_id = errors.found(parse_uuid(request.path_params["id"]))
    database = requests.resources(request).database
    return envelope.answer(request, view(await service.get_named(database, store.ROLES, role_id)))


ROUTES = [protected(PATH, list_, scope=SCOPE), protected(PATH + "/{id}", show, scope=SCOPE)]
