"""The public methods of clients (ESOZ "Manage client configuration", entity ENT-007)."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.access import Caller, protected
from mithril.clients import service, store, view
from mithril.identifiers import parse_uuid
from mithril.validation.bodies import Document
from mithril.web import envelope, query_parameters, requests

FILTERS = query_parameters.Query(
    id=query_parameters.uuid,
    user_id=query_parameters.uuid,
    name=query_parameters.text,
    is_blocked=query_parameters.boolean,
)


async def list_(request: Request, caller: Caller, _: Document) -> Response:
    """API-009-001-006-0335, Get clients: an administrator sees all, any other caller only its own."""
    filters, page = FILTERS.read(request)
    only_id = None if caller.is_administrative else caller.client_id
    found = await store.list_clients(requests.resources(request).database, filters, only_id=only_id, page=page)
    return envelope.answer_page(request, found, view.view)


async def show(request: Request, _: Caller, __: Document) -> Response:
    """API-009-001-006-0336, Get client details."""
    client_id = errors.found(parse_uuid(request.path_params["client_id"]))
    client = await service.get_client(requests.resources(request).database, client_id)
    return envelope.answer(request, view.detailed_view(client))


ROUTES = [
    protected("/api/clients", list_, scope="client:read"),
    protected("/api/clients/{client_id}", show, scope="client:read"),
]
