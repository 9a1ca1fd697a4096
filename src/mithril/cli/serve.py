"""`mithril serve`: start the server, add the demo data, and print the line that says that both listeners answer."""

import asyncio
import warnings

import msgspec
import structlog
import typer

from mithril.cli import session
from mithril.cli.options import from_settings
from mithril.connections import redirect_uris
from mithril.database import standbys
from mithril.database.database import Connection, SchemaError
from mithril.settings import Option, Settings
from mithril.web import requests

log = structlog.stdlib.get_logger("mithril")


@from_settings(Option.SERVE, Option.DEMO, Option.DATABASE)
def serve(chosen: Settings) -> None:
    """Serve both listeners until SIGTERM or Ctrl-C."""
    from mithril.server import signals, supervisor  # noqa: PLC0415 -- the other commands need no server

    # Ctrl-C may come just before a loop runs the coroutine that was made for it.
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    hangup = signals.Hangup()
    signals.handle(hangup)
    supervisor.check(chosen)
    with session.database_url(chosen) as url:

        def prepare(bound: Settings) -> None:
            try:
                asyncio.run(session.connected(url, chosen, lambda connection: _prepare(connection, url, bound)))
            except SchemaError as error:
                log.error("schema_refused", reason=str(error))  # noqa: TRY400 -- a line says all
                raise

        known = msgspec.structs.replace(chosen, database_url=url)
        supervisor.serve(known, prepare=prepare, when_ready=_announce, hangup=hangup)


async def _prepare(connection: Connection, url: str, chosen: Settings) -> None:
    """Check what the settings promise of the database, and add the demo data. The ports must be the bound ones."""
    if chosen.verify_from_standbys:
        await standbys.check(connection, url)
    if not chosen.demo:
        return
    from mithril.snapshots import demo  # noqa: PLC0415 -- only a demo needs it

    policy, origin = redirect_uris.Policy.of(chosen), requests.own_origin(chosen)
    await demo.start(connection, actor=session.actor("serve --demo"), policy=policy, origin=origin)


def _announce(chosen: Settings) -> None:
    public, internal = (
        f"http://{requests.authority(chosen.host, chosen.port)}",
        f"http://{requests.authority(chosen.internal_host, chosen.internal_port)}",
    )
    line = f"Mithril answers on {public} (public) and {internal} (internal). Ctrl-C stops it."
    typer.echo(line + (f"\n{_demo_requests(requests.own_origin(chosen))}" if chosen.demo else ""))


def _demo_requests(origin: str) -> str:
    from mithril.snapshots import demo  # noqa: PLC0415 -- only a demo needs it

    return DEMO_REQUEST.format(public=origin, sign_in=demo.sign_in_url(origin))


DEMO_REQUEST = """
Try it: this changes the redirect URI, which receives the users' authorization codes.

  curl -X PATCH {public}/api/clients/1380df72-275a-11e7-93ae-92361f002671/connections/e5372365-d47a-467f-81d0-f35117864352 \\
    -H 'Content-Type: application/json' -H 'Authorization: Bearer c2778f3064753ea70de870a53795f5c9' -H 'API-key: uXhEczJ56adsfh3Ri9SUkc4en' \\
    -d '{{"redirect_uri":"https://example3.com"}}'

Then sign in as owner@clinic.example with Demo-Password-1. It leads to a page with the code, and with what follows:

  {sign_in}

What else is here, and the description of every method: {public} and {public}/docs
"""  # noqa: E501 -- a request to paste, as it is printed in the README
