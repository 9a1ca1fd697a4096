"""The one file that knows every noun: which routes answer on which listener, and what a worker opens and closes."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from mithril import errors, logs
from mithril.approvals import admin_routes as approvals_admin
from mithril.cleanup import service as cleanup
from mithril.clients import admin_routes as clients_admin
from mithril.clients import routes as clients
from mithril.connections import admin_routes as connections_admin
from mithril.connections import routes as connections
from mithril.database.database import Database
from mithril.gateway import routes as gateway
from mithril.health import routes as health
from mithril.oauth import admin_routes as oauth_admin
from mithril.oauth import esoz_routes as oauth
from mithril.oauth import factor_routes
from mithril.oauth import standard_routes as standard_oauth
from mithril.openapi import routes as openapi
from mithril.otp import admin_routes as otp_admin
from mithril.pages import routes as pages
from mithril.scope_sets import admin_routes as scope_sets_admin
from mithril.settings import Settings
from mithril.sms import messenger
from mithril.tokens import admin_routes as tokens_admin
from mithril.user_roles import admin_routes as user_roles_admin
from mithril.user_roles import routes as user_roles
from mithril.users import admin_routes as users_admin
from mithril.web import edge, requests
from mithril.web.edge import Edge
from mithril.web.requests import Resources

ORPHAN_CHECK_SECONDS = 1.0

PUBLIC: list[BaseRoute] = [
    *connections.ROUTES,
    *clients.ROUTES,
    *user_roles.ROUTES,
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
    *oauth.INTERNAL_ROUTES,
    *health.INTERNAL_ROUTES,
    *openapi.INTERNAL_ROUTES,
]


class Application:
    """Both listeners of one worker; the port that a request came in by says which one is meant."""

    def __init__(self, settings: Settings, *, supervisor_pid: int | None = None) -> None:
        """`settings.port` and `internal_port` are the bound ones, never 0."""
        self.settings = settings
        self.supervisor_pid = supervisor_pid
        self.database = Database(
            settings.database_url,
            size=settings.db_pool_size,
            wait_seconds=settings.pool_timeout,
            statement_seconds=settings.statement_timeout,
        )
        self.messenger = messenger.messenger(settings)
        resources = Resources(settings, self.database, self.messenger)
        capacity = settings.max_requests
        self.public = Edge(PUBLIC, resources, listener="public", capacity=capacity)
        self.internal = Edge(INTERNAL, resources, listener="internal", capacity=capacity, guard=check_internal_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or the worker's life (ASGI lifespan)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["server"][1] == self.settings.internal_port:
            await self.internal(scope, receive, send)
        else:
            await self.public(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        # What was made until now stays as long as the worker: a tenth of its time went into looking whether it did.
        gc.collect()
        gc.freeze()
        async with self.database, _beside(*self._duties()):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await self.messenger.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        """What a worker does beside answering, as long as it lives."""
        duties: list[Coroutine[Any, Any, None]] = []
        if self.supervisor_pid is not None:
            duties.append(_stop_when_orphaned(self.supervisor_pid))
        if self.settings.sweep_interval:
            duties.append(cleanup.keep_sweeping(self.database, self.settings))
        return duties


def create_app(settings: Settings, *, supervisor_pid: int | None = None) -> Application:
    """A worker's application; logging is set up here because a worker is a process of its own.

    `supervisor_pid`: the process that the worker must not outlive, if there is one.
    """
    logs.configure(level=settings.log_level, style=settings.log_format)
    return Application(settings, supervisor_pid=supervisor_pid)


def check_internal_key(request: Request) -> None:
    """Raises AccessDenied for a caller of the internal listener without its key, where one is set."""
    expected = requests.resources(request).settings.internal_key
    if not expected or request.scope["path"] in edge.QUIET_PATHS:
        return
    given = requests.header(request, "x-mithril-key") or ""
    if not compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode()):
        raise errors.AccessDenied(description="no or wrong X-Mithril-Key")


@asynccontextmanager
async def _beside(*duties: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Does these as long as the block runs, and ends them with it."""
    running = [asyncio.create_task(duty) for duty in duties]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _stop_when_orphaned(supervisor_pid: int) -> None:
    """A worker whose supervisor was killed would hold both ports for ever: it stops by itself instead."""
    while os.getppid() == supervisor_pid:  # noqa: ASYNC110 -- the kernel sends no event for this
        await asyncio.sleep(ORPHAN_CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
