"""Administration of connections (rules CON-20 to CON-26). It asks for no token and no scope.

Its rules are those of the public methods, whose service it calls. Only here is a connection added: by PUT.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.audit.events import Actor
from mithril.connections import fields, service, store, view
from mithril.errors import Rule
from mithril.identifiers import parse_uuid
from mithril.tokens import verification
from mithril.validation.fields import CASTS, refuse
from mithril.web import admin, bodies, conditional, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

LIST = "/admin/clients/{client_id}/connections"
ONE = f"{LIST}/{{id}}"
FILTERS = Filters(id=query_parameters.uuid, consumer_id=query_parameters.uuid, redirect_uri=query_parameters.text)
NO_UUID = Rule("cast", "is invalid", [CASTS["uuid"]])


async def list_(request: Request) -> Response:
    """List the connections of one client. A client that is not a UUID counts as a bad filter (rule CON-20)."""
    client_id = parse_uuid(request.path_params["client_id"])
    refuse([("$.client_id", NO_UUID)] if client_id is None else [])
    assert client_id is not None, "it was just refused"
    filters, page = FILTERS.read(request)
    database = requests.resources(request).database
    found = await store.list_connections(database, filters, client_id=client_id, page=page)
    return envelope.answer_page(request, found, view.detailed_view)


async def show(request: Request) -> Response:
    """Show one connection."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    database = requests.resources(request).database
    connection = await service.get_connection(database, connection_id, client_id=client_id)
    headers = {"etag": conditional.entity_tag(connection.version, *connection.seen)}
    if conditional.is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return envelope.answer(request, view.detailed_view(connection), headers=headers)


async def put(request: Request) -> Response:
    """Add the connection of a client and a consumer, or change its redirect URI. Only a new one shows its secret.

    A client or a consumer that is absent or not a UUID is 404, before the rest of the body is checked.
    """
    given = await wrapped_bodies.read_bare(request)
    settings, database, _ = requests.resources(request)
    connection, secret = await service.put_connection(
        database,
        settings,
        errors.found(parse_uuid(request.path_params["client_id"])),
        given,
        expected_versions=conditional.expected_versions(request),
        actor=admin.actor(request),
    )
    location = f"/admin/clients/{connection.client_id}/connections/{connection.id}"
    headers = {"etag": conditional.entity_tag(connection.version), "location": location}
    data = view.detailed_view(connection)
    if secret is None:
        return envelope.answer(request, data, headers=headers)
    return envelope.answer(request, data | {"secret": secret}, status=201, headers=headers)


async def update(request: Request) -> Response:
    """Change the redirect URI. An absent connection is 404 even when the body is invalid."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    database = requests.resources(request).database
    try:
        document = await bodies.read(request, fields.CONNECTION_UPDATE)
    except errors.ValidationFailed:
        await service.get_connection(database, connection_id, client_id=client_id)
        raise
    connection = await service.change_redirect_uri(
        database,
        connection_id,
        client_id=client_id,
        redirect_uri=document["redirect_uri"],
        expected_versions=conditional.expected_versions(request),
        actor=admin.actor(request),
    )
    return envelope.answer(request, view.view(connection), headers={"etag": conditional.entity_tag(connection.version)})


async def refresh_secret(request: Request) -> Response:
    """Replace the secret, and show it. The API-key must be that of the consumer, unless that is the client itself."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    document = await bodies.read(request, fields.REFRESH_SECRET)
    connection, secret = await service.refresh_secret(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        previous_expires_in_seconds=document.get("previous_secret_expires_in", 0),
        expected_versions=conditional.expected_versions(request),
        api_key_was_sent="api-key" in request.headers,
        actor=await _actor_with_key(request),
    )
    data = view.detailed_view(connection) | {"secret": secret}
    return envelope.answer(request, data, headers={"etag": conditional.entity_tag(connection.version)})


async def remove(request: Request) -> Response:
    """Delete a connection, and revoke every token and code that was issued through it."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    await service.delete_connection(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        actor=admin.actor(request),
    )
    return admin.answer_nothing()


async def _actor_with_key(request: Request) -> Actor:
    """Return the actor with the client of the API-key, which nothing has looked up before."""
    actor, api_key = admin.actor(request), requests.header(request, "api-key")
    if not api_key:
        return actor
    holder = await verification.find_key_client(requests.resources(request).database, api_key)
    return msgspec.structs.replace(actor, api_key_client_id=holder)


ROUTES = [
    routing.route(LIST, list_, takes_query=True),
    routing.route(LIST, put, "PUT"),
    routing.route(ONE, show),
    routing.route(ONE, update, "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{ONE}/actions/refresh_secret", refresh_secret, "PATCH"),
]
