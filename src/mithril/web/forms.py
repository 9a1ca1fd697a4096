"""Names and values as browsers and OAuth clients send them: urlencoded, in a query or in a body.

Read strictly: what two parsers could read differently is refused. Which names mean what, and how a refusal is shown,
is not known here.
"""

import re
from collections import Counter
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from mithril.web import requests

MAX_PARAMETERS = 50
MEDIA_TYPE = re.compile(r"application/x-www-form-urlencoded(?:\s*;\s*charset=\"?utf-8\"?)?\s*;?", re.IGNORECASE)
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Parameters(NamedTuple):
    """Names with their values; one without a value counts as left out (RFC 6749 sections 3.1 and 3.2)."""

    values: dict[str, str]
    repeated: frozenset[str]

    def get(self, name: str) -> str | None:
        """Return the value, or None where there is none, or more than one."""
        return None if name in self.repeated else self.values.get(name)


NO_PARAMETERS = Parameters({}, frozenset())


def is_form(request: Request) -> bool:
    """Return whether the body is said to be a form."""
    return MEDIA_TYPE.fullmatch((requests.header(request, "content-type") or "").strip()) is not None


def parse(text: str, *, is_strict: bool) -> Parameters:
    """Return the fields of a query or a body. `is_strict`: every field must have its `=`.

    Raises ValueError for bad escapes, bad UTF-8 or too many fields, which `parse_qsl` alone would not refuse.
    """
    if BAD_ESCAPE.search(text):
        raise ValueError("a bad escape")
    pairs = parse_qsl(
        text, keep_blank_values=True, strict_parsing=is_strict, errors="strict", max_num_fields=MAX_PARAMETERS
    )
    values = {name: value for name, value in pairs if value}
    if len(values) == len(pairs):
        return Parameters(values, frozenset())
    counts = Counter(name for name, _ in pairs)
    return Parameters(values, frozenset(name for name, count in counts.items() if count > 1))
