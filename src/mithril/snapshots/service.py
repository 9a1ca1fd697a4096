"""The rules of import and export: which row an entry is about, what is refused, what is kept.

A snapshot is imported in one transaction, all of it or nothing, and one import after the other. A row is known by
its id, else by its natural key (an e-mail address, a name, a pair of clients); rows that the file does not mention
stay as they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from importlib import resources
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from mithril import errors, security
from mithril.audit import rows
from mithril.audit.events import Actor
from mithril.audit.rows import Columns
from mithril.connections import redirect_uris, transition_store, transitions
from mithril.connections import store as connections
from mithril.database import operation_store as operations
from mithril.database.database import Connection, Violation
from mithril.identifiers import parse_uuid
from mithril.snapshots import differences, store
from mithril.snapshots.differences import Difference
from mithril.snapshots.reading import Snapshot, SnapshotError, read
from mithril.snapshots.sections import CONNECTIONS, SECTIONS, TOKENS, Row, Section
from mithril.tokens import records as token_records
from mithril.tokens import store as tokens
from mithril.users import passwords
from mithril.users import store as users

__all__ = ["SnapshotError", "demo", "export_snapshot", "import_snapshot", "read", "try_snapshot"]

# Gets the progress of an import: the section, how many of its rows are done, and how many there are.
Listener = Callable[[str, int, int], None]
Hashing = Callable[[str], Awaitable[str]]
LONGEST_TRANSITION = timedelta(days=30)
HASHES_AT_A_TIME = 4  # each takes 64 MiB and tens of milliseconds
ROWS_BETWEEN_SIGNS = 40


class Counts(msgspec.Struct):
    """What became of the rows of one section. Rows that `only_missing` leaves alone count as unchanged."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0


class Report(msgspec.Struct):
    """Counts by section; as text, what `mithril import` prints."""

    kinds: dict[str, Counts] = {}
    without_secret: list[str] = []  # ids of new connections that came without one: what they got is shown to no user
    rows: list[Difference] | UnsetType = UNSET  # of a dry run: what would be added or changed

    def __str__(self) -> str:
        """Return a line per section, of a dry run with its rows, and what is left to do."""
        lines = []
        for key, n in self.kinds.items():
            lines.append(f"{key}: {n.added} added, {n.changed} changed, {n.unchanged} unchanged")
            lines += [str(row) for row in self.rows or () if row.section == key]
        if self.without_secret:
            what = "connections that came without a secret, and need a new one before anybody can use them:"
            lines += [f"{what} {len(self.without_secret)}", *self.without_secret]
        return "\n".join(lines) or "nothing in the file"


async def import_snapshot(
    connection: Connection,
    snapshot: Snapshot,
    *,
    actor: Actor,
    policy: redirect_uris.Policy,
    only_missing: bool = False,
    listener: Listener = lambda *_: None,
    hashed: Hashing = passwords.hashed,
    operation_id: UUID | None = None,
) -> Report:
    """Bring the database to what `snapshot` says, in one transaction; a second time changes nothing.

    `only_missing`: add what is not there and leave the rest alone, also rows that cannot be added because of what
    has become of others. `hashed`: how a password is hashed. `operation_id`: under which the trail has the changes.
    Raises SnapshotError, which names the key; then nothing has changed. With an `operation_id`, OutcomeUnknown.
    """
    is_sent = False
    try:
        async with connection.transaction(isolation="read_committed"):
            now = await store.begin(connection, operation_id)
            await transition_store.complete_all(connection)
            running = _Import(connection, actor, now, policy, only_missing, hashed, Report())
            await running.bring_all(snapshot, listener)
            if operation_id:
                await connection.execute(operations.note(operation_id))
            is_sent = True
    except operations.LOST_ANSWERS as error:
        if operation_id and is_sent:
            raise errors.OutcomeUnknown(operation_id, detail=str(error)) from error
        raise
    return running.report


