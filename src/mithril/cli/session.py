"""What commands work with: the settings, the database for as long as the command runs, and who does it."""

import asyncio
import functools
import inspect
import os
import pwd
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import typer

from mithril.audit.events import Actor
from mithril.cli.options import AS_JSON, PAGE, from_settings
from mithril.cli.output import Output
from mithril.database import database, embedded, lists, poolers
from mithril.database.database import Connection, Database
from mithril.settings import Option, Settings

Result = TypeVar("Result")
Command = Callable[..., Awaitable[Output | None]]
# A command is in no hurry, and a list of everything may take its time.
STATEMENT_SECONDS = 600.0
WAIT_SECONDS = 15.0
PROVIDED = (Database, Settings, Actor)


def command(group: typer.Typer, name: str, *more: Option, **details: Any) -> Callable[[Command], Command]:  # noqa: ANN401 -- Typer's
    """Make an asynchronous function a command of a group, and print what it returns.

    Its parameters of the types Database, Settings and Actor are no options: it gets the open database, the settings,
    and this command as the actor. A parameter `page` becomes three options. After its own options follow `--json`,
    those that say which database it works on, and those of the settings marked with one of `more`. Without a name it
    is what the group itself does when none of its commands is named, and has a parameter `context`.
    """
    title = name if group.info.name == "mithril" else f"{group.info.name} {name}".rstrip()
    add = partial(group.command, name) if name else partial(group.callback, invoke_without_command=True)

    def register(work: Command) -> Command:
        parameters = inspect.signature(work, eval_str=True).parameters
        provided = {key: each.annotation for key, each in parameters.items() if each.annotation in PROVIDED}

        @functools.wraps(work)
        def run(chosen: Settings, **given: Any) -> None:  # noqa: ANN401 -- its own
            if name == "" and given["context"].invoked_subcommand:
                return
            as_json = given["as_json"] if "as_json" in parameters else given.pop("as_json")
            if "page" in parameters:
                place = {key: given.pop(f"page_{key}") for key in ("number", "size", "after")}
                filters = {key: given[key] for key in given.keys() & parameters.keys() - {"as_json"}}
                given["page"] = lists.page_of(title, filters, **place)

            async def execute(opened: Database) -> Output | None:
                values: dict[type, Any] = {Database: opened, Settings: chosen, Actor: actor(title)}
                return await work(**given, **{key: values[kind] for key, kind in provided.items()})

            if result := with_database(chosen, execute):
                result.print(as_json=as_json)

        own = [each for key, each in parameters.items() if key not in {*provided, "page"}]
        added = [*(PAGE if "page" in parameters else ()), *(() if "as_json" in parameters else (AS_JSON,))]
        run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        add(**details)(from_settings(*more, Option.DATABASE)(run))
        return work

    return register


@contextmanager
def database_url(chosen: Settings) -> Iterator[str]:
    """Yield the URL of the database; the embedded one runs as long as the block."""
    if chosen.database_url:
        yield chosen.database_url
    else:
        with embedded.running(chosen.data_home) as url:
            yield url


def with_database(chosen: Settings, work: Callable[[Database], Awaitable[Result]]) -> Result:
    """Do `work` with a database whose schema is current, as the use cases take it."""

    async def run(url: str) -> Result:
        await connected(url, chosen, _nothing)
        async with Database(
            url,
            size=2,
            wait_seconds=WAIT_SECONDS,
            statement_seconds=STATEMENT_SECONDS,
            prepares=chosen.db_prepared_statements,
        ) as opened:
            return await work(opened)

    with database_url(chosen) as url:
        return asyncio.run(run(url))


def with_connection(chosen: Settings, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Do `work` with one connection to a database whose schema is current."""
    with database_url(chosen) as url:
        return asyncio.run(connected(url, chosen, work))


async def connected(url: str, chosen: Settings, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Do `work` with one connection to that database, once its schema is current.

    Raises SettingsError when a pooler is in the way with which it does not work.
    """
    connection = await database.connect(url, prepares=chosen.db_prepared_statements)
    try:
        await poolers.check(connection, url, prepares=chosen.db_prepared_statements)
        if not database.is_current(version := await database.schema_version(connection)):
            await _bring_up_to_date(url, chosen, version)
        return await work(connection)
    finally:
        await connection.close()


async def _nothing(_: Connection) -> None:
    """Do no work."""


async def _bring_up_to_date(url: str, chosen: Settings, version: str | None) -> None:
    """Migrate the embedded database; another one must be current already, since others may be using it."""
    if chosen.database_url:
        found = f"the schema is at version {version}" if version else "the database has no schema"
        raise database.SchemaError(f"{found}, and {database.SCHEMA_VERSION} is needed: run `mithril migrate` first")
    await database.migrate(url)


def actor(title: str) -> Actor:
    """Return the actor for the audit trail: this command, and the account of the system that ran it."""
    return Actor(request_id=f"mithril {title}, by {_account()}")


def _account() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have a name
        return f"uid {os.getuid()}"
