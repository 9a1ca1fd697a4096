"""The files of the page `/docs`: those of Swagger UI, from its package, and those of this package.

No other file is served: the name in a request is looked up in `NAMES` and never becomes part of a path.
"""

import functools
import hashlib
from importlib import resources as package_files
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from mithril.snapshots import service as snapshots

PAGE: Final = "docs.html"
OWN: Final = frozenset({"docs.css", "docs.js"})
SWAGGER_UI: Final = frozenset({"favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css"})
NAMES: Final = OWN | SWAGGER_UI

_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".png": "image/png"}
_TAG_LENGTH = 32


class File(NamedTuple):
    """A file as it is sent to a browser."""

    content: bytes
    media_type: str
    entity_tag: str


def file(content: bytes, media_type: str) -> File:
    """Return the content with its strong entity tag, a digest (RFC 9110 section 8.8.3)."""
    return File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:_TAG_LENGTH]}"')


@functools.cache
def read(name: str) -> File:
    """Return the page or one of `NAMES`, and keep it in memory. The name must not be one of a request."""
    folder = _swagger_ui() if name in SWAGGER_UI else package_files.files("mithril.openapi")
    return file(folder.joinpath(name).read_bytes(), _MEDIA_TYPES[PurePath(name).suffix])


@functools.cache
def demo_page() -> File:
    """Return the page with the access token and the API-key of the printed request: they are in the demo's data."""
    snapshot = snapshots.demo()
    token, key = snapshot.tokens[0]["value"], snapshot.connections[1]["secret"]
    marked = f'<main id="description" data-bearer="{token}" data-api-key="{key}">'
    return file(read(PAGE).content.replace(b'<main id="description">', marked.encode()), _MEDIA_TYPES[".html"])


def _swagger_ui() -> Path:
    """Return the folder of the package's files. The package is never imported, because it needs web frameworks."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("swagger-ui-py")
    return Path(spec.origin).parent / "static"
