"""Reading a data file: strict JSON, then the schema and the rules of each section that need no database.

A refusal names the line or the key, and repeats no secret, password or token value.
"""

import json
import re
from decimal import Clamped, Context, Decimal, DecimalException, Inexact, InvalidOperation, Rounded, Subnormal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema_rs

from mithril.snapshots.sections import SECTIONS, Row
from mithril.validation import bodies

NUL = "\0"
UNSTORABLE = re.compile(f"[{NUL}\ud800-\udfff]")  # NUL and halves of surrogate pairs, which PostgreSQL cannot hold
# Deeper than a body may be: a file holds in its rows what came in a body.
MAX_DEPTH = 64
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
# Numbers that PostgreSQL can hold. A float would change one on its way to another database.
NUMBERS = Context(prec=400, Emin=-308, Emax=308, traps=[Clamped, Inexact, InvalidOperation, Rounded, Subnormal])
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


def read(source: Path | str | bytes) -> Snapshot:
    """Read the file at a path, or its content, and check every rule that needs no database.

    Raises SnapshotError for what cannot be read, is no UTF-8 or no strict JSON (a name twice in an object, NaN), is
    not of the format, breaks a rule of the API, or cannot be stored in PostgreSQL.
    """
    try:
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        # In place of a value that must be refused there is an error, which then gets its place.
        document = json.loads(
            content.decode("utf-8-sig"),  # editors on Windows begin a file with a byte order mark
            object_pairs_hook=_object,
            parse_int=_number,
            parse_float=_number,
            parse_constant=lambda name: SnapshotError(f"{name} is not JSON"),
        )
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SnapshotError(f"line {line}: not valid UTF-8") from None
    except json.JSONDecodeError as error:
        raise SnapshotError(f"line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise SnapshotError(f"$: {TOO_DEEP}") from None
    _check_values(document)
    for entry, rule in bodies.violations(VALIDATOR, document):
        raise SnapshotError(f"{entry.replace('.[', '[')}: {rule.description}")
    for section in SECTIONS:
        for index, row in enumerate(document.get(section.name, ())):
            for entry, rule in section.problems(row):
                raise SnapshotError(f"$.{section.name}[{index}]{entry[1:]}: {rule.description}")
    return Snapshot(**{section.name: document.get(section.name, []) for section in SECTIONS})


def _object(pairs: list[tuple[str, Any]]) -> Row | SnapshotError:
    found, names = dict(pairs), [name for name, _ in pairs]
    if len(found) == len(names):
        return found
    return SnapshotError(f"the key {max(names, key=names.count)!r} stands twice in this object")


def _number(text: str) -> Decimal | SnapshotError:
    try:
        return NUMBERS.create_decimal(text)
    except DecimalException:
        return SnapshotError("the number is too long, too large or too small")


def _check_values(value: Any, at: str = "$", *, depth: int = 0) -> None:  # noqa: ANN401
    """Raise SnapshotError for the first value at any depth that must be refused, with its place."""
    if isinstance(value, SnapshotError):
        raise SnapshotError(f"{at}: {value}")
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        raise SnapshotError(f"{at}: {TOO_DEEP}")
    if isinstance(value, str) and (found := UNSTORABLE.search(value)):
        raise SnapshotError(f"{at}: has {'a NUL character' if found[0] == NUL else 'half of a surrogate pair'}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_values(item, f"{at}[{index}]", depth=depth + 1)
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(key, f"{at} (one of its keys)")
            _check_values(item, f"{at}.{key}", depth=depth + 1)
