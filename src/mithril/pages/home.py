"""The page at `/`: what this server is, and where to go from here."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.pages import rendering
from mithril.snapshots import demo
from mithril.web import requests


async def show(request: Request) -> Response:
    """Show the page. Raises NotFound for a program, which accepts JSON and no HTML (rule PAG-30)."""
    accepted = request.headers.get("accept", "").lower()
    if "json" in accepted and "text/html" not in accepted:
        raise errors.NotFound
    settings = requests.resources(request).settings
    sign_in = demo.sign_in_url(requests.own_origin(settings)) if settings.demo else None
    has_console = settings.console != "off"
    return rendering.plain_page(request, "home.html", sign_in=sign_in, user=demo.USER, has_console=has_console)
