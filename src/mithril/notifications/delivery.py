"""Delivery of notifications, in the background of every process: each target is one process's at a time (rule NTF-8).

    newest event ──► settled: nothing before it can still appear ──► each target that is behind, beside the others:
    take its cursor for some seconds ──► read ──► send one after the other ──► move the cursor after each

What is killed in between is sent again by the process that takes the cursor next.
"""

import asyncio
import time
from itertools import takewhile
from typing import NoReturn, TypeAlias
from uuid import UUID

import msgspec
import structlog

from mithril import errors, identifiers, metrics
from mithril.audit import reading_store
from mithril.database.database import Database
from mithril.notifications import letters, messages, sending, service, store
from mithril.notifications.store import Noticed, Target
from mithril.settings import Settings
from mithril.sms.messenger import Messenger

POLL_SECONDS = 1.0
ANNOUNCE_SECONDS = 60.0
MEASURE_SECONDS = 5.0
Failure: TypeAlias = sending.Refused | errors.MessageNotSent
log = structlog.stdlib.get_logger("mithril")


class Courier:
    """What one process delivers."""

    def __init__(self, database: Database, settings: Settings, messenger: Messenger) -> None:
        """`messenger`: its mailer sends the e-mails to owners."""
        self._database, self._settings, self._messenger = database, settings, messenger
        self._settled, self._newest = 0, 0  # up to the first no event can still appear, and up to the second soon
        self._writers: list[str] | None = None  # who may still add an event before the newest
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._announced_at = self._measured_at = float("-inf")

    async def run(self) -> NoReturn:
        """Deliver until canceled. An error is logged, and the next look tries again."""
        try:
            while True:
                try:
                    await self.look()
                except (errors.ServiceUnavailable, errors.OutcomeUnknown) as error:
                    log.warning("notifications_postponed", detail=error.detail)
                    # It may be another server afterwards, with less in its trail.
                    self._settled, self._writers = 0, None
                except Exception:
                    log.exception("notifications_postponed")
                await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def look(self) -> None:
        """Begin to deliver to each target that is due, and announce what ends soon."""
        if time.monotonic() - self._announced_at > ANNOUNCE_SECONDS:
            if self._settings.notify_owners:
                await store.begin_emails(self._database)
            for ending in store.ENDINGS:
                while await store.announce(self._database, ending):
                    pass
            self._announced_at = time.monotonic()
        await self._settle()
        for target in await self._list_due():
            if target.id not in self._tasks:
                self._tasks[target.id] = asyncio.create_task(self._deliver_logged(target))

        if time.monotonic() - self._measured_at > MEASURE_SECONDS:
            metrics.NOTIFICATION_DELAY.set(await store.find_delay(self._database, **self._sent()))
            self._measured_at = time.monotonic()

    async def _settle(self) -> None:
        """Look how far the trail is complete."""
        if self._writers is None:
            newest, writers = await reading_store.find_newest(self._database)
            if newest <= self._settled:
                return
            self._newest, self._writers = newest, writers
        else:
            self._writers = await reading_store.still_writing(self._database, self._writers)
        if not self._writers:
            self._settled, self._writers = self._newest, None

    async def _list_due(self) -> list[Target]:
        return await store.list_due(self._database, self._settled, **self._sent())

    def _sent(self) -> dict[str, bool]:
        return {"sends_emails": self._settings.notify_owners, "sends_webhooks": bool(self._settings.webhook_key)}

    async def _deliver_logged(self, target: Target) -> None:
        """Deliver until the target has everything, or cannot take it: as it is registered at each batch."""
        try:
            due: Target | None = target
            while due:
                await self._deliver(due)
                due = next((each for each in await self._list_due() if each.id == target.id), None)
        except (errors.ServiceUnavailable, errors.OutcomeUnknown) as error:
            log.warning("notifications_postponed", target_id=str(target.id), detail=error.detail)
        except Exception:
            log.exception("notifications_postponed", target_id=str(target.id))
        finally:
            del self._tasks[target.id]

    async def _deliver(self, target: Target) -> None:
        """Send the next events of the trail that the target wants, until one cannot be sent."""
        database, lease, began = self._database, identifiers.time_ordered_uuid(), time.monotonic()
        read = await store.read(database, target.last_event_id, self._settled)
        if not read or not await store.take(database, target, lease):
            return
        for place, event in enumerate(read):
            kind = _wanted(target, event)
            if kind is None:
                continue
            if time.monotonic() - began > store.LEASE_SECONDS - sending.TIMEOUT_SECONDS:
                return  # this process was too slow, and another one may have the target
            if failure := await self._attempt(target, event, kind):
                await self._fail(target, lease, read[place:], failure)
                return
            began = time.monotonic()
            if not await store.note_delivered(database, target.id, lease, event.id):
                return
        await store.note_passed(database, target.id, lease, read[-1].id)

    async def _attempt(self, target: Target, event: Noticed, kind: str) -> Failure | None:
        """Send the notification of an event; return why that failed, or None."""
        try:
            notification = await messages.notification(self._database, event, kind)
            if target.url is None:
                await letters.send(self._database, self._settings, self._messenger.mailer, event, notification)
            else:
                body = msgspec.json.encode(notification).decode()
                await sending.send(self._settings, target, message_id=f"event_{event.id}", body=body)
                metrics.NOTIFICATIONS.add(target.channel, metrics.OK)
        except (sending.Refused, errors.MessageNotSent) as failure:
            return failure
        return None

    async def _fail(self, target: Target, lease: UUID, read: list[Noticed], failure: Failure) -> None:
        """Note that the first of these events could not be sent. What is gone gets nothing more (rule NTF-13)."""
        reason = failure.detail if isinstance(failure, errors.MessageNotSent) else str(failure)
        log.warning("notification_failed", target_id=str(target.id), event_id=read[0].id, reason=reason)
        is_gone = isinstance(failure, sending.Gone)
        metrics.NOTIFICATIONS.add(target.channel, "refused" if is_gone else "retried")
        is_exhausted = await store.note_failed(self._database, target.id, lease, reason)
        if is_gone:
            if await service.deactivate(self._database, target):
                log.error("webhook_deactivated", target_id=str(target.id), reason=reason)
        elif is_exhausted:
            await self._give_up(target, lease, read)

    async def _give_up(self, target: Target, lease: UUID, read: list[Noticed]) -> None:
        """Go on behind what the target could not be sent for three days."""
        old = list(takewhile(lambda event: event.is_old, read))
        if old:
            count = sum(_wanted(target, event) is not None for event in old)
            await store.note_passed(self._database, target.id, lease, old[-1].id, given_up=count)
            metrics.NOTIFICATIONS.add(target.channel, "given_up", by=count)
            log.error("notifications_given_up", target_id=str(target.id), count=count, last_event_id=old[-1].id)


def _wanted(target: Target, event: Noticed) -> str | None:
    """Return the type of the notification of an event, or None where the target gets none."""
    kind = messages.type_of(event)
    return kind if not target.events or kind in target.events else None
