"""The callback of the demo's program: a page of ours in place of a program, which exists with `--demo` only.

It shows the code that the browser brought, and the requests that follow, to paste or to send by a button. The tokens
that the page has learned are in its forms, nowhere else.
"""

import re
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from mithril import refusals
from mithril.pages import cookies, demo_steps, forms, rendering
from mithril.pages.demo_steps import Answer, Known
from mithril.snapshots import demo
from mithril.web import requests, routing
from mithril.web.forms import Parameters

BINDING: Final = "the callback of the demo"
REFUSAL_VIEWS: Final = {demo.CALLBACK_PATH: rendering.refusal}
ERROR: Final = re.compile(r"[a-z_]{1,40}")


def routes(application: ASGIApp) -> list[BaseRoute]:
    """Return the routes. `application`: answers the requests that the page sends, on both listeners."""

    async def show(request: Request) -> Response:
        """Show what the browser brought."""
        return _page(request, _known(forms.read_query(request)))

    async def send(request: Request) -> Response:
        """Send the request whose button was pressed, and show the page with its answer."""
        fields = await forms.read(request)
        if not cookies.is_own_form(request, fields, bound_to=BINDING):
            raise refusals.PageFormForeign
        known = _known(forms.read_query(request), fields)
        wanted = demo_steps.steps(requests.resources(request).settings, known)
        step = next((each for each in wanted if each.name == fields.get("step") and each.needs), None)
        if step is None:
            raise refusals.PageUnreadable
        answer = await demo_steps.send(application, request, step)
        return _page(request, demo_steps.learned(known, answer), step.name, answer)

    return [routing.route(demo.CALLBACK_PATH, show), routing.route(demo.CALLBACK_PATH, send, "POST")]


def _known(query: Parameters, fields: Parameters | None = None) -> Known:
    return Known(_value(query, "code"), *(_value(fields, name) for name in ("access_token", "refresh_token")))


def _value(parameters: Parameters | None, name: str) -> str | None:
    value = parameters.get(name) if parameters else None
    return value if value and demo_steps.VALUE.fullmatch(value) else None


def _page(request: Request, known: Known, sent: str = "", answer: Answer | None = None) -> Response:
    settings, query = requests.resources(request).settings, forms.read_query(request)
    error = query.get("error") or ""
    values: dict[str, object] = {
        "known": known,
        "state": query.get("state"),
        "error": error if ERROR.fullmatch(error) else "",
        "error_description": query.get("error_description"),
        "lifetime": settings.auth_code_grant_lifetime,
        "program": demo.program(),
        "steps": list(demo_steps.steps(settings, known)),
        "sent": sent,
        "answer_status": answer.status if answer else None,
        "answer": msgspec.json.format(msgspec.json.encode(answer.document), indent=2).decode() if answer else "",
        "sign_in": demo.sign_in_url(requests.own_origin(settings)),
    }
    return rendering.own_form_page(request, "demo_callback.html", bound_to=BINDING, **values)
