"""Whether the standbys of a URL may answer look-ups: only where no commit is confirmed before all of them show it.

That is the operator's promise. PostgreSQL shows of it whether a commit waits until it is applied, and on how many.
"""

import re

from mithril.database.connecting import Connection, Servers
from mithril.settings import SettingsError

STATE = """
SELECT current_setting('synchronous_commit') AS confirmed, current_setting('synchronous_standby_names') AS names,
       (SELECT count(*) FROM pg_stat_replication) AS connected
"""
REFUSED = "MITHRIL_VERIFY_FROM_STANDBYS cannot be true"
SEVERAL = re.compile(r"\s*(?:FIRST\s|ANY\s)?\s*(\d+)\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)


async def check(connection: Connection, url: str) -> None:
    """Raise SettingsError where a standby of the URL may visibly show less than what was confirmed.

    `connection`: to the primary.
    """
    state = await connection.fetchrow(STATE)
    assert state is not None, "one row"
    if state["confirmed"] != "remote_apply":
        raise SettingsError(f"{REFUSED}: synchronous_commit is {state['confirmed']}, not remote_apply")
    most, listed = several.groups() if (several := SEVERAL.fullmatch(state["names"])) else ("1", state["names"])
    names = [name.strip() for name in listed.split(",") if name.strip()]
    there_are = max(len(Servers(url).order) - 1, state["connected"] if "*" in names else len(names))
    if there_are > (confirming := int(most) if names else 0):
        raise SettingsError(
            f"{REFUSED}: a commit waits for {confirming} of {there_are} standbys (synchronous_standby_names)"
        )
