"""From a template to an answer: Jinja with escaping, the language, the Content-Security-Policy.

What is on which page is in `templates`, the words in `texts`, and the look in `style.css`.
"""

from collections.abc import Iterable, Mapping
from importlib import resources as package_files
from typing import Final
from urllib.parse import quote, urlsplit

import jinja2
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mithril import errors
from mithril.pages import cookies, texts
from mithril.pages.authorization_request import AuthorizationRequest
from mithril.web import requests

HTML = "text/html; charset=utf-8"
CLIENT_ERROR = 400
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
# Only for a page without forms. A form of ours leads to the client, and Chromium checks every redirect that follows
# against `form-action`, also where the client's callback forwards to: a loopback IP address, a scheme of an app, a host
# of an intranet. The list could not name these; the redirect URI itself comes from the database, never from a form.
NO_FORMS = "; form-action 'none'"
OWN_FORMS = "; form-action 'self'"
STYLE: Final = package_files.files("mithril.pages").joinpath("style.css").read_bytes()
ICON: Final = package_files.files("mithril.pages").joinpath("favicon.ico").read_bytes()
STYLE_PATH, ICON_PATH = "/sign-in/style.css", "/favicon.ico"


def environment(*packages: str) -> jinja2.Environment:
    """Return what renders the templates of these packages; those of the first go before those of the next."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


TEMPLATES = environment("mithril.pages")


def form_page(
    request: Request,
    asked: AuthorizationRequest | None,
    template: str,
    *,
    bound_to: str,
    status: int = 200,
    **values: object,
) -> Response:
    """Return a page with a form; `values` are what the template needs beyond what every form has.

    `bound_to`: what its form token is bound to.
    """
    values |= _request_values(request, asked)
    return _with_form(request, template, values, bound_to=bound_to, status=status, policy=POLICY)


def own_form_page(request: Request, template: str, *, bound_to: str, **values: object) -> Response:
    """Return a page whose forms lead to this server only, and belong to no authorization request."""
    values["action"] = url(request)
    return _with_form(request, template, values, bound_to=bound_to, status=200, policy=POLICY + OWN_FORMS)


def plain_page(request: Request, template: str, **values: object) -> Response:
    """Return a page without a form, which belongs to no authorization request."""
    return _page(request, template, values, status=200, policy=POLICY + NO_FORMS)


def _with_form(
    request: Request, template: str, values: dict[str, object], *, bound_to: str, status: int, policy: str
) -> Response:
    secret = cookies.browser_secret(request)
    values["form_token"] = cookies.form_token(secret, bound_to=bound_to)
    response = _page(request, template, values, status=status, policy=policy)
    cookies.keep(request, response, cookies.FORM, secret)
    return response


def explanation(
    request: Request, asked: AuthorizationRequest | None, template: str, *, status: int, **values: object
) -> Response:
    """Return a page without a form, about a request whose client and redirect URI are right, or about none."""
    values |= _request_values(request, asked)
    return _page(request, template, values, status=status, policy=POLICY + NO_FORMS)


def refusal(scope: Scope, error: errors.MithrilError) -> Response:
    """Return the page that explains an error; `web.edge` calls it for the routes of the pages."""
    known = error.page if isinstance(error, errors.PageError | errors.OutcomeUnknown) else str(error.status)
    values = {"known": known, "status": error.status, "facts": getattr(error, "values", {})}
    return _page(Request(scope), "error.html", values, status=error.status, policy=POLICY + NO_FORMS)


def in_words(request: Request, scopes: Iterable[str]) -> list[dict[str, object]]:
    """Return each scope by its name, its area and, where there are any, in words."""
    return scopes_in_words(scopes, language(request))


def scopes_in_words(scopes: Iterable[str], chosen: str) -> list[dict[str, object]]:
    """Return the same as `in_words` in a language that was chosen."""
    described: list[dict[str, object]] = []
    for scope in scopes:
        place, area = texts.scope_area(scope, chosen)
        described.append({"name": scope, "words": texts.scope_words(scope, chosen), "place": place, "area": area})
    return described


def _request_values(request: Request, asked: AuthorizationRequest | None) -> dict[str, object]:
    """Return what each page says about the request; `action` is its URL."""
    if asked is None:
        return {"action": url(request)}
    host = urlsplit(asked.redirect.connection.redirect_uri).netloc
    return {"client": asked.redirect.client.name, "host": host, "action": url(request)}


def language(request: Request) -> str:
    """Return the language of the pages for this request."""
    asked, accepted = request.query_params, request.headers.get("accept-language", "")
    return texts.language(asked.get("lang"), wanted=asked.get("ui_locales", ""), accepted=accepted)


def _page(request: Request, template: str, values: dict[str, object], *, status: int, policy: str) -> Response:
    note_problem(request, template, values, status=status)
    chosen = language(request)
    content = TEMPLATES.get_template(template).render(
        t=texts.words(chosen),
        language=chosen,
        languages=texts.LANGUAGES,
        without_language=url(request, without="lang"),
        style=STYLE_PATH,
        request_id=request.scope["request_id"],
        **values,
    )
    headers = {"content-security-policy": policy, "content-language": chosen}
    return Response(content, status, headers, HTML)


def note_problem(request: Request, template: str, values: Mapping[str, object], *, status: int) -> None:
    """Note for the log what a page says is wrong, by the key of its text or the name of the page."""
    if status >= CLIENT_ERROR:
        problem = values.get("problem") or template.removesuffix(".html")
        request.scope.setdefault(requests.REFUSAL, f"form_refused: {problem}")


def url(request: Request, *, without: str = "") -> str:
    """Return the URL of the page, with the query as it was sent, perhaps without one of its parameters.

    Its path is the one without extra slashes: a link that is relative to what the browser shows could lead elsewhere,
    and over plain http the cookies are limited to this path.
    """
    parts = request.scope["query_string"].decode("latin-1").split("&")
    query = "&".join(part for part in parts if not without or part.partition("=")[0] != without)
    return f"{quote(request.scope['path'])}?{query}"


def step_url(request: Request, step: str) -> str:
    """Return the URL of another step of the page."""
    here = url(request, without="step")
    return f"{here}{'' if here.endswith('?') else '&'}step={step}"
