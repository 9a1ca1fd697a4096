"""Administration of tokens (rules ADM-15 to ADM-18).

A value is shown once, in the answer that adds the token; a digest never. What gateways ask about tokens
is in `gateway`. A session for a user, `/admin/users/{id}/tokens/access`, is a grant and in `oauth.admin_routes`.
"""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.database.database import Database
from mithril.tokens import records
from mithril.tokens.view import view
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

OF_ANY_USER: dict[str, query_parameters.Parser] = {
    "name": query_parameters.text,
    "value": str,
    "client_id": query_parameters.uuid,
}
FILTERS = Filters(**OF_ANY_USER, id=query_parameters.uuid, user_id=query_parameters.uuid)
FILTERS_OF_A_USER = Filters(**OF_ANY_USER)
PATH, WRAPPER = "/admin/tokens", "token"


async def list_(request: Request) -> Response:
    """List all tokens, or those that match."""
    filters, page = FILTERS.read(request)
    return envelope.answer_page(request, await records.list_records(_database(request), filters, page=page), view)


async def show(request: Request) -> Response:
    """Show one token, active or not."""
    token_id = admin.identifier(request)
    return envelope.answer(request, view(await records.get_record(_database(request), token_id)))


async def add(request: Request) -> Response:
    """Add a token of any kind, with the value that the caller has made."""
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    added = await records.add(_database(request), given, actor=admin.actor(request))
    data = view(added) | {"value": given["value"]}
    return admin.answer_created(request, data, location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Change the fields that are given."""
    token_id = admin.identifier(request)
    given = await wrapped_bodies.read_wrapped(request, WRAPPER)
    changed = await records.change(_database(request), token_id, given, actor=admin.actor(request))
    return envelope.answer(request, view(changed))


async def remove(request: Request) -> Response:
    """Delete a token."""
    token_id = admin.identifier(request)
    await records.remove(_database(request), token_id, actor=admin.actor(request))
    return admin.answer_nothing()


async def remove_of_user(request: Request) -> Response:
    """Delete the tokens of a user, or those of them that match."""
    user_id = admin.identifier(request, "user_id")
    filters, _ = FILTERS_OF_A_USER.read(request)
    actor = admin.actor(request)
    await records.remove_all(_database(request), [user_id], filters=filters, actor=actor)
    return admin.answer_nothing()


async def remove_of_users(request: Request) -> Response:
    """Delete all tokens of the users that the query names."""
    given = request.query_params.getlist("user_ids")
    try:
        user_ids = query_parameters.uuids(given[0] if given else "")
    except query_parameters.InvalidValue:
        raise errors.RequestMalformed("user_ids must be UUIDs by comma") from None
    await records.remove_all(_database(request), user_ids, filters={}, actor=admin.actor(request))
    return admin.answer_nothing()


def _database(request: Request) -> Database:
    return requests.resources(request).database


ROUTES = [
    routing.route(PATH, list_, takes_query=True),
    routing.route(PATH, add, "POST"),
    routing.route(PATH, remove_of_users, "DELETE", takes_query=True),
    routing.route(f"{PATH}/{{id}}", show),
    routing.route(f"{PATH}/{{id}}", change, "PUT", "PATCH"),
    routing.route(f"{PATH}/{{id}}", remove, "DELETE"),
    routing.route("/admin/users/{user_id}/tokens", remove_of_user, "DELETE", takes_query=True),
]
