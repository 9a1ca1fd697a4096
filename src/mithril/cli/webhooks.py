"""`mithril webhook …`: where the changes of connections and clients are told."""

from typing import Annotated
from uuid import UUID

import typer

from mithril.audit.events import Actor
from mithril.cli import output, session
from mithril.cli.options import Yes, changes, only_given
from mithril.cli.output import Done, Many, One
from mithril.database.database import Database
from mithril.database.lists import Page
from mithril.notifications import service, store
from mithril.notifications.store import Webhook
from mithril.notifications.view import view
from mithril.settings import Settings

app = typer.Typer(name="webhook", help="Webhooks: URLs that are told what changes.", no_args_is_help=True)
COLUMNS = ("id", "url", "events", "is_active", "failing_since", "last_failure", "given_up")
NOTE = "Keep the secret: it is not shown again."

WebhookId = Annotated[UUID, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]
Events = Annotated[
    list[str] | None, typer.Option("--event", metavar="TYPE", help="Only notifications of this type; may be repeated.")
]


@session.command(app, "list")
async def list_(opened: Database, *, page: Page) -> Many:
    """List webhooks, the oldest first, and how their deliveries go."""
    found = await store.list_webhooks(opened, {}, page=page)
    return Many([view(each) for each in found.rows], COLUMNS, found)


@session.command(app, "show")
async def show(opened: Database, webhook_id: WebhookId) -> One:
    """Show one webhook, and how its deliveries go."""
    return One(view(await _find(opened, webhook_id)))


@session.command(app, "create")
async def create(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where notifications are sent: https.")],
    *,
    event: Events = None,
) -> One:
    """Add a webhook, which is told what changes from now on. Its secret is printed now, and never again."""
    given = {"url": url, **only_given(events=event)}
    added, secret = await service.add_webhook(opened, chosen, given, actor=actor)
    return One(view(added) | {"secret": secret}, note=NOTE)


@session.command(app, "change")
async def change(
    opened: Database,
    chosen: Settings,
    actor: Actor,
    webhook_id: WebhookId,
    *,
    url: Annotated[str | None, typer.Option(help="Where notifications are sent: https.")] = None,
    event: Events = None,
    all_events: Annotated[bool, typer.Option("--all-events", help="Notifications of every type.")] = False,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether notifications are sent.")] = None,
) -> One:
    """Change the named fields, and try at once what could not be sent."""
    given = changes(url=url, events=[] if all_events else event, is_active=active)
    with output.named("webhook", webhook_id):
        return One(view(await service.change_webhook(opened, chosen, webhook_id, given, actor=actor)))


@session.command(app, "refresh-secret")
async def refresh_secret(
    opened: Database, chosen: Settings, actor: Actor, webhook_id: WebhookId, *, yes: Yes = False
) -> One:
    """Replace the secret. For a day both sign. The new one is printed now, and never again."""
    if (await _find(opened, webhook_id)).previous_secret_expires_at:
        output.confirm("It was replaced less than a day ago, and the one before ends at once. Go on?", yes=yes)
    with output.named("webhook", webhook_id):
        changed, secret = await service.refresh_secret(opened, chosen, webhook_id, actor=actor)
    return One(view(changed) | {"secret": secret}, note=NOTE)


@session.command(app, "delete")
async def delete(opened: Database, actor: Actor, webhook_id: WebhookId, *, yes: Yes = False) -> Done:
    """Delete a webhook."""
    webhook = await _find(opened, webhook_id)
    output.confirm(f"Delete the webhook to {webhook.url}?", yes=yes)
    await service.remove_webhook(opened, webhook_id, actor=actor)
    return Done(f"The webhook to {webhook.url} is deleted.", {"id": webhook_id, "deleted": True})


async def _find(opened: Database, webhook_id: UUID) -> Webhook:
    with output.named("webhook", webhook_id):
        return await service.get_webhook(opened, webhook_id)
