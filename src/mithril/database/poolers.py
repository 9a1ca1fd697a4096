"""Poolers between this service and PostgreSQL, such as pgbouncer: which ones it works with is found out at the start.

A pooler that shares sessions gives each transaction another one. A prepared statement then is missing in the next
session, unless the pooler itself knows prepared statements: it gives them names of its own, and prepares them wherever
they are used. Where it does not, statements without a name are right: asyncpg sends them whole each time.
"""

from typing import TYPE_CHECKING

from mithril.database.database import CONNECT_SECONDS, connect
from mithril.settings import SettingsError

if TYPE_CHECKING:
    from mithril.database.database import Connection

SESSION = "SELECT pg_backend_pid()"
HAS_STATEMENT = "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = $1)"
# Other clients of the pooler may use a session just between two of our questions.
ROUNDS = 5
REFUSED = (
    "MITHRIL_DATABASE_URL leads to a pooler that shares sessions and does not keep prepared statements. There, set"
    " max_prepared_statements (pgbouncer 1.21 or newer) or pool_mode = session; or set"
    " MITHRIL_DB_PREPARED_STATEMENTS=false, which takes one round trip more for each statement"
)


async def check(connection: "Connection", url: str, *, prepares: bool) -> None:
    """Check that what `url` leads to can be used. Raises SettingsError, and the errors of asyncpg.

    `connection`: one to it. `prepares`: whether the service will prepare statements.
    """
    # A pooler makes the key with which a client cancels; a server says its process there.
    if await connection.fetchval(SESSION) == connection.get_server_pid():
        return
    async with connection.transaction():  # one that shares sessions between statements refuses in its own words
        probe = await connection.prepare(HAS_STATEMENT)
        keeps_names = await probe.fetchval(probe.get_name())
    if prepares and keeps_names and await _shares_sessions(url):
        raise SettingsError(REFUSED)


async def _shares_sessions(url: str) -> bool:
    """Return whether two clients of the pooler meet in one session, or one of them changes its session."""
    one, other = await connect(url, prepares=False), await connect(url, prepares=False)
    try:
        own: set[int] = set()
        for _ in range(ROUNDS):
            for client, known in ((one, own), (one, own), (other, others := set[int]())):
                known.add(await client.fetchval(SESSION, timeout=CONNECT_SECONDS))
            if len(own) > 1 or own & others:
                return True
        return False
    finally:
        one.terminate()
        other.terminate()
