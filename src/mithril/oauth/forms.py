"""Requests of the standard routes: parameters in a form, client credentials in the header or in the form.

The form itself is read by `web.forms`. Whether the credentials are right is decided in `client_authentication`.
"""

import base64
import binascii
import re
from urllib.parse import unquote_plus

from starlette.requests import Request

from mithril import errors, refusals
from mithril.oauth.client_authentication import Credentials
from mithril.web import bodies, forms
from mithril.web.forms import Parameters

BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)  # RFC 7617 section 2


async def read(request: Request) -> Parameters:
    """Return the parameters in the body. Raises ProtocolError, RequestTooLarge, RequestTimeout, ClientDisconnect."""
    if not forms.is_form(request):
        raise errors.ProtocolError("Send the parameters as application/x-www-form-urlencoded.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.ProtocolError("Compressed request bodies are not accepted.")
    body = await bodies.read_bytes(request)
    try:
        fields = forms.parse(body.decode("ascii"), is_strict=True)
    except ValueError:
        raise errors.ProtocolError("The form is malformed.") from None
    if fields.repeated:
        raise errors.ProtocolError("A parameter is there more than once.")
    return fields


def required(form: Parameters, name: str) -> str:
    """Return the value of a parameter. Raises ProtocolError when it is missing."""
    value = form.get(name)
    if value is None:
        raise errors.ProtocolError(f"The parameter {name} is missing.")
    return value


def credentials(request: Request, form: Parameters) -> Credentials:
    """Return the client's credentials from the Authorization header, else from the form, never from both.

    Raises ProtocolError. Source: RFC 6749 section 2.3.1.
    """
    headers = request.headers.getlist("authorization")
    if not headers:
        client_id = form.get("client_id")
        if client_id is None:
            raise refusals.ClientCredentialsInvalid("The client must authenticate.")
        return Credentials(client_id, form.get("client_secret"))
    given = _from_header(headers)
    if form.get("client_secret") is not None or form.get("client_id") not in (None, given.client_id):
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
