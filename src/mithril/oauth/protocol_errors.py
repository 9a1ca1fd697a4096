"""How the standard routes say no: RFC 6749 section 5.2, without the envelope of the other routes.

The rules raise what the contract of ESOZ calls a refusal; the one table here says what the RFC calls it.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Self

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from mithril import errors
from mithril.web import envelope

INVALID_REQUEST, INVALID_CLIENT, INVALID_GRANT = "invalid_request", "invalid_client", "invalid_grant"
CHALLENGE = 'Basic realm="mithril", charset="UTF-8"'

# What the rules call it, and what RFC 6749 does. Once the client is authenticated, what is left to be wrong is the
# grant: the code or token itself, the address it was issued for, the person behind it.
CODES: Mapping[str, str] = {
    "token_not_found": INVALID_GRANT,
    "token_expired": INVALID_GRANT,
    "invalid_grant": INVALID_GRANT,
    "access_denied": INVALID_GRANT,
    "user_blocked": INVALID_GRANT,
    "invalid_client": INVALID_GRANT,  # the address only: see `client_authentication` for the client itself
    "unauthorized_client": "unauthorized_client",
    "invalid_scope": "invalid_scope",
}
CODES_OF_FAILURES: Mapping[int, str] = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily_unavailable",
    HTTPStatus.TOO_MANY_REQUESTS: "temporarily_unavailable",  # the RFC has no word of its own for it
}


class ProtocolError(errors.MithrilError):
    """A refusal in the RFC's own words; the message is its `error_description`."""

    def __init__(self, code: str, description: str, *, status: int = HTTPStatus.BAD_REQUEST, detail: str = "") -> None:
        """`code`: of RFC 6749 section 5.2. `description`: ASCII without quotes and backslashes, as there."""
        super().__init__(description, detail=detail or code)
        self.type = code  # type: ignore[misc]
        self.status = status  # type: ignore[misc]

    @classmethod
    def invalid_request(cls, description: str) -> Self:
        """The request is not one that the RFC knows."""
        return cls(INVALID_REQUEST, description)

    @classmethod
    def invalid_client(cls, description: str) -> Self:
        """The client did not say who it is, or could not prove it."""
        return cls(INVALID_CLIENT, description, status=HTTPStatus.UNAUTHORIZED)

    @property
    def headers(self) -> Mapping[str, str]:
        """The challenge, which belongs to every 401 (RFC 9110 section 15.5.2)."""
        return {"www-authenticate": CHALLENGE} if self.status == HTTPStatus.UNAUTHORIZED else {}


def translated(error: errors.Unauthorized) -> ProtocolError:
    """What the rules refused after the client was authenticated, in the RFC's words."""
    detail = error.detail or f"{error.type}: {error.message}"
    return ProtocolError(CODES.get(error.type, INVALID_GRANT), error.message or error.type, detail=detail)


def show(_: Scope, error: errors.MithrilError) -> Response:
    """The answer for a refusal; the edge adds the headers that belong to it."""
    code = error.type if isinstance(error, ProtocolError) else CODES_OF_FAILURES.get(error.status, INVALID_REQUEST)
    content = {"error": code, "error_description": error.message or HTTPStatus(error.status).phrase}
    return answer(content, status=error.status)


def answer(content: Mapping[str, object], *, status: int = HTTPStatus.OK) -> Response:
    """JSON as these routes send it (RFC 6749 section 5.1); what is None is left out."""
    shown = {name: value for name, value in content.items() if value is not None}
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    return Response(msgspec.json.encode(shown), status, headers, envelope.JSON)
