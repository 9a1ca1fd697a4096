"""What commands work with: the settings, the database for as long as the command runs, and who does it."""

import asyncio
import functools
import os
import pwd
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

from mithril.audit.events import Actor
from mithril.cli.options import from_settings
from mithril.database import database, embedded
from mithril.database.database import CONNECT_TIMEOUT_SECONDS, Connection, Database
from mithril.settings import Option, Settings

Result = TypeVar("Result")
Command = Callable[..., Awaitable[None]]
# A command is in no hurry, and a list of everything may take its time.
STATEMENT_SECONDS = 600.0


def command(group: typer.Typer, name: str, *more: Option, **details: Any) -> Callable[[Command], Command]:  # noqa: ANN401 -- Typer's
    """Make an asynchronous function a command of a group.

    Its first two parameters are the database and the settings. After its own options follow those that say which
    database it works on, and those of the settings marked with one of `more`.
    """

    def register(work: Command) -> Command:
        @functools.wraps(work)
        def run(chosen: Settings, **given: Any) -> None:  # noqa: ANN401 -- its own
            with_database(chosen, lambda opened: work(opened, chosen, **given))

        group.command(name, **details)(from_settings(*more, Option.DATABASE)(run))
        return work

    return register


@contextmanager
def database_url(chosen: Settings) -> Iterator[str]:
    """The URL of the database; the embedded one runs as long as the block."""
    if chosen.database_url:
        yield chosen.database_url
    else:
        with embedded.running(chosen.data_home) as url:
            yield url


def with_database(chosen: Settings, work: Callable[[Database], Awaitable[Result]]) -> Result:
    """Does `work` with a database whose schema is current, as the use cases take it."""

    async def run(url: str) -> Result:
        opened = Database(url, size=2, wait_seconds=CONNECT_TIMEOUT_SECONDS, statement_seconds=STATEMENT_SECONDS)
        async with opened:
            if not await opened.is_current():
                await _bring_up_to_date(url, chosen)
            return await work(opened)

    with database_url(chosen) as url:
        return asyncio.run(run(url))


def with_connection(chosen: Settings, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Does `work` with one connection to a database whose schema is current."""
    with database_url(chosen) as url:
        return asyncio.run(connected(url, chosen, work))


async def connected(url: str, chosen: Settings, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Does `work` with one connection to that database, once its schema is current."""
    connection = await database.connect(url)
    try:
        if not database.is_current(await database.schema_version(connection)):
            await _bring_up_to_date(url, chosen)
        return await work(connection)
    finally:
        await connection.close()


async def _bring_up_to_date(url: str, chosen: Settings) -> None:
    """The embedded database is migrated; another one must be already, since others may be using it."""
    if chosen.database_url:
        raise database.SchemaError("the database has no or an old schema: run `mithril migrate` first")
    await database.migrate(url)


def actor(what: str) -> Actor:
    """Who the audit trail will say it was: this command, and the account of the system that ran it."""
    return Actor(request_id=f"mithril {what}, by {_account()}")


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have a name
        return f"uid {os.getuid()}"
