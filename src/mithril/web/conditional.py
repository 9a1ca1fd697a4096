"""Conditional requests: entity tags, If-Match and If-None-Match (RFC 9110 section 13)."""

import hashlib
import re

from starlette.requests import Request

# An entity tag of this server in a list (RFC 9110 section 13.1.1), compared as a string: "01" is not "1".
OWN_TAG = re.compile(r'(?:\A|,)[ \t]*"([1-9][0-9]{0,17})(?:-[0-9a-f]{12})?"(?=[ \t]*(?:,|\Z))')


def entity_tag(version: int, *seen: object) -> str:
    """Return the strong entity tag of a version (RFC 9110 section 8.8.3).

    `seen`: what is shown beside the version and changes without a new one. A change is made whatever was seen, so
    `If-Match` compares the version alone.
    """
    if not any(seen):
        return f'"{version}"'
    return f'"{version}-{hashlib.blake2b(repr(seen).encode(), digest_size=6).hexdigest()}"'


def sends_if_match(request: Request) -> bool:
    """Return whether the request says which version it is about."""
    return "if-match" in request.headers


def expected_versions(request: Request) -> list[int] | None:
    """Return the versions that `If-Match` names, or None when it is absent or `*`. A weak or foreign tag names none.

    Source: RFC 9110 section 13.1.1, strong comparison.
    """
    values = request.headers.getlist("if-match")
    if not values or "*" in (value.strip() for value in values):
        return None
    return [int(version) for version in OWN_TAG.findall(",".join(values))]


def is_known(request: Request, entity_tag: str) -> bool:
    """Return whether `If-None-Match` names this entity tag (RFC 9110 section 13.1.2)."""
    known = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in {entity_tag, "*"} for tag in known)
