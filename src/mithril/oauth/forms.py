"""Requests of the standard routes: parameters in a form, client credentials in the header or in the form.

Read strictly: what two parsers could understand differently is refused. Whether the credentials are right is
decided in `client_authentication`.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import Request

from mithril import errors, refusals
from mithril.web import bodies

MEDIA_TYPE = re.compile(r"application/x-www-form-urlencoded(?:\s*;\s*charset=\"?utf-8\"?)?\s*;?", re.IGNORECASE)
BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)  # RFC 7617 section 2
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
MAX_PARAMETERS = 50

Form = Mapping[str, str]


class Credentials(NamedTuple):
    """What a client says about itself; `secret` is None where it sent none, or an empty one."""

    client_id: str
    secret: str | None


async def read(request: Request) -> Form:
    """The parameters in the body; those without a value count as not sent (RFC 6749 section 3.2).

    Raises ProtocolError, RequestTooLarge, RequestTimeout, ClientDisconnect.
    """
    media_types = request.headers.getlist("content-type")
    if len(media_types) != 1 or not MEDIA_TYPE.fullmatch(media_types[0].strip()):
        raise errors.ProtocolError("Send the parameters as application/x-www-form-urlencoded.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.ProtocolError("Compressed request bodies are not accepted.")
    return parse(await bodies.read_bytes(request))


def parse(body: bytes) -> Form:
    """The parameters of a form. Raises ProtocolError for one that is malformed or has a parameter twice."""
    try:
        pairs = _pairs(body.decode("ascii"))
    except ValueError:
        raise errors.ProtocolError("The form is malformed.") from None
    if len(dict(pairs)) != len(pairs):
        raise errors.ProtocolError("A parameter is there more than once.")
    return {name: value for name, value in pairs if value}


def _pairs(text: str) -> list[tuple[str, str]]:
    """Raises ValueError: `parse_qsl` is strict about everything but the escapes."""
    if BAD_ESCAPE.search(text):
        raise ValueError
    return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_PARAMETERS)


def required(form: Form, name: str) -> str:
    """The value of a parameter. Raises ProtocolError when it is missing."""
    if name not in form:
        raise errors.ProtocolError(f"The parameter {name} is missing.")
    return form[name]


def credentials(request: Request, form: Form) -> Credentials:
    """The client's credentials from the Authorization header, else from the form, never from both.

    Raises ProtocolError. Source: RFC 6749 section 2.3.1.
    """
    headers = request.headers.getlist("authorization")
    if not headers:
        if "client_id" not in form:
            raise refusals.ClientCredentialsInvalid("The client must authenticate.")
        return Credentials(form["client_id"], form.get("client_secret"))
    given = _from_header(headers)
    if "client_secret" in form or form.get("client_id", given.client_id) != given.client_id:
        raise errors.ProtocolError("Send the client credentials in one place: the header or the body.")
    return given


def _from_header(headers: list[str]) -> Credentials:
    basic = BASIC.fullmatch(headers[0]) if len(headers) == 1 else None
    if basic is None:
        raise refusals.ClientCredentialsInvalid("The Authorization header must be one of the Basic scheme.")
    try:
        text = base64.b64decode(basic[1], validate=True).decode("utf-8")
        client_id, _, secret = (unquote_plus(part, errors="strict") for part in text.partition(":"))
    except (binascii.Error, UnicodeDecodeError):
        raise refusals.ClientCredentialsInvalid("The credentials in the Authorization header are malformed.") from None
    return Credentials(client_id, secret or None)
