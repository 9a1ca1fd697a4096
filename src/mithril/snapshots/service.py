"""The rules of import and export: which row an entry is about, what is refused, what is kept.

A snapshot is imported in one transaction, all of it or nothing, and one import after the other. A row is known by
its id, else by its natural key (an e-mail address, a name, a pair of clients); rows that the file does not mention
stay as they are.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from importlib import resources
from typing import Any
from uuid import UUID, uuid4

import msgspec

from mithril import security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Columns
from mithril.connections import redirect_uris
from mithril.connections import store as connections
from mithril.database.database import Connection, Violation
from mithril.identifiers import CANONICAL_UUID
from mithril.snapshots import store
from mithril.snapshots.reading import Snapshot, SnapshotError, read
from mithril.snapshots.sections import CLIENT_TYPES, CONNECTIONS, ROLES, SECTIONS, TOKENS, USERS, Row, Section
from mithril.snapshots.store import Match
from mithril.tokens import store as tokens
from mithril.users import passwords
from mithril.users import store as users

__all__ = ["SnapshotError", "demo", "export_snapshot", "import_snapshot", "read"]

# Gets the progress of an import: the section, how many of its rows are done, and how many there are.
Listener = Callable[[str, int, int], None]
HASHES_AT_A_TIME = 4  # each takes 64 MiB and tens of milliseconds
MAX_LISTED = 10


class Counts(msgspec.Struct):
    """What became of the rows of one section. Rows that `only_missing` leaves alone count as unchanged."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0


class Report(msgspec.Struct):
    """Counts by section; as text, what `mithril import` prints."""

    kinds: dict[str, Counts] = {}
    without_secret: list[str] = []
    """Ids of the new connections that came without a secret: each got one, which is shown to no user."""

    def __str__(self) -> str:
        """Return a line per section, and what is left to do."""
        lines = [
            f"{key}: {n.added} added, {n.changed} changed, {n.unchanged} unchanged" for key, n in self.kinds.items()
        ]
        if self.without_secret:
            listed = ", ".join(self.without_secret[:MAX_LISTED]) + ", ..." * (len(self.without_secret) > MAX_LISTED)
            lines.append(
                "connections that came without a secret, and need a new one before anybody can use them:"
                f" {len(self.without_secret)} ({listed})"
            )
        return "\n".join(lines) or "nothing in the file"


async def import_snapshot(
    connection: Connection,
    snapshot: Snapshot,
    *,
    actor: Actor,
    policy: redirect_uris.Policy,
    only_missing: bool = False,
    listener: Listener = lambda *_: None,
) -> Report:
    """Bring the database to what `snapshot` says, in one transaction; a second time changes nothing.

    `only_missing`: add what is not there and leave the rest alone, also rows that cannot be added because of what
    has become of others. Raises SnapshotError, which names the key; then nothing has changed.
    """
    async with connection.transaction(isolation="read_committed"):
        now = await store.begin(connection)
        running = _Import(connection, actor, now, policy, only_missing, listener, Report())
        for section in SECTIONS:
            await running.bring(section, getattr(snapshot, section.name))
    return running.report


async def export_snapshot(connection: Connection) -> bytes:
    """Return everything but secrets, passwords and tokens, in the format of import; one line per row, oldest first."""
    lists = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for section in SECTIONS:
            if section is not TOKENS:
                lines = await store.export(connection, section)
                lists.append(f'  "{section.name}": [' + ",".join(f"\n    {line}" for line in lines) + "\n  ]")
    return ("{\n" + ",\n".join(lists) + "\n}\n").encode()


def demo() -> Snapshot:
    """Return the data of `mithril serve --demo`."""
    return read(resources.files("mithril.snapshots").joinpath("demo.json").read_bytes())


class _Entry(msgspec.Struct):
    """One row of the file on its way: its key, what it says, its columns, and the row that is there already."""

    at: str
    row: Row
    columns: Columns
    existing: Match | None = None


