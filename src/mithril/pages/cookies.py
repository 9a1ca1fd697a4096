"""The two cookies of the pages: the login session, and the proof that a form was ours.

Over https both have the prefix `__Host-`, which keeps neighbouring hosts from setting them and requires `Path=/`.
Browsers refuse that prefix over plain http; there the cookies are limited to the path of the entrance.
"""

import re
from hmac import compare_digest

from starlette.requests import Request
from starlette.responses import Response

from mithril import security
from mithril.web import requests
from mithril.web.forms import Parameters

LOGIN_SESSION = "mithril-visit"
FORM = "mithril-form"
VALUE = re.compile(r"[A-Za-z0-9_-]{32}")


def read(request: Request, name: str) -> str | None:
    """Return the cookie's value; None where we did not make it."""
    value = request.cookies.get(_full_name(request, name), "")
    return value if VALUE.fullmatch(value) else None


def keep(request: Request, response: Response, name: str, value: str, *, lives_seconds: int | None = None) -> None:
    """Set the cookie; without `lives_seconds` until the browser is closed."""
    is_secure = _is_secure(request)
    response.set_cookie(
        _full_name(request, name),
        value,
        max_age=lives_seconds,
        path="/" if is_secure else request.url.path,
        secure=is_secure,
        httponly=True,
        samesite="lax",
    )


def forget(request: Request, response: Response, name: str) -> None:
    """Remove the cookie, if the browser has sent one."""
    if _full_name(request, name) in request.cookies:
        keep(request, response, name, "", lives_seconds=0)


def form_token(request: Request) -> str:
    """Return the value that cookie and form share (double submit): the browser's, if it has one."""
    return read(request, FORM) or security.new_secret()


def is_own_form(request: Request, fields: Parameters) -> bool:
    """Return whether the form was made for this browser: another site can neither read nor set the cookie."""
    expected, given = read(request, FORM), fields.get("form_token")
    return expected is not None and given is not None and compare_digest(expected.encode(), given.encode())


def _full_name(request: Request, name: str) -> str:
    return f"__Host-{name}" if _is_secure(request) else name


def _is_secure(request: Request) -> bool:
    """Return whether the browser came by https, perhaps to a proxy in front of us."""
    public_url = requests.resources(request).settings.public_url
    return request.url.scheme == "https" or public_url.lower().startswith("https://")
