"""`mithril migrate`, `import`, `export`, `sweep`: what is done to the data as a whole."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from mithril.audit.events import Actor
from mithril.cleanup import service as cleanup
from mithril.cli import output, session
from mithril.cli.options import AsJson, from_settings
from mithril.cli.output import Done
from mithril.connections import redirect_uris
from mithril.database import database
from mithril.database.database import Database
from mithril.settings import Option, Settings


@from_settings(Option.DATABASE)
def migrate(chosen: Settings) -> None:
    """Bring the database's schema up to date. Safe to run twice, and from several places at once."""
    with session.database_url(chosen) as url:
        asyncio.run(database.migrate(url))
    typer.echo(f"The schema is at version {database.SCHEMA_VERSION}.")


@from_settings(Option.DEMO, Option.DATABASE)
def import_(
    chosen: Settings,
    file: Annotated[Path, typer.Argument(help="The data file, or - for standard input.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Bring the database to what FILE says: all of it or nothing. A second import changes nothing."""
    from mithril.snapshots import service as snapshots  # noqa: PLC0415 -- `serve` without --demo needs none

    try:
        snapshot = snapshots.read(sys.stdin.buffer.read() if str(file) == "-" else file)
        with output.progress() as bar:
            bars = {}

            def count(key: str, done: int, total: int) -> None:
                if key not in bars:
                    bars[key] = bar.add_task(key)
                bar.update(bars[key], completed=done, total=total)

            report = session.with_connection(
                chosen,
                lambda connection: snapshots.import_snapshot(
                    connection,
                    snapshot,
                    actor=Actor(request_id="mithril import"),
                    policy=redirect_uris.Policy.of(chosen),
                    listener=count,
                ),
            )
    except snapshots.SnapshotError as error:
        output.fail(f"{file}: {error}")
    if as_json:
        output.print_json(report)
    else:
        typer.echo(str(report))


@from_settings(Option.DATABASE)
def export(
    chosen: Settings,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; standard output by default.")
    ] = None,
) -> None:
    """Write the data in the format that `import` reads, without secrets, passwords and tokens."""
    from mithril.snapshots import service as snapshots  # noqa: PLC0415 -- as above

    content = session.with_connection(chosen, snapshots.export_snapshot)
    try:
        if output_file is None:
            sys.stdout.buffer.write(content)
        else:
            output_file.write_bytes(content)
    except BrokenPipeError:
        raise
    except OSError as error:
        output.fail(f"{output_file or 'standard output'} cannot be written: {error.strerror}")


async def sweep(opened: Database, chosen: Settings) -> Done:
    """Delete expired rows: tokens, one-time passwords, nonces. A server does the same by itself.

    Takes turns with the cleanup of a server; it can be interrupted and run again at any time.
    """
    with output.progress() as bar:
        names = [cleanup.NARROWED, *(task.target.name for task in cleanup.tasks(chosen))]
        bars = {name: bar.add_task(name, total=None) for name in names}
        swept = await cleanup.clean_up(opened, chosen, listener=lambda name, rows: bar.advance(bars[name], rows))
    return Done(", ".join(f"{name.replace('_', ' ')}: {rows}" for name, rows in swept.items()), swept)