class _Import(msgspec.Struct):
    """One import, section after section. Its methods raise SnapshotError."""

    connection: Connection
    actor: Actor
    now: datetime
    policy: redirect_uris.Policy
    only_missing: bool
    listener: Listener
    report: Report
    names: dict[str, dict[str, str]] = {}

    async def bring(self, section: Section, given: Sequence[Row]) -> None:
        """Import all rows of one section."""
        entries = [self._entry(section, row, f"$.{section.name}[{index}]") for index, row in enumerate(given)]
        if entries:
            _refuse_duplicates(section, entries)
            await self._find_existing(section, entries)
            wanted = [entry for entry in entries if not (self.only_missing and _is_there(section, entry))]
            await self._complete(section, wanted)
            outcomes = []
            for done, entry in enumerate(wanted, start=1):
                outcomes.append(await self._write(section, entry))
                self.listener(section.name, done, len(wanted))
            added, changed = outcomes.count("added"), outcomes.count("changed")
            self.report.kinds[section.name] = Counts(added, changed, len(given) - added - changed)
        if section in {CLIENT_TYPES, ROLES}:
            # First as the file names them: the row may have got another name since.
            in_file = {entry.columns["name"]: entry.existing.id for entry in entries if entry.existing}
            self.names[section.table.noun] = in_file | await store.names(self.connection, section)

    def _entry(self, section: Section, row: Row, at: str) -> _Entry:
        columns = section.columns(section.fields.folded(row))
        if section.reference:
            named = columns.pop(section.reference)
            columns[f"{section.reference}_id"] = found = self.names[section.reference].get(_folded(named))
            if found is None and not self.only_missing:
                noun = section.reference.replace("_", " ")
                raise SnapshotError(f"{at}.{section.reference}: no {noun} {named!r}")
        return _Entry(at, row, columns)

    async def _find_existing(self, section: Section, entries: Sequence[_Entry]) -> None:
        """Find the row that each entry is about; refuse an entry when another row is in its way."""
        found: dict[int, list[Match]] = {}
        for position, match in await store.find(self.connection, section, [entry.columns for entry in entries]):
            found.setdefault(position, []).append(match)
        taken: dict[str, _Entry] = {}
        for position, matches in sorted(found.items()):
            entry = entries[position]
            known_by = store.ID if "id" in entry.columns else section.keys[0]
            own = next((match for match in matches if match.key == known_by), None)
            other = next((match for match in matches if own is None or match.id != own.id), None)
            if other is not None and not self.only_missing:
                key = other.key
                raise SnapshotError(f"{entry.at}.{key.field}: the {section.noun} {other.id} has the same {key.meaning}")
            entry.existing = own or matches[0]
            first = taken.setdefault(entry.existing.id, entry)
            if first is not entry and not self.only_missing:
                raise SnapshotError(f"{entry.at}: the same {section.noun} as {first.at}")

    async def _complete(self, section: Section, entries: Sequence[_Entry]) -> None:
        """Add the columns that depend on what is there already."""
        for entry in entries:
            if entry.existing is None:
                entry.columns.setdefault("id", str(uuid4()))
            if section is TOKENS:
                self._complete_expiry(entry)
            if section is CONNECTIONS:
                self._complete_connection(entry)
        if section is USERS:
            limit = asyncio.Semaphore(HASHES_AT_A_TIME)
            await asyncio.gather(
                *(self._complete_password(entry, limit) for entry in entries if "password" in entry.row)
            )

    def _complete_connection(self, entry: _Entry) -> None:
        """Refuse a redirect URI that an update would refuse, unless it is there: it was let in by other settings."""
        uri = entry.row["redirect_uri"]
        problems = redirect_uris.problems(uri, self.policy)
        if problems and not (entry.existing and entry.existing.state == uri):
            reasons = ", ".join(problem.reason for problem in problems)
            raise SnapshotError(f"{entry.at}.redirect_uri: refused ({reasons})")
        if entry.existing is None and "secret" not in entry.row:
            entry.columns |= connections.secret_columns(security.new_secret())
            self.report.without_secret.append(entry.columns["id"])

    async def _complete_password(self, entry: _Entry, limit: asyncio.Semaphore) -> None:
        password, kept = entry.row["password"], entry.existing.state if entry.existing else None
        async with limit:
            if kept is not None and await asyncio.to_thread(security.is_password, password, kept):
                return
            entry.columns["password_hash"] = await passwords.hashed(password)
        entry.columns["password_set_at"] = self.now

    def _complete_expiry(self, entry: _Entry) -> None:
        """Let `expires_in` decide once when a token expires: a second import must not prolong it."""
        seconds, existing = entry.row.get("expires_in"), entry.existing
        if seconds is not None and (existing is None or (seconds > 0) != (existing.state == "true")):
            entry.columns["expires_at"] = self.now + timedelta(seconds=int(seconds))

    async def _write(self, section: Section, entry: _Entry) -> str:
        """Bring the row to what the entry says; return which of `Counts` that is."""
        existing, columns = entry.existing, entry.columns
        row_id = existing.id if existing else columns["id"]
        try:
            # A savepoint: where rows may be left out, one that is refused must not end the import.
            async with self.connection.transaction() if self.only_missing else nullcontext():
                if existing is None:
                    await rows.insert(self.connection, section.table, columns, actor=self.actor)
                elif not await rows.update(self.connection, section.table, columns, row_id=row_id, actor=self.actor):
                    return "unchanged"
        except Violation as violation:
            if self.only_missing:
                return "unchanged"
            raise SnapshotError(f"{entry.at}{_blamed(section, columns, violation)}") from None
        if "password_hash" in columns:
            await store.remember_password(self.connection, row_id, columns["password_hash"])
            await users.forget_passwords(self.connection, row_id, kept=passwords.KEPT)
            if entry.existing:  # a session of the old password must not outlive it
                await tokens.revoke_all(self.connection, UUID(str(row_id)))
        return "changed" if existing else "added"


def _is_there(section: Section, entry: _Entry) -> bool:
    """Return whether the row exists. An expired token counts as missing: the demo must work after a logout too."""
    if entry.existing is None or section is not TOKENS:
        return entry.existing is not None
    return entry.existing.state == "true" or entry.row.get("expires_in", 0) <= 0


def _refuse_duplicates(section: Section, entries: Sequence[_Entry]) -> None:
    for key in (store.ID, *section.keys):
        first: dict[tuple[Any, ...], _Entry] = {}
        for entry in entries:
            value = [entry.columns.get(column) for column in key.columns]
            other = entry if None in value else first.setdefault(tuple(map(_folded, value)), entry)
            if other is not entry:
                raise SnapshotError(f"{entry.at}.{key.field}: {other.at} has the same {key.meaning}")


def _folded(text: Any) -> Any:  # noqa: ANN401
    """Return an identifier in lower case, anything else as it is."""
    return text.lower() if CANONICAL_UUID.fullmatch(text) else text


def _blamed(section: Section, columns: Columns, violation: Violation) -> str:
    """Return which key is to blame for a violated constraint, and why."""
    constraint = violation.constraint or ""
    if violation.kind != "reference":
        return f": the database refuses it ({constraint})"
    column = constraint.removeprefix(f"{section.table.name}_").removesuffix("_fkey")
    place = "details.client_id" if section is TOKENS and column == "client_id" else column
    return f".{place}: no {column.removesuffix('_id').replace('consumer', 'client')} {columns[column]}"
