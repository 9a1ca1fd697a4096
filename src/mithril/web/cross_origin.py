"""Routes that a page of any origin may call: the headers by which a browser lets it read the answers.

These are the routes that a program in a browser calls as a public client (rules STD-16, STD-17). No cookie counts there
and none is set, so the origin is not looked at, and credentials of the browser are not allowed. Source: the Fetch
standard, section 3.2 (https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from starlette.requests import Request
from starlette.responses import Response

# On every answer, also on a refusal, and to any caller: so that no cache need tell origins apart.
HEADERS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after, www-authenticate, x-request-id, ratelimit, ratelimit-policy"),
]
PREFLIGHT_SECONDS = 7_200  # no browser of today remembers all that a preflight allows for longer than 2 to 24 hours


def is_preflight(request: Request) -> bool:
    """Return whether a browser asks what a page may send, before it sends it."""
    asked = ("origin", "access-control-request-method")
    return request.method == "OPTIONS" and all(name in request.headers for name in asked)


def answer_preflight(methods: str) -> Response:
    """Allow a page these methods, and the headers of a token request. The edge adds `HEADERS`."""
    headers = {
        "access-control-allow-methods": methods,
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": str(PREFLIGHT_SECONDS),
    }
    return Response(status_code=204, headers=headers)
