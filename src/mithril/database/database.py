"""Access to PostgreSQL: the pools of a worker, running statements, the version of the schema, and its migration.

The SQL about clients, tokens and users is in the stores.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import structlog

from mithril import errors, identifiers, metrics
from mithril.database import faults, indexes, partitions
from mithril.database import operation_store as operations
from mithril.database.connecting import Connection as _Connection
from mithril.database.connecting import Servers
from mithril.database.fair_pool import NOT_SENT, Pool
from mithril.database.lookups import Found, Lookup, Lookups
from mithril.database.turns import Turns

# The revision in `migrations/versions` that this code is written for; a test holds the two together.
SCHEMA_VERSION = "0012"
CONNECT_SECONDS = 5.0
# Of so many connections one is for look-ups.
SHARE_OF_LOOKUPS = 4
# What ends the connection of a read, so that it is worth repeating on another one.
LOST_CONNECTIONS = (
    ConnectionError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
# What a migration gets when a table is in use: lock_not_available, deadlock_detected.
IN_USE = ("55P03", "40P01")
MIGRATION_PAUSE_SECONDS = 1.0

Row = TypeVar("Row")

Connection: TypeAlias = _Connection
PooledConnection: TypeAlias = Connection

log = structlog.stdlib.get_logger("mithril")


class Condition(NamedTuple):
    """One condition of a WHERE clause: an SQL fragment with `{}` in place of the value."""

    fragment: str
    value: object


# What a store reads from: the pool, or the connection of an open transaction. Within a transaction it must be the
# connection: if every transaction waited for a second connection, none would get one.
Source: TypeAlias = "Database | PooledConnection"


class Violation(Exception):
    """A constraint of the database refused a row, and the statement had no effect."""

    def __init__(self, constraint: str | None, *, kind: str) -> None:
        """`constraint`: its name in the schema, if it has one. `kind`: `unique`, `reference` or `other`."""
        super().__init__(f"{kind}: {constraint}")
        self.constraint, self.kind = constraint, kind


class TooLate(asyncpg.QueryCanceledError):
    """A write came after its deadline, and did nothing (see `Database.write`). asyncpg makes it from its SQLSTATE."""

    sqlstate = "57M01"


class SchemaError(Exception):
    """The schema of the database does not fit this code."""


class Migrated(NamedTuple):
    """A migration: the version of the schema before, None for an empty database, and after it, and how long it took."""

    before: str | None
    after: str
    seconds: float


class Noted:
    """What requests have noted in passing, to be written later (see `sightings`)."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.secrets: set[bytes] = set()
        self.attempts: dict[tuple[UUID, str], int] = {}
        self.outcomes: dict[tuple[UUID, str], int] = {}


