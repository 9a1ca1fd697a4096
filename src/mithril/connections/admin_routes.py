"""Administration of connections (contract.md 3.4, 6.1 and 6.2). Who may is not asked here: no token, no scope.

Its rules are those of the public methods, whose use cases it calls. Its own is the upsert, by which connections
come to be.
"""

import re
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.audit.events import Actor
from mithril.connections import routes, service
from mithril.errors import Rule
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.tokens import verification
from mithril.validation import fields as validation
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields
from mithril.web import admin, bodies, conditional, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

LIST = "/admin/clients/{client_id}/connections"
ONE = f"{LIST}/{{id}}"
FILTERS = Filters(id=query_parameters.uuid, consumer_id=query_parameters.uuid, redirect_uri=query_parameters.text)
CONNECTION_PUT = Fields("mithril.connections", "connection_put.json")
CONSTRAINTS = {"connections_consumer_id_fkey": "$.consumer_id"}
HTTPS = re.compile(r"https://.+", re.DOTALL)
NOT_HTTPS = Rule("format", "has invalid format", [r"~r/^https:\/\/.+/"])
NO_UUID = Rule("cast", "is invalid", [validation.CASTS["uuid"]])


async def list_(request: Request) -> Response:
    """Those of one client. A client that is no UUID is told as a bad filter (contract.md 3.4)."""
    client_id = parse_uuid(request.path_params["client_id"])
    validation.refuse([("$.client_id", NO_UUID)] if client_id is None else [])
    filters, page = FILTERS.read(request)
    found = await service.list_connections(
        requests.resources(request).database, filters, client_id=client_id, page=page
    )
    return envelope.answer_page(request, found, routes.detailed_view)


async def show(request: Request) -> Response:
    """One."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    database = requests.resources(request).database
    connection = await service.get_connection(database, connection_id, client_id=client_id)
    headers = {"etag": conditional.entity_tag(connection.version)}
    if conditional.is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return envelope.answer(request, routes.detailed_view(connection), headers=headers)


async def put(request: Request) -> Response:
    """Make the connection of a client and a consumer, or move its address: the secret is shown when it is made.

    A client or a consumer that cannot be (not given, no UUID) is 404, before anything else of the body is judged.
    """
    fields = await wrapped_bodies.read_bare(request)
    settings, database, _ = requests.resources(request)
    with validation.constraints(CONSTRAINTS):
        connection, secret = await service.put_connection(
            database,
            parse_uuid(request.path_params["client_id"]),
            consumer_id=parse_uuid(str(fields.get("consumer_id"))),
            new=partial(_judged, settings, partial(CONNECTION_PUT.new, fields)),
            changes=partial(_judged, settings, partial(CONNECTION_PUT.changes, fields)),
            expected_versions=conditional.expected_versions(request),
            actor=admin.actor(request),
        )
    location = f"/admin/clients/{connection.client_id}/connections/{connection.id}"
    headers = {"etag": conditional.entity_tag(connection.version), "location": location}
    data = routes.detailed_view(connection)
    if secret is None:
        return envelope.answer(request, data, headers=headers)
    return envelope.answer(request, data | {"secret": secret}, status=201, headers=headers)


async def update(request: Request) -> Response:
    """Move the address: the published body, and nothing more. What is not there is 404, whatever the body says."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    database = requests.resources(request).database
    try:
        document = await bodies.read(request, routes.CONNECTION_UPDATE)
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
    return envelope.answer(
        request, routes.view(connection), headers={"etag": conditional.entity_tag(connection.version)}
    )


async def refresh_secret(request: Request) -> Response:
    """Another secret, shown here only. The API-key says who asks, where it is another's connection."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    document = await bodies.read(request, routes.REFRESH_SECRET)
    connection, secret = await service.refresh_secret(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        previous_lives_seconds=document.get("previous_secret_expires_in", 0),
        expected_versions=conditional.expected_versions(request),
        api_key_was_sent="api-key" in request.headers,
        actor=await _actor_with_key(request),
    )
    data = routes.detailed_view(connection) | {"secret": secret}
    return envelope.answer(request, data, headers={"etag": conditional.entity_tag(connection.version)})


async def remove(request: Request) -> Response:
    """Delete it; every token and code that was issued through it ends."""
    client_id, connection_id = admin.identifier(request, "client_id"), admin.identifier(request)
    await service.delete_connection(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        actor=admin.actor(request),
    )
    return admin.answer_nothing()


def _judged(settings: Settings, columns: partial[Document]) -> Document:
    """The columns, once the address among them has passed every rule. Raises ValidationFailed."""
    judged = columns()
    if "redirect_uri" in judged:
        is_https = HTTPS.fullmatch(judged["redirect_uri"])
        found = {routes.ENTRY: [] if is_https else [NOT_HTTPS]}
        routes.judge_redirect_uri(judged, found, settings)
        validation.refuse((entry, rule) for entry, rules in found.items() for rule in rules)
    return judged


async def _actor_with_key(request: Request) -> Actor:
    """Nobody has been authenticated: whose API-key it is, is looked up for this request alone."""
    actor, api_key = admin.actor(request), requests.header(request, "api-key")
    if not api_key:
        return actor
    holder = await verification.find_key_client(requests.resources(request).database, api_key)
    return msgspec.structs.replace(actor, api_key_client_id=holder)


ROUTES = [
    routing.route(LIST, list_),
    routing.route(LIST, put, "PUT"),
    routing.route(ONE, show),
    routing.route(ONE, update, "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{ONE}/actions/refresh_secret", refresh_secret, "PATCH"),
]
