"""Administration of approvals, `/admin/apps` (rules ADM-9 to ADM-14), for the user whom X-Consumer-Id names."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors, refusals
from mithril.approvals import service
from mithril.approvals.routes import answer_list, client_names, clients
from mithril.approvals.view import view
from mithril.identifiers import parse_uuid
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

FILTERS = Filters(client_ids=clients, client_names=client_names)
FILTERS_OF_A_USER = Filters(client_id=query_parameters.uuid)
PATH, WRAPPER = "/admin/apps", "app"


async def list_(request: Request) -> Response:
    """List the user's approvals, or those for some clients."""
    return await answer_list(request, FILTERS, user_id=_user(request), view=view)


async def show(request: Request) -> Response:
    """Show one of the user's approvals."""
    user_id, approval_id = _user(request), admin.identifier(request)
    found = await service.get_approval(requests.resources(request).database, approval_id, user_id=user_id)
    return envelope.answer(request, view(found))


async def add(request: Request) -> Response:
    """Add an approval of the user."""
    user_id = _user(request)
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    database, actor = requests.resources(request).database, admin.actor(request)
    added = await service.add(database, user_id, given, actor=actor)
    return admin.answer_created(request, view(added), location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Change the scope or the client."""
    user_id, approval_id = _user(request), admin.identifier(request)
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    database, actor = requests.resources(request).database, admin.actor(request)
    changed = await service.change(database, approval_id, given, user_id=user_id, actor=actor)
    return envelope.answer(request, view(changed))


async def remove(request: Request) -> Response:
    """Delete an approval, and revoke the client's tokens for the user."""
    user_id, approval_id = _user(request), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.remove(database, approval_id, user_id=user_id, actor=actor)
    return admin.answer_nothing()


async def remove_of_user(request: Request) -> Response:
    """Delete all approvals of a user, or the one for a client. X-Consumer-Id may be absent."""
    user_id = admin.identifier(request, "user_id")
    filters, _ = FILTERS_OF_A_USER.read(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.remove_all(database, user_id, client_id=filters.get("client_id"), actor=actor)
    return admin.answer_nothing()


def _user(request: Request) -> UUID:
    """Return the user whom X-Consumer-Id names. Raises Unauthorized without it, RequestMalformed for no UUID."""
    named = requests.header(request, "x-consumer-id")
    if not named:
        raise refusals.ConsumerIdMissing
    user_id = parse_uuid(named)
    if user_id is None:
        raise errors.RequestMalformed("X-Consumer-Id is no UUID")
    return user_id


ROUTES = [
    routing.route(PATH, list_, takes_query=True),
    routing.route(PATH, add, "POST"),
    routing.route(f"{PATH}/{{id}}", show),
    routing.route(f"{PATH}/{{id}}", change, "PUT", "PATCH"),
    routing.route(f"{PATH}/{{id}}", remove, "DELETE"),
    routing.route("/admin/users/{user_id}/apps", remove_of_user, "DELETE", takes_query=True),
]
