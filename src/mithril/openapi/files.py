"""The files of the page `/docs`: Swagger UI from its package, and what is our own.

There are these and no others: a name from outside is looked up in `NAMES`, and never becomes part of a path.
"""

import functools
import hashlib
from importlib import resources as package_files
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Final, NamedTuple

PAGE: Final = "docs.html"
OWN: Final = frozenset({"docs.css", "docs.js"})
SWAGGER_UI: Final = frozenset({"favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css"})
NAMES: Final = OWN | SWAGGER_UI

_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".png": "image/png"}
_TAG_LENGTH = 32


class File(NamedTuple):
    """What a browser gets."""

    content: bytes
    media_type: str
    entity_tag: str


def file(content: bytes, media_type: str) -> File:
    """`content` with its strong validator, a digest (RFC 9110 section 8.8.3)."""
    return File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:_TAG_LENGTH]}"')


@functools.cache
def read(name: str) -> File:
    """The page or one of `NAMES`, never a name from outside. Kept in memory from its first use."""
    folder = _swagger_ui() if name in SWAGGER_UI else package_files.files("mithril.openapi")
    return file(folder.joinpath(name).read_bytes(), _MEDIA_TYPES[PurePath(name).suffix])


def _swagger_ui() -> Path:
    """Where the package has its files; it is never imported, because its Python wants web frameworks."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("swagger-ui-py")
    return Path(spec.origin).parent / "static"
