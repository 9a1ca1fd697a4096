"""The fields of administration and of the grants: one JSON Schema for each kind of object, and further rules.

Unlike the documents of `bodies`, fields that are unknown are ignored, blank ones count as not given, and violations
are listed by field, in alphabetical order, in the words of the original (rules CNV-21, CNV-22). API, command line and
services use the same fields.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources as package_files
from typing import Any

import jsonschema_rs
import msgspec

from mithril import errors
from mithril.database.database import Violation
from mithril.errors import Invalid, Rule
from mithril.validation import scopes
from mithril.validation.bodies import Document, unknown_property

REQUIRED = Rule("required", "can't be blank", [])
MESSAGE = (
    "Validation failed. You can find validators description at our API Manifest: "
    "http://docs.apimanifest.apiary.io/#introduction/interacting-with-api/errors."
)
# What the wire calls the types and formats that are not plain JSON types.
CASTS = {"uuid": "Elixir.Ecto.UUID", "uuids": "Elixir.Core.Ecto.CommaParamsUUID", "object": "map"}
NOT_TEXT = Rule("cast", "is invalid", ["string"])
TAKEN = Rule(None, "has already been taken", [])
MISSING = Rule(None, "does not exist", [])
# Checks what JSON Schema cannot express. Gets the fields that are given, whose values may be of any type.
FieldRules = Callable[[Document], Iterable[tuple[str, Rule]]]


def _no_rules(_: Document) -> Iterable[tuple[str, Rule]]:
    return ()


class Fields:
    """The fields of one kind of object: a JSON Schema, and rules that go further.

    `cast` is for a request that only asks, `new` for a row that is added, `changes` for a row that is changed. Each
    returns Python values as in JSON: a UUID stays a string.
    """

    def __init__(self, package: str, name: str, *, rules: FieldRules = _no_rules) -> None:
        """`package` and `name`: where the schema's file is."""
        self.schema = msgspec.json.decode(package_files.files(package).joinpath(name).read_bytes())
        self._validator = jsonschema_rs.validator_for(self.schema, validate_formats=True)
        self.rules = rules

    def cast(self, fields: Document) -> Document:
        """Return the fields without the blank ones. Raises ValidationFailed with every violation.

        Where the schema refuses unknown fields, they are refused when they are blank, too, and of a text only the
        empty one is blank: a route whose answer is a decision must not skip a check because of an odd space.
        """
        known, fields = self._properties, self.folded(fields)
        if self.schema.get("additionalProperties", True):
            given = {name: value for name, value in fields.items() if not _is_blank(name, value)}
        else:
            given = {name: v for name, v in fields.items() if name not in known or (v is not None and v != "")}
        refuse([*_violations(self._validator, given), *self.rules(given)])
        return given

    def new(self, fields: Document) -> Document:
        """Return the columns of a new row: the known fields, with the schema's defaults for those that are not given.

        An explicit null is no value, even where there is a default. Raises ValidationFailed with every violation.
        """
        defaults = {name: each["default"] for name, each in self._properties.items() if "default" in each}
        known = {name: value for name, value in self.folded(fields).items() if name in self._properties}
        given = {name: value for name, value in {**defaults, **known}.items() if not _is_blank(name, value)}
        empty = {name: value for name, value in defaults.items() if known.get(name) == ""}
        return self._checked(empty | given)

    def changes(self, fields: Document) -> Document:
        """Return the columns of an existing row that change: the known fields that are given, blank ones as None.

        Raises ValidationFailed with every violation, among them a required field that is given blank.
        """
        known = {name: value for name, value in self.folded(fields).items() if name in self._properties}
        given = {name: value for name, value in known.items() if not _is_blank(name, value)}
        blank = known.keys() - given.keys()
        unchanged = {f"$.{name}" for name in self.schema.get("required", ()) if name not in known}
        return dict.fromkeys(blank) | self._checked(given, excused=unchanged)

    def folded(self, fields: Document) -> Document:
        """Return the fields with their scopes in one form: each name once, one space between two."""
        return scopes.fold_fields(self.schema, fields)

    @property
    def _properties(self) -> Document:
        properties: Document = self.schema["properties"]
        return properties

    def _checked(self, given: Document, *, excused: Iterable[str] = ()) -> Document:
        nul = {f"$.{name}": NOT_TEXT for name, value in given.items() if _has_nul(value)}
        found = (
            (entry, rule)
            for entry, rule in _violations(self._validator, given)
            if entry not in nul and (rule is not REQUIRED or entry not in excused)
        )
        refuse([*found, *nul.items(), *self.rules(given)])
        return given


def refuse(violations: Iterable[tuple[str, Rule]]) -> None:
    """Raise ValidationFailed with all of these rules, grouped by entry; return where there are none."""
    found: dict[str, list[Rule]] = {}
    for entry, rule in violations:
        found.setdefault(entry, []).append(rule)
    if found:
        raise errors.ValidationFailed([Invalid(entry, found[entry]) for entry in sorted(found)], message=MESSAGE)


@contextmanager
def constraints(entries: Mapping[str, str]) -> Iterator[None]:
    """Turn a violated constraint of the database into the violation of a field.

    `entries`: the field's entry, such as `$.name`, by the name of the constraint. Raises ValidationFailed
    (rule CNV-23), and Violation for a constraint that has no entry.
    """
    try:
        yield
    except Violation as violation:
        entry = entries.get(violation.constraint or "")
        if entry is None:
            raise
        refuse([(entry, TAKEN if violation.kind == "unique" else MISSING)])


def is_blank(value: object) -> bool:
    """Return whether a field with this value counts as not given."""
    return value is None or (isinstance(value, str) and not value.strip())


def _is_blank(name: str, value: object) -> bool:
    """Of a scope only the space of ASCII is blank: any other one must be refused and not be ignored."""
    return value in ("", None) if name in scopes.FIELDS else is_blank(value)


def _has_nul(value: object) -> bool:
    """Return whether the value contains NUL, which no text in PostgreSQL can contain."""
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _violations(validator: Any, given: Document) -> Iterator[tuple[str, Rule]]:  # noqa: ANN401
    for error in validator.iter_errors(given):
        path = "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.instance_path)
        if error.kind.name == "additionalProperties":
            for name in error.kind.unexpected:
                yield f"{path}.{name}", unknown_property(name)
        elif error.kind.name == "required":
            yield f"{path}.{error.kind.property}", REQUIRED
        else:
            yield path, _rule(error.kind)


# How a violation of a limit is called: rule, description, its parameter.
_LIMITS: Mapping[str, tuple[str, str, str]] = {
    "minLength": ("length", "should be at least {} character(s)", "min"),
    "maxLength": ("length", "should be at most {} character(s)", "max"),
    "minimum": ("number", "must be greater than or equal to {}", "greater_than_or_equal_to"),
    "maximum": ("number", "must be less than or equal to {}", "less_than_or_equal_to"),
}


def _rule(kind: Any) -> Rule:  # noqa: ANN401 -- jsonschema_rs's kinds
    if kind.name == "type":
        return Rule("cast", "is invalid", [CASTS.get(name, name) for name in kind.types if name != "null"])
    if kind.name == "format":
        return Rule("cast", "is invalid", [CASTS.get(kind.format, kind.format)])
    if kind.name == "enum":
        return Rule("inclusion", "is invalid", list(kind.options))
    if kind.name in _LIMITS:
        rule, text, parameter = _LIMITS[kind.name]
        return Rule(rule, text.format(kind.limit), {parameter: kind.limit})
    return Rule("format", "has invalid format", [f"~r/{kind.pattern}/"] if kind.name == "pattern" else [])
