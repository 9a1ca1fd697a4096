"""Serves the API description as JSON, and as a page that can send requests.

The page loads nothing from any other host. The description is built in `document`.
"""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.openapi import document, files
from mithril.web import conditional, requests, routing

# Swagger UI loads the images in its style sheet and calls the server that it came from. It needs nothing else.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REVALIDATED = {"cache-control": "no-cache"}
KEPT_FOR_AN_HOUR = {"cache-control": "public, max-age=3600"}


async def describe(request: Request) -> Response:
    """Answer with the description of the public listener, as JSON."""
    return _answer(request, document.render("public", requests.origin(request.scope)), REVALIDATED)


async def describe_internal(request: Request) -> Response:
    """Answer with the description of the internal listener, as JSON."""
    return _answer(request, document.render("internal", requests.listener_origin(request.scope)), REVALIDATED)


async def show(request: Request) -> Response:
    """Answer with the page, which is authorized in a demo (rule CNV-3)."""
    page = files.demo_page() if requests.resources(request).settings.demo else files.read(files.PAGE)
    return _answer(request, page, REVALIDATED | {"content-security-policy": PAGE_POLICY})


async def show_file(request: Request) -> Response:
    """Answer with a script, a style sheet or the icon of the page."""
    name = request.path_params["file"]
    if name not in files.NAMES:
        raise errors.NotFound
    return _answer(request, files.read(name), KEPT_FOR_AN_HOUR)


def _answer(request: Request, file: files.File, headers: Mapping[str, str]) -> Response:
    """Return an answer with the file, or 304 to a browser that has it (RFC 9110 section 13.1.2)."""
    headers = {"etag": file.entity_tag, **headers}
    if conditional.is_known(request, file.entity_tag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, 200, headers, file.media_type)


PAGE = [
    routing.route("/docs", show, takes_query=True),
    routing.route("/docs/{file}", show_file, takes_query=True),
]
ROUTES = [routing.route("/openapi.json", describe, takes_query=True), *PAGE]
INTERNAL_ROUTES = [routing.route("/openapi.json", describe_internal, takes_query=True), *PAGE]
