"""Administration of second factors and one-time passwords (rules USR-18 to USR-22)."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.otp import factors, store
from mithril.otp.view import brief_view, code_view, view
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

FILTERS = Filters(type=query_parameters.text, is_active=query_parameters.boolean)
CODE_FILTERS = Filters(key=query_parameters.text, status=query_parameters.text, active=query_parameters.boolean)
PATH = "/admin/users/{user_id}/authentication_factors"
ONE = PATH + "/{id}"


async def list_(request: Request) -> Response:
    """List the factors of a user. The path names the user, so `user` is empty here, as in the original."""
    user_id = admin.identifier(request, "user_id")
    filters, page = FILTERS.read(request)
    found = await store.list_factors(requests.resources(request).database, filters | {"user_id": user_id}, page=page)
    return envelope.answer_page(request, found, brief_view)


async def show(request: Request) -> Response:
    """Show one factor."""
    user_id, factor_id = admin.identifier(request, "user_id"), admin.identifier(request)
    return envelope.answer(
        request, view(await factors.get_factor(requests.resources(request).database, user_id, factor_id))
    )


async def add(request: Request) -> Response:
    """Add a factor, with a phone or without."""
    user_id = admin.identifier(request, "user_id")
    given = await wrapped_bodies.read_bare(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    added = await factors.add_factor(database, user_id, given, actor=actor)
    location = PATH.format(user_id=user_id) + f"/{added.factor.id}"
    return admin.answer_created(request, view(added), location=location)


async def reset(request: Request) -> Response:
    """Remove the phone: the user names one at the next login."""
    user_id, factor_id = admin.identifier(request, "user_id"), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(request, view(await factors.reset_factor(database, user_id, factor_id, actor=actor)))


async def disable(request: Request) -> Response:
    """Stop asking for the factor."""
    return await _set_active(request, is_active=False)


async def enable(request: Request) -> Response:
    """Ask for the factor again."""
    return await _set_active(request, is_active=True)


async def list_codes(request: Request) -> Response:
    """List one-time passwords: for whom, and with which result."""
    filters, page = CODE_FILTERS.read(request)
    found = await store.list_codes(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, code_view)


async def _set_active(request: Request, *, is_active: bool) -> Response:
    user_id, factor_id = admin.identifier(request, "user_id"), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    found = await factors.set_active(database, user_id, factor_id, is_active=is_active, actor=actor)
    return envelope.answer(request, view(found))


ROUTES = [
    routing.route(PATH, list_, takes_query=True),
    routing.route(PATH, add, "POST"),
    routing.route(ONE, show),
    routing.route(f"{ONE}/actions/reset", reset, "PATCH"),
    routing.route(f"{ONE}/actions/disable", disable, "PATCH"),
    routing.route(f"{ONE}/actions/enable", enable, "PATCH"),
    routing.route("/admin/otps", list_codes, takes_query=True),
]