class Database:
    """Connections to one PostgreSQL, or of several hosts to the one that takes writes: a pool for look-ups, one for the
    rest.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int,
        wait_seconds: float,
        statement_seconds: float,
        connect_seconds: float = CONNECT_SECONDS,
        lock_seconds: float = 0,
        prepares: bool = True,
        reread: Callable[[], str] | None = None,
        standbys_answer: bool = False,
    ) -> None:
        """Connect to nothing yet: the pools open connections when they are first needed.

        `size`: of both pools together, at least 2. `wait_seconds`, `connect_seconds`: how long to wait for a connection
        in use, and for one that is being made. `lock_seconds`: how long a statement waits for a locked row; 0: as long
        as it may take. `prepares`: whether statements are prepared (see `poolers`). `reread`: says which URL to use
        now, when the password is refused. `standbys_answer`: look-ups may go to any host (see `standbys`).
        """
        settings = {"lock_timeout": f"{lock_seconds * 1000:.0f}ms"}
        self._servers = Servers(
            url, statement_seconds=statement_seconds, settings=settings, prepares=prepares, reread=reread
        )
        self._readers = self._servers.for_reading() if standbys_answer else self._servers
        pool = partial(Pool, wait_seconds=wait_seconds, connect_seconds=connect_seconds)

        # Look-ups and readiness have connections that no write can take. A few are enough: look-ups share statements.
        of_lookups = max(1, size // SHARE_OF_LOOKUPS)
        self._pool = pool(self._servers, size=size - of_lookups)
        self._lookup_pool = pool(self._readers, size=of_lookups, name="lookups")
        self._settle_seconds = min(statement_seconds, operations.SETTLE_SECONDS)
        self._lookups = Lookups(partial(self._read, pool=self._lookup_pool))
        self.noted = Noted()
        self._turns = Turns(most=max(1, (size - of_lookups) // 2), wait_seconds=wait_seconds)

    async def __aenter__(self) -> Self:
        """Open the pools."""
        await self._pool.open()
        await self._lookup_pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pools after the running statements have finished."""
        await self._pool.close()
        await self._lookup_pool.close()

    def measure(self) -> None:
        """Set the gauges of the pools."""
        self._pool.measure()
        self._lookup_pool.measure()

    def change_url(self, url: str) -> None:
        """Connect by another URL from now on, and replace the open connections after their current use."""
        if self._servers.change_url(url):
            self._readers.change_url(url)
            self._pool.expire()
            self._lookup_pool.expire()

    @asynccontextmanager
    async def connection(self, pool: Pool | None = None) -> AsyncIterator[PooledConnection]:
        """Lend one connection for a few statements. Raises ServiceUnavailable when none becomes free in time."""
        pool = pool or self._pool
        try:
            lease = await pool.acquire()
            try:
                yield lease.connection
            except BaseException as error:
                pool.take_back(lease, error)
                raise
            pool.release(lease)
        except faults.ERRORS as error:
            if (reason := faults.reason(error)) is None:
                raise
            raise _unavailable(error, reason) from error

    def turn(self, *rows: Hashable) -> AbstractAsyncContextManager[None]:
        """Wait until few others are at these rows, which statements of the block lock. Raises ServiceUnavailable.

        `rows`: what names them, such as the id of a client.
        """
        return self._turns.take(rows)

    @asynccontextmanager
    async def transaction(self, *rows: Hashable) -> AsyncIterator[PooledConnection]:
        """Lend one connection inside a transaction that ends with the block.

        `rows`: what it locks, as in `turn`. Name whatever many requests may want at once. When the block ends without
        an error, what it wrote is done, also where the answer to the commit was lost: then that is found out. Raises
        ServiceUnavailable, when nothing is done; OutcomeUnknown.
        """
        operation_id, is_sent = identifiers.time_ordered_uuid(), False
        try:
            async with self.turn(*rows), self.connection() as connection:
                await connection.execute(operations.begin(operation_id))
                try:
                    yield connection
                    is_sent = True
                    await connection.execute(operations.commit(operation_id))
                except BaseException as error:
                    if not (is_sent and isinstance(error, operations.LOST_ANSWERS)):
                        with suppress(*faults.ERRORS):  # it breaks off with its connection
                            await connection.execute("ROLLBACK")
                    raise
        except errors.ServiceUnavailable as refusal:
            if not is_sent:
                raise
            await self._settle(operation_id, refusal)

    async def write(
        self, statement: str, *arguments: object, recall: tuple[Any, ...] | None = None
    ) -> asyncpg.Record | None:
        """Run a statement that writes, alone in its transaction; return its first row, or None.

        Its next parameter is the deadline for `in_time`, which its condition calls: a network, or a machine that was
        frozen, may deliver it when its caller was refused long ago, and another one was told that it wrote.
        `recall`: a statement that finds its row again, where the answer was lost and it is done, with the arguments of
        that. Then the last parameter of both is the id of the operation, which the statement adds to `operations` where
        it changes something. Raises ServiceUnavailable, when nothing is done; with `recall` OutcomeUnknown.
        """
        if recall is None:
            rows = await self._write(statement, arguments)
        else:
            operation_id = identifiers.time_ordered_uuid()
            try:
                rows = await self._write(statement, arguments, operation_id)
            except errors.ServiceUnavailable as refusal:
                return await self._settle(operation_id, refusal, *recall, operation_id)
        return rows[0] if rows else None

    async def write_all(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a statement as `write` does without `recall`, and return all its rows."""
        return await self._write(statement, arguments)

    async def _write(self, statement: str, arguments: tuple[object, ...], *last: object) -> list[asyncpg.Record]:
        async def send(connection: Connection) -> list[asyncpg.Record]:
            try:
                return await connection.fetch(statement, *arguments, self._servers.deadline(), *last)
            except TooLate:
                # A caller who still waits is in time: the clock of the database was set.
                await self._servers.read_clock(connection)
                return await connection.fetch(statement, *arguments, self._servers.deadline(), *last)

        return await self._run(send, self._pool)

    async def fetchrow(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """Return the first row of a statement that only reads, or None. Raises ServiceUnavailable."""
        rows = await self.fetch(statement, *arguments)
        return rows[0] if rows else None

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Return all rows of a statement that only reads. Raises ServiceUnavailable."""
        return await self._read(lambda connection: connection.fetch(statement, *arguments), self._pool)

    async def _read(self, ask: Callable[[Connection], Awaitable[Row]], pool: Pool) -> Row:
        """Do what only reads, and repeat it once when its connection breaks."""
        try:
            return await self._run(ask, pool)
        except errors.ServiceUnavailable as refusal:
            if not isinstance(refusal.__cause__, LOST_CONNECTIONS):
                raise
        return await self._run(ask, pool)

    async def _run(self, ask: Callable[[Connection], Awaitable[Row]], pool: Pool) -> Row:
        """Do what `connection` does for one statement, in a third of the time."""
        try:
            lease = await pool.acquire()
            try:
                answer = await ask(lease.connection)
            except BaseException as error:
                pool.take_back(lease, error)
                raise
        except faults.ERRORS as error:
            if (reason := faults.reason(error)) is None:
                raise
            raise _unavailable(error, reason) from error
        pool.release(lease)
        return answer

    async def look_up(self, lookup: Lookup, *arguments: object) -> Found:
        """Return the row of a lookup as a dict of its columns, or None; see `Lookups`. Raises ServiceUnavailable."""
        return await self._lookups.find(lookup, arguments)

    async def is_current(self) -> bool:
        """Return whether the schema of the database fits this code. Raises ServiceUnavailable."""
        async with self.connection(self._lookup_pool) as connection:
            return is_current(await schema_version(connection))

    async def _settle(
        self,
        operation_id: UUID,
        refusal: errors.ServiceUnavailable,
        *recall: Any,  # noqa: ANN401 -- a statement and its arguments
    ) -> asyncpg.Record | None:
        """Return the row of `recall`, if one is given, when the operation is done.

        Raises the refusal when it is not done and never will be, OutcomeUnknown when that cannot be found out.
        """
        cause = refusal.__cause__
        if isinstance(cause, NOT_SENT) or not isinstance(cause, operations.LOST_ANSWERS):
            raise refusal
        try:
            async with asyncio.timeout(self._settle_seconds):
                settled = await self._insist(operations.SETTLE, operation_id)
                is_done = settled is not None and settled["is_done"]
                row = await self._insist(*recall) if is_done and recall else None
        except TimeoutError:
            metrics.UNKNOWN_OUTCOMES.add()
            raise errors.OutcomeUnknown(operation_id, detail=refusal.detail) from refusal
        log.warning("answer_lost", operation_id=str(operation_id), is_done=is_done, detail=refusal.detail)
        if not is_done:
            raise refusal
        return row

    async def _insist(self, statement: str, *arguments: object) -> asyncpg.Record | None:
        """Return the first row of a statement, repeated until it succeeds: the first connections may be broken too."""
        while True:
            with suppress(errors.ServiceUnavailable, asyncpg.PostgresError, TimeoutError):
                async with asyncio.timeout(self._settle_seconds / operations.ATTEMPTS):
                    return await self._run(lambda lent: lent.fetchrow(statement, *arguments), self._pool)
            await asyncio.sleep(operations.PAUSE_SECONDS)


@contextmanager
def violations() -> Iterator[None]:
    """Turn PostgreSQL's refusal of a row into Violation, without the values that its message repeats."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise Violation(error.constraint_name, kind="unique") from None
    except asyncpg.ForeignKeyViolationError as error:
        raise Violation(error.constraint_name, kind="reference") from None
    except (
        asyncpg.IntegrityConstraintViolationError,
        asyncpg.DataError,
        asyncpg.ProgramLimitExceededError,
    ) as error:
        name = getattr(error, "constraint_name", None) or type(error).__name__
        raise Violation(name, kind="other") from None


@asynccontextmanager
async def savepoint(transaction: "Connection | PooledConnection") -> AsyncIterator[None]:
    """Undo what the block has written, and nothing else of the transaction, if it raises an error."""
    await transaction.execute("SAVEPOINT block")
    try:
        yield
    except BaseException:
        await transaction.execute("ROLLBACK TO SAVEPOINT block")
        raise
    await transaction.execute("RELEASE SAVEPOINT block")


async def connect(url: str, *, prepares: bool = True) -> Connection:
    """Open one connection outside any pool, for the command line. Raises Unreachable."""
    return await Servers(url, prepares=prepares).open_one()


async def schema_version(connection: "Connection | PooledConnection") -> str | None:
    """Return the revision of the schema, or None for an empty database."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    version: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    return version


def is_current(version: str | None) -> bool:
    """Return whether this code works with a revision of the schema. It also works with a newer one.

    A release only adds to the schema, and a later release removes: the old processes run on during an upgrade.
    """
    return version is not None and version >= SCHEMA_VERSION


async def migrate(url: str, *, patience_seconds: float = 600.0) -> Migrated:
    """Bring the schema to the newest revision, build its indexes and partitions. Several processes may do so.

    Tables that something else uses, such as a dump, are waited for. Raises SchemaError when that takes too long, and
    for a schema of a newer release.
    """
    started = time.monotonic()
    while True:
        try:
            done = Migrated(await _migrate_once(url), SCHEMA_VERSION, round(time.monotonic() - started, 1))
        except asyncpg.PostgresError as error:
            if error.sqlstate not in IN_USE:
                if faults.reason(error) in (None, faults.SCHEMA):
                    raise SchemaError(f"the migration failed: {error}") from error
                raise
            if time.monotonic() > started + patience_seconds:
                raise SchemaError(f"tables were in use for {patience_seconds:.0f} s, by a dump perhaps") from error
        else:
            if done.before != done.after:
                # Not structlog's: in a command nothing has configured that one.
                logging.getLogger("mithril").info("migrated", extra=done._asdict())
            return done
        await asyncio.sleep(MIGRATION_PAUSE_SECONDS)


async def _migrate_once(url: str) -> str | None:
    """Do what `migrate` does, without patience; return the version of the schema before."""
    # Alembic and SQLAlchemy take a third of a second to import, and serving needs neither.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    def upgrade(connection: Any) -> None:  # noqa: ANN401 -- SQLAlchemy's type is imported only here
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    opened = await connect(url)  # not by SQLAlchemy, which would wrap the errors

    async def connected() -> Any:  # noqa: ANN401 -- as SQLAlchemy's async_creator wants it
        return opened

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
    try:
        before = await _check_not_newer(opened)
        if before is None and (encoding := opened.get_settings().server_encoding) != "UTF8":
            raise SchemaError(f"the database has the encoding {encoding}, and UTF8 is needed: docs/install.md")
        await _outside(url, partitions.prepare)
        async with engine.begin() as connection:
            await connection.run_sync(upgrade)
    except DBAPIError as error:  # of asyncpg, as from anything else that works on the database
        raise error.driver_exception from error
    finally:
        await engine.dispose()
    await _outside(url, indexes.build)
    await _outside(url, partitions.make)
    return before


async def _outside(url: str, work: Callable[[Connection], Awaitable[object]]) -> None:
    """Do what is in no transaction, through a pooler perhaps."""
    connection = await connect(url, prepares=False)
    try:
        await work(connection)
    finally:
        await connection.close()


async def _check_not_newer(connection: Connection) -> str | None:
    version = await schema_version(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise SchemaError(f"the schema is at version {version}, and this release knows {SCHEMA_VERSION}")
    return version


async def find_one(
    source: "Source | Connection", kind: Callable[..., Row], statement: str | Lookup, *arguments: object
) -> Row | None:
    """Return the first row of one statement as a `kind`, or None. From a Database it raises ServiceUnavailable."""
    if isinstance(statement, str):
        return one_or_none(kind, await source.fetchrow(statement, *arguments))
    if isinstance(source, Database):
        return one_or_none(kind, await source.look_up(statement, *arguments))
    return one_or_none(kind, await source.fetchrow(statement.alone, *arguments))


def one_or_none(kind: Callable[..., Row], row: "Found | asyncpg.Record") -> Row | None:
    """Return a row that was found as a `kind`, whose fields are its columns, or None where there is no row."""
    return None if row is None else kind(**row)


def _unavailable(error: Exception, reason: str) -> errors.ServiceUnavailable:
    """Return the error that callers see."""
    return errors.ServiceUnavailable(detail=f"{reason}: {type(error).__name__}: {error}")
