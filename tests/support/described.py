"""Holds answers of the internal listener against its description, whichever test has asked."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jsonschema_rs

from mithril.openapi import document as openapi_document

METHODS = ("get", "put", "post", "delete", "patch", "options")


@functools.cache
def document() -> dict[str, Any]:
    return openapi_document.load_internal()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` names; the node itself where it is none."""
    if "$ref" not in node:
        return node
    _, kind, name = node["$ref"].removeprefix("#/").split("/")
    return resolved(document()["components"][kind][name])


def validator(schema: Any) -> Any:
    """A validator of one schema of the document; formats count, and references lead into the document."""
    return _validator(json.dumps(schema))


@functools.cache
def _validator(schema: str) -> Any:
    root = {"allOf": [json.loads(schema)], "components": document()["components"]}
    return jsonschema_rs.Draft202012Validator(root, validate_formats=True)


@functools.cache
def _validator_of(method: str, path: str, status: int) -> Any:
    answer = resolved(document()["paths"][path][method.lower()]["responses"][str(status)])
    content = answer.get("content", {}).get("application/json")
    return None if content is None else validator(content["schema"])


def find(method: str, path: str) -> str | None:
    """The described path that a request went to; one without parameters goes before others."""
    found = [
        known
        for known, item in document()["paths"].items()
        if method.lower() in item and _pattern(known).fullmatch(path)
    ]
    return min(found, key=lambda known: known.count("{"), default=None)


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    """A parameter is one part of the path, but for the one that is all the rest of it."""
    parts = re.split(r"({\w+})", path)
    one, rest = "[^/]+", ".*"
    return re.compile("".join((rest if p == "{path}" else one) if p[:1] == "{" else re.escape(p) for p in parts))


def client(url: str, *, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """A client of an internal listener; what it is answered must be described."""
    return httpx.AsyncClient(base_url=url, headers=headers, event_hooks={"response": [check]})


async def check(response: httpx.Response) -> None:
    """An event hook: fails unless the description foresees this status with these headers and this body."""
    request = response.request
    path = find(request.method, request.url.path)
    if path is None:
        assert response.status_code in (404, 405), f"{request.method} {request.url.path} is not described"
        return
    operation = document()["paths"][path][request.method.lower()]
    where = f"{request.method} {path}: {response.status_code}"
    assert str(response.status_code) in operation["responses"], f"{where} is not described"
    answer = resolved(operation["responses"][str(response.status_code)])
    for name, header in answer["headers"].items():
        assert name in response.headers or not resolved(header).get("required", False), f"{where} has no {name}"
    schema = _validator_of(request.method, path, response.status_code)
    if schema is not None:
        await response.aread()
        schema.validate(response.json())
