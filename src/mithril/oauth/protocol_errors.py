"""How the standard routes show a refusal: RFC 6749 section 5.2, without the envelope of the other routes.

A refusal knows what the RFC calls it (`oauth_error`); where it does not, its status decides.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.responses import Response
from starlette.types import Scope

from mithril import errors, refusals
from mithril.web import envelope

# The scope key of whether the client's credentials are in the body.
IN_BODY = "mithril.client_in_body"
INVALID_REQUEST, INVALID_CLIENT = "invalid_request", "invalid_client"
CHALLENGE = 'Basic realm="mithril", charset="UTF-8"'

CODES_OF_FAILURES: Mapping[int, str] = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "temporarily_unavailable",
    HTTPStatus.TOO_MANY_REQUESTS: "temporarily_unavailable",  # the RFC has no word of its own for it
}


def show(scope: Scope, error: errors.MithrilError) -> Response:
    """Return the answer for a refusal; the edge adds the headers that belong to it.

    Once the client is authenticated, what is left to be wrong is the grant: that is 400 (RFC 6749 section 5.2). So are
    wrong credentials in the body: 401 must name a scheme of the header, and a browser would ask its user for a password
    (rule STD-19).
    """
    code = error.oauth_error or CODES_OF_FAILURES.get(error.status, INVALID_REQUEST)
    status = error.status
    if code == INVALID_CLIENT:
        status = HTTPStatus.BAD_REQUEST if scope.get(IN_BODY) else HTTPStatus.UNAUTHORIZED
    elif isinstance(error, errors.Unauthorized | errors.Unprocessable):
        status = HTTPStatus.BAD_REQUEST
    content = {
        "error": code,
        "error_description": error.message or HTTPStatus(status).phrase,
        "operation_id": error.operation_id if isinstance(error, errors.OutcomeUnknown) else None,
    }
    response = answer(content, status=status)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = CHALLENGE  # belongs to every 401 (RFC 9110 section 15.5.2)
    return response


def show_openid(scope: Scope, error: errors.MithrilError) -> Response:
    """Return the answer for the metadata of OpenID Connect, for which there is no route: a hint to those of OAuth."""
    return show(scope, refusals.OpenIdNotOffered() if isinstance(error, errors.NotFound) else error)


def answer(content: Mapping[str, object], *, status: int = HTTPStatus.OK) -> Response:
    """Return JSON as these routes send it (RFC 6749 section 5.1), without what is None."""
    shown = {name: value for name, value in content.items() if value is not None}
    headers = {"cache-control": "no-store", "pragma": "no-cache"}
    return Response(msgspec.json.encode(shown), status, headers, envelope.JSON)
