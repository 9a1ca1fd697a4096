"""`mithril doctor`: looks at the database and at what is around a server, changes nothing, and says what to do."""

import asyncio
import socket
from collections.abc import Iterator

import typer

from mithril.cli import output, session
from mithril.cli.options import AsJson, from_settings
from mithril.database import database, embedded, faults
from mithril.database.embedded import EmbeddedError
from mithril.doctor import outside
from mithril.doctor import service as doctor
from mithril.doctor.findings import Finding
from mithril.settings import Option, Settings, SettingsError


@from_settings(Option.SERVE, Option.DEMO, Option.DATABASE)
def examine(chosen: Settings, *, as_json: AsJson = False) -> None:
    """Look at the database and at what is around a server, and say what to do. It changes nothing.

    Exit status 1 when there is a problem. It takes the options of `serve`, and can run beside it.
    """
    found = [*_machine(chosen), *_database(chosen), *asyncio.run(outside.examine(chosen))]
    if as_json:
        output.print_json(found)
    for each in found if not as_json else ():
        typer.echo(output.printable(f"{each.level:<8} {each.check}: {output.one_line(each.text)}{_then(each)}"))
    count = {level: sum(each.level == level for each in found) for level in ("problem", "warning")}
    output.note(f"problems: {count['problem']}, warnings: {count['warning']}")
    raise typer.Exit(bool(count["problem"]))


def _then(finding: Finding) -> str:
    return f". {finding.next_step}" if finding.next_step else ""


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
        return Finding(name, "problem", f"{error}", "Find who listens there (`ss -ltnp`), or set another port.")
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
            return [Finding("database", "ok", f"there is none in {chosen.data_home}, and the first start makes it")]
        with session.database_url(chosen) as url:
            return asyncio.run(look(url))
    except (*faults.ERRORS, EmbeddedError) as error:
        return [Finding("database", "problem", str(error), "Start it, or correct MITHRIL_DATABASE_URL.")]
