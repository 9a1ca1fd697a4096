"""Query parameters of lists: the page, the filters, and the 422 that names every invalid parameter.

An unknown or empty parameter is ignored. When a parameter is repeated, its first value counts (rule CNV-30).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote_plus
from uuid import UUID

from starlette.requests import Request

from mithril import errors
from mithril.database import lists
from mithril.database.lists import Cursor, Page
from mithril.errors import Invalid, Rule
from mithril.identifiers import parse_uuid

DEFAULT_SIZE = 50
LARGEST_SIZE = 500
MOST_NAMED = 50
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
Parser = Callable[[str], object]


class InvalidValue(ValueError):
    """A parameter has a value that breaks `rule`."""

    def __init__(self, rule: Rule) -> None:
        """`rule`: as the 422 shows it."""
        super().__init__(rule.description)
        self.rule = rule


def uuid(text: str) -> UUID:
    """Parse a UUID in any letter case. Raises InvalidValue."""
    found = parse_uuid(text)
    if found is None:
        raise _cast("uuid")
    return found


def boolean(text: str) -> bool:
    """Parse `true` or `1`, `false` or `0`. Raises InvalidValue."""
    if text not in {"true", "false", "1", "0"}:
        raise _cast("boolean")
    return text in {"true", "1"}


def uuids(text: str) -> list[UUID]:
    """Parse UUIDs separated by commas. Raises InvalidValue."""
    found = [parse_uuid(part.strip()) for part in text.split(",")]
    if None in found:
        raise _cast("uuids")
    return [each for each in found if each is not None]


def words(value: str) -> list[str]:
    """Parse words separated by commas, without empty ones. Raises InvalidValue."""
    return [word.strip() for word in text(value).split(",") if word.strip()]


def text(value: str) -> str:
    """Return the text unless it has a NUL character, which PostgreSQL refuses. Raises InvalidValue."""
    if "\0" in value:
        raise _cast("string")
    return value


def positive(text: str) -> int:
    """Parse a whole number from 1. Raises InvalidValue."""
    if not WHOLE_NUMBER.fullmatch(text):
        raise _cast("integer")
    if int(text) < 1:
        raise InvalidValue(Rule("number", "expected the value to be >= 1", {"greater_than_or_equal_to": 1}))
    return int(text)


def cursor(text: str) -> Cursor:
    """Parse what `paging.next` was. Raises InvalidValue."""
    try:
        return Cursor.decode(text)
    except ValueError:
        raise _cast("cursor") from None


class Query:
    """The parameters of one list."""

    message: str | None = None

    def __init__(self, **filters: Parser) -> None:
        """`filters`: the parser of each filter's value, by parameter name."""
        paging = {"page": positive, "page_number": positive, "page_size": positive, "after": cursor}
        self._parsers = {**filters, **paging}

    def read(self, request: Request) -> tuple[dict[str, Any], Page]:
        """The filters that were given, and the page.

        Raises ValidationFailed, which lists every bad one, and what `lists.page_of` raises.
        """
        found: dict[str, Any] = {}
        invalid = []
        for name, value in _first_of_each(request).items():
            parser = self._parsers.get(name)
            if parser is None and request.method == "DELETE":  # a misspelt filter would delete everything
                invalid.append(
                    self.invalid(name, Rule("schema", "this route does not know the parameter", {"properties": [name]}))
                )
            if parser is None or value == "":
                continue
            try:
                found[name] = parser(value)
            except InvalidValue as error:
                invalid.append(self.invalid(name, error.rule))
        if invalid:
            raise errors.ValidationFailed(invalid, message=self.message)
        return found, _page_of(found, request.scope["route"].path)

    def invalid(self, name: str, rule: Rule) -> Invalid:
        """Return the element of `invalid` for a parameter whose value breaks `rule`."""
        return Invalid(name, [rule], entry_type="query_parameter")


def refuse(query: bytes) -> NoReturn:
    """Raise ValidationFailed, which names the parameters of a query where none is known."""
    raise _unknown(unquote_plus(part.partition("=")[0]) for part in query.decode("latin-1").split("&"))


def refuse_others(names: Iterable[str], *, known: str) -> None:
    """Raise ValidationFailed for parameters with other names than `known`."""
    others = [name for name in names if name != known]
    if others:
        raise _unknown(others)


def _unknown(names: Iterable[str]) -> errors.ValidationFailed:
    text = "this route knows no query parameters"
    return errors.ValidationFailed(
        [
            Invalid(name, [Rule("schema", text, {"properties": [name]})], entry_type="query_parameter")
            for name in list(dict.fromkeys(names))[:MOST_NAMED]
        ]
    )


def _page_of(found: dict[str, Any], name: str) -> Page:
    number, other = found.pop("page", None), found.pop("page_number", None)
    size, after = min(found.pop("page_size", DEFAULT_SIZE), LARGEST_SIZE), found.pop("after", None)
    return lists.page_of(name, found, number=number or other or 1, size=size, after=after)


def _first_of_each(request: Request) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, value)
    return values


def _cast(expected: str) -> InvalidValue:
    return InvalidValue(Rule("cast", "is invalid", {"expected": expected}))
