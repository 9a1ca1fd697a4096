"""What an import would change, row by row: for `mithril import --dry-run`, to be read and for programs.

Shown is what a data file can have, and no secret, password or token value: of those only that another one is meant.
"""

import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from mithril.snapshots.sections import Row, Section

# Columns that stand for what is shown of nothing, and the key of the file that they come from.
SECRETS = {"password_hash": "password", "secret_digest": "secret", "digest": "value"}
OBJECTS = ("settings", "priv_settings", "details")
TRANSITION = {"transition_redirect_uri": "transition.redirect_uri", "transition_ends_at": "transition.ends_at"}
IN_DETAILS = {"scope": "details.scope", "client_id": "details.client_id"}
WIDTH, INDENT = 100, " " * 6


class Change(msgspec.Struct, frozen=True):
    """A field that another value is meant for. Of a secret both values are left out."""

    field: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET

    def __str__(self) -> str:
        """Return lines that fit into a terminal, as far as the words do."""
        if self.after is msgspec.UNSET:
            return f"{self.field}: changed"
        if self.field.endswith("scope"):
            before, after = str(self.before or "").split(), str(self.after or "").split()
            return "\n".join(
                _wrapped(f"{self.field}: {sign} ", " ".join(word for word in some if word not in others))
                for sign, some, others in (("-", before, after), ("+", after, before))
                if set(some) - set(others)
            )
        line = f"{self.field}: {_text(self.before)} -> {_text(self.after)}"
        if len(line) <= WIDTH - len(INDENT):
            return line
        return "\n".join([f"{self.field}:", _wrapped("  - ", _text(self.before)), _wrapped("  + ", _text(self.after))])


class Difference(msgspec.Struct, frozen=True):
    """A row that would be added or changed. `id`: None where it would be drawn."""

    section: str
    outcome: Literal["added", "changed"]
    id: str | None
    name: str
    changes: list[Change]
    gets_secret: bool = False
    """Whether it is a connection that came without one."""

    def __str__(self) -> str:
        """Return a line for the row, and lines for its changes."""
        note = ", with a secret that no user is shown" if self.gets_secret else ""
        lines = [_wrapped(f"  {self.outcome} ", f"{_text(self.name)}{f' ({self.id})' if self.id else ''}{note}")]
        return "\n".join([*lines, *(textwrap.indent(str(change), INDENT) for change in self.changes)])


def name_of(section: Section, row: Row) -> str:
    """Return what a row of the file is called beside its id."""
    return " ".join(str(row.get(key)) for key in section.called)


def changes(
    section: Section, before: Mapping[str, Any], after: Mapping[str, Any], *, names: Mapping[Any, Any]
) -> list[Change]:
    """Return what differs in two states of a row. `names`: of client types or roles, by id."""
    known = {name: name for name in section.schema["properties"]} | TRANSITION
    if "details" in known:
        known |= IN_DETAILS
    if section.reference:
        known[f"{section.reference}_id"] = section.reference
    found = []
    for column, value in after.items():
        if value != before[column] and column in SECRETS:
            found.append(Change(SECRETS[column]))
        elif value != before[column] and column in known:
            found += _compared(known[column], _value(before[column], names), _value(value, names), column)
    return found


def _compared(field: str, before: Any, after: Any, column: str) -> Iterator[Change]:  # noqa: ANN401 -- of any column
    """Yield the changes of one column; those of an object key by key, as deep as both have objects."""
    if column in OBJECTS and isinstance(before, str):
        before, after = msgspec.json.decode(before), msgspec.json.decode(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _compared(f"{field}.{key}", before.get(key), after.get(key), "")
    elif before != after:
        yield Change(field, before, after)


def _value(value: Any, names: Mapping[Any, Any]) -> Any:  # noqa: ANN401 -- of any column
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return names.get(value, str(value)) if isinstance(value, UUID) else value


def _text(value: Any) -> str:  # noqa: ANN401 -- of any column
    """Return a value in one line, without control characters."""
    if value is None:
        return "none"
    text = value if value and isinstance(value, str) else msgspec.json.encode(value).decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _wrapped(start: str, text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - len(INDENT) - len(start), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * len(start)}".join([start + (lines or ["none"])[0], *lines[1:]])
