"""UUIDs as callers write them."""

import re
from uuid import UUID

_HEX_GROUPS = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
CANONICAL_UUID = re.compile(_HEX_GROUPS, re.IGNORECASE)


def parse_uuid(text: str) -> UUID | None:
    """The UUID that `text` is, in any letter case; None for anything else, also for Python's other spellings."""
    return UUID(text) if CANONICAL_UUID.fullmatch(text) else None
