"""Phone numbers of second factors: their form, and the part of one that may be shown (rules USR-18, USR-19)."""

import re

from mithril.errors import Rule

PHONE = re.compile(r"\+380[0-9]{9}")
INVALID = Rule("format", "invalid phone", [])
SHOWN_BEFORE, SHOWN_AFTER = 6, 2


def is_phone(text: str) -> bool:
    """Return whether messages can be sent to this number."""
    return PHONE.fullmatch(text) is not None


def masked(phone: str | None) -> str | None:
    """Return enough of a phone number to recognise it: `+38088*****30`."""
    if not phone:
        return None
    hidden = len(phone) - SHOWN_BEFORE - SHOWN_AFTER
    return phone[:SHOWN_BEFORE] + "*" * hidden + phone[-SHOWN_AFTER:] if hidden > 0 else "*" * len(phone)
