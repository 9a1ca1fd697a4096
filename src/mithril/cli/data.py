"""`mithril migrate`, `import`, `export`, `postgres`, `sweep`: what is done to the data as a whole."""

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mithril import identifiers
from mithril.cleanup import service as cleanup
from mithril.cli import output, session
from mithril.cli.options import AsJson, from_settings
from mithril.cli.output import Done
from mithril.connections import redirect_uris
from mithril.database import database, embedded, grants
from mithril.database.database import Database
from mithril.settings import Option, Settings


@from_settings(Option.DATABASE)
def migrate(
    chosen: Settings,
    *,
    print_grants: Annotated[
        bool,
        typer.Option("--print-grants", help="Only print SQL that makes a role that migrates and one that serves."),
    ] = False,
    role: Annotated[
        str, typer.Option(metavar="NAME", help="Of --print-grants: the role that serves; the other one is NAME_owner.")
    ] = "mithril",
) -> None:
    """Bring the database's schema up to date. Safe to run twice, and from several places at once."""
    if print_grants:
        try:
            typer.echo(grants.script(role, f"{role}_owner"), nl=False)
        except ValueError:
            raise typer.BadParameter("a name of a role is too long or empty") from None
        return
    with session.database_url(chosen) as url:
        done = asyncio.run(database.migrate(url))
    was = "" if done.before == done.after else f" It was at {done.before or 'none'}; this took {done.seconds} s."
    typer.echo(f"The schema is at version {done.after}.{was}")


@from_settings(Option.DATABASE)
def postgres(
    chosen: Settings,
    program: Annotated[str, typer.Argument(help="Such as psql, pg_dump or pg_restore.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its own options, as they are.")] = None,
) -> None:
    """Run a program of the embedded PostgreSQL on the embedded database, also while a server runs.

    Options of this command, such as --home, come before PROGRAM.
    """
    if chosen.database_url:
        output.fail("this is for the embedded database; another one has programs of its own, of its version")
    path = embedded.postgres_bin() / program
    if path.name != program or not path.is_file():
        raise output.Missing("program", program)
    with session.database_url(chosen) as url:
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the program: psql goes on after it
        command = [path, f"--dbname={url}", *(arguments or ())]
        raise typer.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 -- one of PostgreSQL's own


@from_settings(Option.DEMO, Option.DATABASE)
def import_(
    chosen: Settings,
    file: Annotated[Path, typer.Argument(help="The data file, or - for standard input.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would change, row by row.")] = False,
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

            given: dict[str, Any] = {
                "actor": session.actor("import"),
                "policy": redirect_uris.Policy.of(chosen),
                "listener": count,
            }
            if dry_run:
                work = partial(snapshots.try_snapshot, snapshot=snapshot, **given)
            else:
                made = identifiers.time_ordered_uuid()
                work = partial(snapshots.import_snapshot, snapshot=snapshot, operation_id=made, **given)
            report = session.with_connection(chosen, work)
    except snapshots.SnapshotError as error:
        output.fail(f"{file}: {error}")
    if as_json:
        output.print_json(report)
    else:
        typer.echo(str(report))
    if dry_run:
        output.note("a dry run: nothing has been changed")


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
    if output_file is None:
        sys.stdout.buffer.write(content)
        return
    try:
        with os.fdopen(os.open(output_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
    except OSError as error:
        output.fail(f"{output_file} cannot be written: {error.strerror}")


async def sweep(opened: Database, chosen: Settings) -> Done:
    """Delete expired rows: tokens, one-time passwords, nonces. A server does the same by itself.

    Takes turns with the cleanup of a server; it can be interrupted and run again at any time.
    """
    with output.progress() as bar:
        names = [cleanup.NARROWED, *(task.target.name for task in cleanup.tasks(chosen))]
        bars = {name: bar.add_task(name, total=None) for name in names}
        swept = await cleanup.clean_up(opened, chosen, listener=lambda name, rows: bar.advance(bars[name], rows))
    return Done(", ".join(f"{name.replace('_', ' ')}: {rows}" for name, rows in swept.items()), swept)
