"""Administration of client types and roles (contract.md 3.7): the same methods for both."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril.scope_sets import service, store
from mithril.scope_sets.store import Kind, NamedScope
from mithril.validation import fields as validation
from mithril.validation.fields import Fields
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

NAMED_SCOPE = Fields("mithril.scope_sets", "named_scope.json")
FILTERS = Filters(name=query_parameters.text, scope=query_parameters.words)


def view(named: NamedScope) -> dict[str, object]:
    """The published fields."""
    return {"id": named.id, "name": named.name, "scope": named.scope}


class Methods:
    """The methods of one of the two."""

    def __init__(self, kind: Kind, *, path: str, wrapper: str) -> None:
        """`wrapper`: the object in bodies that holds the fields."""
        self.kind, self.path, self.wrapper = kind, path, wrapper
        self.constraints = {kind.name_index: "$.name"}

    async def list_(self, request: Request) -> Response:
        """All, or those with a name, or with any of some scopes."""
        filters, page = FILTERS.read(request)
        found = await service.list_named(requests.resources(request).database, self.kind, filters, page=page)
        return envelope.answer_page(request, found, view)

    async def show(self, request: Request) -> Response:
        """One."""
        row_id = admin.identifier(request)
        return envelope.answer(
            request, view(await service.get_named(requests.resources(request).database, self.kind, row_id))
        )

    async def add(self, request: Request) -> Response:
        """A new one."""
        columns = NAMED_SCOPE.new(await wrapped_bodies.read_wrapped(request, self.wrapper))
        database, actor = requests.resources(request).database, admin.actor(request)
        with validation.constraints(self.constraints):
            added = await service.add_named(database, self.kind, columns, actor=actor)
        return admin.answer_created(request, view(added), location=f"{self.path}/{added.id}")

    async def change(self, request: Request) -> Response:
        """Other name, other scope, or both."""
        row_id = admin.identifier(request)
        columns = NAMED_SCOPE.changes(await wrapped_bodies.read_wrapped(request, self.wrapper))
        database, actor = requests.resources(request).database, admin.actor(request)
        with validation.constraints(self.constraints):
            changed = await service.change_named(database, self.kind, row_id, columns, actor=actor)
        return envelope.answer(request, view(changed))

    async def remove(self, request: Request) -> Response:
        """Delete it."""
        row_id = admin.identifier(request)
        database, actor = requests.resources(request).database, admin.actor(request)
        await service.remove_named(database, self.kind, row_id, actor=actor)
        return admin.answer_nothing()

    @property
    def routes(self) -> list[Route]:
        """PUT is as good as PATCH (contract.md 3.0)."""
        one = f"{self.path}/{{id}}"
        return [
            routing.route(self.path, self.list_),
            routing.route(self.path, self.add, "POST"),
            routing.route(one, self.show),
            routing.route(one, self.change, "PUT", "PATCH"),
            routing.route(one, self.remove, "DELETE"),
        ]


ROUTES = [
    *Methods(store.CLIENT_TYPES, path="/admin/client_types", wrapper="client_type").routes,
    *Methods(store.ROLES, path="/admin/roles", wrapper="role").routes,
]
