"""What an error of PostgreSQL, of a pooler or of the way to them means: a caller who is asked to come again, or a
mistake in this code, which is answered with 500.

The table decides by SQLSTATE, so that errors for which asyncpg has no class are decided too.
`docs/database-errors.md` has the same table, for operators.
"""

from collections.abc import Mapping

import asyncpg

# After these a connection may be in the middle of something, or have lost its server.
BROKEN = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError)
ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

UNREACHABLE = "the database cannot be reached"
POOLER = "a pooler does not keep prepared statements"
SCHEMA = "the schema is not the one that this release needs"
ADDED = "something that was added to the database fails"
UNKNOWN = "the database has an error that this release does not know"
# What makes the database unavailable, by SQLSTATE or by its class, the first two characters; the longer one counts.
# Whatever is not here is a mistake in this code. The words are for the log.
REASONS: Mapping[str, str] = {
    "08": UNREACHABLE,
    "0A": "the server is too old, or the schema was changed just now",
    "25006": "the server does not take writes",
    "25P03": "a transaction was idle for too long",
    "25P04": "a transaction took too long",
    "26": POOLER,
    "28": "the database refuses the role or its password",
    "38": ADDED,
    "39": ADDED,
    "3D": "the database does not exist",
    "3F": SCHEMA,
    "40": "another transaction was in the way",
    "42501": "the role lacks a privilege",
    "42703": SCHEMA,
    "42704": SCHEMA,
    "42883": SCHEMA,
    "42P01": SCHEMA,
    "42P05": POOLER,
    "53": "the database lacks a resource",
    "55": "something in the database is in use",
    "55P03": "another transaction holds the row",
    "57": "an operator or a time limit intervened",
    "58": "the machine of the database fails",
    "72": "the snapshot is too old",
    "F0": "the database is configured wrongly",
    "HV": ADDED,
    "XX": "the database is damaged, or has an error of its own",
}


def reason(error: BaseException) -> str | None:
    """Return why the database is unavailable, in words for the log. None for a mistake in this code.

    `error`: one of ERRORS.
    """
    code = error.sqlstate if isinstance(error, asyncpg.PostgresError) else None
    if code is None:
        return UNREACHABLE
    unknown = UNKNOWN if isinstance(error, asyncpg.UnknownPostgresError) else None
    return REASONS.get(code) or REASONS.get(code[:2], unknown)
