"""What programs that read a description need and OpenAPI does not demand: generators of code, tests and documentation.

- A `const` becomes an `enum` of one value, and each `enum` has its type: generators know no other enumerations.
- A schema that narrows another by `allOf` becomes one object: generators would make a class of each part.
- A schema is named by its component alone: generators would give classes their titles, which are not unique.
- A property has the value as its example that it has in an example of a body or of an answer.
"""

from collections.abc import Iterator
from typing import Any, Final

Description = dict[str, Any]  # an API description, or a part of one

_TYPES: Final = {str: "string", bool: "boolean", int: "integer", dict: "object", list: "array", type(None): "null"}
_EXAMPLES: Final = frozenset({"example", "examples"})
_INSIDE: Final = frozenset({"properties", "items", "enum"})


def prepared(document: Description) -> Description:
    """Return a copy of a completed document, prepared for tools."""
    copy: Description = _typed(document)
    schemas = copy["components"]["schemas"]
    copy["components"]["schemas"] = schemas = {name: _whole(schema, schemas) for name, schema in schemas.items()}
    for schema, value in _examples(copy):
        _teach(schema, value, schemas)
    return copy


def _typed(node: Any) -> Any:  # noqa: ANN401 -- JSON may be anything
    """Return a copy in which each enumeration is an `enum` with a type."""
    if isinstance(node, list):
        return [_typed(child) for child in node]
    if not isinstance(node, dict):
        return node
    copy = {key: child if key in _EXAMPLES else _typed(child) for key, child in node.items()}
    if "type" in copy and isinstance(copy.get("default"), dict):
        del copy["default"]
    if "const" in copy:
        copy["enum"] = [copy.pop("const")]
    return {"type": _TYPES[type(copy["enum"][0])]} | copy if isinstance(copy.get("enum"), list) else copy


def _whole(schema: Description, schemas: Description) -> Description:
    """Return a component without `allOf`, where that is another one and what is narrower here, and without a title."""
    match schema:
        case {"allOf": [{"$ref": str(reference)}, narrower]}:
            return _narrowed(_named(reference, schemas), narrower)
    return {keyword: value for keyword, value in schema.items() if keyword not in ("$schema", "title")}


def _narrowed(wide: Description, narrower: Description) -> Description:
    """Return the schema with everything of both; both lists of what is required count."""
    copy = dict(wide)
    for key, value in narrower.items():
        if isinstance(value, dict):
            copy[key] = _narrowed(wide.get(key, {}), value)
        else:
            copy[key] = [*wide.get(key, ()), *value] if key == "required" else value
    return copy


def _named(reference: str, schemas: Description) -> Description:
    named: Description = schemas[reference.removeprefix("#/components/schemas/")]
    return named


def _examples(node: Any) -> Iterator[tuple[Description, Any]]:  # noqa: ANN401 -- JSON may be anything
    """Yield each example of a body or of an answer, with its schema."""
    if isinstance(node, dict):
        for media in node.get("content", {}).values() if isinstance(node.get("content"), dict) else ():
            values = [each["value"] for each in media.get("examples", {}).values()]
            values += [media["example"]] if "example" in media else []
            yield from ((media["schema"], value) for value in values)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _examples(child)


def _teach(schema: Description, value: Any, schemas: Description) -> None:  # noqa: ANN401 -- JSON may be anything
    """Give the properties of a schema their values as examples. One that is not null is better than null."""
    if "$ref" in schema:
        schema = _named(schema["$ref"], schemas)
    branches = [branch for keyword in ("allOf", "anyOf", "oneOf") for branch in schema.get(keyword, ())]
    for branch in branches:
        if _may_be(branch, value, schemas):
            _teach(branch, value, schemas)
    if isinstance(value, dict):
        for name in value.keys() & schema.get("properties", {}).keys():
            _teach(schema["properties"][name], value[name], schemas)
    for item in value if isinstance(value, list) and "items" in schema else ():
        _teach(schema["items"], item, schemas)
    if not branches and not _INSIDE & schema.keys() and schema.get("examples", [None]) == [None]:
        schema["examples"] = [value]


def _may_be(schema: Description, value: Any, schemas: Description) -> bool:  # noqa: ANN401 -- JSON may be anything
    """Return whether a value has what the schema requires, and the enumerated values that it allows."""
    if "$ref" in schema:
        schema = _named(schema["$ref"], schemas)
    if schema.get("type", _TYPES[type(value)]) != _TYPES[type(value)]:
        return False
    if not isinstance(value, dict):
        return "properties" not in schema
    enums = {name: each["enum"] for name, each in schema.get("properties", {}).items() if "enum" in each}
    return value.keys() >= set(schema.get("required", ())) and all(value.get(n, e[0]) in e for n, e in enums.items())
