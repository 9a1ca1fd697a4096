"""Query parameters of lists: which page, which filters, and what is wrong with them.

An unknown parameter is ignored and an empty one is as good as none; of a parameter given twice the first counts
(contract.md 3.0). A bad one is named in a 422, all of them at once.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from starlette.requests import Request

from mithril import errors
from mithril.database.database import Page
from mithril.errors import Invalid, Rule
from mithril.identifiers import parse_uuid

DEFAULT_SIZE = 50
LARGEST_SIZE = 500
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
Parser = Callable[[str], object]


class Bad(ValueError):
    """A value that a parameter does not take; carries the rule that it breaks."""

    def __init__(self, rule: Rule) -> None:
        """`rule`: as it will stand in the answer."""
        super().__init__(rule.description)
        self.rule = rule


def uuid(text: str) -> UUID:
    """A UUID in any letter case. Raises Bad."""
    found = parse_uuid(text)
    if found is None:
        raise _cast("uuid")
    return found


def boolean(text: str) -> bool:
    """`true` or `false`, also `1` or `0`. Raises Bad."""
    if text not in {"true", "false", "1", "0"}:
        raise _cast("boolean")
    return text in {"true", "1"}


def uuids(text: str) -> list[UUID]:
    """UUIDs by comma. Raises Bad."""
    found = [parse_uuid(part.strip()) for part in text.split(",")]
    if None in found:
        raise _cast("uuids")
    return [each for each in found if each is not None]


def words(value: str) -> list[str]:
    """Words by comma, blanks left out. Raises Bad."""
    return [word.strip() for word in text(value).split(",") if word.strip()]


def text(value: str) -> str:
    """Any text that PostgreSQL can compare. Raises Bad."""
    if "\0" in value:
        raise _cast("string")
    return value


def positive(text: str) -> int:
    """A whole number from 1. Raises Bad."""
    if not WHOLE_NUMBER.fullmatch(text):
        raise _cast("integer")
    if int(text) < 1:
        raise Bad(Rule("number", "expected the value to be >= 1", {"greater_than_or_equal_to": 1}))
    return int(text)


class Query:
    """The parameters of one list."""

    message: str | None = None

    def __init__(self, **filters: Parser) -> None:
        """`filters`: each name with what reads its value."""
        self._parsers = {**filters, "page": positive, "page_number": positive, "page_size": positive}

    def read(self, request: Request) -> tuple[dict[str, Any], Page]:
        """The filters that were given, and the page. Raises ValidationFailed, which lists every bad one."""
        found: dict[str, Any] = {}
        invalid = []
        for name, value in _first_of_each(request).items():
            parser = self._parsers.get(name)
            if parser is None or value == "":
                continue
            try:
                found[name] = parser(value)
            except Bad as bad:
                invalid.append(self.invalid(name, bad.rule))
        if invalid:
            raise errors.ValidationFailed(invalid, message=self.message)
        return found, _page_of(found)

    def invalid(self, name: str, rule: Rule) -> Invalid:
        """How a bad value of that parameter is told."""
        return Invalid(name, [rule], entry_type="query_parameter")


def _page_of(found: dict[str, Any]) -> Page:
    number, other = found.pop("page", None), found.pop("page_number", None)
    size = found.pop("page_size", DEFAULT_SIZE)
    return Page(number or other or 1, min(size, LARGEST_SIZE))


def _first_of_each(request: Request) -> Mapping[str, str]:
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, value)
    return values


def _cast(expected: str) -> Bad:
    return Bad(Rule("cast", "is invalid", {"expected": expected}))
