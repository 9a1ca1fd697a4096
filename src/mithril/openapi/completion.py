"""What the files of the descriptions leave out, because it follows from the rest.

- A bare name stands for the component of that name: a parameter, a response, a header, or the schema of a body.
- A parameter without `in` is an optional filter of the query.
- A body or a response that says `schema` itself is JSON; a body is required unless it says otherwise.
- An operation gets the tag of its file, its security, and what `x-common` says about each of its traits, but for the
  responses that it says are null. One of any method but GET has the trait `change`.
- A response gets the header `X-Request-ID`, and the examples of a response their `meta`.
- Components of the kinds that begin with `x-` are built from the few words that tell them from others of their kind.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

Description = dict[str, Any]  # an API description, or a part of one

REQUEST_ID: Final = "0c7a1be2f5d84e63a9d1c0b4"
# Stands in the URL of an example for a secret, and for an identifier that the example does not tell.
MASK: Final = "***"


def merged(document: Description, parts: list[Description]) -> Description:
    """Return the document with the paths and components of its parts. No two parts may describe the same."""
    paths: Description = {}
    components: Description = {}
    for part in [document, *parts]:
        for path, item in part.get("paths", {}).items():
            _add(paths, {path: {method: {"tags": [part["tag"]]} | each for method, each in item.items()}})
        for kind, named in part.get("components", {}).items():
            target, build = _BUILDERS.get(kind, (kind, lambda each: each))
            _add(components.setdefault(target, {}), {name: build(each) for name, each in named.items()})
    return document | {"paths": paths, "components": components}


def completed(document: Description) -> Description:
    """Return the document with everything that was left out. Changes its operations and responses in place."""
    common, origin = document.pop("x-common"), document.pop("x-origin")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete_operation(operation, common, document, method=method)
            for status, response in operation["responses"].items():
                # The examples of a shared response are those of the first operation that has it.
                _complete_response(
                    _resolved(response, document),
                    meta={"code": int(status), "url": origin + path},
                    identifiers=_identifiers(operation, document),
                )
    return document


def without_unused(document: Description) -> Description:
    """Return the document without the components that nothing refers to, directly or through others."""
    components = document["components"]
    wanted, used = list(references(document["paths"])), set()
    while wanted:
        reference = wanted.pop()
        if reference not in used:
            used.add(reference)
            kind, name = reference.removeprefix("#/components/").split("/")
            wanted.extend(references(components[kind][name]))
    kept = {
        kind: {name: each for name, each in named.items() if f"#/components/{kind}/{name}" in used}
        for kind, named in components.items()
        if kind != "securitySchemes"
    }
    kept["securitySchemes"] = components["securitySchemes"]
    return document | {"components": {kind: named for kind, named in kept.items() if named}}


def references(node: Any) -> Iterator[str]:  # noqa: ANN401 -- JSON may be anything
    """Yield every `$ref` below this node."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def _add(known: Description, more: Description) -> None:
    twice = known.keys() & more.keys()
    assert not twice, f"described twice: {', '.join(sorted(twice))}"
    known |= more


def _component(kind: str, node: str | Description) -> Description:
    return {"$ref": f"#/components/{kind}/{node}"} if isinstance(node, str) else node


def _resolved(node: Description, document: Description) -> Description:
    """Return the component that a `$ref` names, or the node itself if it is none."""
    if "$ref" not in node:
        return node
    kind, name = node["$ref"].removeprefix("#/components/").split("/")
    component: Description = document["components"][kind][name]
    return component


def _parameter(node: str | Description) -> Description:
    parameter = _component("parameters", node)
    if "$ref" in parameter:
        return parameter
    defaults = {} if "in" in parameter else {"in": "query", "required": False, "allowEmptyValue": True}
    return defaults | parameter | {"schema": _component("schemas", parameter["schema"])}


def _spell_out_content(node: Description) -> None:
    """Put the schema and the examples of a body or a response where OpenAPI wants them."""
    if "schema" in node:
        content: Description = {"schema": _component("schemas", node.pop("schema"))}
        content |= {key: node.pop(key) for key in ("example", "examples") if key in node}
        node["content"] = {"application/json": content}


def _complete_operation(operation: Description, common: Description, document: Description, *, method: str) -> None:
    """Add what `x-common` says about each trait of the operation; what the operation says itself has priority."""
    for key in ("parameters", "x-conditional-parameters"):
        if key in operation:
            operation[key] = [_parameter(node) for node in operation[key]]
    if body := operation.get("requestBody"):
        body.setdefault("required", True)
        _spell_out_content(body)
    scopes = operation.get("x-required-scopes")
    if scopes is not None:
        rules = [{name: scopes if name == "bearer" else [] for name in rule} for rule in document["security"]]
        operation.setdefault("security", rules)
    shared = [common[trait] for trait in _traits(operation, document, method) if trait in common]
    parameters = [_parameter(node) for each in shared for node in each.get("parameters", [])]
    operation["parameters"] = operation.get("parameters", []) + parameters
    responses = {status: node for each in shared for status, node in each.get("responses", {}).items()}
    responses |= operation["responses"]
    responses = {status: node for status, node in sorted(responses.items()) if node is not None}
    operation["responses"] = {status: _component("responses", node) for status, node in responses.items()}


