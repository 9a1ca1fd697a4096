"""Administration of people (contract.md 3.8). No answer has anything about a password."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import administration, bodies, changesets, http, queries
from mithril.changesets import Changeset, Filters
from mithril.users import accounts, fields, person_view

USER = Changeset("mithril.users", "user.json", rules=fields.problems)
BLOCK = Changeset("mithril.users", "block.json")
PASSWORD_CHANGE = Changeset("mithril.users", "password_change.json", rules=fields.problems_of_change)
FILTERS = Filters(
    id=queries.uuid, ids=queries.uuids, email=queries.text, tax_id=queries.text, is_blocked=queries.boolean
)
CONSTRAINTS = {"users_email_index": "$.email"}
PATH, WRAPPER = "/admin/users", "user"
ONE = PATH + "/{id}"


async def list_(request: Request) -> Response:
    """All, or those that match."""
    filters, page = FILTERS.read(request)
    found = await accounts.list_people(http.resources(request).database, filters, page=page)
    return http.answer_page(request, found, person_view.view)


async def show(request: Request) -> Response:
    """One."""
    user_id = administration.identifier(request)
    return http.answer(request, person_view.view(await accounts.get(http.resources(request).database, user_id)))


async def add(request: Request) -> Response:
    """A new one, with a second factor unless that is not wanted."""
    given = USER.new(await changesets.read_wrapped(request, WRAPPER))
    settings, database, _ = http.resources(request)
    account = accounts.new_account(given, settings)
    with changesets.constraints(CONSTRAINTS):
        added = await accounts.add(database, account, actor=administration.actor(request))
    return administration.answer_created(request, person_view.view(added), location=f"{PATH}/{added.id}")


async def change(request: Request) -> Response:
    """Other fields; the rest stays."""
    user_id = administration.identifier(request)
    given = USER.changes(await changesets.read_wrapped(request, WRAPPER))
    settings, database, _ = http.resources(request)
    account = accounts.changed_account(given, settings)
    with changesets.constraints(CONSTRAINTS), changesets.worded():
        changed = await accounts.change(database, user_id, account, actor=administration.actor(request))
    return http.answer(request, person_view.view(changed))


async def remove(request: Request) -> Response:
    """Delete the person, with all that is theirs."""
    user_id = administration.identifier(request)
    await accounts.remove(http.resources(request).database, user_id, actor=administration.actor(request))
    return administration.answer_nothing()


async def change_password(request: Request) -> Response:
    """A new password for who knows the present one."""
    user_id = administration.identifier(request)
    given = PASSWORD_CHANGE.cast(await changesets.read_wrapped(request, WRAPPER))
    database, actor = http.resources(request).database, administration.actor(request)
    present, password = given["current_password"], given["password"]
    with changesets.worded():
        changed = await accounts.change_password(database, user_id, present=present, password=password, actor=actor)
    return http.answer(request, person_view.view(changed))


async def block(request: Request) -> Response:
    """Keep the person out."""
    user_id = administration.identifier(request)
    reason = await _reason(request)
    database, actor = http.resources(request).database, administration.actor(request)
    return http.answer(request, person_view.view(await accounts.block(database, user_id, reason=reason, actor=actor)))


async def unblock(request: Request) -> Response:
    """Let the person in again."""
    user_id = administration.identifier(request)
    reason = await _reason(request)
    database, actor = http.resources(request).database, administration.actor(request)
    return http.answer(request, person_view.view(await accounts.unblock(database, user_id, reason=reason, actor=actor)))


async def _reason(request: Request) -> str | None:
    """The reason that the body gives, if there is a body and it gives one; anything but an object says nothing."""
    document = await changesets.read_bare(request) if bodies.has_body(request) else {}
    given = document.get(WRAPPER)
    reason: str | None = BLOCK.new(given if isinstance(given, dict) else {}).get("block_reason")
    return reason


ROUTES = [
    http.route(PATH, list_),
    http.route(PATH, add, "POST"),
    http.route(ONE, show),
    http.route(ONE, change, "PUT", "PATCH"),
    http.route(ONE, remove, "DELETE"),
    http.route(f"{ONE}/actions/change_password", change_password, "PATCH"),
    http.route(f"{ONE}/actions/block", block, "PATCH"),
    http.route(f"{ONE}/actions/unblock", unblock, "PATCH"),
]
