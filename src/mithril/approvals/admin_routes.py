"""Administration of approvals, `/admin/apps` (contract.md 3.6): each person's own, whom X-Consumer-Id names."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors, refusals
from mithril.approvals import service
from mithril.approvals.store import Approval
from mithril.identifiers import parse_uuid
from mithril.validation import fields as validation
from mithril.validation.fields import Fields
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

CLIENT, CLIENT_NAME = "client-", "client_name-"


def _clients(text: str) -> list[str]:
    """Those of the items that name a client, in lower case. Raises NotFound for an identifier that names nothing."""
    named = [item.lower() for item in query_parameters.words(text) if item.startswith(CLIENT)]
    if not all(parse_uuid(item.removeprefix(CLIENT)) for item in named):
        raise errors.NotFound(detail="client_ids has what is no UUID")
    return named


def _client_names(text: str) -> list[str]:
    return [item for item in query_parameters.words(text) if item.startswith(CLIENT_NAME)]


APPROVAL = Fields("mithril.approvals", "approval.json")
FILTERS = Filters(client_ids=_clients, client_names=_client_names)
FILTERS_OF_A_PERSON = Filters(client_id=query_parameters.uuid)
CONSTRAINTS = {
    "apps_user_id_client_id_index": "$.user_id",
    "apps_user_id_fkey": "$.user_id",
    "apps_client_id_fkey": "$.client_id",
}
PATH, WRAPPER = "/admin/apps", "app"


async def list_(request: Request) -> Response:
    """The person's own, or those for some clients."""
    user_id = _person(request)
    filters, page = FILTERS.read(request)
    clients = [*_listed(filters, "client_ids"), *_listed(filters, "client_names")]
    database = requests.resources(request).database
    return envelope.answer_page(
        request, await service.list_approvals(database, user_id, clients=clients, page=page), view
    )


async def show(request: Request) -> Response:
    """One of the person's own."""
    user_id, approval_id = _person(request), admin.identifier(request)
    found = await service.get_approval(requests.resources(request).database, approval_id, user_id=user_id)
    return envelope.answer(request, view(found))


async def add(request: Request) -> Response:
    """A new one, for the person themselves."""
    user_id = _person(request)
    columns = APPROVAL.new(await wrapped_bodies.read_wrapped(request, WRAPPER))
    database, actor = requests.resources(request).database, admin.actor(request)
    with validation.constraints(CONSTRAINTS):
        added = await service.add(database, user_id, columns, actor=actor)
    return admin.answer_created(request, view(added), location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Another scope, or for another client."""
    user_id, approval_id = _person(request), admin.identifier(request)
    columns = APPROVAL.changes(await wrapped_bodies.read_wrapped(request, WRAPPER))
    database, actor = requests.resources(request).database, admin.actor(request)
    with validation.constraints(CONSTRAINTS):
        changed = await service.change(database, approval_id, columns, user_id=user_id, actor=actor)
    return envelope.answer(request, view(changed))


async def remove(request: Request) -> Response:
    """Take it back: the client's tokens for the person end."""
    user_id, approval_id = _person(request), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.remove(database, approval_id, user_id=user_id, actor=actor)
    return admin.answer_nothing()


async def remove_of_person(request: Request) -> Response:
    """Take back all of a person's, or the one for a client; nobody need be named as the one who asks."""
    user_id = admin.identifier(request, "user_id")
    filters, _ = FILTERS_OF_A_PERSON.read(request)
    client_id = filters.get("client_id")
    assert client_id is None or isinstance(client_id, UUID)
    database, actor = requests.resources(request).database, admin.actor(request)
    await service.remove_all(database, user_id, client_id=client_id, actor=actor)
    return admin.answer_nothing()


def view(approval: Approval) -> dict[str, object]:
    """The published fields."""
    return {
        "id": approval.id,
        "scope": approval.scope,
        "user_id": approval.user_id,
        "client_id": approval.client_id,
        "client_name": approval.client_name,
        "created_at": approval.inserted_at,
        "updated_at": approval.updated_at,
    }


def _person(request: Request) -> UUID:
    """Whom X-Consumer-Id names. Raises Unauthorized without it, RequestMalformed where it is no UUID."""
    named = requests.header(request, "x-consumer-id")
    if not named:
        raise refusals.ConsumerIdMissing
    user_id = parse_uuid(named)
    if user_id is None:
        raise errors.RequestMalformed("X-Consumer-Id is no UUID")
    return user_id


def _listed(filters: dict[str, object], name: str) -> list[str]:
    found = filters.get(name, [])
    assert isinstance(found, list)
    return found


ROUTES = [
    routing.route(PATH, list_),
    routing.route(PATH, add, "POST"),
    routing.route(f"{PATH}/{{id}}", show),
    routing.route(f"{PATH}/{{id}}", change, "PUT", "PATCH"),
    routing.route(f"{PATH}/{{id}}", remove, "DELETE"),
    routing.route("/admin/users/{user_id}/apps", remove_of_person, "DELETE"),
]
