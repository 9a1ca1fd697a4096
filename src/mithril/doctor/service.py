"""What the doctor looks at in the database. Each check is a transaction that can only read, and has its own limits."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import asyncpg

from mithril.cleanup.service import OPERATION_SECONDS
from mithril.database import database, indexes, poolers, standbys
from mithril.database.database import Connection
from mithril.database.lists import LAST_BY_NUMBER
from mithril.doctor import store
from mithril.doctor.findings import Finding
from mithril.settings import Settings, SettingsError

OLDEST_VERSION = 150_000
MIB, GIB = 2**20, 2**30
SMALLEST_BUFFERS = 128 * MIB  # PostgreSQL's default
MOST_CLOCK_SECONDS = 2.0
MOST_LAG_BYTES, MOST_LAG_SECONDS = 64 * MIB, 10.0
MOST_KEPT_BYTES = GIB
MOST_TRANSACTIONS = 1_000_000_000  # PostgreSQL stops at two billions, and should begin to mend it at 200 millions
MOST_TRANSACTION_SECONDS = 600.0
FEWEST_DEAD_ROWS, MOST_DEAD_SHARE = 10_000, 0.3
Rows = Sequence[asyncpg.Record]


async def examine(connection: Connection, url: str, settings: Settings) -> AsyncIterator[Finding]:
    """Yield what was found in the database of that URL. `connection`: one to it."""
    pooler = await _pooler(connection, url, settings)
    before = time.time()
    server = dict((await _read(connection, store.SERVER))[0])
    middle = (before + time.time()) / 2
    for finding in _server(server, is_embedded=not settings.database_url):
        yield finding
    yield _clock(server["clock"] - middle, time.time() - before)
    yield pooler or _room(server, settings)
    yield (schema := await _schema(connection))
    if schema.level != "ok":
        return
    checks: Sequence[tuple[str, str, Sequence[object], Callable[[Rows], Finding]]] = [
        ("privileges", store.PRIVILEGES, (), lambda rows: _privileges(rows, server["role"])),
        ("indexes", indexes.STATE, ([*indexes.DEFINITIONS],), _indexes),
        ("tables", store.TABLES, (), lambda rows: _tables(rows, server)),
        ("cleanup", store.OVERDUE, (), lambda rows: _cleanup(rows[0][0], settings)),
        ("standbys", store.STANDBYS, (), lambda rows: _standbys(rows, server["synchronous_standby_names"])),
        ("slots", store.SLOTS, (), _slots),
        ("archive", store.ARCHIVER, (), lambda rows: _archive(rows[0])),
    ]
    for name, statement, arguments, judge in checks:
        try:
            yield judge(await _read(connection, statement, *arguments))
        except asyncpg.PostgresError as error:
            yield Finding(name, "warning", f"not known: {error}", "Look with a role that may read it.")
    clients = next((row["live"] for row in await _read(connection, store.TABLES) if row["name"] == "clients"), 0)
    yield _trigrams((await _read(connection, indexes.EXTENSION))[0], clients)
    if settings.verify_from_standbys:
        try:
            await standbys.check(connection, url)
        except SettingsError as error:
            yield Finding("standbys", "problem", str(error), "See docs/failover.md, verification during a failover.")


async def _read(connection: Connection, statement: str, *arguments: object) -> Rows:
    async with connection.transaction(readonly=True):
        return await connection.fetch(statement, *arguments)


async def _schema(connection: Connection) -> Finding:
    try:
        version = await database.schema_version(connection)
    except asyncpg.InsufficientPrivilegeError:
        return Finding("schema", "problem", "this role may not read the tables", "GRANT it what the service needs.")
    if database.is_current(version):
        return Finding("schema", "ok", f"at version {version}")
    if version is None and await connection.fetchval("SELECT current_schema()") is None:
        text = "this role may use no schema of its search_path"
        return Finding("schema", "problem", text, "GRANT USAGE on it: docs/configure.md#two-roles.")
    text = f"at version {version}, and this release needs {database.SCHEMA_VERSION}" if version else "there is none"
    return Finding("schema", "problem", text, "Run `mithril migrate`.")


def _server(server: dict[str, Any], *, is_embedded: bool) -> list[Finding]:
    """Judge what decides whether an answer of 200 is true, and stays true."""
    found = [Finding("version", "ok", f"PostgreSQL {server['version']}")]
    if server["number"] < OLDEST_VERSION:
        found = [Finding("version", "problem", f"PostgreSQL {server['version']}", "Mithril needs 15 or newer.")]
    for name in ("fsync", "full_page_writes"):
        if server[name] == "off":
            text = "off: a crash of the machine may destroy the database"
            found.append(Finding(name, "problem", text, f"Set {name} = on, and reload PostgreSQL."))
    if server["synchronous_commit"] == "off":
        text = "off: a crash may undo the last changes that were answered with 200"
        found.append(
            Finding("synchronous_commit", "problem", text, "Set it to on, of the server, the database and the role.")
        )
    elif server["synchronous_standby_names"] and server["synchronous_commit"] == "local":
        text = "local: no commit waits for the standbys in synchronous_standby_names"
        found.append(Finding("synchronous_commit", "warning", text, "Set it to on."))
    if len(found) == 1:
        found.append(Finding("durability", "ok", f"fsync is on, synchronous_commit is {server['synchronous_commit']}"))
    found += _texts(server)
    if server["is_superuser"] and not is_embedded:
        text = f"{server['role']} is a superuser, whom no privilege and no trigger of the trail binds"
        remedy = "Give the service a role of its own: docs/configure.md#two-roles."
        found.append(Finding("role", "warning", text, remedy))
    if server["transactions"] > MOST_TRANSACTIONS:
        text = f"{server['transactions']} transactions are not frozen; at two billions no write is taken"
        found.append(
            Finding(
                "freezing", "problem", text, "Find what stops autovacuum: old transactions, slots; run VACUUM FREEZE."
            )
        )
    if (server["oldest_seconds"] or 0) > MOST_TRANSACTION_SECONDS:
        text = f"one is {server['oldest_seconds'] / 60:.0f} minutes old: dead rows stay, and migrations wait"
        found.append(Finding("transactions", "warning", text, "Find it in pg_stat_activity by xact_start, and end it."))
    return found


def _texts(server: dict[str, Any]) -> Iterator[Finding]:
    """Judge whether every name can be written, and found in any letter case."""
    if server["encoding"] != "UTF8":
        text = f"{server['encoding']}, in which not every name can be written"
        yield Finding("encoding", "problem", text, "Dump it, and restore it into a database in UTF8.")
    elif server["folds_ascii_only"]:
        text = f"{server['locale']}: a search tells upper and lower case apart, but for the letters of ASCII"
        yield Finding("locale", "warning", text, "Dump it, and restore it into a database with the locale C.UTF-8.")


def _clock(ahead: float, took: float) -> Finding:
    """Judge how far the clock of the database is ahead of ours. `took`: for how long it was asked."""
    if abs(ahead) <= MOST_CLOCK_SECONDS + took:
        return Finding("clock", "ok", "that of the database and that of this machine agree")
    text = f"that of the database is {abs(ahead):.0f} seconds {'ahead' if ahead > 0 else 'behind'}"
    return Finding("clock", "warning", text, "Tokens expire by the clock of the database: let NTP or chrony set both.")


async def _pooler(connection: Connection, url: str, settings: Settings) -> Finding | None:
    """Return what is found of a pooler, or None where there is none."""
    try:
        if await connection.fetchval(poolers.SESSION) == connection.get_server_pid():
            return None
        await poolers.check(connection, url, prepares=settings.db_prepared_statements)
    except SettingsError as error:
        return Finding("pooler", "problem", str(error), "See docs/configure.md, poolers.")
    return Finding("pooler", "ok", "there is one that can be used; it decides how many connections there are")


def _room(server: dict[str, Any], settings: Settings) -> Finding:
    """Judge whether there are connections for all workers, and for one more while workers are replaced."""
    limits = [server[name] for name in ("max_connections", "role_limit", "database_limit") if server[name] >= 0]
    most = limits[0] if server["is_superuser"] else min(limits)
    needed = settings.workers * settings.db_pool_size
    spare = settings.db_pool_size if settings.workers > 1 else 0
    text = f"PostgreSQL has {most}, and {settings.workers} workers of {settings.db_pool_size} take {needed}"
    advice = "Raise max_connections, or the limit of the role or database, or lower MITHRIL_DB_POOL_SIZE."
    if most < needed:
        return Finding("connections", "problem", text, advice)
    if most < needed + spare:
        return Finding("connections", "warning", f"{text}; a reload needs {spare} more", advice)
    return Finding("connections", "ok", f"{text}; count each machine")


def _privileges(rows: Rows, role: str) -> Finding:
    if not rows:
        return Finding("privileges", "ok", f"{role} has what the service needs")
    text = "; ".join(f"{role} lacks {row['missing']} on {row['name']}" for row in rows)
    return Finding("privileges", "problem", text, "GRANT them, by the owner of the tables.")


def _indexes(rows: Rows) -> Finding:
    missing = [row["name"] for row in rows if not row["is_valid"] and not row["is_being_built"]]
    if missing:
        return Finding("indexes", "warning", f"missing or half built: {', '.join(missing)}", "Run `mithril migrate`.")
    return Finding("indexes", "ok", "all are there")


def _tables(rows: Rows, server: dict[str, Any]) -> Finding:
    largest = ", ".join(
        f"{row['name']} {_size(row['bytes'])} ({_size(row['index_bytes'])} indexes)" for row in rows[:3]
    )
    text = f"the database has {_size(server['bytes'])}: {largest}"
    bloated = [r["name"] for r in rows if r["dead"] > max(FEWEST_DEAD_ROWS, MOST_DEAD_SHARE * r["live"])]
    if bloated:
        text += f"; many dead rows: {', '.join(bloated)}"
        return Finding(
            "tables", "warning", text, f"VACUUM (ANALYZE) {', '.join(bloated)}; see why autovacuum does not."
        )
    if fresh := [row["name"] for row in rows if row["live"] > FEWEST_DEAD_ROWS and not row["is_analyzed"]]:
        return Finding(
            "tables", "warning", f"{text}; never analyzed: {', '.join(fresh)}", f"ANALYZE {', '.join(fresh)}."
        )
    hot = sum(row["bytes"] for row in rows if not row["name"].startswith("audit_events"))
    if server["shared_buffers"] < min(hot, SMALLEST_BUFFERS):
        text += f"; shared_buffers has {_size(server['shared_buffers'])}"
        return Finding(
            "tables", "warning", text, "Set shared_buffers to a quarter of the memory, and restart PostgreSQL."
        )
    return Finding("tables", "ok", text)


def _cleanup(oldest_seconds: float | None, settings: Settings) -> Finding:
    """Judge by the oldest operation, which each cleanup deletes after an hour."""
    if oldest_seconds is None:
        return Finding("cleanup", "ok", "there is nothing to clean up")
    late = oldest_seconds - OPERATION_SECONDS
    if late <= max(2 * settings.sweep_interval, OPERATION_SECONDS):
        return Finding("cleanup", "ok", "nothing is overdue")
    text = f"the last one was {late / 3600:.0f} hours ago, or before"
    return Finding(
        "cleanup", "warning", text, "Look for `sweep_failed` in the log of the server, or run `mithril sweep`."
    )


def _standbys(rows: Rows, names: str) -> Finding:
    confirming = [row for row in rows if row["sync_state"] in ("sync", "quorum")]
    if names and not confirming and all(row["state"] for row in rows):
        text = (
            f"none that synchronous_standby_names ({names}) wants is connected: every change is 503, `outcome_unknown`"
        )
        return Finding(
            "standbys", "problem", text, "Start the standby, or take it off synchronous_standby_names and reload."
        )
    if not rows:
        return Finding(
            "standbys", "ok", "there is none, so that the last backup is all that is left when the machine is lost"
        )
    if not all(row["state"] for row in rows):
        text = f"{len(rows)}, whose lag this role may not see"
        return Finding("standbys", "ok", f"{text}; `GRANT pg_monitor` shows it")
    late = [
        f"{row['name']} by {_size(row['bytes_behind'] or 0)} and {row['seconds_behind'] or 0:.0f} s"
        for row in rows
        if (row["bytes_behind"] or 0) > MOST_LAG_BYTES or (row["seconds_behind"] or 0) > MOST_LAG_SECONDS
    ]
    if late:
        return Finding(
            "standbys", "warning", f"behind: {', '.join(late)}", "Look at the standby's log, disk and network."
        )
    return Finding("standbys", "ok", f"{len(rows)} follow, {len(confirming)} of them synchronously")


def _slots(rows: Rows) -> Finding:
    if lost := [f"{row['name']} ({_size(row['kept_bytes'])})" for row in rows if row["kept_bytes"] > MOST_KEPT_BYTES]:
        text = f"nobody reads from {', '.join(lost)}, so that the log fills the disk"
        return Finding("slots", "warning", text, "Start the standby, or SELECT pg_drop_replication_slot(name).")
    return Finding("slots", "ok", "none keeps much of the write-ahead log")


def _archive(row: asyncpg.Record) -> Finding:
    if row["is_failing"]:
        text = f"archive_command fails since {row['last_failed_wal']}: no backup to a point in time, and the disk fills"
        return Finding("archive", "problem", text, "See the log of PostgreSQL, and run the command by hand.")
    return Finding("archive", "ok", "the write-ahead log is archived" if row["is_on"] else "archive_mode is off")


def _trigrams(row: asyncpg.Record, clients: int) -> Finding:
    if row["is_there"]:
        return Finding("pg_trgm", "ok", "searches find any part of a name")
    text = f"without it a search looks at {LAST_BY_NUMBER} clients only"
    if clients < LAST_BY_NUMBER or not row["is_available"]:
        return Finding("pg_trgm", "ok", f"{text}, and there are about {clients}")
    return Finding("pg_trgm", "warning", text, "CREATE EXTENSION pg_trgm, by a superuser; then `mithril migrate`.")


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"
