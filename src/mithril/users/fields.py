"""The fields of a user, for API, command line and import (rules USR-3, USR-8, USR-19)."""

import re
from collections.abc import Iterator

from mithril.audit.rows import Columns
from mithril.errors import Rule
from mithril.users import passwords, phones
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields

LONGEST_EMAIL = 255
# What browsers accept as an e-mail address (WHATWG HTML), with at least one dot after the @.
LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})+")
NOT_AN_EMAIL = Rule("email", "is not a valid email", [f"~r/^{EMAIL.pattern}$/"])
NOT_CHANGED = Rule("required", "is not changed", [])
CONSTRAINTS = {"users_email_index": "$.email"}
# Columns that cannot be null: a blank value is stored as an empty one.
NEVER_NULL = ("tax_id", "person_id")
NOT_COLUMNS = {"password", "factor", "2fa_enable"}


def problems(given: Document) -> Iterator[tuple[str, Rule]]:
    """Yield every rule that an e-mail address, password or phone breaks, by entry; the schema checks their types."""
    email, password, phone = (_text(given.get(name)) for name in ("email", "password", "factor"))
    # A longer one is refused for its length.
    if email is not None and len(email) <= LONGEST_EMAIL and not EMAIL.fullmatch(email):
        yield "$.email", NOT_AN_EMAIL
    if password is not None:
        yield from (("$.password", rule) for rule in passwords.problems(password))
    if phone is not None and not phones.is_phone(phone):
        yield "$.factor", phones.INVALID


def columns(checked: Document) -> Columns:
    """Return the columns of a user; the password and the second factor are not among them."""
    found = {name: value for name, value in checked.items() if name not in NOT_COLUMNS}
    if "email" in found:
        found["email"] = found["email"].lower()
    return found | {name: found[name] or "" for name in NEVER_NULL if name in found}


def _problems_of_change(given: Document) -> Iterator[tuple[str, Rule]]:
    """Yield every rule that a new password breaks beside the present one."""
    password = given.get("password")
    if password is None or password == given.get("current_password"):
        yield "$.password", NOT_CHANGED
    else:
        yield from problems({"password": password})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


USER = Fields("mithril.users", "user.json", rules=problems)
BLOCK = Fields("mithril.users", "block.json")
PASSWORD_CHANGE = Fields("mithril.users", "password_change.json", rules=_problems_of_change)
