"""`mithril doctor`: looks at the database and at what is around a server, changes nothing, and says what to do."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import asyncpg
import typer

from mithril.cli import output, session
from mithril.cli.options import AsJson, from_settings
from mithril.database import database, embedded, faults
from mithril.database.embedded import EmbeddedError
from mithril.doctor import outside
from mithril.doctor import service as doctor
from mithril.doctor.findings import Finding
from mithril.settings import Option, Settings, SettingsError

# By the error of the system.
PORT_ADVICE: Mapping[object, str] = {
    errno.EADDRINUSE: "Find who listens there (`ss -ltnp`), or set another port.",
    errno.EACCES: "Set a port from 1024 on, or give the server the capability CAP_NET_BIND_SERVICE.",
}
HOME_ADVICE = "Correct that, or name another folder (--home, MITHRIL_HOME) or database (--database-url)."


@from_settings(Option.SERVE, Option.DEMO, Option.DATABASE)
def examine(chosen: Settings, *, as_json: AsJson = False) -> None:
    """Look at the database and at what is around a server, and say what to do. It changes nothing.

    Exit status 1 when there is a problem. It takes the options of `serve`, and can run beside it.
    """
    found = [*_machine(chosen), *_database(chosen), *asyncio.run(outside.examine(chosen))]
    if as_json:
        output.print_json(found)
    for each in found if not as_json else ():
        text = output.one_line(each.text)
        text = f"{text.removesuffix('.')}. {each.next_step}" if each.next_step else text
        typer.echo(output.printable(f"{each.level:<8} {each.check}: {text}"))
    count = {level: sum(each.level == level for each in found) for level in ("problem", "warning")}
    output.note(f"problems: {count['problem']}, warnings: {count['warning']}")
    raise typer.Exit(bool(count["problem"]))


def _machine(chosen: Settings) -> Iterator[Finding]:
    """Look at what the server needs of this machine."""
    from mithril.server import files, supervisor  # noqa: PLC0415 -- the other commands need no server

    for text in (*supervisor.exposures(chosen), *supervisor.missing_packages(chosen)):
        yield Finding("settings", "problem", text, "`mithril settings --check` shows all that is wrong.")
    for name, host, port in (
        ("public port", chosen.host, chosen.port),
        ("internal port", chosen.internal_host, chosen.internal_port),
    ):
        yield _port(name, host, port)
    allowed, wanted = files.allowable(chosen)
    text = f"{allowed} may be open here, and {wanted} are of use"
    if files.room(chosen, allowed).connections < chosen.max_connections:
        yield Finding("files", "warning", text, "Raise the limit (ulimit -n; LimitNOFILE of a unit).")
    else:
        yield Finding("files", "ok", text)


def _port(name: str, host: str, port: int) -> Finding:
    from mithril.server import supervisor  # noqa: PLC0415 -- as above

    where = f"{host} port {port}"
    try:
        supervisor.bind(host, port).close()
    except (SettingsError, socket.gaierror) as error:
        if supervisor.answers(host, port):
            return Finding(name, "ok", f"{where} is answered by a Mithril")
        number = getattr(error.__context__, "errno", None)  # of the error that `bind` tells in words
        return Finding(name, "problem", f"{error}", PORT_ADVICE.get(number, "Set a host that is one of this machine."))
    return Finding(name, "ok", f"{where} is free: no server is running here")


def _database(chosen: Settings) -> list[Finding]:
    async def look(url: str) -> list[Finding]:
        connection = await database.connect(url, prepares=chosen.db_prepared_statements)
        try:
            return [each async for each in doctor.examine(connection, url, chosen)]
        finally:
            await connection.close()

    try:
        if not chosen.database_url and embedded.postgres_bin() and not embedded.is_there(chosen.data_home):
            return [_first_start(chosen.data_home)]
        with session.database_url(chosen) as url:
            return asyncio.run(look(url))
    except (*faults.ERRORS, EmbeddedError) as error:
        if not chosen.database_url:
            advice = HOME_ADVICE
        elif isinstance(error, asyncpg.InterfaceError):
            advice = "Correct MITHRIL_DATABASE_URL, or the file that it names."
        else:
            advice = "Start it where nothing answers; correct MITHRIL_DATABASE_URL where it refuses what that names."
        return [Finding("database", "problem", str(error), advice)]


def _first_start(home: Path) -> Finding:
    """Look whether the folder of the embedded database can be made."""
    home = home.expanduser().absolute()
    nearest = next(folder for folder in (home, *home.parents) if os.access(folder, os.F_OK))
    if os.access(nearest, os.W_OK | os.X_OK):
        return Finding("database", "ok", f"there is none in {home}, and the first start makes it")
    text = f"there is none in {home}, and this user cannot write to {nearest}"
    return Finding("database", "problem", text, HOME_ADVICE)
