"""Administration of clients (contract.md 3.3)."""

from collections.abc import Iterator
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril.clients import routes, service
from mithril.clients.store import FullClient
from mithril.errors import Rule
from mithril.validation import fields as validation
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

LIST = "/admin/clients"
ONE = f"{LIST}/{{id}}"
ACCESS_TYPES = ("DIRECT", "BROKER")
FILTERS = Filters(
    id=query_parameters.uuid,
    user_id=query_parameters.uuid,
    name=query_parameters.text,
    is_blocked=query_parameters.boolean,
)
# Told on the association, not on the column (contract.md 2.4).
CONSTRAINTS = {"clients_user_id_fkey": "$.user", "clients_client_type_id_fkey": "$.client_type"}


def judge_priv_settings(fields: Document) -> Iterator[tuple[str, Rule]]:
    """The two rules of `access_type`, told of the object that has it."""
    priv_settings = fields.get("priv_settings")
    if not isinstance(priv_settings, dict):
        return
    access_type = priv_settings.get("access_type")
    if access_type is None:
        yield "$.priv_settings", Rule(None, "access_type required.", [])
    elif access_type not in ACCESS_TYPES:
        yield "$.priv_settings", Rule(None, "access_type is invalid.", [])


CLIENT = Fields("mithril.clients", "client.json", rules=judge_priv_settings)


async def list_(request: Request) -> Response:
    """All, or those of a person, with a part of a name, or blocked ones."""
    filters, page = FILTERS.read(request)
    found = await service.list_full_clients(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, view)


async def show(request: Request) -> Response:
    """One, with the name of its type."""
    client_id = admin.identifier(request)
    return envelope.answer(
        request, detailed_view(await service.get_full_client(requests.resources(request).database, client_id))
    )


async def show_details(request: Request) -> Response:
    """One as its people may see it: without `priv_settings`."""
    client_id = admin.identifier(request, "client_id")
    client = await service.get_client(requests.resources(request).database, client_id)
    return envelope.answer(request, routes.view(client) | {"client_type_name": client.client_type_name})


async def add(request: Request) -> Response:
    """A new one; which id it gets is not the caller's to say (PUT is for that)."""
    columns = CLIENT.new(await wrapped_bodies.read_wrapped(request, "client"))
    database, actor = requests.resources(request).database, admin.actor(request)
    with validation.constraints(CONSTRAINTS):
        added = await service.add_client(database, columns, actor=actor)
    return admin.answer_created(request, view(added), location=f"{LIST}/{added.id}")


async def put(request: Request) -> Response:
    """Change what is given or, where there is none of that id, add it: 200 both times, also by PATCH."""
    client_id = admin.identifier(request)
    fields = await wrapped_bodies.read_wrapped(request, "client")
    database, actor = requests.resources(request).database, admin.actor(request)
    new, changes = partial(CLIENT.new, fields), partial(CLIENT.changes, fields)
    with validation.constraints(CONSTRAINTS):
        client = await service.put_client(database, client_id, new=new, changes=changes, actor=actor)
    return envelope.answer(request, view(client))


async def remove(request: Request) -> Response:
    """Delete it with all that is its own. Unlike in the original its tokens go too: they could say nothing any more."""
    client_id = admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.remove_client(database, client_id, actor=actor)
    return admin.answer_nothing()


async def deactivate_tokens(request: Request) -> Response:
    """End every living token of the client."""
    client_id = admin.identifier(request, "client_id")
    database, actor = requests.resources(request).database, admin.actor(request)
    client = await service.deactivate_tokens(database, client_id, actor=actor)
    return envelope.answer(request, detailed_view(client))


def view(client: FullClient) -> dict[str, object]:
    """The fields of a list, and of what a write answers."""
    return routes.view(client) | {"priv_settings": msgspec.Raw(client.priv_settings.encode())}


def detailed_view(client: FullClient) -> dict[str, object]:
    """These, and the name of its type."""
    return view(client) | {"client_type_name": client.client_type_name}


ROUTES = [
    routing.route(LIST, list_),
    routing.route(LIST, add, "POST"),
    routing.route(ONE, show),
    routing.route(ONE, put, "PUT", "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{LIST}/{{client_id}}/details", show_details),
    routing.route(f"{LIST}/{{client_id}}/actions/deactivate_tokens", deactivate_tokens, "PATCH"),
]
