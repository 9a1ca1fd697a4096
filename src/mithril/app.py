"""The application of a worker: the routes of each listener, and what the worker opens, runs and closes."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from hmac import compare_digest
from typing import Any

import structlog
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from mithril import __version__, errors, logs, metrics, tracing
from mithril.approvals import admin_routes as approvals_admin
from mithril.approvals import routes as approvals
from mithril.cleanup import service as cleanup
from mithril.clients import admin_routes as clients_admin
from mithril.clients import routes as clients
from mithril.connections import admin_routes as connections_admin
from mithril.connections import routes as connections
from mithril.console import routes as console
from mithril.database.database import SCHEMA_VERSION, Database
from mithril.gateway import routes as gateway
from mithril.health import routes as health
from mithril.identifiers import is_loopback
from mithril.notifications import admin_routes as notifications_admin
from mithril.notifications import delivery
from mithril.oauth import admin_routes as oauth_admin
from mithril.oauth import esoz_routes as oauth
from mithril.oauth import factor_routes
from mithril.oauth import scope_routes as scopes
from mithril.oauth import standard_routes as standard_oauth
from mithril.openapi import routes as openapi
from mithril.otp import admin_routes as otp_admin
from mithril.pages import demo_callback
from mithril.pages import routes as pages
from mithril.scope_sets import admin_routes as scope_sets_admin
from mithril.scope_sets import routes as scope_sets
from mithril.settings import Settings, SettingsError, reread
from mithril.sightings import service as sightings
from mithril.sms import mailer, messenger
from mithril.tokens import admin_routes as tokens_admin
from mithril.user_roles import admin_routes as user_roles_admin
from mithril.user_roles import routes as user_roles
from mithril.users import admin_routes as users_admin
from mithril.users import routes as users
from mithril.web import edge, requests
from mithril.web.edge import Edge
from mithril.web.requests import Resources

ORPHAN_CHECK_SECONDS = 1.0
MEASURE_SECONDS = 0.5

log = structlog.stdlib.get_logger("mithril")

PUBLIC: list[BaseRoute] = [
    *connections.ROUTES,
    *clients.ROUTES,
    *user_roles.ROUTES,
    *users.ROUTES,
    *scope_sets.ROUTES,
    *approvals.ROUTES,
    *scopes.ROUTES,
    *factor_routes.ROUTES,
    *oauth.ROUTES,
    *standard_oauth.ROUTES,
    *pages.ROUTES,
    *health.ROUTES,
    *openapi.ROUTES,
]
INTERNAL: list[BaseRoute] = [
    *gateway.ROUTES,
    *clients_admin.ROUTES,
    *connections_admin.ROUTES,
    *user_roles_admin.ROUTES,
    *scope_sets_admin.ROUTES,
    *users_admin.ROUTES,
    *otp_admin.ROUTES,
    *approvals_admin.ROUTES,
    *tokens_admin.ROUTES,
    *oauth_admin.ROUTES,
    *notifications_admin.ROUTES,
    *oauth.INTERNAL_ROUTES,
    *health.INTERNAL_ROUTES,
    *openapi.INTERNAL_ROUTES,
]


class Application:
    """The ASGI application of a worker. The port of a request decides which of the two listeners answers."""

    def __init__(self, settings: Settings, *, supervisor_pid: int | None = None) -> None:
        """`settings.port` and `settings.internal_port` must be the bound ports, not 0."""
        self.settings = settings
        self.supervisor_pid = supervisor_pid
        self.database = Database(
            settings.database_url,
            size=settings.db_pool_size,
            wait_seconds=settings.pool_timeout,
            connect_seconds=settings.connect_timeout,
            statement_seconds=settings.statement_timeout,
            lock_seconds=settings.lock_timeout,
            prepares=settings.db_prepared_statements,
            reread=partial(_database_url, settings),
            standbys_answer=settings.verify_from_standbys,
        )
        self.messenger = messenger.messenger(settings)
        resources = Resources(settings, self.database, self.messenger)
        capacity = settings.max_requests
        self.public = Edge(
            [*PUBLIC, *_console(settings), *(demo_callback.routes(self) if settings.demo else ())],
            resources,
            listener="public",
            capacity=capacity,
            cross_origin_paths=standard_oauth.CROSS_ORIGIN,
            refusal_views={
                **standard_oauth.REFUSAL_VIEWS,
                **pages.REFUSAL_VIEWS,
                **_console_views(settings),
                **(demo_callback.REFUSAL_VIEWS if settings.demo else {}),
            },
        )
        self.internal = Edge(
            [*INTERNAL, *_console(settings)],
            resources,
            listener="internal",
            capacity=capacity,
            guard=_guard(settings),
            refuses_queries=True,
            refusal_views=_console_views(settings),
        )

    def change(self, settings: Settings) -> None:
        """Go on with other secrets: those are the settings that may change, because they come from files."""
        self.settings = settings
        self.messenger.mailer = mailer.mailer(settings)
        self.public.resources = self.internal.resources = Resources(settings, self.database, self.messenger)
        self.internal.guard = _guard(settings)
        self.database.change_url(settings.database_url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the ASGI lifespan of the worker."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["server"][1] == self.settings.internal_port:
            await self.internal(scope, receive, send)
        else:
            await self.public(scope, receive, send)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        # Objects made so far live as long as the worker; checking them again and again took a tenth of its time.
        gc.collect()
        gc.freeze()
        async with self.database, _in_background(*self._background_tasks()):
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self.messenger.finish()
        await self.messenger.close()
        await asyncio.to_thread(tracing.stop)
        await send({"type": "lifespan.shutdown.complete"})

    def _background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        tasks = [sightings.write_regularly(self.database), _measure_regularly(self.database)]
        if self.supervisor_pid is not None:
            tasks.append(_stop_when_orphaned(self.supervisor_pid))
        if self.settings.sweep_interval:
            tasks.append(cleanup.clean_up_regularly(self.database, self.settings))
        if self.settings.webhook_key or self.settings.notify_owners:
            tasks.append(delivery.Courier(self.database, self.settings, self.messenger).run())
        return tasks


def _console(settings: Settings) -> list[BaseRoute]:
    """Return the routes of the console, which both listeners have unless it is off (rule CSL-1)."""
    return [] if settings.console == "off" else list(console.ROUTES)


def _console_views(settings: Settings) -> dict[str, edge.RefusalView]:
    """Return what shows the refusals of the console."""
    return dict(console.REFUSAL_VIEWS) if settings.console != "off" else {}


def _database_url(settings: Settings) -> str:
    """Return the URL of the database as its file has it now, where it came from one."""
    try:
        return reread(settings).database_url
    except SettingsError as error:
        log.warning("reload_failed", reason=str(error))
        return settings.database_url


def create_app(settings: Settings, *, supervisor_pid: int | None = None) -> Application:
    """Return the application of a worker, and configure logging, because a worker is a process of its own.

    `supervisor_pid`: of the supervisor, if there is one; the worker stops when that process is gone.
    """
    logs.configure(level=settings.log_level, style=settings.log_format)
    tracing.start(settings)
    return Application(settings, supervisor_pid=supervisor_pid)


def _guard(settings: Settings) -> Callable[[Request], None] | None:
    """Return what decides who may use the internal listener."""
    if settings.internal_key:
        return check_internal_key
    return check_host if is_loopback(settings.internal_host) else None


def check_internal_key(request: Request) -> None:
    """Raise AccessDenied when the request does not carry the internal key. Probes need no key."""
    expected = requests.resources(request).settings.internal_key
    if request.scope["path"] in edge.QUIET_PATHS:
        return
    given = requests.header(request, "x-mithril-key") or ""
    if not compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode()):
        raise errors.AccessDenied(description="no or wrong X-Mithril-Key")


def check_host(request: Request) -> None:
    """Raise MisdirectedRequest for a host that is not loopback (rule CNV-43).

    A page in a browser of this machine could reach the listener otherwise, by a DNS name of its own that leads to it.
    """
    if not all(host.is_loopback for host in request.scope[requests.HOSTS]):
        raise errors.MisdirectedRequest


@asynccontextmanager
async def _in_background(*tasks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the tasks while the block runs, and cancel them at its end."""
    running = [asyncio.create_task(task) for task in tasks]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _measure_regularly(database: Database) -> None:
    """Set the gauges twice a second, and measure how late the event loop runs what is due."""
    metrics.describe_build(version=__version__, schema=SCHEMA_VERSION)
    while True:
        database.measure()
        metrics.gauges_are_set()
        due = time.monotonic() + MEASURE_SECONDS
        await asyncio.sleep(MEASURE_SECONDS)
        metrics.LOOP_LAG.observe(max(0.0, time.monotonic() - due))


async def _stop_when_orphaned(supervisor_pid: int) -> None:
    """Stop this worker when its supervisor is gone; otherwise it would hold both ports for ever."""
    while os.getppid() == supervisor_pid:  # noqa: ASYNC110 -- the kernel sends no event for this
        await asyncio.sleep(ORPHAN_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
