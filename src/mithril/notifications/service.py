"""The rules of webhooks: how they are registered, changed and deleted, and how their secrets are made."""

from uuid import UUID

from mithril import errors, security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.database.database import Condition, Database
from mithril.errors import Rule
from mithril.identifiers import time_ordered_uuid
from mithril.notifications import fields, sending, store
from mithril.notifications.store import Target, Webhook
from mithril.settings import Settings
from mithril.validation.bodies import Document
from mithril.validation.fields import refuse


async def get_webhook(database: Database, webhook_id: UUID) -> Webhook:
    """Return the webhook. Raises NotFound."""
    return errors.found(await store.find_webhook(database, webhook_id))


async def add_webhook(database: Database, settings: Settings, given: Document, *, actor: Actor) -> tuple[Webhook, str]:
    """Add a webhook, which gets what is written from now on; return it with its secret.

    Raises WebhooksOff, WebhooksNotInstalled, ValidationFailed.
    """
    sending.check_available(settings)
    columns = fields.WEBHOOK.new(given)
    await _check_url(columns, settings)
    webhook_id = time_ordered_uuid()
    secret, of_secret = _secret(settings, webhook_id, 1)
    async with database.transaction() as transaction:
        await rows.insert(transaction, store.ROWS, columns | of_secret | {"id": webhook_id}, actor=actor)
        await store.begin(transaction, webhook_id)
        return errors.found(await store.find_webhook(transaction, webhook_id)), secret


async def change_webhook(
    database: Database, settings: Settings, webhook_id: UUID, given: Document, *, actor: Actor
) -> Webhook:
    """Change the given fields, and try again at once; return the state. Raises ValidationFailed, NotFound."""
    columns = fields.WEBHOOK.changes(given)
    await _check_url(columns, settings)
    async with database.transaction(webhook_id) as transaction:
        await rows.update(transaction, store.ROWS, columns, row_id=webhook_id, actor=actor)
        await store.try_again(transaction, webhook_id)
        return errors.found(await store.find_webhook(transaction, webhook_id))


async def refresh_secret(
    database: Database, settings: Settings, webhook_id: UUID, *, actor: Actor
) -> tuple[Webhook, str]:
    """Give the webhook another secret; the present one also signs for a day. Raises WebhooksOff, NotFound."""
    sending.check_available(settings)
    async with database.transaction(webhook_id) as transaction:
        columns = errors.found(await store.next_secret(transaction, webhook_id))
        secret, of_secret = _secret(settings, webhook_id, int(str(columns["secret_version"])))
        await rows.update(transaction, store.ROTATED, columns | of_secret, row_id=webhook_id, actor=actor)
        await store.try_again(transaction, webhook_id)
        return errors.found(await store.find_webhook(transaction, webhook_id)), secret


async def remove_webhook(database: Database, webhook_id: UUID, *, actor: Actor) -> None:
    """Delete the webhook. Raises NotFound."""
    async with database.transaction(webhook_id) as transaction:
        removed = await rows.delete(transaction, store.ROWS, [Condition("t.id = {}", webhook_id)], actor=actor)
    if not removed:
        raise errors.NotFound


async def deactivate(database: Database, target: Target) -> bool:
    """Stop a webhook that is gone, unless it has another URL by now, and return whether that was done."""
    async with database.transaction(target.id) as transaction:
        if not await store.is_at(transaction, target):
            return False
        nobody = Actor(request_id=None)
        return await rows.update(transaction, store.STOPPED, {"is_active": False}, row_id=target.id, actor=nobody)


def _secret(settings: Settings, webhook_id: UUID, version: int) -> tuple[str, Document]:
    made = sending.secret(settings, webhook_id, version)
    return made, {"secret_version": version, "secret_digest": rows.bytea(security.digest(made))}


async def _check_url(columns: Document, settings: Settings) -> None:
    """Raise ValidationFailed for a URL that nothing is sent to. A name that has no IP address yet is taken."""
    if "url" in columns:
        try:
            await sending.resolve(sending.place_of(columns["url"], settings), settings)
        except sending.Refused as refusal:
            refuse([("$.url", Rule("url", str(refusal), []))])
        except OSError:
            pass
