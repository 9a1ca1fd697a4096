"""How the browser is sent on: to the client's redirect URI with an answer, or to the next form."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.pages import cookies, rendering
from mithril.pages.authorization_request import AuthorizationRequest
from mithril.web import requests

SEE_OTHER = 303  # after a POST too the browser asks by GET (RFC 9700 section 4.12)


def give_code(request: Request, asked: AuthorizationRequest, code: str, *, keeps_session: bool) -> Response:
    """Redirect to the client with its code (RFC 6749 section 4.1.2)."""
    return _to_client(request, asked, {"code": code}, keeps_session=keeps_session)


def send_back(
    request: Request, asked: AuthorizationRequest, refusal: errors.MithrilError, *, keeps_session: bool
) -> Response:
    """Redirect to the client with an error (RFC 6749 section 4.1.2.1)."""
    request.scope["refusal"] = refusal.name
    answer = {"error": refusal.oauth_error, "error_description": refusal.message or ""}
    return _to_client(request, asked, answer, keeps_session=keeps_session)


def next_step(request: Request) -> Response:
    """Redirect to the same page by GET, so that neither "reload" nor "back" sends a form again."""
    return Response(status_code=SEE_OTHER, headers={"location": rendering.url(request)})


def _to_client(
    request: Request, asked: AuthorizationRequest, answer: dict[str, str], *, keeps_session: bool
) -> Response:
    """Redirect to the client.

    `keeps_session`: for a form that has used the login session up, so that it may come again; else the cookie is
    removed, since another user may sit there at the next request.
    """
    if asked.state is not None:
        answer["state"] = asked.state
    if asked.entrance.is_standard:
        answer["iss"] = requests.origin(request.scope)  # RFC 9207 section 2
    location = _with_parameters(asked.redirect.connection.redirect_uri, answer)
    response = Response(status_code=SEE_OTHER, headers={"location": location})
    if not keeps_session:
        cookies.forget(request, response, cookies.LOGIN_SESSION)
    return response


def _with_parameters(redirect_uri: str, parameters: dict[str, str]) -> str:
    """Return the registered redirect URI, letter by letter, with more in its query."""
    separator = "?" if "?" not in redirect_uri else "" if redirect_uri.endswith(("?", "&")) else "&"
    return redirect_uri + separator + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
