"""Administration of people (contract.md 3.8). No answer has anything about a password."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.users import accounts, fields, person_view
from mithril.validation import fields as validation
from mithril.validation.fields import Fields
from mithril.web import admin, bodies, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

USER = Fields("mithril.users", "user.json", rules=fields.problems)
BLOCK = Fields("mithril.users", "block.json")
PASSWORD_CHANGE = Fields("mithril.users", "password_change.json", rules=fields.problems_of_change)
FILTERS = Filters(
    id=query_parameters.uuid,
    ids=query_parameters.uuids,
    email=query_parameters.text,
    tax_id=query_parameters.text,
    is_blocked=query_parameters.boolean,
)
CONSTRAINTS = {"users_email_index": "$.email"}
PATH, WRAPPER = "/admin/users", "user"
ONE = PATH + "/{id}"


async def list_(request: Request) -> Response:
    """All, or those that match."""
    filters, page = FILTERS.read(request)
    found = await accounts.list_people(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, person_view.view)


async def show(request: Request) -> Response:
    """One."""
    user_id = admin.identifier(request)
    return envelope.answer(request, person_view.view(await accounts.get(requests.resources(request).database, user_id)))


async def add(request: Request) -> Response:
    """A new one, with a second factor unless that is not wanted."""
    given = USER.new(await wrapped_bodies.read_wrapped(request, WRAPPER))
    settings, database, _ = requests.resources(request)
    account = accounts.new_account(given, settings)
    with validation.constraints(CONSTRAINTS):
        added = await accounts.add(database, account, actor=admin.actor(request))
    return admin.answer_created(request, person_view.view(added), location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Other fields; the rest stays."""
    user_id = admin.identifier(request)
    given = USER.changes(await wrapped_bodies.read_wrapped(request, WRAPPER))
    settings, database, _ = requests.resources(request)
    account = accounts.changed_account(given, settings)
    with validation.constraints(CONSTRAINTS):
        changed = await accounts.change(database, user_id, account, actor=admin.actor(request))
    return envelope.answer(request, person_view.view(changed))


async def remove(request: Request) -> Response:
    """Delete the person, with all that is theirs."""
    user_id = admin.identifier(request)
    await accounts.remove(requests.resources(request).database, user_id, actor=admin.actor(request))
    return admin.answer_nothing()


async def change_password(request: Request) -> Response:
    """A new password for who knows the present one."""
    user_id = admin.identifier(request)
    given = PASSWORD_CHANGE.cast(await wrapped_bodies.read_wrapped(request, WRAPPER))
    database, actor = requests.resources(request).database, admin.actor(request)
    present, password = given["current_password"], given["password"]
    changed = await accounts.change_password(database, user_id, present=present, password=password, actor=actor)
    return envelope.answer(request, person_view.view(changed))


async def block(request: Request) -> Response:
    """Keep the person out."""
    user_id = admin.identifier(request)
    reason = await _reason(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(
        request, person_view.view(await accounts.block(database, user_id, reason=reason, actor=actor))
    )


async def unblock(request: Request) -> Response:
    """Let the person in again."""
    user_id = admin.identifier(request)
    reason = await _reason(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(
        request, person_view.view(await accounts.unblock(database, user_id, reason=reason, actor=actor))
    )


async def _reason(request: Request) -> str | None:
    """The reason that the body gives, if there is a body and it gives one; anything but an object says nothing."""
    document = await wrapped_bodies.read_bare(request) if bodies.has_body(request) else {}
    given = document.get(WRAPPER)
    reason: str | None = BLOCK.new(given if isinstance(given, dict) else {}).get("block_reason")
    return reason


ROUTES = [
    routing.route(PATH, list_),
    routing.route(PATH, add, "POST"),
    routing.route(ONE, show),
    routing.route(ONE, change, "PUT", "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{ONE}/actions/change_password", change_password, "PATCH"),
    routing.route(f"{ONE}/actions/block", block, "PATCH"),
    routing.route(f"{ONE}/actions/unblock", unblock, "PATCH"),
]
