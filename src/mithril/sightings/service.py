"""What requests note in passing: no request waits for it, and none takes longer for what it notes.

Each process keeps it in memory and writes it together every few seconds. So nothing that a caller could measure tells a
redirect URI that has moved from one that never was. What a process that is killed has not written is lost.
"""

import asyncio
import time
from contextlib import suppress
from typing import NoReturn
from uuid import UUID

import structlog

from mithril import errors
from mithril.database.database import Database, Noted
from mithril.sightings import sign_in_store, store
from mithril.sightings.sign_in_store import ALL, SIGN_IN

WRITE_SECONDS = 5.0
# A use of a secret is written at once, and then for so long no other one. Both together are below five minutes.
REST_SECONDS = 240.0
LONGEST_REDIRECT_URI = 2_048
MOST_ATTEMPTS = 1_000  # different ones, between two writes
MOST_OUTCOMES = 1_000  # and so with the refusals of clients

log = structlog.stdlib.get_logger("mithril")


def use_secret(database: Database, digest: bytes) -> None:
    """Note that a caller has shown the secret with this digest, which some connection has."""
    database.noted.secrets.add(digest)


def miss(database: Database, client_id: UUID, redirect_uri: str) -> None:
    """Note that a sign-in was asked for at a redirect URI that no connection of the client has."""
    attempts, asked = database.noted.attempts, (client_id, redirect_uri)
    is_storable = len(redirect_uri) <= LONGEST_REDIRECT_URI and "\0" not in redirect_uri
    if is_storable and (asked in attempts or len(attempts) < MOST_ATTEMPTS):
        attempts[asked] = attempts.get(asked, 0) + 1


def sign_in(database: Database, *, client_id: UUID, connection_id: UUID) -> None:
    """Note a sign-in through a connection of the client."""
    for subject_id in (ALL, client_id, connection_id):
        _count(database.noted.outcomes, (subject_id, SIGN_IN))


def refuse(database: Database, refusal: str, *, client_id: UUID | None) -> None:
    """Note a refusal by its name. `client_id`: of a client that is there; None where it is not known."""
    outcomes = database.noted.outcomes
    _count(outcomes, (ALL, refusal))
    if client_id is not None and ((client_id, refusal) in outcomes or len(outcomes) < MOST_OUTCOMES):
        _count(outcomes, (client_id, refusal))


def _count(outcomes: dict[tuple[UUID, str], int], key: tuple[UUID, str]) -> None:
    outcomes[key] = outcomes.get(key, 0) + 1


async def write_regularly(database: Database) -> NoReturn:
    """Write what was noted every few seconds until canceled, and once more then."""
    written: dict[bytes, float] = {}
    try:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await write(database, written)
    finally:
        with suppress(Exception):
            await write(database, {})


async def write(database: Database, written: dict[bytes, float]) -> None:
    """Write what was noted. `written`: when each secret was last written, in monotonic seconds; it is kept up to date.

    What cannot be written is lost: an error is logged.
    """
    noted, database.noted = database.noted, Noted()
    now = time.monotonic()
    for digest in [each for each, moment in written.items() if now - moment > REST_SECONDS]:
        del written[digest]
    fresh = sorted(noted.secrets - written.keys())
    try:
        if fresh:
            await store.use_secrets(database, fresh)
            written.update(dict.fromkeys(fresh, now))
        for moved in await store.count_moved(database, noted.attempts) if noted.attempts else ():
            log.warning(
                "redirect_uri_moved",
                client_id=str(moved.client_id),
                connection_id=str(moved.connection_id),
                redirect_uri=moved.redirect_uri,
                moved_at=moved.moved_at.isoformat(),
                attempts=moved.attempts,
            )
        if noted.outcomes:
            await sign_in_store.write(database, noted.outcomes)
    except (errors.ServiceUnavailable, errors.OutcomeUnknown) as error:
        log.warning("sightings_lost", detail=error.detail)
    except Exception:
        log.exception("sightings_lost")
