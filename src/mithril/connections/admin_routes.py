"""Administration of connections (contract.md 3.4, 6.1 and 6.2). Who may is not asked here: no token, no scope.

Its rules are those of the public methods, whose use cases it calls. Its own is the upsert, by which connections
come to be.
"""

import re
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import administration, changesets, errors, http, queries
from mithril.audit.store import Actor
from mithril.bodies import Document
from mithril.changesets import Changeset, Filters
from mithril.connections import routes, service
from mithril.errors import Rule
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.tokens import verification

LIST = "/admin/clients/{client_id}/connections"
ONE = f"{LIST}/{{id}}"
FILTERS = Filters(id=queries.uuid, consumer_id=queries.uuid, redirect_uri=queries.text)
CONNECTION_PUT = Changeset("mithril.connections", "connection_put.json")
CONSTRAINTS = {"connections_consumer_id_fkey": "$.consumer_id"}
HTTPS = re.compile(r"https://.+", re.DOTALL)
NOT_HTTPS = Rule("format", "has invalid format", [r"~r/^https:\/\/.+/"])
NO_UUID = Rule("cast", "is invalid", [changesets.CASTS["uuid"]])


async def list_(request: Request) -> Response:
    """Those of one client. A client that is no UUID is told as a bad filter (contract.md 3.4)."""
    client_id = parse_uuid(request.path_params["client_id"])
    changesets.refuse([("$.client_id", NO_UUID)] if client_id is None else [])
    filters, page = FILTERS.read(request)
    found = await service.list_connections(http.resources(request).database, filters, client_id=client_id, page=page)
    return http.answer_page(request, found, routes.detailed_view)


async def show(request: Request) -> Response:
    """One."""
    client_id, connection_id = administration.identifier(request, "client_id"), administration.identifier(request)
    database = http.resources(request).database
    connection = await service.get_connection(database, connection_id, client_id=client_id)
    headers = {"etag": http.entity_tag(connection.version)}
    if http.is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return http.answer(request, routes.detailed_view(connection), headers=headers)


async def put(request: Request) -> Response:
    """Make the connection of a client and a consumer, or move its address: the secret is shown when it is made.

    A client or a consumer that cannot be (not given, no UUID) is 404, before anything else of the body is judged.
    """
    fields = await changesets.read_bare(request)
    settings, database, _ = http.resources(request)
    with changesets.constraints(CONSTRAINTS):
        connection, secret = await service.put_connection(
            database,
            parse_uuid(request.path_params["client_id"]),
            consumer_id=parse_uuid(str(fields.get("consumer_id"))),
            new=partial(_judged, settings, partial(CONNECTION_PUT.new, fields)),
            changes=partial(_judged, settings, partial(CONNECTION_PUT.changes, fields)),
            expected_versions=http.expected_versions(request),
            actor=administration.actor(request),
        )
    location = f"/admin/clients/{connection.client_id}/connections/{connection.id}"
    headers = {"etag": http.entity_tag(connection.version), "location": location}
    data = routes.detailed_view(connection)
    if secret is None:
        return http.answer(request, data, headers=headers)
    return http.answer(request, data | {"secret": secret}, status=201, headers=headers)


async def update(request: Request) -> Response:
    """Move the address: the published body, and nothing more. What is not there is 404, whatever the body says."""
    client_id, connection_id = administration.identifier(request, "client_id"), administration.identifier(request)
    database = http.resources(request).database
    try:
        document = await routes.CONNECTION_UPDATE.read(request)
    except errors.ValidationFailed:
        await service.get_connection(database, connection_id, client_id=client_id)
        raise
    connection = await service.change_redirect_uri(
        database,
        connection_id,
        client_id=client_id,
        redirect_uri=document["redirect_uri"],
        expected_versions=http.expected_versions(request),
        actor=administration.actor(request),
    )
    return http.answer(request, routes.view(connection), headers={"etag": http.entity_tag(connection.version)})


async def refresh_secret(request: Request) -> Response:
    """Another secret, shown here only. The API-key says who asks, where it is another's connection."""
    client_id, connection_id = administration.identifier(request, "client_id"), administration.identifier(request)
    document = await routes.REFRESH_SECRET.read(request)
    connection, secret = await service.refresh_secret(
        http.resources(request).database,
        connection_id,
        client_id=client_id,
        previous_lives_seconds=document.get("previous_secret_expires_in", 0),
        expected_versions=http.expected_versions(request),
        api_key_was_sent="api-key" in request.headers,
        actor=await _actor_with_key(request),
    )
    data = routes.detailed_view(connection) | {"secret": secret}
    return http.answer(request, data, headers={"etag": http.entity_tag(connection.version)})


async def remove(request: Request) -> Response:
    """Delete it; every token and code that was issued through it ends."""
    client_id, connection_id = administration.identifier(request, "client_id"), administration.identifier(request)
    await service.delete_connection(
        http.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=http.expected_versions(request),
        actor=administration.actor(request),
    )
    return administration.answer_nothing()


def _judged(settings: Settings, columns: partial[Document]) -> Document:
    """The columns, once the address among them has passed every rule. Raises ValidationFailed."""
    judged = columns()
    if "redirect_uri" in judged:
        is_https = HTTPS.fullmatch(judged["redirect_uri"])
        found = {routes.ENTRY: [] if is_https else [NOT_HTTPS]}
        routes.judge_redirect_uri(judged, found, settings)
        changesets.refuse((entry, rule) for entry, rules in found.items() for rule in rules)
    return judged


async def _actor_with_key(request: Request) -> Actor:
    """Nobody has been authenticated: whose API-key it is, is looked up for this request alone."""
    actor, api_key = administration.actor(request), http.header(request, "api-key")
    if not api_key:
        return actor
    holder = await verification.find_key_client(http.resources(request).database, api_key)
    return msgspec.structs.replace(actor, api_key_client_id=holder)


ROUTES = [
    http.route(LIST, list_),
    http.route(LIST, put, "PUT"),
    http.route(ONE, show),
    http.route(ONE, update, "PATCH"),
    http.route(ONE, remove, "DELETE"),
    http.route(f"{ONE}/actions/refresh_secret", refresh_secret, "PATCH"),
]
