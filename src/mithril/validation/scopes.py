"""The syntax of scopes wherever one comes in (rule CNV-51, RFC 6749 section 3.3), and what bounds leave of one.

A scope that was stored earlier may have other spaces between its names: it is split at any space.
"""

import re
from typing import Any

# The fields of every noun, and of the details of a token, that are scopes.
FIELDS = frozenset({"scope", "broker_scope", "scope_request"})
TEXT = re.compile(r"[ \x21\x23-\x5b\x5d-\x7e]*")


def folded(scope: str) -> str | None:
    """Return the names once each, in their order, with one space between them; None for what is no scope."""
    return " ".join(dict.fromkeys(filter(None, scope.split(" ")))) if TEXT.fullmatch(scope) else None


def narrowed(scope: str, *bounds: str) -> str:
    """Return what every bound still allows of `scope`, in its order."""
    allowed = [set(bound.split()) for bound in bounds]
    return " ".join(dict.fromkeys(name for name in scope.split() if all(name in bound for bound in allowed)))


def fold_fields(schema: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with every scope folded that the schema knows; what is no scope stays as it is."""
    found = dict(fields)
    for name, each in schema.get("properties", {}).items():
        value = found.get(name)
        if name in FIELDS and isinstance(value, str):
            text = folded(value)
            found[name] = value if text is None else text
        elif isinstance(value, dict):
            found[name] = fold_fields(each, value)
    return found
