"""Checks that statements use an index, so that the cost of a request does not grow with the tables.

PostgreSQL is asked how it would run each with many rows in every table that grows.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import asyncpg

import mithril
from mithril.database.lists import COUNT_LIMIT, LOOK_LIMIT
from mithril.database.lookups import Lookup

ROWS = 10_000
# There are only a few dozen client types, roles, webhooks and versions of the schema, and few events of no month.
SMALL = {
    *("client_types", "roles", "alembic_version", "revocations", "audit_events_default", "pg_database"),
    *("webhooks", "notification_cursors", "announcements"),
}
BY_INDEX = {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}
# These nodes read the next row only when it is needed.
STREAMING = {
    "Nested Loop",
    "Merge Join",
    "Hash Join",
    "Memoize",
    "Result",
    "Append",
    "Merge Append",
    "Incremental Sort",
}
# Excludes the statements of the driver, the ends of transactions, and English sentences.
JUDGED = re.compile(
    r"(?!.*(?:pg_catalog|current_setting|COMMIT$))\s*(SELECT|WITH|INSERT INTO|UPDATE|DELETE FROM)\b.*", re.DOTALL
)

# Incomplete statements, which functions complete.
UNFINISHED = re.compile(r"(?<!'){}|WHERE$")

# Parts of statements that may read more rows than an index finds, each with the reason.
EXCEPTIONS = {
    "FROM audit_events WHERE action = $": "the trail keeps its order: from the newest on, until the page is full",
    "FROM audit_events WHERE starts_with(action, $": "as above",
    "FROM audit_events WHERE request_id = $": "as above; an index would make every change dearer",
    "FROM audit_events WHERE operation_id = $": "the command adds a time before and after: see the next one",
    "WHERE t.role_id = $1 LIMIT": "of some dozen roles each is many people's: counted until there are enough",
    "is_blocked AND NOT $": "nearly all are not blocked: in the order of the list, until the page is full",
    "starts_with(key, $": "counters are cleaned up after minutes, and only the unblocking of a user reads all",
}

FILL = """
SET session_replication_role = replica;
INSERT INTO client_types (id, name, scope) SELECT md5('ct' || n)::uuid, 'TYPE ' || n, 'scope'
  FROM generate_series(0, 19) n;
INSERT INTO roles (id, name, scope) SELECT md5('r' || n)::uuid, 'ROLE ' || n, 'scope' FROM generate_series(0, 19) n;
INSERT INTO users (id, email, tax_id) SELECT md5('u' || n)::uuid, n || '@example.com', n FROM numbers;
INSERT INTO password_hstr (user_id, password_hash) SELECT md5('u' || n)::uuid, 'hash' FROM numbers;
INSERT INTO authentication_factors (user_id, type, factor) SELECT md5('u' || n)::uuid, 'SMS', n FROM numbers;
INSERT INTO otp (key, code_digest, code_expired_at, status, active)
SELECT n, 'code', now(), CASE n % 2 WHEN 0 THEN 'NEW' ELSE 'VERIFIED' END, n % 2 = 0 FROM numbers;
INSERT INTO attempts (key) SELECT n FROM numbers;
INSERT INTO clients (id, name, user_id, client_type_id)
SELECT md5('c' || n)::uuid, 'Clinic ' || n, md5('u' || n)::uuid, md5('ct' || n % 20)::uuid FROM numbers;
INSERT INTO connections (id, client_id, consumer_id, redirect_uri, secret_digest, secret_tail,
                         previous_secret_digest, previous_secret_expires_at)
SELECT md5('k' || n)::uuid, md5('c' || n)::uuid, md5('c' || n % 100)::uuid, 'https://example.com/' || n,
       sha256(('s' || n)::bytea), 'tail', CASE n % 10 WHEN 0 THEN sha256(('p' || n)::bytea) END,
       CASE n % 10 WHEN 0 THEN now() END
  FROM numbers;
INSERT INTO transitions_due (connection_id, ends_at)
SELECT md5('k' || n)::uuid, now() + n * interval '1 s' FROM numbers;
INSERT INTO secret_uses (digest, last_used_at) SELECT sha256(('s' || n)::bytea), now() FROM numbers;
INSERT INTO moved_attempts (connection_id, attempts) SELECT md5('k' || n)::uuid, n FROM numbers;
INSERT INTO sign_in_counts (hour, subject_id, outcome, times)
SELECT now() - n % 500 * interval '1 h', md5('c' || n)::uuid, CASE n % 2 WHEN 0 THEN 'refusal' ELSE '' END, n
  FROM numbers;
INSERT INTO user_roles (user_id, role_id, client_id)
SELECT md5('u' || n)::uuid, md5('r' || n % 20)::uuid, md5('c' || n)::uuid FROM numbers;
INSERT INTO global_user_roles (user_id, role_id) SELECT md5('u' || n)::uuid, md5('r' || n % 20)::uuid FROM numbers;
INSERT INTO apps (user_id, client_id, scope) SELECT md5('u' || n)::uuid, md5('c' || n)::uuid, 'scope' FROM numbers;
INSERT INTO tokens (name, digest, user_id, client_id, connection_id, family_id, scope, expires_at)
SELECT CASE n % 2 WHEN 0 THEN 'access_token' ELSE 'refresh_token' END, sha256(('t' || n)::bytea),
       md5('u' || n)::uuid, md5('c' || n)::uuid, md5('k' || n)::uuid, md5('f' || n / 2)::uuid, 'scope',
       now() + n * interval '1 second'
  FROM numbers;
