"""Parsing of UUIDs that callers send."""

import re
from uuid import UUID

_HEX_GROUPS = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
CANONICAL_UUID = re.compile(_HEX_GROUPS, re.IGNORECASE)


def parse_uuid(text: str) -> UUID | None:
    """Return the UUID in canonical form and any letter case, or None for anything else."""
    return UUID(text) if CANONICAL_UUID.fullmatch(text) else None
