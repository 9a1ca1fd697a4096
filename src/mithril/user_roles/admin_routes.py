"""Administration of who has which role (contract.md 3.9). What a role may do is in `scope_sets`."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril.errors import Rule
from mithril.user_roles import routes, service
from mithril.user_roles.store import GlobalRole, UserRole
from mithril.validation import fields as validation
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields
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
TAKEN_BY = {"role_name": query_parameters.text, "role_id": query_parameters.uuid, "client_id": query_parameters.uuid}
TAKE_FILTERS = Filters(**TAKEN_BY)
PAGES = Filters()
USER_ROLE = Fields("mithril.user_roles", "user_role.json")
GLOBAL_USER_ROLE = Fields("mithril.user_roles", "global_user_role.json")
CONSTRAINTS = {
    "user_roles_user_id_role_id_client_id_index": "$.user_roles",
    "user_roles_user_id_fkey": "$.user_id",
    "user_roles_role_id_fkey": "$.role_id",
    "user_roles_client_id_fkey": "$.client_id",
    "global_user_roles_user_id_fkey": "$.user_id",
    "global_user_roles_role_id_fkey": "$.role_id",
}


async def list_(request: Request) -> Response:
    """Everybody's roles in clients, or those that match. Paged as every list, though the original's is not."""
    filters, page = FILTERS.read(request)
    found = await service.list_user_roles(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, routes.view)


async def list_of_user(request: Request) -> Response:
    """One person's roles in clients; the person of the path counts, whatever the query says. Paged."""
    user_id = admin.identifier(request, "user_id")
    filters, page = FILTERS.read(request)
    filters = filters | {"user_id": user_id}
    found = await service.list_user_roles(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, routes.view)


async def show(request: Request) -> Response:
    """One role of that person: another person's is not found, which the original does not look at."""
    user_id, row_id = admin.identifier(request, "user_id"), admin.identifier(request)
    found = await service.get_user_role(requests.resources(request).database, row_id, user_id=user_id)
    return envelope.answer(request, view(found))


async def give(request: Request) -> Response:
    """Give the person of the path a role in a client.

    A `user_id` in the body that names somebody else is refused. In the original it wins over the path, so that a
    caller who may write to one person's path gives roles to any other.
    """
    user_id = admin.identifier(request, "user_id")
    columns = USER_ROLE.new(await wrapped_bodies.read_wrapped(request, "user_role"))
    _check_user(columns, user_id)
    database, actor = requests.resources(request).database, admin.actor(request)
    with validation.constraints(CONSTRAINTS):
        given = await service.give_role(database, user_id, columns, actor=actor)
    location = f"/admin/users/{user_id}/roles/{given.id}"
    return admin.answer_created(request, view(given) | {"scope": given.scope}, location=location)


async def take(request: Request) -> Response:
    """Take from a person the roles that match all of `role_name`, `role_id` and `client_id`; without any, all.

    In the original `role_name` takes the role in every client, whichever was named. A filter that is named and
    left empty is refused: it is a mistake, and would take more than was meant.
    """
    user_id = admin.identifier(request, "user_id")
    empty = (name for name in TAKEN_BY if "" in request.query_params.getlist(name))
    validation.refuse((f"$.{name}", validation.REQUIRED) for name in empty)
    filters, _ = TAKE_FILTERS.read(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.take_roles(database, filters | {"user_id": user_id}, actor=actor)
    return admin.answer_nothing()


async def take_one(request: Request) -> Response:
    """Take one role in a client from whoever has it."""
    row_id = admin.identifier(request)
    await service.take_role(requests.resources(request).database, row_id, actor=admin.actor(request))
    return admin.answer_nothing()


async def list_global(request: Request) -> Response:
    """The roles that a person has everywhere; not a method of the original. Paged."""
    user_id = admin.identifier(request, "user_id")
    _filters, page = PAGES.read(request)
    found = await service.list_global_roles(requests.resources(request).database, user_id, page=page)
    return envelope.answer_page(request, found, global_view)


async def show_global(request: Request) -> Response:
    """One role that the person has everywhere."""
    user_id, row_id = admin.identifier(request, "user_id"), admin.identifier(request)
    found = await service.get_global_role(requests.resources(request).database, row_id, user_id=user_id)
    return envelope.answer(request, global_view(found))


async def give_global(request: Request) -> Response:
    """Give the person of the path a role everywhere; 201 also where they have it, with the row that is there."""
    user_id = admin.identifier(request, "user_id")
    columns = GLOBAL_USER_ROLE.new(await wrapped_bodies.read_wrapped(request, "global_user_role"))
    _check_user(columns, user_id)
    database, actor = requests.resources(request).database, admin.actor(request)
    with validation.constraints(CONSTRAINTS):
        given = await service.give_global_role(database, user_id, role_id=UUID(columns["role_id"]), actor=actor)
    location = f"/admin/users/{user_id}/global_roles/{given.id}"
    return admin.answer_created(request, global_view(given), location=location)


async def take_global(request: Request) -> Response:
    """Take a role that counts everywhere; not a method of the original, in which it stays for good."""
    user_id, row_id = admin.identifier(request, "user_id"), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.take_global_role(database, row_id, user_id=user_id, actor=actor)
    return admin.answer_nothing()


def view(role: UserRole) -> dict[str, object]:
    """One role, without names and times."""
    return {"id": role.id, "user_id": role.user_id, "role_id": role.role_id, "client_id": role.client_id}


def global_view(role: GlobalRole) -> dict[str, object]:
    """The fields of a role that counts everywhere."""
    return {
        "id": role.id,
        "user_id": role.user_id,
        "role_id": role.role_id,
        "role_name": role.role_name,
        "scope": role.scope,
        "inserted_at": role.inserted_at,
        "updated_at": role.updated_at,
    }


def _check_user(columns: Document, user_id: UUID) -> None:
    """Raises ValidationFailed for a body that names another person than the path."""
    if UUID(columns.get("user_id", str(user_id))) != user_id:
        validation.refuse([("$.user_id", Rule("inclusion", "is invalid", [str(user_id)]))])


ROUTES = [
    routing.route("/admin/user_roles", list_),
    routing.route(USER_ROLES, list_of_user),
    routing.route(USER_ROLES, give, "POST"),
    routing.route(USER_ROLES, take, "DELETE"),
    routing.route(f"{USER_ROLES}/{{id}}", show),
    routing.route("/admin/users/roles/{id}", take_one, "DELETE"),
    routing.route(GLOBAL_ROLES, list_global),
    routing.route(GLOBAL_ROLES, give_global, "POST"),
    routing.route(f"{GLOBAL_ROLES}/{{id}}", show_global),
    routing.route(f"{GLOBAL_ROLES}/{{id}}", take_global, "DELETE"),
]
