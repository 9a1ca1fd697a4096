"""`mithril demo …`: the demo data."""

import typer

from mithril.cli import output, session
from mithril.cli.options import AsJson, Yes, from_settings
from mithril.cli.output import Done
from mithril.connections import redirect_uris
from mithril.database.database import Connection
from mithril.settings import Option, Settings

app = typer.Typer(name="demo", help="The data of `serve --demo`.", no_args_is_help=True)


@app.command("reset")
@from_settings(Option.DATABASE)
def reset(chosen: Settings, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """Bring the demo back to its first state, and delete what was added. The audit trail stays.

    A server may be running. A database without demo data is left as it is.
    """
    from mithril.snapshots import demo  # noqa: PLC0415 -- the other commands need none
    from mithril.snapshots.reading import SnapshotError  # noqa: PLC0415

    async def ask_and_reset(connection: Connection) -> demo.Added:
        added = await demo.count_added(connection)
        what = f"Delete everything, also {added.users} users and {added.clients} clients that are not of the demo"
        output.confirm(f"{what}, and add the demo data again?", yes=yes)
        policy = redirect_uris.Policy.of(chosen)
        return await demo.reset(connection, actor=session.actor("demo reset"), policy=policy)

    try:
        deleted = session.with_connection(chosen, ask_and_reset)
    except SnapshotError as error:
        output.fail(str(error))
    sentence = "The demo is in its first state. Deleted for good: "
    Done(f"{sentence}{deleted.users} users, {deleted.clients} clients.", deleted._asdict()).print(as_json=as_json)
