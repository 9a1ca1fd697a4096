"""Administration of tokens (contract.md 3.5). A value is shown once, to who made the token; a digest never.

What gateways ask about tokens is in `gateway`. A session for a person, `/admin/users/{id}/tokens/access`,
is a grant and in `oauth.admin_routes`.
"""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.database.database import Database
from mithril.tokens import records
from mithril.tokens.store import Record
from mithril.validation import fields as validation
from mithril.validation.fields import Fields
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

TOKEN = Fields("mithril.tokens", "token.json")
OF_ANYBODY: dict[str, query_parameters.Parser] = {
    "name": query_parameters.text,
    "value": str,
    "client_id": query_parameters.uuid,
}
FILTERS = Filters(**OF_ANYBODY, id=query_parameters.uuid, user_id=query_parameters.uuid)
FILTERS_OF_A_PERSON = Filters(**OF_ANYBODY)
CONSTRAINTS = {
    "tokens_digest_index": "$.value",
    "tokens_user_id_fkey": "$.user_id",
    "tokens_client_id_fkey": "$.details.client_id",
}
PATH, WRAPPER = "/admin/tokens", "token"
# A phone is masked wherever it is shown.
NEVER_SHOWN = ("refresh_token", "request_authentication_factor")


async def list_(request: Request) -> Response:
    """All, or those that match."""
    filters, page = FILTERS.read(request)
    return envelope.answer_page(request, await records.list_records(_database(request), filters, page=page), view)


async def show(request: Request) -> Response:
    """One, living or not."""
    token_id = admin.identifier(request)
    return envelope.answer(request, view(await records.get_record(_database(request), token_id)))


async def add(request: Request) -> Response:
    """A new one, of any kind, with the value that the caller has made."""
    fields = TOKEN.new(await wrapped_bodies.read_wrapped(request, WRAPPER))
    with validation.constraints(CONSTRAINTS):
        added = await records.add(_database(request), fields, actor=admin.actor(request))
    data = view(added) | {"value": fields["value"]}
    return admin.answer_created(request, data, location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Other fields; the rest stays."""
    token_id = admin.identifier(request)
    fields = TOKEN.changes(await wrapped_bodies.read_wrapped(request, WRAPPER))
    with validation.constraints(CONSTRAINTS):
        changed = await records.change(_database(request), token_id, fields, actor=admin.actor(request))
    return envelope.answer(request, view(changed))


async def remove(request: Request) -> Response:
    """Delete it."""
    token_id = admin.identifier(request)
    await records.remove(_database(request), token_id, actor=admin.actor(request))
    return admin.answer_nothing()


async def remove_of_person(request: Request) -> Response:
    """Delete a person's tokens, or those of them that match."""
    user_id = admin.identifier(request, "user_id")
    filters, _ = FILTERS_OF_A_PERSON.read(request)
    actor = admin.actor(request)
    await records.remove_all(_database(request), [user_id], filters=filters, actor=actor)
    return admin.answer_nothing()


async def remove_of_people(request: Request) -> Response:
    """Delete all tokens of some people, who must be named."""
    given = request.query_params.getlist("user_ids")
    try:
        user_ids = query_parameters.uuids(given[0] if given else "")
    except query_parameters.Bad:
        raise errors.RequestMalformed("user_ids must be UUIDs by comma") from None
    await records.remove_all(_database(request), user_ids, filters={}, actor=admin.actor(request))
    return admin.answer_nothing()


def view(record: Record) -> dict[str, object]:
    """The published fields but the value. `expires_at` is Unix time."""
    noted: dict[str, Any] = msgspec.json.decode(record.details)
    details = {name: value for name, value in noted.items() if name not in NEVER_SHOWN}
    details["client_id"] = record.client_id
    if record.scope is not None:
        details["scope"] = record.scope
    if record.is_used:
        details["used"] = True
    return {
        "id": record.id,
        "name": record.name,
        "expires_at": int(record.expires_at.timestamp()),
        "user_id": record.user_id,
        "details": details,
    }


def _database(request: Request) -> Database:
    return requests.resources(request).database


ROUTES = [
    routing.route(PATH, list_),
    routing.route(PATH, add, "POST"),
    routing.route(PATH, remove_of_people, "DELETE"),
    routing.route(f"{PATH}/{{id}}", show),
    routing.route(f"{PATH}/{{id}}", change, "PUT", "PATCH"),
    routing.route(f"{PATH}/{{id}}", remove, "DELETE"),
    routing.route("/admin/users/{user_id}/tokens", remove_of_person, "DELETE"),
]
