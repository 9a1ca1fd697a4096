"""Reading a data file: strict JSON, then the schema and the rules of each section that need no database.

A refusal names the line or the key, and repeats no secret, password or token value.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jsonschema_rs

from mithril.snapshots.sections import SECTIONS, Row
from mithril.validation import bodies

NUL = "\0"
UNSTORABLE = re.compile(f"[{NUL}\ud800-\udfff]")  # NUL and halves of surrogate pairs, which PostgreSQL cannot hold
# Deeper than a body may be: a file holds in its rows what came in a body.
MAX_DEPTH = 64
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
MAX_INTEGER_LENGTH, MAX_NUMBER_LENGTH, MAX_EXPONENT = 18, 400, 308  # of numbers, for PostgreSQL
Snapshot = SimpleNamespace  # what a file says: the rows of each section by its name
VALIDATOR = jsonschema_rs.validator_for(
    {
        "type": "object",
        "properties": {"_": {}} | {each.name: {"type": "array", "items": each.schema} for each in SECTIONS},
        "additionalProperties": False,
    },
    validate_formats=True,
)


class SnapshotError(Exception):
    """The file, or a row of it, cannot be imported; the message says which and why, in one line."""


class _Unusable(NamedTuple):
    """Stands for a value that must be refused, until `_unusable` finds it and names its key."""

    reason: str


def read(source: Path | str | bytes) -> Snapshot:
    """Read the file at a path, or its content, and check every rule that needs no database.

    Raises SnapshotError for what cannot be read, is no UTF-8 or no strict JSON (a name twice in an object, NaN), is
    not of the format, breaks a rule of the API, or cannot be stored in PostgreSQL.
    """
    try:
        document = _parsed(source if isinstance(source, bytes) else Path(source).read_bytes())
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror}") from None
    if wrong := _unusable(document):
        raise SnapshotError(f"${wrong[0]}: {wrong[1]}")
    for entry, rule in bodies.violations(VALIDATOR, document):
        raise SnapshotError(f"{entry.replace('.[', '[')}: {rule.description}")
    for section in SECTIONS:
        for index, row in enumerate(document.get(section.name, ())):
            for entry, rule in section.problems(row):
                raise SnapshotError(f"$.{section.name}[{index}]{entry[1:]}: {rule.description}")
    return Snapshot(**{section.name: document.get(section.name, []) for section in SECTIONS})


def _parsed(content: bytes) -> Any:  # noqa: ANN401 -- JSON may be anything
    try:
        return json.loads(
            content.decode("utf-8-sig"),  # editors on Windows begin a file with a byte order mark
            object_pairs_hook=_object,
            parse_int=_number,
            parse_float=_number,
            parse_constant=lambda name: _Unusable(f"{name} is not JSON"),
        )
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SnapshotError(f"line {line}: not valid UTF-8") from None
    except json.JSONDecodeError as error:
        raise SnapshotError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise SnapshotError(f"$: {TOO_DEEP}") from None


def _object(pairs: list[tuple[str, Any]]) -> Row | _Unusable:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    return _Unusable(f"the key {max(names, key=names.count)!r} stands twice in this object")


def _number(text: str) -> int | Decimal | _Unusable:
    """Keep a number exactly as it is written: a float would change it on its way to another database."""
    if len(text) <= MAX_INTEGER_LENGTH and text.lstrip("-").isdigit():
        return int(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("Infinity")
    is_usable = len(text) <= MAX_NUMBER_LENGTH and number.is_finite() and abs(number.adjusted()) <= MAX_EXPONENT
    return number if is_usable else _Unusable("the number is too long, too large or too small")


def _unusable(value: Any, *, depth: int = 0) -> tuple[str, str] | None:  # noqa: ANN401
    """Return the place of the first part of `value` that must be refused, and the reason."""
    if isinstance(value, str):
        found = UNSTORABLE.search(value)
        return found and ("", "has a NUL character" if found[0] == NUL else "has half of a surrogate pair")
    if isinstance(value, _Unusable):
        return "", value.reason
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        return "", TOO_DEEP
    is_object = isinstance(value, dict)
    for key, item in value.items() if is_object else enumerate(value) if isinstance(value, list) else ():
        if is_object and (wrong := _unusable(key)):
            return " (one of its keys)", wrong[1]
        if wrong := _unusable(item, depth=depth + 1):
            return f".{key}{wrong[0]}" if is_object else f"[{key}]{wrong[0]}", wrong[1]
    return None
