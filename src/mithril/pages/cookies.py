"""The cookies of the pages: the session, a secret of the browser, which proves that a form was ours, and a link.

The console has three of its own. Over https all have the prefix `__Host-`, which keeps neighbouring hosts from setting
them and requires `Path=/`. Browsers refuse that prefix over plain http; there those of signing in are limited to the
path of the entrance.

The header is read in bytes. A neighbouring host can set a cookie whose name is ours to a parser that strips what is
around it, such as the byte A0, or that takes the last of several: where there could be any doubt, there is no cookie.
"""

import re
from collections.abc import Iterator
from hmac import compare_digest

from starlette.requests import Request
from starlette.responses import Response

from mithril import security
from mithril.web import requests
from mithril.web.forms import Parameters

LOGIN_SESSION = "mithril-visit"
FORM = "mithril-form"
LINK = "mithril-link"
CONSOLE_SESSION, CONSOLE_FORM = "mithril-console", "mithril-console-form"
CONSOLE_PHONE = "mithril-console-phone"
OF_ALL_PATHS = (CONSOLE_SESSION, CONSOLE_FORM, CONSOLE_PHONE)
VALUE = re.compile(rb"[A-Za-z0-9_-]{32}")
# Every byte that no name of a cookie has (RFC 6265 section 4.1.1): parsers differ in which of them they strip.
NOT_OF_A_NAME = bytes(
    set(range(256)) - set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
)


def read(request: Request, name: str) -> str | None:
    """Return the cookie's value; None where it is not exactly one that we made, or where it was sent twice."""
    values = list(_sent(request, name))
    return values[0].decode() if len(values) == 1 and VALUE.fullmatch(values[0]) else None


def keep(request: Request, response: Response, name: str, value: str, *, lives_seconds: int | None = None) -> None:
    """Set the cookie; without `lives_seconds` until the browser is closed."""
    secure = is_secure(request)
    response.set_cookie(
        _full_name(request, name),
        value,
        max_age=lives_seconds,
        path="/" if secure or name in OF_ALL_PATHS else request.scope["path"],
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def forget(request: Request, response: Response, name: str) -> None:
    """Remove the cookie, if the browser has sent one."""
    if any(True for _ in _sent(request, name)):
        keep(request, response, name, "", lives_seconds=0)


def browser_secret(request: Request, name: str = FORM) -> str:
    """Return the secret of the browser: the one in its cookie, else a new one, which must be kept there."""
    return read(request, name) or security.new_secret()


def form_token(secret: str, *, bound_to: str) -> str:
    """Return the proof that a form is ours; only for the browser with that secret, and only for `bound_to`."""
    return security.derived(secret, bound_to)


def is_own_form(request: Request, fields: Parameters, *, bound_to: str, name: str = FORM) -> bool:
    """Return whether the form was made for this browser and for `bound_to`.

    Another site can neither read nor set the cookie; and one that could set it does not know the login session.
    """
    secret, given = read(request, name), fields.get("form_token")
    if secret is None or given is None:
        return False
    return compare_digest(form_token(secret, bound_to=bound_to).encode(), given.encode())


def _sent(request: Request, name: str) -> Iterator[bytes]:
    """Yield the value of every cookie of that name; empty where there is something around the name."""
    wanted = _full_name(request, name).encode()
    for header, value in request.scope["headers"]:
        if header != b"cookie":
            continue
        for pair in value.split(b";"):
            if pair.lstrip(NOT_OF_A_NAME).partition(b"=")[0].rstrip(NOT_OF_A_NAME) == wanted:
                sent_name, _, sent_value = pair.removeprefix(b" ").partition(b"=")
                yield sent_value if sent_name == wanted else b""


def _full_name(request: Request, name: str) -> str:
    return f"__Host-{name}" if is_secure(request) else name


def is_secure(request: Request) -> bool:
    """Return whether the browser came by https, perhaps to a proxy in front of us."""
    public_url = requests.resources(request).settings.public_url
    return request.url.scheme == "https" or public_url.lower().startswith("https://")
