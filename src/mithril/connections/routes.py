"""The public methods of connections (ESOZ "Manage client configuration", entity ENT-011)."""

from typing import Any
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import access
from mithril.access import Caller, protected
from mithril.audit.events import Event
from mithril.connections import redirect_uris, service
from mithril.connections.store import Connection
from mithril.errors import Rule
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.validation.bodies import Body, Document
from mithril.web import conditional, envelope, query_parameters, requests

LIST = "/api/clients/{client_id}/connections"
ONE = f"{LIST}/{{connection_id}}"
ENTRY = "$.redirect_uri"
FILTERS = query_parameters.Query(consumer_id=query_parameters.uuid, redirect_uri=query_parameters.text)
PAGES = query_parameters.Query()


def judge_redirect_uri(document: Any, found: dict[str, list[Rule]], settings: Settings) -> None:  # noqa: ANN401
    """Adds the rules of redirect addresses to what the published schema found."""
    uri = document.get("redirect_uri") if isinstance(document, dict) else None
    if not isinstance(uri, str):
        return
    policy = redirect_uris.Policy.of(settings)
    if policy.allow_loopback and redirect_uris.is_demo_loopback(uri):
        found.pop(ENTRY, None)  # the published `^(https)://.+`, which developers on localhost are spared
    for problem in redirect_uris.problems(uri, policy):
        rule = Rule("redirect_uri", problem.description, {"reason": problem.reason}, problem.suggestion)
        found.setdefault(ENTRY, []).append(rule)


CONNECTION_UPDATE = Body("mithril.connections", "connection_update.json", rules=judge_redirect_uri)
REFRESH_SECRET = Body("mithril.connections", "refresh_secret.json", is_optional=True)
REDIRECT_URI_CHECK = Body("mithril.connections", "redirect_uri_check.json")


async def list_(request: Request, _: Caller, __: Document) -> Response:
    """API-009-001-006-0337, Get client connections."""
    filters, page = FILTERS.read(request)
    client_id, _none = _named(request)
    found = await service.list_connections(
        requests.resources(request).database, filters, client_id=client_id, page=page
    )
    return envelope.answer_page(request, found, detailed_view)


async def show(request: Request, _: Caller, __: Document) -> Response:
    """API-009-001-006-0338, Get client connection details."""
    client_id, connection_id = _named(request)
    database = requests.resources(request).database
    connection = await service.get_connection(database, connection_id, client_id=client_id)
    headers = {"etag": conditional.entity_tag(connection.version), "cache-control": "private, no-cache"}
    if conditional.is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    return envelope.answer(request, detailed_view(connection), headers=headers)


async def update(request: Request, caller: Caller, document: Document) -> Response:
    """API-009-001-006-0339, Update client connection."""
    client_id, connection_id = _named(request)
    connection = await service.change_redirect_uri(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        redirect_uri=document["redirect_uri"],
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    return envelope.answer(request, view(connection), headers={"etag": conditional.entity_tag(connection.version)})


async def refresh_secret(request: Request, caller: Caller, document: Document) -> Response:
    """API-009-001-006-0340, Refresh client secret: the only answer that shows a secret."""
    client_id, connection_id = _named(request)
    connection, secret = await service.refresh_secret(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        previous_lives_seconds=document.get("previous_secret_expires_in", 0),
        expected_versions=conditional.expected_versions(request),
        api_key_was_sent="api-key" in request.headers,
        actor=access.actor(request, caller),
    )
    data = detailed_view(connection) | {"secret": secret}
    return envelope.answer(request, data, headers={"etag": conditional.entity_tag(connection.version)})


async def delete(request: Request, caller: Caller, _: Document) -> Response:
    """API-009-001-006-0341, Delete client connection."""
    client_id, connection_id = _named(request)
    await service.delete_connection(
        requests.resources(request).database,
        connection_id,
        client_id=client_id,
        expected_versions=conditional.expected_versions(request),
        actor=access.actor(request, caller),
    )
    return envelope.answer_without_data(request)


async def list_history(request: Request, _: Caller, __: Document) -> Response:
    """What happened to a connection, newest first; not a published method."""
    _filters, page = PAGES.read(request)
    client_id, connection_id = _named(request)
    database = requests.resources(request).database
    history = await service.list_history(database, connection_id, client_id=client_id, page=page)
    return envelope.answer_page(request, history, event_view)


async def check_redirect_uri(request: Request, _: Caller, document: Document) -> Response:
    """What an update would say to an address, without changing any; not a published method."""
    policy = redirect_uris.Policy.of(requests.resources(request).settings)
    problems = redirect_uris.problems(document["redirect_uri"], policy)
    return envelope.answer(request, redirect_uris.verdict(problems))


def view(connection: Connection) -> dict[str, object]:
    """The published fields, in their order."""
    return {
        "id": connection.id,
        "client_id": connection.client_id,
        "consumer_id": connection.consumer_id,
        "redirect_uri": connection.redirect_uri,
        "inserted_at": connection.inserted_at,
        "updated_at": connection.updated_at,
    }


def detailed_view(connection: Connection) -> dict[str, object]:
    """The published fields, and which secret is deployed."""
    return view(connection) | {
        "secret_tail": connection.secret_tail,
        "previous_secret_expires_at": connection.previous_secret_expires_at,
    }


def event_view(event: Event) -> dict[str, object]:
    """All that the audit trail says, the address that it came from excepted: that is the operator's to see."""
    return {
        "id": event.id,
        "occurred_at": event.occurred_at,
        "action": event.action,
        "actor_user_id": event.actor_user_id,
        "actor_client_id": event.actor_client_id,
        "api_key_client_id": event.api_key_client_id,
        "request_id": event.request_id,
        "old": None if event.old is None else msgspec.Raw(event.old.encode()),
        "new": None if event.new is None else msgspec.Raw(event.new.encode()),
    }


def _named(request: Request) -> tuple[UUID | None, UUID | None]:
    """The client and the connection that the path names."""
    parameters = request.path_params
    return parse_uuid(parameters["client_id"]), parse_uuid(parameters.get("connection_id", ""))


ROUTES = [
    protected(ONE, update, method="PATCH", scope="connection:write", body=CONNECTION_UPDATE),
    protected(LIST, list_, scope="connection:read"),
    protected(ONE, show, scope="connection:read"),
    protected(ONE, delete, method="DELETE", scope="connection:delete"),
    protected(
        f"{ONE}/actions/refresh_secret",
        refresh_secret,
        method="PATCH",
        scope="connection:refresh_secret",
        body=REFRESH_SECRET,
    ),
    protected(f"{ONE}/history", list_history, scope="connection:read"),
    protected("/api/redirect_uris/check", check_redirect_uri, method="POST", body=REDIRECT_URI_CHECK),
]
