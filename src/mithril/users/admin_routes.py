"""Administration of users (rules USR-1 to USR-11). No answer contains anything about a password."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.users import accounts, fields, store
from mithril.users.view import view
from mithril.validation.bodies import Document
from mithril.web import admin, bodies, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

FILTERS = Filters(
    id=query_parameters.uuid,
    ids=query_parameters.uuids,
    email=query_parameters.text,
    tax_id=query_parameters.text,
    is_blocked=query_parameters.boolean,
)
PATH, WRAPPER = "/admin/users", "user"
ONE = PATH + "/{id}"


async def list_(request: Request) -> Response:
    """List all users, or those that match."""
    filters, page = FILTERS.read(request)
    found = await store.list_users(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, view)


async def show(request: Request) -> Response:
    """Show one user."""
    user_id = admin.identifier(request)
    return envelope.answer(request, view(await accounts.get(requests.resources(request).database, user_id)))


async def add(request: Request) -> Response:
    """Add a user, with a second factor unless that is not wanted."""
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    settings, database, _ = requests.resources(request)
    added = await accounts.add(database, settings, given, actor=admin.actor(request))
    return admin.answer_created(request, view(added), location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Change the fields that are given."""
    user_id = admin.identifier(request)
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    settings, database, _ = requests.resources(request)
    changed = await accounts.change(database, settings, user_id, given, actor=admin.actor(request))
    return envelope.answer(request, view(changed))


async def remove(request: Request) -> Response:
    """Delete a user with all that the user owns."""
    user_id = admin.identifier(request)
    await accounts.remove(requests.resources(request).database, user_id, actor=admin.actor(request))
    return admin.answer_nothing()


async def change_password(request: Request) -> Response:
    """Set a new password for a user who knows the present one."""
    user_id = admin.identifier(request)
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(request, view(await accounts.change_password(database, user_id, given, actor=actor)))


async def block(request: Request) -> Response:
    """Block a user."""
    user_id, given = admin.identifier(request), await _read_optional(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(request, view(await accounts.block(database, user_id, given, actor=actor)))


async def unblock(request: Request) -> Response:
    """Unblock a user."""
    user_id, given = admin.identifier(request), await _read_optional(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(request, view(await accounts.unblock(database, user_id, given, actor=actor)))


async def _read_optional(request: Request) -> Document:
    """Return the wrapped fields of a body that may be absent; a wrapper that is not an object has none."""
    document = await bodies.read_optional(request, fields.BLOCK.schema["properties"])
    given = document.get(WRAPPER) if isinstance(document, dict) else None
    return given if isinstance(given, dict) else {}


ROUTES = [
    routing.route(PATH, list_, takes_query=True),
    routing.route(PATH, add, "POST"),
    routing.route(ONE, show),
    routing.route(ONE, change, "PUT", "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{ONE}/actions/change_password", change_password, "PATCH"),
    routing.route(f"{ONE}/actions/block", block, "PATCH"),
    routing.route(f"{ONE}/actions/unblock", unblock, "PATCH"),
]