INSERT INTO webhooks (id, url, events, is_active, secret_version, secret_digest)
SELECT md5('w' || n)::uuid, 'https://example.com/', '{}', true, 1, '' FROM generate_series(1, 5) n;
INSERT INTO notification_cursors (id, webhook_id, last_event_id) SELECT id, id, 0 FROM webhooks;
INSERT INTO nonces (client_id, expires_at) SELECT md5('c' || n)::uuid, now() FROM numbers;
INSERT INTO operations (id) SELECT md5('o' || n)::uuid FROM numbers;
INSERT INTO audit_events (action, subject_id, client_id, actor_user_id, occurred_at)
SELECT 'connection.update', md5('k' || n)::uuid, md5('c' || n)::uuid, md5('u' || n)::uuid,
       now() + n % 4 * interval '1 month' FROM numbers ORDER BY n % 4;
"""
# Plans a statement for any values, as PostgreSQL plans a prepared statement after a while.
PLAN = """
CREATE FUNCTION plan(statement text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (GENERIC_PLAN, FORMAT JSON) ' || statement INTO plan;
    RETURN plan;
END
$$
"""


@contextmanager
def noted() -> Iterator[set[str]]:
    """Record the statements that the pools of this process run in the block."""
    statements: set[str] = set()
    connect = asyncpg.connect

    async def listening(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        connection.add_query_logger(lambda record: statements.add(record.query))
        return connection

    asyncpg.connect = listening
    try:
        yield statements
    finally:
        asyncpg.connect = connect


def written() -> set[str]:
    """Return the statements in the stores as they are run."""
    names = [name for _, name, _ in pkgutil.walk_packages(mithril.__path__, "mithril.") if name.endswith("store")]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    texts = {value for value in values if isinstance(value, str)}
    texts |= {text for value in values if isinstance(value, Lookup) for text in (value.alone, value.together)}
    return {text for text in texts if JUDGED.fullmatch(text) and not UNFINISHED.search(text)}


async def fill_tables(db: Any, *, rows: int) -> None:
    """Adds so many rows to every table that grows of a database that has the schema."""
    await db.execute(f"CREATE TEMPORARY VIEW numbers AS SELECT n::text::bigint AS n FROM generate_series(1, {rows}) n")
    await db.execute(FILL)


async def fill(url: str) -> None:
    """Fill every growing table of a database with many rows, and create the function `plan`."""
    db = await asyncpg.connect(url)
    await fill_tables(db, rows=ROWS)
    await db.execute(PLAN)
    await db.execute("ANALYZE")
    await db.close()


async def objections_to(db: Any, statement: str) -> list[str]:
    """Return the parts of growing tables that a statement reads without an index."""
    # The limit of counting is a thousandth of a table of ten million rows; this keeps the proportion.
    planned = re.sub(rf"LIMIT ({COUNT_LIMIT}|{LOOK_LIMIT})\b", f"LIMIT {ROWS // 1000}", statement)
    plan = json.loads(await db.fetchval("SELECT plan($1)", planned))[0]["Plan"]
    return [] if any(part in statement for part in EXCEPTIONS) else list(_objections(plan, is_bounded=False))


def _objections(node: dict[str, Any], *, is_bounded: bool) -> Iterator[str]:
    """`is_bounded`: the nodes above take a limited number of rows, and no others are read."""
    kind, table = node["Node Type"], node.get("Relation Name", "")
    is_filtered = "Filter" in node
    if kind == "Seq Scan" and table not in SMALL and (is_filtered or not is_bounded):
        yield f"reads all of {table}"
    elif kind in BY_INDEX and "Index Cond" not in node and table not in SMALL and (is_filtered or not is_bounded):
        yield f"reads all of {node['Index Name']}"
    bounds = kind == "Limit" or (is_bounded and kind in STREAMING)
    for child in node.get("Plans", ()):
        # The inner side is read again for each row of the outer one, or completely beforehand.
        is_inner = child.get("Parent Relationship") == "Inner" and kind != "Merge Join"
        yield from _objections(child, is_bounded=bounds and not is_inner)


async def rows_read(db: Any, statement: str, values: list[Any]) -> float:
    """Return how many rows of tables and indexes it reads at most, of the two plans."""
    most = 0.0
    for mode in ("force_custom_plan", "force_generic_plan"):
        await db.execute(f"SET plan_cache_mode = {mode}")
        plan = json.loads(await db.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values))
        most = max(most, sum(_read_by(plan[0]["Plan"])))
    return most


def _read_by(node: Mapping[str, Any]) -> Iterator[float]:
    if "Relation Name" in node or "Index Name" in node:
        removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
        yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for child in node.get("Plans", ()):
        yield from _read_by(child)


async def judge(db: Any, statements: set[str]) -> list[str]:
    """Return the objections to all statements. `db`: a connection to a filled database."""
    found = []
    for statement in sorted(filter(JUDGED.fullmatch, statements)):
        objections = await objections_to(db, statement)
        found += [f"{', '.join(objections)}: {statement}"] if objections else []
    return found
