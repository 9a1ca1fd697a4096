"""How the browser is sent on: to the client's redirect URI with an answer, or to the next form."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors, refusals
from mithril.oauth.scopes import Reason
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
    requests.note_refusal(request.scope, refusal)
    return _to_client(request, asked, _error(refusal), keeps_session=keeps_session)


def explain_roles(
    request: Request, asked: AuthorizationRequest, refusal: refusals.ScopeRefused, *, keeps_session: bool
) -> Response:
    """Say which scopes the roles of the user lack, with a link that leads to the client with the error."""
    requests.note_refusal(request.scope, refusal)
    lacking = [name for name, reason in refusal.refused.items() if reason == Reason.ROLE]
    values = {"scopes": rendering.in_words(request, lacking), "back": _location(request, asked, _error(refusal))}
    response = rendering.explanation(request, asked, "role.html", status=403, **values)
    return response if keeps_session else _without_session(request, response)


def next_step(request: Request) -> Response:
    """Redirect to the same page by GET, so that neither "reload" nor "back" sends a form again."""
    return see(rendering.url(request))


def see(location: str) -> Response:
    """Redirect to a page of ours."""
    return Response(status_code=SEE_OTHER, headers={"location": location})


def _to_client(
    request: Request, asked: AuthorizationRequest, answer: dict[str, str], *, keeps_session: bool
) -> Response:
    """Redirect to the client.

    `keeps_session`: for a form that has used the login session up, so that it may come again; else the cookie is
    removed, since another user may sit there at the next request.
    """
    response = Response(status_code=SEE_OTHER, headers={"location": _location(request, asked, answer)})
    return response if keeps_session else _without_session(request, response)


def _without_session(request: Request, response: Response) -> Response:
    cookies.forget(request, response, cookies.LOGIN_SESSION)
    return response


def _error(refusal: errors.MithrilError) -> dict[str, str]:
    return {"error": refusal.oauth_error, "error_description": refusal.oauth_description}


def _location(request: Request, asked: AuthorizationRequest, answer: dict[str, str]) -> str:
    """Return the registered redirect URI, letter by letter, with the answer in its query."""
    if asked.state is not None:
        answer["state"] = asked.state
    if asked.entrance.is_standard:
        answer["iss"] = requests.origin(request.scope)  # RFC 9207 section 2
    redirect_uri = asked.redirect.connection.redirect_uri
    separator = "?" if "?" not in redirect_uri else "" if redirect_uri.endswith(("?", "&")) else "&"
    return redirect_uri + separator + "&".join(f"{name}={quote(value, safe='')}" for name, value in answer.items())
