"""The public methods of connections (ESOZ "Manage client configuration", entity ENT-011)."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import access, errors
from mithril.access import Caller, protected
from mithril.connections import fields, redirect_uris, service, store, view
from mithril.identifiers import parse_uuid
from mithril.validation.bodies import Document
from mithril.web import conditional, envelope, query_parameters, requests

LIST = "/api/clients/{client_id}/connections"
ONE = f"{LIST}/{{connection_id}}"
REFRESH = f"{ONE}/actions/refresh_secret"
FILTERS = query_parameters.Query(consumer_id=query_parameters.uuid, redirect_uri=query_parameters.text)
PAGES = query_parameters.Query()


async def list_(request: Request, _: Caller, __: Document) -> Response:
    """API-009-001-006-0337, Get client connections."""
    filters, page = FILTERS.read(request)
    database, client_id = requests.resources(request).database, _named(request, "client_id")
    found = await store.list_connections(database, filters, client_id=client_id, page=page)
    return envelope.answer_page(request, found, view.detailed_view)


async def show(request: Request, _: Caller, __: Document) -> Response:
    """API-009-001-006-0338, Get client connection details."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    database = requests.resources(request).database
    connection = await service.get_connection(database, connection_id, client_id=client_id)
    headers = {"etag": conditional.entity_tag(connection.version), "cache-control": "private, no-cache"}
    if conditional.is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return envelope.answer(request, view.detailed_view(connection), headers=headers)


async def update(request: Request, caller: Caller, document: Document) -> Response:
    """API-009-001-006-0339, Update client connection."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    connection = await service.change_redirect_uri(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        redirect_uri=document["redirect_uri"],
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    return envelope.answer(request, view.view(connection), headers={"etag": conditional.entity_tag(connection.version)})


async def refresh_secret(request: Request, caller: Caller, document: Document) -> Response:
    """API-009-001-006-0340, Refresh client secret: the only answer that shows a secret."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    connection, secret = await service.refresh_secret(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        previous_expires_in_seconds=document.get("previous_secret_expires_in", 0),
        expected_versions=conditional.expected_versions(request),
        api_key_was_sent="api-key" in request.headers,
        actor=access.actor(request, caller),
    )
    data = view.detailed_view(connection) | {"secret": secret}
    return envelope.answer(request, data, headers={"etag": conditional.entity_tag(connection.version)})


async def delete(request: Request, caller: Caller, _: Document) -> Response:
    """API-009-001-006-0341, Delete client connection."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    await service.delete_connection(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    return envelope.answer_without_data(request)


async def list_history(request: Request, _: Caller, __: Document) -> Response:
    """List what happened to a connection, newest first; not a published method."""
    _filters, page = PAGES.read(request)
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    database = requests.resources(request).database
    history = await service.list_history(database, connection_id, client_id=client_id, page=page)
    return envelope.answer_page(request, history, view.event_view)


async def check_redirect_uri(request: Request, _: Caller, document: Document) -> Response:
    """Say what an update would answer to a redirect URI, without any change; not a published method."""
    policy = redirect_uris.Policy.of(requests.resources(request).settings)
    problems = redirect_uris.problems(document["redirect_uri"], policy)
    return envelope.answer(request, redirect_uris.verdict(problems))


def _named(request: Request, name: str) -> UUID:
    """Return the UUID in the path. Raises NotFound for anything else, which names nothing."""
    return errors.found(parse_uuid(request.path_params[name]))


ROUTES = [
    protected(ONE, update, method="PATCH", scope="connection:write", body=fields.CONNECTION_UPDATE),
    protected(LIST, list_, scope="connection:read"),
    protected(ONE, show, scope="connection:read"),
    protected(ONE, delete, method="DELETE", scope="connection:delete"),
    protected(REFRESH, refresh_secret, method="PATCH", scope="connection:refresh_secret", body=fields.REFRESH_SECRET),
    protected(f"{ONE}/history", list_history, scope="connection:read"),
    protected("/api/redirect_uris/check", check_redirect_uri, method="POST", body=fields.REDIRECT_URI_CHECK),
]
