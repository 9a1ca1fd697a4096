"""Administration of clients (rules CLI-9 to CLI-14)."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.clients import service, store, view
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

LIST = "/admin/clients"
ONE = f"{LIST}/{{id}}"
FILTERS = Filters(
    id=query_parameters.uuid,
    user_id=query_parameters.uuid,
    name=query_parameters.text,
    is_blocked=query_parameters.boolean,
)


async def list_(request: Request) -> Response:
    """List all clients, or those of a user, with a part of a name, or blocked ones."""
    filters, page = FILTERS.read(request)
    found = await store.list_full_clients(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, view.full_view)


async def show(request: Request) -> Response:
    """Show one client with the name of its type."""
    client_id = admin.identifier(request)
    client = await service.get_full_client(requests.resources(request).database, client_id)
    return envelope.answer(request, view.detailed_full_view(client))


async def show_details(request: Request) -> Response:
    """Show one client as its own users may see it: without `priv_settings`."""
    client_id = admin.identifier(request, "client_id")
    client = await service.get_client(requests.resources(request).database, client_id)
    return envelope.answer(request, view.detailed_view(client))


async def add(request: Request) -> Response:
    """Add a client under a new id; PUT is for an id that the caller chooses."""
    given = await wrapped_bodies.read_wrapped(request, "client")
    added = await service.add_client(requests.resources(request).database, given, actor=admin.actor(request))
    return admin.answer_created(request, view.full_view(added), location=f"{LIST}/{added.id}")


async def put(request: Request) -> Response:
    """Change what is given or, where there is no client of that id, add it: 200 both times, also by PATCH."""
    client_id = admin.identifier(request)
    given = await wrapped_bodies.read_wrapped(request, "client")
    database, actor = requests.resources(request).database, admin.actor(request)
    client = await service.put_client(database, client_id, given, actor=actor)
    return envelope.answer(request, view.full_view(client))


async def remove(request: Request) -> Response:
    """Delete a client with all that it owns. Unlike in the original its tokens are deleted too."""
    client_id = admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.remove_client(database, client_id, actor=actor)
    return admin.answer_nothing()


async def deactivate_tokens(request: Request) -> Response:
    """Revoke every active token of a client."""
    client_id = admin.identifier(request, "client_id")
    database, actor = requests.resources(request).database, admin.actor(request)
    client = await service.deactivate_tokens(database, client_id, actor=actor)
    return envelope.answer(request, view.detailed_full_view(client))


ROUTES = [
    routing.route(LIST, list_, takes_query=True),
    routing.route(LIST, add, "POST"),
    routing.route(ONE, show),
    routing.route(ONE, put, "PUT", "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{LIST}/{{client_id}}/details", show_details),
    routing.route(f"{LIST}/{{client_id}}/actions/deactivate_tokens", deactivate_tokens, "PATCH"),
]
