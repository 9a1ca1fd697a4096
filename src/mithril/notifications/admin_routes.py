"""Administration of webhooks (rules NTF-1 to NTF-3)."""

from starlette.requests import Request
from starlette.responses import Response

from mithril.notifications import service, store
from mithril.notifications.view import view
from mithril.web import admin, envelope, query_parameters, requests, routing, wrapped_bodies
from mithril.web.wrapped_bodies import Filters

LIST = "/admin/webhooks"
ONE = f"{LIST}/{{id}}"
FILTERS = Filters(id=query_parameters.uuid)


async def list_(request: Request) -> Response:
    """List all webhooks, and how their deliveries go."""
    filters, page = FILTERS.read(request)
    found = await store.list_webhooks(requests.resources(request).database, filters, page=page)
    return envelope.answer_page(request, found, view)


async def show(request: Request) -> Response:
    """Show one webhook."""
    webhook_id = admin.identifier(request)
    return envelope.answer(request, view(await service.get_webhook(requests.resources(request).database, webhook_id)))


async def add(request: Request) -> Response:
    """Add a webhook. Only now its secret is shown."""
    given = await wrapped_bodies.read_wrapped(request, "webhook")
    settings, database, _ = requests.resources(request)
    added, secret = await service.add_webhook(database, settings, given, actor=admin.actor(request))
    return admin.answer_created(request, view(added) | {"secret": secret}, location=f"{LIST}/{added.id}")


async def change(request: Request) -> Response:
    """Change the given fields."""
    webhook_id = admin.identifier(request)
    given = await wrapped_bodies.read_wrapped(request, "webhook")
    settings, database, _ = requests.resources(request)
    changed = await service.change_webhook(database, settings, webhook_id, given, actor=admin.actor(request))
    return envelope.answer(request, view(changed))


async def refresh_secret(request: Request) -> Response:
    """Replace the secret, and show the new one."""
    webhook_id = admin.identifier(request)
    settings, database, _ = requests.resources(request)
    changed, secret = await service.refresh_secret(database, settings, webhook_id, actor=admin.actor(request))
    return envelope.answer(request, view(changed) | {"secret": secret})


async def remove(request: Request) -> Response:
    """Delete a webhook."""
    webhook_id = admin.identifier(request)
    await service.remove_webhook(requests.resources(request).database, webhook_id, actor=admin.actor(request))
    return admin.answer_nothing()


ROUTES = [
    routing.route(LIST, list_, takes_query=True),
    routing.route(LIST, add, "POST"),
    routing.route(ONE, show),
    routing.route(ONE, change, "PUT", "PATCH"),
    routing.route(ONE, remove, "DELETE"),
    routing.route(f"{ONE}/actions/refresh_secret", refresh_secret, "PATCH"),
]
