"""Administration of the roles of users (rules USR-12 to USR-17). What a role may do is in `scope_sets`."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.user_roles import service, store, view
from mithril.validation.fields import REQUIRED, refuse
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

USER_ROLES = "/admin/users/{user_id}/roles"
GLOBAL_ROLES = "/admin/users/{user_id}/global_roles"
FILTERS = Filters(
    user_id=query_parameters.uuid,
    user_ids=query_parameters.uuids,
    role_id=query_parameters.uuid,
    client_id=query_parameters.uuid,
)
TAKEN_BY = {
    "role_name": query_parameters.text,
    "role_id": query_parameters.uuid,
    "client_id": query_parameters.uuid,
}
TAKE_FILTERS = Filters(**TAKEN_BY)
PAGES = Filters()


async def list_(request: Request) -> Response:
    """List the roles of users in clients, or those that match. Paged like every list, unlike the original."""
    filters, page = FILTERS.read(request)
    found = await store.list_user_roles(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, view.view)


async def list_of_user(request: Request) -> Response:
    """List the roles of one user in clients. The user of the path counts, not one in the query. Paged."""
    user_id = admin.identifier(request, "user_id")
    filters, page = FILTERS.read(request)
    filters = filters | {"user_id": user_id}
    found = await store.list_user_roles(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, view.view)


async def show(request: Request) -> Response:
    """Show one role of a user. Another user's role is not found; the original does not check that."""
    user_id, row_id = admin.identifier(request, "user_id"), admin.identifier(request)
    found = await service.get_user_role(requests.resources(request).database, row_id, user_id=user_id)
    return envelope.answer(request, view.brief_view(found))


async def give(request: Request) -> Response:
    """Give the user of the path a role in a client.

    A `user_id` in the body that names another user is refused. In the original it wins over the path, so that a
    caller who may write to the path of one user gives roles to any other.
    """
    user_id = admin.identifier(request, "user_id")
    sent = await wrapped_bodies.read_wrapped(request, "user_role")
    database, actor = requests.resources(request).database, admin.actor(request)
    given = await service.give_role(database, user_id, sent, actor=actor)
    location = f"/admin/users/{user_id}/roles/{given.id}"
    return admin.answer_created(request, view.brief_view(given) | {"scope": given.scope}, location=location)


async def take(request: Request) -> Response:
    """Take from a user the roles that match all of `role_name`, `role_id` and `client_id`; without these, all.

    In the original `role_name` takes the role in every client, whatever `client_id` says. An empty filter is
    refused: it is a mistake, and would take more than was meant.
    """
    user_id = admin.identifier(request, "user_id")
    empty = (name for name in TAKEN_BY if "" in request.query_params.getlist(name))
    refuse((f"$.{name}", REQUIRED) for name in empty)
    filters, _ = TAKE_FILTERS.read(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.take_roles(database, filters | {"user_id": user_id}, actor=actor)
    return admin.answer_nothing()


async def take_one(request: Request) -> Response:
    """Take one role in a client from the user who has it."""
    row_id = admin.identifier(request)
    await service.take_role(requests.resources(request).database, row_id, actor=admin.actor(request))
    return admin.answer_nothing()


async def list_global(request: Request) -> Response:
    """List the roles that a user has in every client; not a method of the original. Paged."""
    user_id = admin.identifier(request, "user_id")
    _filters, page = PAGES.read(request)
    found = await store.list_global_roles(requests.resources(request).database, user_id, page=page)
    return envelope.answer_page(request, found, view.global_view)


async def show_global(request: Request) -> Response:
    """Show one role that a user has in every client."""
    user_id, row_id = admin.identifier(request, "user_id"), admin.identifier(request)
    found = await service.get_global_role(requests.resources(request).database, row_id, user_id=user_id)
    return envelope.answer(request, view.global_view(found))


async def give_global(request: Request) -> Response:
    """Give the user of the path a role in every client; 201 with the existing row where the user has it."""
    user_id = admin.identifier(request, "user_id")
    sent = await wrapped_bodies.read_wrapped(request, "global_user_role")
    database, actor = requests.resources(request).database, admin.actor(request)
    given = await service.give_global_role(database, user_id, sent, actor=actor)
    location = f"/admin/users/{user_id}/global_roles/{given.id}"
    return admin.answer_created(request, view.global_view(given), location=location)


async def take_global(request: Request) -> Response:
    """Take a role in every client from a user; not a method of the original, which never takes it."""
    user_id, row_id = admin.identifier(request, "user_id"), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.take_global_role(database, row_id, user_id=user_id, actor=actor)
    return admin.answer_nothing()


ROUTES = [
    routing.route("/admin/user_roles", list_, takes_query=True),
    routing.route(USER_ROLES, list_of_user, takes_query=True),
    routing.route(USER_ROLES, give, "POST"),
    routing.route(USER_ROLES, take, "DELETE", takes_query=True),
    routing.route(f"{USER_ROLES}/{{id}}", show),
    routing.route("/admin/users/roles/{id}", take_one, "DELETE"),
    routing.route(GLOBAL_ROLES, list_global, takes_query=True),
    routing.route(GLOBAL_ROLES, give_global, "POST"),
    routing.route(f"{GLOBAL_ROLES}/{{id}}", show_global),
    routing.route(f"{GLOBAL_ROLES}/{{id}}", take_global, "DELETE"),
]
