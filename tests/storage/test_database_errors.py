"""Every error that PostgreSQL can raise is 503, or a mistake of ours, as docs/database-errors.md says."""

import inspect
import re

import asyncpg
import pytest

from mithril import errors
from mithril.database import faults
from mithril.database.database import Connection, Database
from support import repository

pytestmark = pytest.mark.anyio

CLASSES = [
    each
    for each in vars(asyncpg.exceptions).values()
    if inspect.isclass(each) and issubclass(each, Exception) and not issubclass(each, Warning)
]
CODES = sorted({code for each in CLASSES if (code := getattr(each, "sqlstate", None))})
# Success, warnings and "no data" are no errors.
NO_ERRORS = ("00", "01", "02")
RAISE = """
CREATE FUNCTION fail(code text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'as the test wants it' USING ERRCODE = code;
END
$$
"""


def documented() -> dict[str, str]:
    """Return the words of the log by SQLSTATE, as the table of the documentation has them."""
    page = (repository() / "docs/database-errors.md").read_text()
    rows = re.findall(r"^\| (`.+?) \| (.+?) \| .*\|$", page, re.MULTILINE)
    # Behind a colon there are examples of the class.
    return {code: said for codes, said in rows for code in re.findall(r"`(\w+)`", codes.partition(":")[0])}


def test_the_page_has_the_table() -> None:
    assert documented() == faults.REASONS


async def test_every_error_of_postgresql_is_what_the_page_says(db: Connection, database_url: str) -> None:
    await db.execute(RAISE)
    table = documented()
    seen = set()
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
        for code in CODES:
            if code.startswith(NO_ERRORS):
                continue
            said = table.get(code) or table.get(code[:2])
            expected = errors.ServiceUnavailable if said else asyncpg.PostgresError
            with pytest.raises(expected) as raised:
                await database.fetchrow("SELECT fail($1)", code)
            with pytest.raises(expected):
                await database.fetch("SELECT fail($1)", code)
            if isinstance(raised.value, errors.ServiceUnavailable):
                assert raised.value.detail.startswith(f"{said}: ")
                assert raised.value.headers["retry-after"]
            seen.add(said)
        row = await database.fetchrow("SELECT 1")
        assert row is not None
    assert seen == {None, *table.values()}


async def test_an_unknown_error_is_no_mistake_of_ours(db: Connection, database_url: str) -> None:
    await db.execute(RAISE)
    async with Database(database_url, size=2, wait_seconds=60, statement_seconds=60) as database:
        for code, said in (("53ZZZ", faults.REASONS["53"]), ("ZZZZZ", faults.UNKNOWN)):
            with pytest.raises(errors.ServiceUnavailable) as raised:
                await database.fetchrow("SELECT fail($1)", code)
            assert raised.value.detail.startswith(said)


def test_every_error_of_the_driver_is_decided() -> None:
    for kind in CLASSES:
        assert issubclass(kind, faults.ERRORS)
        code = getattr(kind, "sqlstate", None)
        expected = faults.REASONS.get(code) or faults.REASONS.get(code[:2]) if code else faults.UNREACHABLE
        assert faults.reason(kind("a message")) == expected


def test_an_error_of_the_network_is_a_database_that_cannot_be_reached() -> None:
    for error in (OSError("gone"), TimeoutError("late"), ConnectionResetError()):
        assert faults.reason(error) == faults.UNREACHABLE
