"""How the data file is read: strict JSON, then the format of `document`, with the key of what is refused.

What stands here can be said of the file alone; what needs the database is in `service`. A refusal names the line
or the key and never repeats a secret, a password or a token's value.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from mithril.identifiers import CANONICAL_UUID
from mithril.snapshots.document import MAX_LENGTH, Details, Email, Id, PrivSettings, Snapshot

EMAIL = re.compile(r"[^\s@]+@[^\s@]+")
SURROGATE = re.compile("[\ud800-\udfff]")
MAX_DEPTH = 64
MAX_INTEGER_LENGTH, MAX_NUMBER_LENGTH, MAX_EXPONENT = 18, 400, 308

_T = TypeVar("_T")


class SnapshotError(Exception):
    """The file, or a row of it, cannot be imported; the message says which and why, in one line."""


class _Unusable(NamedTuple):
    """Stands in the parsed document for what must be refused, so that the refusal can name the key."""

    reason: str


def read(source: Path | str | bytes) -> Snapshot:
    """The file at that path, or its content.

    Raises SnapshotError for what cannot be read, is no UTF-8, no strict JSON (a name twice in an object, NaN) or
    not of this format, and for what PostgreSQL cannot hold: NUL characters, lone surrogates, vast numbers.
    """
    document = _parsed(source if isinstance(source, bytes) else _content(Path(source)))
    _refuse_unusable(document, "$")
    snapshot = converted(document, Snapshot)
    for index, client in enumerate(snapshot.clients):
        if client.priv_settings is not UNSET:
            converted(client.priv_settings, PrivSettings, at=f"$.clients[{index}].priv_settings")
    for index, token in enumerate(snapshot.tokens):
        details = converted(token.details, Details, at=f"$.tokens[{index}].details")
        if token.connection_id is not UNSET and details.connection_id is not UNSET:
            raise SnapshotError(f"$.tokens[{index}].connection_id: stands in details too")
    return snapshot


def converted(value: Any, kind: type[_T], *, at: str = "$") -> _T:  # noqa: ANN401 -- JSON may be anything
    """`value` as a `kind`. Raises SnapshotError that begins with the key, `at` being that of `value`."""
    try:
        return msgspec.convert(value, kind, dec_hook=_scalar)
    except msgspec.ValidationError as error:
        raise SnapshotError(_named(error, at)) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror}") from None


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
        raise SnapshotError(f"$: nested more than {MAX_DEPTH} levels deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Unusable:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            return _Unusable(f"the key {name!r} stands twice in this object")
        found[name] = value
    return found


def _number(text: str) -> int | Decimal | _Unusable:
    """Exactly as written: a float would change a number on its way from one database to another."""
    if len(text) <= MAX_INTEGER_LENGTH and text.lstrip("-").isdigit():
        return int(text)
    unusable = _Unusable("the number is too long, too large or too small")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return unusable
    is_usable = len(text) <= MAX_NUMBER_LENGTH and abs(number.adjusted()) <= MAX_EXPONENT
    return number if is_usable else unusable


def _refuse_unusable(value: object, at: str, *, depth: int = 0) -> None:
    if isinstance(value, str):
        _refuse_unusable_text(value, at)
    elif isinstance(value, _Unusable):
        raise SnapshotError(f"{at}: {value.reason}")
    elif depth > MAX_DEPTH:
        raise SnapshotError(f"{at}: nested more than {MAX_DEPTH} levels deep")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unusable(item, f"{at}[{index}]", depth=depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            _refuse_unusable_text(name, f"{at} (one of its keys)")
            _refuse_unusable(item, f"{at}.{name}", depth=depth + 1)


def _refuse_unusable_text(text: str, at: str) -> None:
    if "\0" in text:
        raise SnapshotError(f"{at}: has a NUL character")
    if SURROGATE.search(text):
        raise SnapshotError(f"{at}: has half of a surrogate pair")


def _scalar(kind: type, value: object) -> Any:  # noqa: ANN401 -- as msgspec's dec_hook has it
    if kind is Id and isinstance(value, str) and CANONICAL_UUID.fullmatch(value):
        return Id(value.lower())
    if kind is Email and isinstance(value, str) and len(value) <= MAX_LENGTH and EMAIL.fullmatch(value):
        return Email(value.lower())
    raise ValueError("expected a UUID in its 8-4-4-4-12 form" if kind is Id else "expected an e-mail address")


def _named(error: msgspec.ValidationError, at: str) -> str:
    """msgspec's "Expected `int` - at `$.users[0].id`" as "$.users[0].id: expected `int`"."""
    message, _, path = str(error).partition(" - at `$")
    at += path.rstrip("`")
    key = re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", message, re.DOTALL)
    if key is None:
        return f"{at}: {message[0].lower()}{message[1:]}"
    return f"{at}.{key[2]}: {'unknown key' if key[1].startswith('contains') else 'missing'}"
