"""From a template to a page of the console: its words, Kyiv time, its Content-Security-Policy, the token of its form.

A template that is not in `templates` is that of the pages of signing in.
"""

from datetime import UTC, datetime
from importlib import resources as package_files
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from mithril import errors, security
from mithril.connections import redirect_uris
from mithril.console.sessions import Session
from mithril.pages import cookies, texts
from mithril.pages import rendering as pages

PACKAGE: Final = "mithril.console"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
KYIV: Final = ZoneInfo("Europe/Kyiv")
BAD_REQUEST: Final = 400
LANGUAGE: Final = "mithril-language"
NO_SESSION: Final = "console"
# The sheet of the pages of signing in is part of that of the console, which the internal listener serves too.
FILES: Final = {
    "console.css": pages.STYLE + package_files.files(PACKAGE).joinpath("console.css").read_bytes(),
    "console.js": package_files.files(PACKAGE).joinpath("console.js").read_bytes(),
}
TAGS: Final = {name: f'"{security.digest(content.decode()).hex()[:32]}"' for name, content in FILES.items()}


def page(
    request: Request,
    session: Session | None,
    template: str,
    *,
    status: int = 200,
    renews_forms: bool = False,
    **values: Any,  # noqa: ANN401 -- what the template needs
) -> Response:
    """Return a page. `renews_forms`: forget a page that the browser may keep in memory, by another cookie."""
    pages.note_problem(request, template, values, status=status)
    chosen, kept = language(request), cookies.read(request, cookies.CONSOLE_FORM)
    secret = security.new_secret() if renews_forms else cookies.browser_secret(request, cookies.CONSOLE_FORM)
    content = TEMPLATES.get_template(template).render(
        t=words(chosen),
        language=chosen,
        languages=texts.LANGUAGES,
        without_language=pages.url(request, without="lang"),
        request_id=request.scope["request_id"],
        session=session,
        action=here(request),
        is_error=status >= BAD_REQUEST,
        form_token=cookies.form_token(secret, bound_to=binding(session)),
        **values,
    )
    response = Response(content, status, {"content-security-policy": POLICY, "content-language": chosen}, pages.HTML)
    if secret != kept:
        cookies.keep(request, response, cookies.CONSOLE_FORM, secret)
    if request.query_params.get("lang") in texts.LANGUAGES:
        response.set_cookie(LANGUAGE, chosen, httponly=True, samesite="lax", secure=cookies.is_secure(request))
    return response


def refusal(scope: Scope, error: errors.MithrilError) -> Response:
    """Return the page that explains an error; `web.edge` calls it for the routes of the console."""
    return refused(Request(scope), None, error)


def refused(request: Request, session: Session | None, error: errors.MithrilError, *, lacks: str = "") -> Response:
    """Return the page that explains an error. `lacks`: the scope that the user does not have."""
    known = "scope" if lacks else error.page or str(error.status)
    right = texts.scope_words(lacks, language(request)) or lacks
    values: dict[str, Any] = {
        "known": known,
        "code": error.status,
        "facts": getattr(error, "values", {}),
        "right": right,
    }
    return page(request, session, "error.html", status=error.status, **values)


def binding(session: Session | None) -> str:
    """Return what the token of a form is bound to: the session, whose id no browser knows."""
    return str(session.token.id) if session else NO_SESSION


def here(request: Request) -> str:
    """Return path and query of the page."""
    return pages.url(request).removesuffix("?")


def words(language: str) -> dict[str, str]:
    """Return the words of the console beside those of signing in."""
    return texts.words(language) | texts.words(language, PACKAGE)


def language(request: Request) -> str:
    """Return the language of the console for this request."""
    chosen = request.query_params.get("lang") or request.cookies.get(LANGUAGE)
    return texts.language(chosen, wanted="", accepted=request.headers.get("accept-language", ""))


def in_words(request: Request, scopes: list[str]) -> list[dict[str, object]]:
    """Return each scope by its name, its area and, where there are any, in words."""
    return pages.scopes_in_words(scopes, language(request))


def kyiv_time(moment: datetime) -> Markup:
    """Return a moment as Kyiv's clocks show it."""
    exact = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shown = moment.astimezone(KYIV).strftime("%d.%m.%Y, %H:%M")
    return Markup('<time datetime="{}">{}</time>').format(exact, shown)


def kyiv_clock(moment: datetime) -> Markup:
    """Return the time of day of a moment in Kyiv."""
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.astimezone(KYIV).strftime("%H:%M"))


def filled(text: str, **values: object) -> Markup:
    """Return a text with these values in it, each escaped unless it is markup."""
    return escape(text).format(**values)


def isolated(text: str) -> Markup:
    """Return a name that someone else has chosen, so that it turns no other text around it."""
    return Markup("<bdi>{}</bdi>").format(text)


def words_of_reason(reason: str, language: str) -> str:
    """Return why a redirect URI is refused: in Ukrainian for owners, in English as the API says it."""
    plain: dict[str, str] = texts.load("texts.json", PACKAGE)["reasons"]
    return plain[reason] if language == texts.DEFAULT else redirect_uris.DESCRIPTIONS[reason]


TEMPLATES: Final = pages.environment(PACKAGE, texts.PAGES)
TEMPLATES.filters |= {"kyiv": kyiv_time, "clock": kyiv_clock, "fill": filled, "bdi": isolated}
TEMPLATES.globals["words_of_reason"] = words_of_reason
