"""The rules of import and export: what a row is known by, what is refused, what is kept.

A snapshot is imported in one transaction, all of it or nothing, and one import after the other. A row is known by
its id, else by its natural key (an e-mail address, a name, a pair of clients); rows that the file does not
mention stay as they are.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from typing import Any
from uuid import uuid4

from msgspec import UNSET

from mithril import security
from mithril.audit.events import Actor
from mithril.connections import redirect_uris
from mithril.database.database import Connection
from mithril.snapshots import store
from mithril.snapshots.document import Snapshot
from mithril.snapshots.reading import SnapshotError, read
from mithril.snapshots.report import Counts, Report
from mithril.snapshots.sections import KINDS, Kind, secret_columns
from mithril.snapshots.store import Document, Match

__all__ = ["Counts", "Report", "SnapshotError", "demo", "export_snapshot", "import_snapshot", "read"]

# Who is told how far an import is: the key of the file, how many of its objects are done, and how many there are.
Listener = Callable[[str, int, int], None]
HASHES_AT_A_TIME = 4  # each takes 64 MiB and tens of milliseconds


async def import_snapshot(
    connection: Connection,
    snapshot: Snapshot,
    *,
    actor: Actor,
    policy: redirect_uris.Policy,
    only_missing: bool = False,
    listener: Listener = lambda *_: None,
) -> Report:
    """Brings the database to what `snapshot` says, in one transaction; a second time changes nothing.

    `only_missing`: adds what is not there and leaves the rest alone, also rows that cannot be added because of
    what has become of others. Raises SnapshotError, which names the key; then nothing has changed.
    """
    async with connection.transaction(isolation="read_committed"):
        now = await store.begin(connection)
        running = _Import(connection, actor, now, policy=policy, only_missing=only_missing, listener=listener)
        for kind in KINDS:
            await running.bring(kind, getattr(snapshot, kind.key))
    return running.report


async def export_snapshot(connection: Connection) -> bytes:
    """Everything but secrets, passwords and tokens, in the format of import; one line per row, oldest first."""
    lists = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for kind in KINDS:
            if kind.table.columns:
                rows = await store.export(connection, kind.table)
                lists.append(f'  "{kind.key}": [' + ",".join(f"\n    {row}" for row in rows) + "\n  ]")
    return ("{\n" + ",\n".join(lists) + "\n}\n").encode()


def demo() -> Snapshot:
    """The data of `mithril serve --demo`."""
    return read(resources.files("mithril.snapshots").joinpath("demo.json").read_bytes())


@dataclass(slots=True)
class _Entry:
    """One object of the file on its way: its key, its columns, and the row that is already there."""

    at: str
    row: Any
    columns: Document
    existing: Match | None = None


@dataclass(slots=True)
class _Import:
    """One import, kind after kind."""

    connection: Connection
    actor: Actor
    now: datetime
    policy: redirect_uris.Policy = field(kw_only=True)
    only_missing: bool = field(kw_only=True)
    listener: Listener = field(kw_only=True)
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

    async def bring(self, kind: Kind, rows: Sequence[Any]) -> None:
        """All objects of one kind. Raises SnapshotError."""
        entries = list(self._entries(kind, rows))
        if entries:
            _refuse_duplicates(kind, entries)
            await self._find_existing(kind, entries)
            wanted = [entry for entry in entries if not (self.only_missing and _is_there(kind, entry))]
            await self._complete(kind, wanted)
            outcomes = []
            for done, entry in enumerate(wanted, start=1):
                outcomes.append(await self._write(kind, entry))
                self.listener(kind.key, done, len(wanted))
            added, changed = outcomes.count("added"), outcomes.count("changed")
            self.report.kinds[kind.key] = Counts(added, changed, len(rows) - added - changed)
        if kind.table in {store.CLIENT_TYPES, store.ROLES}:
            # First as the file names them: the row may have got another name since.
            in_file = {e.columns["name"]: e.existing.id for e in entries if e.existing}
            self.names[kind.key] = in_file | await store.names(self.connection, kind.table)

    def _entries(self, kind: Kind, rows: Sequence[Any]) -> Iterator[_Entry]:
        for index, row in enumerate(rows):
            at = f"$.{kind.key}[{index}]"
            try:
                yield _Entry(at, row, kind.columns(row, self.names))
            except SnapshotError as error:
                if not self.only_missing:
                    raise SnapshotError(f"{at}{error}") from None

    async def _find_existing(self, kind: Kind, entries: Sequence[_Entry]) -> None:
        found: dict[int, list[Match]] = {}
        for position, match in await store.find(self.connection, kind.table, [e.columns for e in entries]):
            found.setdefault(position, []).append(match)
        taken: dict[str, _Entry] = {}
        for position, matches in sorted(found.items()):
            entry = entries[position]
            entry.existing = self._existing(kind, entry, matches)
            first = taken.setdefault(entry.existing.id, entry)
            if first is not entry and not self.only_missing:
                raise SnapshotError(f"{entry.at}: the same {kind.table.noun} as {first.at}")

    def _existing(self, kind: Kind, entry: _Entry, matches: Sequence[Match]) -> Match:
        """The row that the entry is about. Raises SnapshotError when another one is in its way."""
        known_by = "id" if "id" in entry.columns else kind.table.keys[0].field
        own = next((match for match in matches if match.field == known_by), None)
        other = next((match for match in matches if own is None or match.id != own.id), None)
        if other is not None and not self.only_missing:
            meaning = next(key.meaning for key in (store.ID, *kind.table.keys) if key.field == other.field)
            noun = kind.table.noun.replace("_", " ")
            raise SnapshotError(f"{entry.at}.{other.field}: the {noun} {other.id} has the same {meaning}")
        return own or matches[0]

    async def _complete(self, kind: Kind, entries: Sequence[_Entry]) -> None:
        """Adds the columns that depend on what is there already."""
        for entry in entries:
            if entry.existing is None:
                entry.columns.setdefault("id", str(uuid4()))
            if kind.table is store.TOKENS:
                self._complete_expiry(entry)
            if kind.table is store.CONNECTIONS:
                self._check_address(entry)
                self._complete_secret(entry)
        if kind.table is store.USERS:
            limit = asyncio.Semaphore(HASHES_AT_A_TIME)
            await asyncio.gather(*(self._complete_password(entry, limit) for entry in entries))

    def _check_address(self, entry: _Entry) -> None:
        """Refuses what an update would refuse. The address that is there may stay: it was let in by other settings."""
        if entry.existing is not None and entry.existing.state == entry.row.redirect_uri:
            return
        problems = redirect_uris.problems(entry.row.redirect_uri, self.policy)
        if problems:
            reasons = ", ".join(problem.reason for problem in problems)
            raise SnapshotError(f"{entry.at}.redirect_uri: refused ({reasons})")

    def _complete_secret(self, entry: _Entry) -> None:
        if entry.existing is None and entry.row.secret is UNSET:
            entry.columns |= secret_columns(security.new_secret())
            self.report.without_secret.append(entry.columns["id"])

    async def _complete_password(self, entry: _Entry, limit: asyncio.Semaphore) -> None:
        password, kept = entry.row.password, entry.existing.state if entry.existing else None
        if password is UNSET:
            return
        async with limit:
            if kept is not None and await asyncio.to_thread(security.is_password, password, kept):
                return
            entry.columns["password_hash"] = await asyncio.to_thread(security.hash_password, password)
        entry.columns["password_set_at"] = self.now.isoformat()

    def _complete_expiry(self, entry: _Entry) -> None:
        """`expires_in` gives a token its life once: a second import must not prolong it."""
        seconds, existing = entry.row.expires_in, entry.existing
        if seconds is not UNSET and (existing is None or (seconds > 0) != (existing.state == "true")):
            entry.columns["expires_at"] = (self.now + timedelta(seconds=seconds)).isoformat()

    async def _write(self, kind: Kind, entry: _Entry) -> str:
        """Brings the row to what the entry says, and tells which of `Counts` that is. Raises SnapshotError."""
        try:
            # A savepoint: where rows may be left out, one that is refused must not end the import.
            async with self.connection.transaction() if self.only_missing else nullcontext():
                outcome = await self._add_or_change(kind, entry)
        except store.Refused as refused:
            if self.only_missing:
                return "unchanged"
            raise SnapshotError(f"{entry.at}{refused.place}: {refused.reason}") from None
        return outcome

    async def _add_or_change(self, kind: Kind, entry: _Entry) -> str:
        row_id = entry.existing.id if entry.existing else entry.columns["id"]
        arguments = (self.connection, kind.table, entry.columns)
        if entry.existing is None:
            await store.add(*arguments, actor=self.actor)
        elif not await store.change(*arguments, row_id=row_id, actor=self.actor):
            return "unchanged"
        if "password_hash" in entry.columns:
            await store.remember_password(self.connection, row_id, entry.columns["password_hash"])
        return "changed" if entry.existing else "added"


def _is_there(kind: Kind, entry: _Entry) -> bool:
    """Whether nothing is missing. A token that has ended is: the demo's requests must work after a logout too."""
    if entry.existing is None or kind.table is not store.TOKENS:
        return entry.existing is not None
    should_live = entry.row.expires_in is not UNSET and entry.row.expires_in > 0
    return entry.existing.state == "true" or not should_live


def _refuse_duplicates(kind: Kind, entries: Sequence[_Entry]) -> None:
    for key in (store.ID, *kind.table.keys):
        first: dict[tuple[Any, ...], _Entry] = {}
        for entry in entries:
            value = tuple(entry.columns.get(column) for column in key.columns)
            other = first.setdefault(value, entry) if None not in value else entry
            if other is not entry:
                raise SnapshotError(f"{entry.at}.{key.field}: {other.at} has the same {key.meaning}")
