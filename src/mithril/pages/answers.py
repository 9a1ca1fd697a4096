"""How the browser is sent on: to the client's redirect URI with an answer, or to the next step."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.pages import cookies
from mithril.pages.authorization_request import AuthorizationRequest
from mithril.web import requests

SEE_OTHER = 303  # after a POST too the browser asks by GET (RFC 9700 section 4.12)


def give_code(request: Request, asked: AuthorizationRequest, code: str) -> Response:
    """To the client, with its code (RFC 6749 section 4.1.2)."""
    return _to_client(request, asked, {"code": code})


def send_back(request: Request, asked: AuthorizationRequest, refusal: errors.MithrilError) -> Response:
    """To the client, with an error (RFC 6749 section 4.1.2.1)."""
    request.scope["refusal"] = refusal.name
    return _to_client(request, asked, {"error": refusal.oauth_error, "error_description": refusal.message or ""})


def next_step(request: Request) -> Response:
    """To the same address by GET, so that neither "reload" nor "back" sends a form again."""
    return Response(status_code=SEE_OTHER, headers={"location": "?" + request.scope["query_string"].decode("latin-1")})


def _to_client(request: Request, asked: AuthorizationRequest, answer: dict[str, str]) -> Response:
    """Whatever the answer is, the login session is over: the next request is for whoever sits there then."""
    if asked.state is not None:
        answer["state"] = asked.state
    if asked.entrance.is_standard:
        answer["iss"] = requests.origin(request.scope)  # RFC 9207 section 2
    location = _with_parameters(asked.redirect.connection.redirect_uri, answer)
    response = Response(status_code=SEE_OTHER, headers={"location": location})
    cookies.forget(request, response, cookies.LOGIN_SESSION)
    return response


def _with_parameters(address: str, parameters: dict[str, str]) -> str:
    """The registered address, letter by letter, with more in its query."""
    separator = "?" if "?" not in address else "" if address.endswith(("?", "&")) else "&"
    return address + separator + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
