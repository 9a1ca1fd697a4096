"""The bodies of the methods below `/api`: a published JSON Schema for the whole document, and further rules."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from importlib import resources as package_files
from typing import Any

import jsonschema_rs
import msgspec

from mithril import errors
from mithril.errors import Invalid, Rule
from mithril.settings import Settings

Document = dict[str, Any]
# Checks what JSON Schema cannot express. Gets a document in which a field may be missing or of any type, and the
# violations of the schema so far, by entry; changes them in place.
FieldRules = Callable[[Any, dict[str, list[Rule]], Settings], None]


class Body:
    """What a route expects in the body: one published JSON Schema, and rules that go further."""

    def __init__(self, package: str, name: str, *, rules: FieldRules | None = None, is_optional: bool = False) -> None:
        """`package` and `name`: where the schema's file is. `is_optional`: a body may be left out."""
        self.is_optional = is_optional
        self.schema = msgspec.json.decode(package_files.files(package).joinpath(name).read_bytes())
        self._validator = jsonschema_rs.validator_for(self.schema, validate_formats=False)
        self._rules = rules

    def check(self, document: Any, settings: Settings) -> None:  # noqa: ANN401 -- JSON may be anything
        """Refuse a document that breaks rules.

        Raises ValidationFailed with every violation, those of the schema before those of the rules.
        """
        found: dict[str, list[Rule]] = {}
        for entry, rule in violations(self._validator, document):
            found.setdefault(entry, []).append(rule)
        if self._rules is not None:
            self._rules(document, found, settings)
        invalid = [Invalid(entry, rules) for entry, rules in found.items() if rules]
        if invalid:
            raise errors.ValidationFailed(invalid)


# How a violation of each keyword is called on the wire (rule CNV-20): rule, description, its parameters.
_TYPE_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_TYPE_NAMES[Decimal] = "number"  # in the data files of an import
_KEYWORDS: Mapping[str, tuple[str, str, str]] = {
    "pattern": ("format", 'string does not match pattern "{pattern}"', "pattern"),
    "enum": ("inclusion", "value is not allowed in enum", "values"),
    "format": ("format", "value is not a valid {format}", "format"),
    "minimum": (
        "number",
        "expected the value to be >= {greater_than_or_equal_to}",
        "greater_than_or_equal_to",
    ),
    "maximum": ("number", "expected the value to be <= {less_than_or_equal_to}", "less_than_or_equal_to"),
    "minLength": ("length", "expected value to have a minimum length of {min}", "min"),
    "maxLength": ("length", "expected value to have a maximum length of {max}", "max"),
}


def unknown_property(name: str) -> Rule:
    """Return the rule that an unknown property breaks. Its value stays out: it may be a secret, sent by mistake."""
    return Rule("schema", "schema does not allow additional properties", {"properties": [name]})


def violations(validator: Any, document: Any) -> Iterable[tuple[str, Rule]]:  # noqa: ANN401
    """List what a JSON Schema refuses about a document, by entry; no value is repeated."""
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
            yield f"{path}.{name}", unknown_property(name)
    elif keyword == "type":
        expected, actual = ", ".join(kind.types), _TYPE_NAMES.get(type(error.instance), "null")
        text = f"type mismatch. Expected {expected} but got {actual}"
        yield path, Rule("cast", text, {"expected": expected, "actual": actual})
    elif keyword in _KEYWORDS:
        rule, text, parameter = _KEYWORDS[keyword]
        yield path, Rule(rule, text.format(**{parameter: kind.value}), {parameter: kind.value})
    else:
        yield path, Rule("schema", "value does not match the schema")
