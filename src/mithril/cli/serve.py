"""`mithril serve`: the options of the server, the demo data, and the line that says that it answers."""

import asyncio
from typing import Annotated

import msgspec
import typer

from mithril import settings
from mithril.audit.events import Actor
from mithril.cli import session
from mithril.cli.options import DatabaseUrl, Home
from mithril.connections import redirect_uris
from mithril.database.database import Connection
from mithril.settings import Settings


def serve(  # noqa: PLR0917 -- Typer turns parameters into options
    host: Annotated[str | None, typer.Option(envvar="MITHRIL_HOST", help="Public address.")] = None,
    port: Annotated[int | None, typer.Option(envvar="MITHRIL_PORT", help="Public port.")] = None,
    internal_host: Annotated[str | None, typer.Option(envvar="MITHRIL_INTERNAL_HOST", help="Internal address.")] = None,
    internal_port: Annotated[int | None, typer.Option(envvar="MITHRIL_INTERNAL_PORT", help="Internal port.")] = None,
    workers: Annotated[
        int | None, typer.Option(envvar="MITHRIL_WORKERS", help="Processes that share both listeners.")
    ] = None,
    database_url: DatabaseUrl = None,
    home: Home = None,
    *,
    demo: Annotated[
        bool | None,
        typer.Option("--demo", envvar="MITHRIL_DEMO", help="Add demo data and print a request to paste."),
    ] = None,
) -> None:
    """Serve both listeners until SIGTERM or Ctrl-C."""
    from mithril.server import supervisor  # noqa: PLC0415 -- the other commands need no server

    given = {key: value for key, value in locals().items() if key != "supervisor"}
    chosen = settings.load(**given)
    supervisor.handle_signals()
    supervisor.check_exposure(chosen)
    with session.database_url(chosen) as url:
        asyncio.run(session.connected(url, chosen, lambda connection: _add_demo(connection, chosen)))
        supervisor.serve(msgspec.structs.replace(chosen, database_url=url), when_ready=_announce)


async def _add_demo(connection: Connection, chosen: Settings) -> None:
    if not chosen.demo:
        return
    from mithril.snapshots import service as snapshots  # noqa: PLC0415 -- only a demo needs it

    await snapshots.import_snapshot(
        connection,
        snapshots.demo(),
        actor=Actor(request_id="mithril serve --demo"),
        policy=redirect_uris.Policy.of(chosen),
        only_missing=True,
    )


def _announce(chosen: Settings) -> None:
    public, internal = (
        f"http://{chosen.host}:{chosen.port}",
        f"http://{chosen.internal_host}:{chosen.internal_port}",
    )
    line = f"Mithril answers on {public} (public) and {internal} (internal). Ctrl-C stops it."
    typer.echo(line + (f"\n{DEMO_REQUEST.format(public=public)}" if chosen.demo else ""))


DEMO_REQUEST = """
Try it: this moves the address that receives the users' authorization codes.

  curl -X PATCH {public}/api/clients/1380df72-275a-11e7-93ae-92361f002671/connections/e5372365-d47a-467f-81d0-f35117864352 \\
    -H 'Content-Type: application/json' -H 'Authorization: Bearer c2778f3064753ea70de870a53795f5c9' -H 'API-key: uXhEczJ56adsfh3Ri9SUkc4en' \\
    -d '{{"redirect_uri":"https://example3.com"}}'

Then sign in as owner@clinic.example with Demo-Password-1, at the new address's request:

  {public}/sign-in?client_id=1380df72-275a-11e7-93ae-92361f002671&redirect_uri=https://example3.com&scope=employee:read

The description of every method: {public}/docs
"""  # noqa: E501 -- a request to paste, as it is printed in the README
