"""What JSON Schema cannot say about the fields of a person: address, password and phone (contract.md 3.8)."""

import re
from collections.abc import Iterator
from typing import Any

from mithril.errors import Rule
from mithril.users import passwords, phones

LONGEST_EMAIL = 255
# What browsers take for an address (HTML Living Standard, "valid e-mail address"), with at least one dot after the @.
LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})+")
NOT_AN_EMAIL = Rule("email", "is not a valid email", [f"~r/^{EMAIL.pattern}$/"])
NOT_CHANGED = Rule("required", "is not changed", [])


def problems(given: dict[str, Any]) -> Iterator[tuple[str, Rule]]:
    """Every rule that the fields of a person break, by entry; values of a wrong type are the schema's affair."""
    email, password, phone = (_text(given.get(name)) for name in ("email", "password", "factor"))
    # A longer one is refused for its length.
    if email is not None and len(email) <= LONGEST_EMAIL and not EMAIL.fullmatch(email):
        yield "$.email", NOT_AN_EMAIL
    if password is not None:
        yield from (("$.password", rule) for rule in passwords.problems(password))
    if phone is not None and not phones.is_phone(phone):
        yield "$.factor", phones.INVALID


def problems_of_change(given: dict[str, Any]) -> Iterator[tuple[str, Rule]]:
    """Every rule that a new password breaks beside the present one."""
    password = given.get("password")
    if password is None or password == given.get("current_password"):
        yield "$.password", NOT_CHANGED
    else:
        yield from problems({"password": password})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
