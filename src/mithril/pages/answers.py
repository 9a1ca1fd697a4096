"""How the browser is sent on: to the client's address with an answer, or to the same question's next step."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.pages import cookies
from mithril.pages.authorization_request import Question
from mithril.web import requests

SEE_OTHER = 303  # after a POST too the browser asks by GET (RFC 9700 section 4.12)


def give_code(request: Request, question: Question, code: str) -> Response:
    """To the client, with its code (RFC 6749 section 4.1.2)."""
    return _to_client(request, question, {"code": code})


def send_back(request: Request, question: Question, refusal: errors.MithrilError) -> Response:
    """To the client, with an error (RFC 6749 section 4.1.2.1)."""
    request.scope["refusal"] = refusal.name
    return _to_client(request, question, {"error": refusal.oauth_error, "error_description": refusal.message or ""})


def next_step(request: Request) -> Response:
    """To the same address by GET, so that neither "reload" nor "back" sends a form again."""
    return Response(status_code=SEE_OTHER, headers={"location": "?" + request.scope["query_string"].decode("latin-1")})


def _to_client(request: Request, question: Question, answer: dict[str, str]) -> Response:
    """Whatever the answer is, the visit is over: the next question is answered by whoever sits there then."""
    if question.state is not None:
        answer["state"] = question.state
    if question.entrance.is_standard:
        answer["iss"] = requests.origin(request.scope)  # RFC 9207 section 2
    location = _with_parameters(question.asked.connection.redirect_uri, answer)
    response = Response(status_code=SEE_OTHER, headers={"location": location})
    cookies.forget(request, response, cookies.LOGIN_SESSION)
    return response


def _with_parameters(address: str, parameters: dict[str, str]) -> str:
    """The registered address, letter by letter, with more in its query."""
    separator = "?" if "?" not in address else "" if address.endswith(("?", "&")) else "&"
    return address + separator + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
