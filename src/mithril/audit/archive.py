"""Archiving: old months of the audit trail become files, and leave the database.

    the file is written under another name, complete, on the disk
    it gets its name
    the partition is detached: from then on the trail does not show the month
    the partition is dropped, if it has exactly the rows of the file

An interruption at any point leaves the rows in the file or in the database, or in both; the next run writes the file
again. A transaction that began in an old month may add a row after the file was written: then the number of rows
differs, and the file is written again.
"""

import asyncio
import errno
import gzip
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mithril import errors
from mithril.audit import archive_store as store
from mithril.audit.archive_store import Part
from mithril.audit.events import Actor
from mithril.database.database import IN_USE, Database

# A dump may use the trail for as long; then it is tried again.
PAUSE_SECONDS, ATTEMPTS = 1.0, 600


class Archived(NamedTuple):
    """What is in a file now and no longer in the database."""

    file: Path
    rows: int


class NotPast(Exception):
    """The months to archive are not all past."""


async def archive(database: Database, folder: Path, *, before: str, actor: Actor) -> AsyncIterator[Archived]:
    """Archive every partition whose months are all before `before`, such as `2025_01`, and yield what is done.

    Raises NotPast, ServiceUnavailable, OSError.
    """
    if before > await store.current_month(database):
        raise NotPast
    for part in await store.list_parts(database):
        if part.last_month < before:
            yield await _archive(database, folder, part, actor)


async def _archive(database: Database, folder: Path, part: Part, actor: Actor) -> Archived:
    file = folder / f"{part.name}.jsonl.gz"
    rows, digest = await _write(database, file, part)
    if part.is_attached:
        await _detach(database, part)
    while not await store.drop(database, part, rows=rows, digest=digest, actor=actor):
        rows, digest = await _write(database, file, part)
    return Archived(file, rows)


async def _write(database: Database, file: Path, part: Part) -> tuple[int, str]:
    """Write the rows to the file, one a line; return their number and the SHA-256 of the file.

    The file has its name only once the disk has all of it. The trail has IP addresses: only its owner may read it.
    """
    partial, rows = file.with_name(f"{file.name}.partial"), 0
    partial.unlink(missing_ok=True)
    with _create(partial) as raw:
        with gzip.GzipFile(fileobj=raw, filename="", mode="wb", mtime=0) as packed:
            async for batch in store.read_rows(database, part):
                packed.write("".join(f"{row}\n" for row in batch).encode())
                rows += len(batch)
        raw.flush()
        os.fsync(raw.fileno())
    with gzip.open(partial) as packed:
        if sum(1 for _ in packed) != rows:
            raise OSError(errno.EIO, "the file is not what was written")
    partial.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    with file.open("rb") as raw:
        return rows, hashlib.file_digest(raw, "sha256").hexdigest()


def _create(file: Path) -> BinaryIO:
    return open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600))


async def _detach(database: Database, part: Part) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await store.detach(database, part)
        except errors.ServiceUnavailable as refusal:
            if getattr(refusal.__cause__, "sqlstate", None) not in IN_USE or attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