def _traits(operation: Description, document: Description, method: str) -> Iterator[str]:
    """Yield the keys of `x-common` that may apply; what it says about a later key overrides an earlier one."""
    yield "every"
    if operation.get("security", document["security"]):
        yield "security"
    if operation.get("x-required-scopes"):
        yield "scopes"
    if method != "get":
        yield "change"
    for parameter in operation.get("parameters", []) + operation.get("x-conditional-parameters", []):
        yield parameter["$ref"].rpartition("/")[2] if "$ref" in parameter else parameter["name"]
    yield from operation.get("requestBody", {}).get("content", {})


def _identifiers(operation: Description, document: Description) -> Description:
    """Return the examples of the parameters that are UUIDs. Others may be secrets, which no URL of an example shows."""
    parameters = [_resolved(parameter, document) for parameter in operation["parameters"]]
    return {p["name"]: p["example"] for p in parameters if p["schema"].get("format") == "uuid" and "example" in p}


def _complete_response(response: Description, *, meta: Description, identifiers: Description) -> None:
    headers = {name: _component("headers", node) for name, node in response.get("headers", {}).items()}
    if "X-Request-ID" in headers:
        return  # a shared one, which is complete already
    response["headers"] = headers | {"X-Request-ID": _component("headers", "X-Request-ID")}
    _spell_out_content(response)
    for media in response.get("content", {}).values():
        for example in media.get("examples", {}).values():
            example["value"] = _in_envelope(example["value"], meta, identifiers)


def _in_envelope(value: Description, meta: Description, identifiers: Description) -> Description:
    """Return the example with its whole `meta`. The URL has the identifiers that are in its data."""
    data = value.get("data")
    row = data[0] if isinstance(data, list) and data else data
    known = identifiers | (row if isinstance(row, dict) else {})
    url = re.sub(r"{(\w+)}", lambda name: str(known.get(name[1], MASK)), meta["url"])
    kind = "list" if isinstance(data, list) else "object"
    given = {"type": kind, "request_id": REQUEST_ID} | meta | {"url": url} | value.get("meta", {})
    return {"meta": given} | {name: part for name, part in value.items() if name != "meta"}


def _object(rest: Description) -> Description:
    """Return the schema of an object that has each of its properties, but for the optional ones, and no others."""
    optional = rest.pop("optional", ())
    required = [name for name in rest["properties"] if name not in optional]
    return {"type": "object", "required": required, "additionalProperties": False} | rest


def _answer(parts: str | Description) -> Description:
    """Return the envelope of what its parts name, or of objects with the properties that they list."""
    parts = {"data": parts} if isinstance(parts, str) else parts
    inside = {name: part if isinstance(part, str) else _object({"properties": part}) for name, part in parts.items()}
    properties = {name: _component("schemas", part) for name, part in ({"meta": "Meta"} | inside).items()}
    return _object({"properties": properties})


def _list(name: str) -> Description:
    data = {"type": "array", "items": _component("schemas", name)}
    return _object({"properties": {"meta": _component("schemas", "ListMeta"), "data": data}})


def _page(name: str) -> Description:
    data = {"type": "array", "maxItems": 500, "items": _component("schemas", name)}
    paging = _component("schemas", "Paging")
    return _object({"properties": {"meta": _component("schemas", "ListMeta"), "data": data, "paging": paging}})


def _refusal(rule: Description) -> Description:
    """Return the schema of a refusal from its types, and what else its `error` must have."""
    types, required = rule["types"], {"required": rule["required"]} if "required" in rule else {}
    error = required | {"properties": {"type": {"enum": types} if isinstance(types, list) else {"const": types}}}
    return {"allOf": [_component("schemas", "Refusal"), {"properties": {"error": error}}]}


def _oauth_response(response: Description) -> Description:
    """Return the response with the schema of RFC 6749 section 5.2 for the `error` of its example."""
    properties = {"error": {"enum": [response["example"]["error"]]}, "error_description": {"type": "string"}}
    return response | {"schema": _object({"properties": properties})}


# For each kind of the files that is not one of OpenAPI: the kind that it becomes a part of, and how.
_BUILDERS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "parameters": ("parameters", _parameter),
    "x-answers": ("schemas", _answer),
    "x-lists": ("schemas", _list),
    "x-pages": ("schemas", _page),
    "x-objects": ("schemas", _object),
    "x-refusals": ("schemas", _refusal),
    "x-oauth-responses": ("responses", _oauth_response),
}
