"""Administration of client types and roles (rules ADM-5 to ADM-8): the same methods for both."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril.audit.rows import AuditedTable
from mithril.scope_sets import service, store
from mithril.scope_sets.view import view
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

FILTERS = Filters(name=query_parameters.text, scope=query_parameters.words)


class Methods:
    """The methods for client types, or those for roles."""

    def __init__(self, table: AuditedTable, *, path: str, wrapper: str) -> None:
        """`wrapper`: the object in bodies that holds the fields."""
        self.table, self.path, self.wrapper = table, path, wrapper

    async def list_(self, request: Request) -> Response:
        """List all, or those with a name, or with any of some scopes."""
        filters, page = FILTERS.read(request)
        found = await store.list_named(requests.resources(request).database, self.table, filters, page=page)
        return envelope.answer_page(request, found, view)

    async def show(self, request: Request) -> Response:
        """Show one."""
        row_id = admin.identifier(request)
        return envelope.answer(
            request, view(await service.get_named(requests.resources(request).database, self.table, row_id))
        )

    async def add(self, request: Request) -> Response:
        """Add one."""
        given = await wrapped_bodies.read_wrapped(request, self.wrapper)
        database, actor = requests.resources(request).database, admin.actor(request)
        added = await service.add_named(database, self.table, given, actor=actor)
        return admin.answer_created(request, view(added), location=f"{self.path}/{added.id}")

    async def change(self, request: Request) -> Response:
        """Change the name, the scope, or both."""
        row_id = admin.identifier(request)
        given = await wrapped_bodies.read_wrapped(request, self.wrapper)
        database, actor = requests.resources(request).database, admin.actor(request)
        changed = await service.change_named(database, self.table, row_id, given, actor=actor)
        return envelope.answer(request, view(changed))

    async def remove(self, request: Request) -> Response:
        """Delete it."""
        row_id = admin.identifier(request)
        database, actor = requests.resources(request).database, admin.actor(request)
        await service.remove_named(database, self.table, row_id, actor=actor)
        return admin.answer_nothing()

    @property
    def routes(self) -> list[Route]:
        """The routes of these methods; PUT does the same as PATCH (rule CNV-33)."""
        one = f"{self.path}/{{id}}"
        return [
            routing.route(self.path, self.list_, takes_query=True),
            routing.route(self.path, self.add, "POST"),
            routing.route(one, self.show),
            routing.route(one, self.change, "PUT", "PATCH"),
            routing.route(one, self.remove, "DELETE"),
        ]


ROUTES = [
    *Methods(store.CLIENT_TYPES, path="/admin/client_types", wrapper="client_type").routes,
    *Methods(store.ROLES, path="/admin/roles", wrapper="role").routes,
]
