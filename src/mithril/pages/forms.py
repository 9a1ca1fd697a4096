"""What a browser sends: the query of an authorization request, and the bodies of our forms.

Both are read by `web.forms`; here is what the pages refuse on top of it, and that they explain it on a page.
"""

import re

from starlette.requests import Request

from mithril import errors, refusals
from mithril.web import bodies, forms
from mithril.web.forms import Parameters

MAX_BYTES = 8_192
# PostgreSQL takes no NUL, and no value that we ask for has any of the others.
CONTROL = re.compile(rb"[\x00-\x1f\x7f]|%[01][0-9A-Fa-f]|%7[Ff]")


def read_query(request: Request) -> Parameters:
    """Return the fields of the query. Raises PageError."""
    return _parse(request.scope["query_string"], encoding="latin-1", is_strict=False)


async def read(request: Request) -> Parameters:
    """Return the fields of the form in the body.

    A browser that says which page sent the form must name one of ours. Its `Origin` is of no use here: under our
    Referrer-Policy it is `null`. Raises ContentTypeInvalid, RequestTooLarge, RequestTimeout, PageError, and
    ClientDisconnect.
    """
    if not forms.is_form(request):
        raise errors.ContentTypeInvalid("Send the form as application/x-www-form-urlencoded.")
    fields = _parse(await bodies.read_bytes(request, most_bytes=MAX_BYTES), encoding="ascii", is_strict=True)
    if any(site != "same-origin" for site in request.headers.getlist("sec-fetch-site")):
        raise refusals.PageFormForeign
    if fields.repeated:
        raise refusals.PageParameterDoubled(parameter=", ".join(sorted(fields.repeated)))
    return fields


def _parse(sent: bytes, *, encoding: str, is_strict: bool) -> Parameters:
    if CONTROL.search(sent):
        raise refusals.PageUnreadable
    try:
        return forms.parse(sent.decode(encoding), is_strict=is_strict)
    except ValueError:
        raise refusals.PageUnreadable from None
