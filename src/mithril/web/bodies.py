"""JSON request bodies: read within limits, parsed strictly, held against their published JSON Schema.

The order of checks is part of the contract: content type (415), size (413), JSON (400), schema and rules of the
fields (422, all violations at once). Which schema a route wants is said in its `routes`.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import resources as package_files
from typing import Any

import jsonschema_rs
import msgspec
from starlette.requests import ClientDisconnect, Request

from mithril import errors
from mithril.errors import Invalid, Rule
from mithril.settings import Settings
from mithril.web import requests

MAX_BYTES = 65_536
MAX_DEPTH = 32
# JSON has no parameters and ignores them (RFC 8259 section 11), but in another encoding it would be misread.
_TOKEN = r"[a-z0-9!#$%&'*+.^_`|~-]+"
_PARAMETER = rf'(?:charset="?utf-?8"?|(?!charset=){_TOKEN}=(?:{_TOKEN}|"[^"\\]*"))'
MEDIA_TYPE = re.compile(rf"application/json(?:\s*;(?:\s*{_PARAMETER})?)*", re.IGNORECASE)

Document = dict[str, Any]
# Judges what JSON Schema cannot. Gets a document in which the field may be missing or of any type, and the
# violations of the schema so far, by entry; changes them in place.
FieldRules = Callable[[Any, dict[str, list[Rule]], Settings], None]


class Body:
    """What a route expects in the body: one published JSON Schema, and rules that go further."""

    def __init__(self, package: str, name: str, *, rules: FieldRules | None = None, is_optional: bool = False) -> None:
        """`package` and `name`: where the schema's file is. `is_optional`: no body is as good as `{}`."""
        self._is_optional = is_optional
        self.schema = msgspec.json.decode(package_files.files(package).joinpath(name).read_bytes())
        self._validator = jsonschema_rs.validator_for(self.schema, validate_formats=False)
        self._rules = rules

    async def read(self, request: Request) -> Document:
        """The document in the body of `request`.

        Raises ContentTypeInvalid, RequestTooLarge, RequestTimeout, RequestMalformed, ValidationFailed in this
        order, and ClientDisconnect.
        """
        if self._is_optional and not has_body(request):
            return {}
        document: Document = await read_json(request)
        self.check(document, requests.resources(request).settings)
        return document

    def check(self, document: Any, settings: Settings) -> None:  # noqa: ANN401 -- JSON may be anything
        """Raises ValidationFailed, with every violation, the schema's before those of the rules."""
        found: dict[str, list[Rule]] = {}
        for entry, rule in _schema_violations(self._validator, document):
            found.setdefault(entry, []).append(rule)
        if self._rules is not None:
            self._rules(document, found, settings)
        invalid = [Invalid(entry, rules) for entry, rules in found.items() if rules]
        if invalid:
            raise errors.ValidationFailed(invalid)


async def read_json(request: Request) -> Any:  # noqa: ANN401 -- JSON may be anything
    """The JSON in the body of `request`, held against no schema yet.

    Raises ContentTypeInvalid, RequestTooLarge, RequestTimeout, RequestMalformed in this order, and ClientDisconnect.
    """
    _check_content_type(request)
    return parse(await read_bytes(request))


def parse(body: bytes) -> Any:  # noqa: ANN401 -- JSON may be anything
    """Strict JSON: UTF-8, no name twice in an object, no NaN, no lone surrogate, at most 32 levels deep.

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
    """Whether a body is announced (RFC 9112 section 6)."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _check_content_type(request: Request) -> None:
    content_type = requests.header(request, "content-type")
    if content_type is None or not MEDIA_TYPE.fullmatch(content_type.strip()):
        raise errors.ContentTypeInvalid
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise errors.ContentTypeInvalid("Compressed request bodies are not accepted.")


async def read_bytes(request: Request) -> bytes:
    """The body of `request`. Raises RequestTooLarge, RequestTimeout, and ClientDisconnect."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BYTES:
        raise errors.RequestTooLarge
    try:
        async with asyncio.timeout(requests.resources(request).settings.body_timeout):
            return await _read_all(request)
    except TimeoutError:
        raise errors.RequestTimeout from None


async def _read_all(request: Request) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BYTES:
            raise errors.RequestTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def _depth(document: Any) -> int:  # noqa: ANN401 -- JSON may be anything
    """How many containers are inside each other; 0 for a bare value."""
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


# How a violation of each keyword is called on the wire (contract.md 2.5): rule, description, its parameters.
_TYPE_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_KEYWORDS: Mapping[str, tuple[str, str, str]] = {
    "pattern": ("format", 'string does not match pattern "{pattern}"', "pattern"),
    "enum": ("inclusion", "value is not allowed in enum", "values"),
    "minimum": (
        "number",
        "expected the value to be >= {greater_than_or_equal_to}",
        "greater_than_or_equal_to",
    ),
    "maximum": ("number", "expected the value to be <= {less_than_or_equal_to}", "less_than_or_equal_to"),
    "minLength": ("length", "expected value to have a minimum length of {min}", "min"),
    "maxLength": ("length", "expected value to have a maximum length of {max}", "max"),
}


def _schema_violations(validator: Any, document: Any) -> Iterable[tuple[str, Rule]]:  # noqa: ANN401
    for error in validator.iter_errors(document):
        path = "$" + "".join(f".[{p}]" if isinstance(p, int) else f".{p}" for p in error.instance_path)
        yield from _translated(path, error)


def _translated(path: str, error: Any) -> Iterable[tuple[str, Rule]]:  # noqa: ANN401 -- jsonschema_rs's kinds
    keyword, kind = error.kind.name, error.kind
    if keyword == "required":
        text = f"required property {kind.property} was not present"
        yield f"{path}.{kind.property}", Rule("required", text, {"property": kind.property})
    elif keyword == "additionalProperties":
        for name in kind.unexpected:
            # The value stays out: it may be a secret, sent by mistake.
            text = "schema does not allow additional properties"
            yield f"{path}.{name}", Rule("schema", text, {"properties": [name]})
    elif keyword == "type":
        expected, actual = ", ".join(kind.types), _TYPE_NAMES.get(type(error.instance), "null")
        text = f"type mismatch. Expected {expected} but got {actual}"
        yield path, Rule("cast", text, {"expected": expected, "actual": actual})
    elif keyword in _KEYWORDS:
        rule, text, parameter = _KEYWORDS[keyword]
        yield path, Rule(rule, text.format(**{parameter: kind.value}), {parameter: kind.value})
    else:
        yield path, Rule("schema", "value does not match the schema")
