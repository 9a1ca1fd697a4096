"""JSON request bodies: read within limits, parsed strictly, held against their schema (`validation.bodies`).

The order of checks is part of the contract: content type (415), size (413), JSON (400), schema and rules of the
fields (422, all violations at once). Which schema a route wants is said in its noun's `fields`.
"""

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from starlette.requests import ClientDisconnect, Request

from mithril import errors
from mithril.validation.bodies import Body, Document
from mithril.web import requests

MAX_BYTES = 65_536
MAX_DEPTH = 32
# `application/json` ignores parameters (RFC 8259 section 11); only a charset other than UTF-8 is refused.
_TOKEN = r"[a-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = rf'(?:charset="?utf-?8"?|(?!charset=){_TOKEN}=(?:{_TOKEN}|"[^"\\]*"))'
# What a library may send with nothing in it, when it is given nothing.
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
MEDIA_TYPE = re.compile(rf"application/json(?:\s*;(?:\s*{_PARAMETER})?)*", re.IGNORECASE)


async def read(request: Request, body: Body) -> Document:
    """Return the document in the body of `request`, which meets the schema and the rules of `body`.

    Raises ContentTypeInvalid, RequestTooLarge, RequestTimeout, RequestMalformed, ValidationFailed in this
    order, and ClientDisconnect.
    """
    known = body.schema["properties"]
    document: Document = await (read_optional(request, known) if body.is_optional else read_json(request))
    body.check(document, requests.resources(request).settings)
    return document


async def read_json(request: Request) -> Any:  # noqa: ANN401 -- JSON may be anything
    """Return the JSON in the body of `request`, without checking it against a schema.

    Raises ContentTypeInvalid, RequestTooLarge, RequestTimeout, RequestMalformed in this order, and ClientDisconnect.
    """
    _check_content_type(request)
    return parse(await read_bytes(request))


async def read_optional(request: Request, known: Iterable[str]) -> Any:  # noqa: ANN401 -- JSON may be anything
    """The JSON in the body of an action that needs none; `{}` for none, and for what libraries send in its place.

    That is `null`, `[]`, and a form (rule CNV-49). `known`: the properties that count in JSON; a form that has one of
    them was meant to say something, and is refused. Raises what `read_json` raises.
    """
    if not has_body(request):
        return {}
    content_type = requests.header(request, "content-type")
    is_form = content_type is not None and content_type.partition(";")[0].strip().lower() in FORMS
    is_silent = content_type is None and "transfer-encoding" in request.headers
    if not (is_form or is_silent):
        _check_content_type(request)
    _check_encoding(request)
    body = await read_bytes(request)
    names = unquote_plus(body.decode("latin-1")) if is_form else ""
    if not body or (is_form and not any(name in names for name in known)):
        return {}
    if is_form or is_silent:
        raise errors.ContentTypeInvalid
    document = parse(body)
    return {} if document is None or document == [] else document


def parse(body: bytes) -> Any:  # noqa: ANN401 -- JSON may be anything
    """Parse strict JSON: UTF-8, no duplicate names in an object, no NaN, no lone surrogate, at most 32 levels deep.

    Raises RequestMalformed, which names the reason and repeats nothing of the body.
    """
    if not body.strip():
        raise errors.RequestMalformed("the body is empty")
    try:
        document = msgspec.json.decode(body)
        if _depth(document) > MAX_DEPTH:
            raise errors.RequestMalformed(f"nested more than {MAX_DEPTH} levels deep")
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except RecursionError:
        raise errors.RequestMalformed(f"nested more than {MAX_DEPTH} levels deep") from None
    except msgspec.DecodeError as error:
        raise errors.RequestMalformed(str(error)) from None
    except UnicodeDecodeError:
        raise errors.RequestMalformed("not valid UTF-8") from None
    except ValueError:
        raise errors.RequestMalformed("a value that JSON does not know") from None
    return document


def has_body(request: Request) -> bool:
    """Return whether the headers announce a body (RFC 9112 section 6)."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _check_content_type(request: Request) -> None:
    content_type = requests.header(request, "content-type")
    if content_type is None or not MEDIA_TYPE.fullmatch(content_type.strip()):
        raise errors.ContentTypeInvalid
    _check_encoding(request)


def _check_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.ContentTypeInvalid("Compressed request bodies are not accepted.")


async def read_bytes(request: Request, *, most_bytes: int = MAX_BYTES) -> bytes:
    """The body of `request`. Raises RequestTooLarge, RequestTimeout, and ClientDisconnect."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most_bytes:
        raise errors.RequestTooLarge
    try:
        async with asyncio.timeout(requests.resources(request).settings.body_timeout):
            return await _read_all(request, most_bytes)
    except TimeoutError:
        raise errors.RequestTimeout from None


async def _read_all(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise errors.RequestTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _depth(document: Any) -> int:  # noqa: ANN401 -- JSON may be anything
    """Return how deep arrays and objects are nested; 0 for a value that is neither."""
    depth, level = 0, [document]
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        level = [child for v in level for child in (v.values() if isinstance(v, dict) else v)]
    return depth


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> Document:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise errors.RequestMalformed("an object has the same name twice")
    return document
