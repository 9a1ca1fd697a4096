"""What a browser sends: urlencoded names and values, in the query and in the bodies of our forms.

Read strictly, with a limit: what two parsers could read differently is refused. Which names mean what is not
known here.
"""

import asyncio
import re
from collections import Counter
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from mithril import errors, refusals
from mithril.web import requests

MAX_BYTES = 8_192
MAX_FIELDS = 50
MEDIA_TYPE = re.compile(r"application/x-www-form-urlencoded(?:\s*;\s*charset=\"?utf-8\"?)?\s*;?", re.IGNORECASE)
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# PostgreSQL takes no NUL, and no value that we ask for has any of the others.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Fields(NamedTuple):
    """Names with their values; one without a value counts as left out (RFC 6749 section 3.1)."""

    values: dict[str, str]
    doubled: frozenset[str]

    def get(self, name: str) -> str | None:
        """The value, or None where there is none, or more than one."""
        return None if name in self.doubled else self.values.get(name)


def parse(text: str, *, is_strict: bool = False) -> Fields:
    """The fields of a query or a body. `is_strict`: every field must have its `=`.

    Raises PageError for bad escapes, bad UTF-8, control characters, or too many fields.
    """
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=is_strict, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise refusals.PageUnreadable from None
    if BAD_ESCAPE.search(text) or any(CONTROL.search(part) for pair in pairs for part in pair):
        raise refusals.PageUnreadable
    counts = Counter(name for name, _ in pairs)
    values = {name: value for name, value in pairs if value}
    return Fields(values, frozenset(name for name, count in counts.items() if count > 1))


async def read(request: Request) -> Fields:
    """The fields of the form in the body.

    Raises ContentTypeInvalid, RequestTooLarge, RequestTimeout, PageError, and ClientDisconnect.
    """
    if not MEDIA_TYPE.fullmatch((requests.header(request, "content-type") or "").strip()):
        raise errors.ContentTypeInvalid("Send the form as application/x-www-form-urlencoded.")
    try:
        async with asyncio.timeout(requests.resources(request).settings.body_timeout):
            body = await _read(request)
    except TimeoutError:
        raise errors.RequestTimeout from None
    try:
        fields = parse(body.decode("ascii"), is_strict=True)
    except UnicodeDecodeError:
        raise refusals.PageUnreadable from None
    if fields.doubled:
        raise refusals.PageParameterDoubled(parameter=", ".join(sorted(fields.doubled)))
    return fields


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise errors.RequestTooLarge
    return bytes(body)
