"""What users have approved, for themselves: the methods that ESOZ publishes for patients (rules AUT-18, AUT-19)."""

from collections.abc import Callable
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import access, errors, refusals
from mithril.access import Caller, protected
from mithril.approvals import service, store
from mithril.approvals.store import Approval
from mithril.approvals.view import own_view
from mithril.identifiers import parse_uuid
from mithril.validation.bodies import Document
from mithril.web import admin, envelope, query_parameters, requests
from mithril.web.query_parameters import Query

CLIENT, CLIENT_NAME = "client-", "client_name-"
PATH, READ, DELETE = "/api/pis/apps", "app:read_pis", "app:delete_pis"
ONE = PATH + "/{id}"


def clients(text: str) -> list[str]:
    """Return the items that name a client, in lower case. Raises NotFound for an id that is not a UUID."""
    items = [item.lower() for item in query_parameters.words(text) if item.startswith(CLIENT)]
    if not all(parse_uuid(item.removeprefix(CLIENT)) for item in items):
        raise errors.NotFound(detail="client_ids contains an id that is not a UUID")
    return items


def client_names(text: str) -> list[str]:
    """Return the items that name clients by the beginning of their names."""
    return [item for item in query_parameters.words(text) if item.startswith(CLIENT_NAME)]


FILTERS = Query(client_ids=clients, client_names=client_names)


async def answer_list(
    request: Request, known: Query, *, user_id: UUID, view: Callable[[Approval], dict[str, object]]
) -> Response:
    """Answer with the approvals of a user, or with those for the clients that the filters name."""
    filters, page = known.read(request)
    named = [*filters.get("client_ids", ()), *filters.get("client_names", ())]
    database = requests.resources(request).database
    return envelope.answer_page(request, await store.list_approvals(database, user_id, clients=named, page=page), view)


async def list_own(request: Request, caller: Caller, _: Document) -> Response:
    """List the caller's approvals, or those for some clients."""
    return await answer_list(request, FILTERS, user_id=caller.user_id, view=own_view)


async def show_own(request: Request, caller: Caller, _: Document) -> Response:
    """Show one of the caller's approvals."""
    database, approval_id = requests.resources(request).database, _named(request)
    found = await service.get_approval(database, approval_id, user_id=caller.user_id)
    return envelope.answer(request, own_view(found))


async def remove_own(request: Request, caller: Caller, _: Document) -> Response:
    """Delete one of the caller's approvals, and revoke the client's tokens for the caller's user."""
    database, approval_id = requests.resources(request).database, _named(request)
    await service.remove(database, approval_id, user_id=caller.user_id, actor=access.actor(request, caller))
    return admin.answer_nothing()


def _named(request: Request) -> UUID:
    """Return the identifier in the path. Raises ApprovalNotFound for what is no UUID."""
    return errors.found(parse_uuid(request.path_params["id"]), refusals.ApprovalNotFound)


ROUTES = [
    protected(PATH, list_own, scope=READ),
    protected(ONE, show_own, scope=READ),
    protected(ONE, remove_own, method="DELETE", scope=DELETE),
]
