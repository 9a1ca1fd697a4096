"""The public methods of clients (ESOZ "Manage client configuration", entity ENT-007)."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import http, queries
from mithril.access import Caller, protected
from mithril.bodies import Document
from mithril.clients import service
from mithril.clients.store import Client
from mithril.identifiers import parse_uuid

FILTERS = queries.Query(id=queries.uuid, user_id=queries.uuid, name=queries.text, is_blocked=queries.boolean)


async def list_(request: Request, caller: Caller, _: Document) -> Response:
    """API-009-001-006-0335, Get clients: an administrator sees all, anybody else their own."""
    filters, page = FILTERS.read(request)
    only_id = None if caller.is_administrative else caller.client_id
    found = await service.list_clients(http.resources(request).database, filters, only_id=only_id, page=page)
    return http.answer_page(request, found, view)


async def show(request: Request, _: Caller, __: Document) -> Response:
    """API-009-001-006-0336, Get client details."""
    client_id = parse_uuid(request.path_params["client_id"])
    client = await service.get_client(http.resources(request).database, client_id)
    return http.answer(request, view(client) | {"client_type_name": client.client_type_name})


def view(client: Client) -> dict[str, object]:
    """The published fields of a list; `priv_settings` never leaves."""
    return {
        "id": client.id,
        "name": client.name,
        "settings": msgspec.Raw(client.settings.encode()),
        "user_id": client.user_id,
        "client_type_id": client.client_type_id,
        "is_blocked": client.is_blocked,
        "block_reason": client.block_reason,
        "inserted_at": client.inserted_at,
        "updated_at": client.updated_at,
    }


ROUTES = [
    protected("/api/clients", list_, scope="client:read"),
    protected("/api/clients/{client_id}", show, scope="client:read"),
]
