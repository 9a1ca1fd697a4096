"""Administration of second factors and one-time passwords (contract.md 3.10): phones masked, codes never shown."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mithril.otp import factors
from mithril.otp.factors import OfPerson
from mithril.otp.store import CodeRecord, FactorRecord
from mithril.users import fields, phones
from mithril.users.view import view as user_view
from mithril.validation import fields as validation
from mithril.validation.fields import Fields
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

FACTOR = Fields("mithril.otp", "factor.json", rules=fields.problems)
FILTERS = Filters(type=query_parameters.text, is_active=query_parameters.boolean)
CODE_FILTERS = Filters(key=query_parameters.text, status=query_parameters.text, active=query_parameters.boolean)
CONSTRAINTS = {"authentication_factors_user_id_type_index": "$.user_id"}
PATH = "/admin/users/{user_id}/authentication_factors"
ONE = PATH + "/{id}"


async def list_(request: Request) -> Response:
    """A person's. Whose they are is known, so `user` says nothing here, as in the original."""
    user_id = admin.identifier(request, "user_id")
    filters, page = FILTERS.read(request)
    found = await factors.list_factors(requests.resources(request).database, user_id, filters, page=page)
    return envelope.answer_page(request, found, brief_view)


async def show(request: Request) -> Response:
    """One."""
    user_id, factor_id = admin.identifier(request, "user_id"), admin.identifier(request)
    return envelope.answer(
        request, view(await factors.get_factor(requests.resources(request).database, user_id, factor_id))
    )


async def add(request: Request) -> Response:
    """A new one, with a phone or without."""
    user_id = admin.identifier(request, "user_id")
    columns = FACTOR.new(await wrapped_bodies.read_bare(request))
    database, actor = requests.resources(request).database, admin.actor(request)
    with validation.constraints(CONSTRAINTS):
        added = await factors.add_factor(database, user_id, columns, actor=actor)
    location = PATH.format(user_id=user_id) + f"/{added.factor.id}"
    return admin.answer_created(request, view(added), location=location)


async def reset(request: Request) -> Response:
    """Forget the phone."""
    user_id, factor_id = admin.identifier(request, "user_id"), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    return envelope.answer(request, view(await factors.reset_factor(database, user_id, factor_id, actor=actor)))


async def disable(request: Request) -> Response:
    """Let the person in without it."""
    return await _set_active(request, is_active=False)


async def enable(request: Request) -> Response:
    """Ask for it again."""
    return await _set_active(request, is_active=True)


async def list_codes(request: Request) -> Response:
    """One-time passwords: for whom, and what became of them."""
    filters, page = CODE_FILTERS.read(request)
    found = await factors.list_codes(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, code_view)


def view(found: OfPerson) -> dict[str, object]:
    """The published fields."""
    return brief_view(found.factor) | {"user": user_view(found.person)}


def brief_view(factor: FactorRecord) -> dict[str, object]:
    """The same without the person's."""
    return {
        "id": factor.id,
        "factor": phones.masked(factor.factor),
        "is_active": factor.is_active,
        "type": factor.type,
        "user_id": factor.user_id,
        "inserted_at": factor.inserted_at,
        "updated_at": factor.updated_at,
        "user": {},
    }


def code_view(code: CodeRecord) -> dict[str, object]:
    """The published fields but the code."""
    return msgspec.structs.asdict(code)


async def _set_active(request: Request, *, is_active: bool) -> Response:
    user_id, factor_id = admin.identifier(request, "user_id"), admin.identifier(request)
    database, actor = requests.resources(request).database, admin.actor(request)
    found = await factors.set_active(database, user_id, factor_id, is_active=is_active, actor=actor)
    return envelope.answer(request, view(found))


ROUTES = [
    routing.route(PATH, list_),
    routing.route(PATH, add, "POST"),
    routing.route(ONE, show),
    routing.route(f"{ONE}/actions/reset", reset, "PATCH"),
    routing.route(f"{ONE}/actions/disable", disable, "PATCH"),
    routing.route(f"{ONE}/actions/enable", enable, "PATCH"),
    routing.route("/admin/otps", list_codes),
]
