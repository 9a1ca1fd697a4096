"""Conditional requests: entity tags, If-Match and If-None-Match (RFC 9110 section 13)."""

import re

from starlette.requests import Request

# Our own entity tags in a list (RFC 9110 section 13.1.1): whole, and compared letter by letter, so "01" is no "1".
OWN_TAG = re.compile(r'(?:\A|,)[ \t]*"([1-9][0-9]{0,17})"(?=[ \t]*(?:,|\Z))')


def entity_tag(version: int) -> str:
    """The strong validator of a resource that counts its versions (RFC 9110 section 8.8.3)."""
    return f'"{version}"'


def expected_versions(request: Request) -> list[int] | None:
    """The versions that `If-Match` names; None where any will do. Other tags, weak ones and nonsense name none.

    Source: RFC 9110 section 13.1.1, strong comparison.
    """
    values = request.headers.getlist("if-match")
    if not values or "*" in (value.strip() for value in values):
        return None
    return [int(version) for version in OWN_TAG.findall(",".join(values))]


def is_known(request: Request, entity_tag: str) -> bool:
    """Whether the caller has that representation already (If-None-Match, RFC 9110 section 13.1.2)."""
    known = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in {entity_tag, "*"} for tag in known)