async def try_snapshot(
    connection: Connection,
    snapshot: Snapshot,
    *,
    actor: Actor,
    policy: redirect_uris.Policy,
    listener: Listener = lambda *_: None,
) -> Report:
    """Return what `import_snapshot` would do, row by row, and do nothing: all of it is rolled back.

    Raises SnapshotError as an import would.
    """
    some_hash = await passwords.hashed(security.new_secret())

    async def hashed(_: str) -> str:
        return some_hash  # no user gets it, and to make each takes time in which rows are locked

    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        now = await store.begin(connection)
        await transition_store.complete_all(connection)
        running = _Import(connection, actor, now, policy, False, hashed, Report(rows=[]))
        await running.bring_all(snapshot, listener)
    finally:
        await transaction.rollback()
    running.report.without_secret.clear()  # those of the rows say it
    return running.report


async def export_snapshot(connection: Connection) -> bytes:
    """Return everything but secrets, passwords and tokens, in the format of import; one line per row, oldest first."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        exported = {each.name: await store.export(connection, each) for each in SECTIONS if each is not TOKENS}
    lists = (
        f'  "{name}": [' + ",".join(f"\n    {line}" for line in lines) + "\n  ]" for name, lines in exported.items()
    )
    return ("{\n" + ",\n".join(lists) + "\n}\n").encode()


def demo() -> Snapshot:
    """Return the data of `mithril serve --demo`, as it is at first."""
    return read(resources.files("mithril.snapshots").joinpath("demo.json").read_bytes())


class _Entry(msgspec.Struct):
    """One row of the file on its way: its place there, what it says, its columns, and the row that exists already."""

    at: str
    row: Row
    columns: Columns
    existing: asyncpg.Record | None = None
    transition: tuple[str, datetime] | None = None
    """Of a connection: the redirect URI that is good too, and until when both are."""


class _Import(msgspec.Struct):
    """One import, section after section. Its methods raise SnapshotError."""

    connection: Connection
    actor: Actor
    now: datetime
    policy: redirect_uris.Policy
    only_missing: bool
    hashed: Hashing
    report: Report

    async def bring_all(self, snapshot: Snapshot, listener: Listener) -> None:
        """Import all sections, each after those that it refers to."""
        for section in SECTIONS:
            if given := getattr(snapshot, section.name):
                await self.bring(section, given, listener)

    async def bring(self, section: Section, given: Sequence[Row], listener: Listener) -> None:
        """Import all rows of one section."""
        ids = await store.list_ids(self.connection, section.reference) if section.reference else {}
        entries = [self._entry(section, row, f"$.{section.name}[{place}]", ids) for place, row in enumerate(given)]
        await self._find_existing(section, entries)
        wanted = [entry for entry in entries if not self.only_missing or entry.existing is None]
        hashing = asyncio.Semaphore(HASHES_AT_A_TIME)
        for start in range(0, len(wanted), ROWS_BETWEEN_SIGNS):
            some = wanted[start : start + ROWS_BETWEEN_SIGNS]
            await asyncio.gather(*(self._complete(entry, hashing) for entry in some))
            await store.show_life(self.connection)
        outcomes = []
        for done, entry in enumerate(wanted, start=1):
            outcomes.append(outcome := await self._write(section, entry))
            if self.report.rows is not UNSET and outcome != "unchanged":
                self.report.rows.append(await self._difference(section, entry, ids))
            listener(section.name, done, len(wanted))
        added, changed = outcomes.count("added"), outcomes.count("changed")
        self.report.kinds[section.name] = Counts(added, changed, len(given) - added - changed)

    async def _difference(self, section: Section, entry: _Entry, ids: Mapping[object, UUID]) -> Difference:
        """Return what has become of the row of an entry. `ids`: of what the section refers to, also by name."""
        existing, name = entry.existing, differences.name_of(section, entry.row)
        if existing is None:
            gets_secret = section is CONNECTIONS and "secret" not in entry.row
            return Difference(section.name, "added", entry.row.get("id"), name, [], gets_secret)
        written = await store.get(self.connection, section, existing["id"])
        names = {row_id: key for key, row_id in ids.items() if isinstance(key, str)}
        changed = differences.changes(section, dict(existing), dict(written), names=names)
        return Difference(section.name, "changed", str(existing["id"]), name, changed)

    def _refuse(self, place: str, reason: str) -> None:
        """Raise SnapshotError, unless rows that cannot be added are left out."""
        if not self.only_missing:
            raise SnapshotError(f"{place}: {reason}")

    def _entry(self, section: Section, row: Row, at: str, ids: dict[object, UUID]) -> _Entry:
        columns = section.columns(section.fields.folded(row))
        if noun := section.reference:
            named = columns.pop(noun)
            columns[f"{noun}_id"] = ids.get(parse_uuid(named) or named)
            if columns[f"{noun}_id"] is None:
                self._refuse(f"{at}.{noun}", f"no {noun.replace('_', ' ')} {named!r}")
        return _Entry(at, row, columns)

    async def _find_existing(self, section: Section, entries: Sequence[_Entry]) -> None:
        """Find the row that each entry is about; refuse an entry when another row is in its way."""
        taken: dict[UUID, _Entry] = {}
        for found in await store.find(self.connection, section, [entry.columns for entry in entries]):
            entry, first, key = entries[found["position"]], entries[found["first"]], section.keys[found["key"]]
            place, what = f"{entry.at}.{key.field}", f"has the same {key.meaning}"
            if first is not entry:
                self._refuse(place, f"{first.at} {what}")
            if found["id"] is None:
                continue
            known_by = section.keys[0 if "id" in entry.columns else 1]
            if found["id"] != entry.existing["id"] if entry.existing else key is not known_by:
                self._refuse(place, f"the {section.table.words} {found['id']} {what}")
            entry.existing = entry.existing or found
            first = taken.setdefault(found["id"], entry)
            if first is not entry:
                self._refuse(entry.at, f"the same {section.table.words} as {first.at}")

    async def _complete(self, entry: _Entry, hashing: asyncio.Semaphore) -> None:
        """Add the columns that depend on what is there already."""
        row, existing, columns = entry.row, entry.existing, entry.columns
        if "password" in row:
            kept = existing["password_hash"] if existing else None
            async with hashing:
                if await asyncio.to_thread(security.is_password, row["password"], kept):
                    return
                columns["password_hash"] = await self.hashed(row["password"])
            columns["password_set_at"] = self.now
        if "redirect_uri" in row:
            self._check_redirect_uri(entry, row["redirect_uri"], "redirect_uri")
            if row.get("transition"):
                self._read_transition(entry, row["transition"])
            if existing is None and "secret" not in row:
                columns |= connections.secret_columns(security.new_secret())
                self.report.without_secret.append(columns.setdefault("id", str(uuid4())))
        # `expires_in` decides once when a token expires: a second import must not prolong it.
        seconds = row.get("expires_in")
        if seconds is not None and (existing is None or (seconds > 0) != (existing["expires_at"] > self.now)):
            columns["expires_at"] = self.now + timedelta(seconds=int(seconds))

    def _check_redirect_uri(self, entry: _Entry, redirect_uri: str, place: str) -> None:
        problems, existing = redirect_uris.problems(redirect_uri, self.policy), entry.existing
        # Those that a connection has were let in by other settings.
        if problems and redirect_uri not in (
            (existing["redirect_uri"], existing["transition_redirect_uri"]) if existing else ()
        ):
            reasons = ", ".join(problem.reason for problem in problems)
            raise SnapshotError(f"{entry.at}.{place}: refused ({reasons})")

    def _read_transition(self, entry: _Entry, given: Row) -> None:
        """Note the transition; of one that has ended, the new redirect URI is the one of the connection."""
        redirect_uri, ends_at = given["redirect_uri"], datetime.fromisoformat(given["ends_at"])
        self._check_redirect_uri(entry, redirect_uri, "transition.redirect_uri")
        if redirect_uri == entry.row["redirect_uri"]:
            raise SnapshotError(f"{entry.at}.transition.redirect_uri: refused (unchanged)")
        if ends_at > self.now + LONGEST_TRANSITION:
            raise SnapshotError(f"{entry.at}.transition.ends_at: more than {LONGEST_TRANSITION.days} days ahead")
        if ends_at <= self.now:
            entry.columns["redirect_uri"] = redirect_uri
        else:
            entry.transition = (redirect_uri, ends_at)

    @staticmethod
    def _is_in_place(entry: _Entry) -> bool:
        """Return whether a stored connection has just the redirect URI that the entry says."""
        existing = entry.existing
        assert existing is not None, "it is stored"
        has_transition = entry.transition is not None or existing["transition_redirect_uri"] is not None
        return not has_transition and existing["redirect_uri"] == entry.columns["redirect_uri"]

    async def _move(self, entry: _Entry, row_id: Any, *, client_id: Any) -> bool:  # noqa: ANN401 -- UUIDs of records
        """Bring the redirect URIs of a stored connection to what the entry says; return whether they changed."""
        redirect_uri, ends_at = entry.transition or (None, None)
        return await transitions.bring(
            self.connection,
            row_id,
            client_id=client_id,
            redirect_uri=entry.columns["redirect_uri"],
            transition_redirect_uri=redirect_uri,
            ends_at=ends_at,
            keeps_transition="transition" not in entry.row,
            actor=self.actor,
        )

    async def _write(self, section: Section, entry: _Entry) -> str:
        """Bring the row to what the entry says; return which of `Counts` that is."""
        db, actor, columns, row_id = self.connection, self.actor, entry.columns, entry.existing and entry.existing["id"]
        try:
            # A savepoint: where rows may be left out, one that is refused must not end the import.
            async with db.transaction() if self.only_missing else nullcontext():
                if section is TOKENS:
                    columns = await token_records.bounded(db, columns, is_new=not row_id)
                has_moved = False
                if section is CONNECTIONS and entry.existing:
                    if not self._is_in_place(entry):
                        has_moved = await self._move(entry, row_id, client_id=entry.existing["client_id"])
                    columns = {name: value for name, value in columns.items() if name != "redirect_uri"}
                if row_id and not await rows.update(db, section.table, columns, row_id=row_id, actor=actor):
                    return "changed" if has_moved else "unchanged"
                row_id = row_id or await rows.insert(db, section.table, columns, actor=actor)
                if entry.transition and not entry.existing:
                    await self._move(entry, row_id, client_id=columns["client_id"])
        except (Violation, errors.ValidationFailed) as refused:
            self._refuse(*_blamed(section, entry, refused))
            return "unchanged"
        if "password_hash" in columns:
            await store.remember_password(db, row_id, columns["password_hash"])
            await users.forget_passwords(db, row_id, kept=passwords.KEPT)
            if entry.existing:  # a session of the old password must not outlive it
                await tokens.revoke_all(db, row_id)
        return "changed" if entry.existing else "added"


def _blamed(section: Section, entry: _Entry, violation: Violation | errors.ValidationFailed) -> tuple[str, str]:
    """Return the place that is to blame for a refused row, and why."""
    if isinstance(violation, errors.ValidationFailed):
        (invalid,) = violation.invalid
        return f"{entry.at}{invalid.entry[1:]}", str(invalid.rules[0].description)
    if violation.kind != "reference":
        return entry.at, f"the database refuses it ({violation.constraint})"
    column = (violation.constraint or "").removeprefix(f"{section.table.name}_").removesuffix("_fkey")
    place = "details.client_id" if "details" in entry.row and column == "client_id" else column
    noun = column.removesuffix("_id").replace("consumer", "client")
    return f"{entry.at}.{place}", f"no {noun} {entry.columns[column]}"
