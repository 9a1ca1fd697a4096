"""Checks the answers of the internal listener against its API description."""

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
    """Return the node that a `$ref` names, or the node itself when it is not a reference."""
    if "$ref" not in node:
        return node
    _, kind, name = node["$ref"].removeprefix("#/").split("/")
    return resolved(document()["components"][kind][name])


def validator(schema: Any) -> Any:
    """Return a validator of one schema of the document. It checks formats and resolves references in the document."""
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
    """Return the described path of a request. A path without parameters takes precedence."""
    found = [
        known
        for known, item in document()["paths"].items()
        if method.lower() in item and _pattern(known).fullmatch(path)
    ]
    return min(found, key=lambda known: known.count("{"), default=None)


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of a path. A parameter is one segment, except one that is the whole rest of the path."""
    parts = re.split(r"({\w+})", path)
    one, rest = "[^/]+", ".*"
    return re.compile("".join((rest if p == "{path}" else one) if p[:1] == "{" else re.escape(p) for p in parts))


def client(url: str, *, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """Return a client of an internal listener whose answers must match the API description."""
    return httpx.AsyncClient(base_url=url, headers=headers, event_hooks={"response": [check]})


async def check(response: httpx.Response) -> None:
    """Fail unless the description has this status with these headers and this body (an event hook)."""
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
        assert response.json().get("meta", {}).get("code", response.status_code) == response.status_code
