"""The public methods of connections (ESOZ "Manage client configuration", entity ENT-011)."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import access, errors
from mithril.access import Caller, protected
from mithril.connections import fields, redirect_uris, service, store, transitions, view
from mithril.identifiers import parse_row_number, parse_uuid
from mithril.validation.bodies import Document
from mithril.web import conditional, envelope, query_parameters, requests

LIST = "/api/clients/{client_id}/connections"
ONE = f"{LIST}/{{connection_id}}"
REFRESH = f"{ONE}/actions/refresh_secret"
TRANSITION = f"{ONE}/transition"
REVERT = f"{ONE}/history/{{event_id}}/actions/revert"
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
    headers = {
        "etag": conditional.entity_tag(connection.version, *connection.seen),
        "cache-control": "private, no-cache",
    }
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


async def begin_transition(request: Request, caller: Caller, document: Document) -> Response:
    """Let a second redirect URI be good beside the present one, for a time; not a published method."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    connection = await transitions.begin(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        redirect_uri=document["redirect_uri"],
        lasts_seconds=document.get("lasts_seconds", fields.TRANSITION_SECONDS),
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    headers = {"etag": conditional.entity_tag(connection.version, *connection.seen)}
    return envelope.answer(request, view.detailed_view(connection), headers=headers)


async def show_transition(request: Request, _: Caller, __: Document) -> Response:
    """Show the transition, and how many signed in through each redirect URI; not a published method."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    database = requests.resources(request).database
    transition = await transitions.get_transition(database, connection_id, client_id=client_id)
    return envelope.answer(request, view.transition_view(transition))


async def cancel_transition(request: Request, caller: Caller, _: Document) -> Response:
    """End the transition: only the old redirect URI is good; not a published method."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    await transitions.cancel(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    return envelope.answer_without_data(request)


async def revert(request: Request, caller: Caller, _: Document) -> Response:
    """Set the redirect URI from before an event again; not a published method."""
    if not conditional.sends_if_match(request):
        raise errors.PreconditionRequired
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    settings, database, _messenger = requests.resources(request)
    connection = await transitions.revert(
        database,
        settings,
        connection_id,
        errors.found(parse_row_number(request.path_params["event_id"])),
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    return envelope.answer(request, view.view(connection), headers={"etag": conditional.entity_tag(connection.version)})


async def end_previous_secret(request: Request, caller: Caller, _: Document) -> Response:
    """Revoke the previous secret before its time; not a published method."""
    client_id, connection_id = _named(request, "client_id"), _named(request, "connection_id")
    await service.end_previous_secret(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        api_key_was_sent="api-key" in request.headers,
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
    found = parse_uuid(request.path_params[name])
    if found is None:
        raise errors.NotFound(detail=access.NO_UUID)
    return found


ROUTES = [
    protected(ONE, update, method="PATCH", scope="connection:write", body=fields.CONNECTION_UPDATE),
    protected(LIST, list_, scope="connection:read"),
    protected(ONE, show, scope="connection:read"),
    protected(ONE, delete, method="DELETE", scope="connection:delete"),
    protected(REFRESH, refresh_secret, method="PATCH", scope="connection:refresh_secret", body=fields.REFRESH_SECRET),
    protected(f"{ONE}/previous_secret", end_previous_secret, method="DELETE", scope="connection:refresh_secret"),
    protected(TRANSITION, show_transition, scope="connection:read"),
    protected(TRANSITION, begin_transition, method="PUT", scope="connection:write", body=fields.TRANSITION),
    protected(TRANSITION, cancel_transition, method="DELETE", scope="connection:write"),
    protected(f"{ONE}/history", list_history, scope="connection:read"),
    protected(REVERT, revert, method="POST", scope="connection:write"),
    protected("/api/redirect_uris/check", check_redirect_uri, method="POST", body=fields.REDIRECT_URI_CHECK),
]
