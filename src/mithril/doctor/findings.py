"""A finding: what was looked at, how it is, and what to do."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. A problem loses data or requests, or will soon; a warning may."""

    check: str
    level: Literal["ok", "warning", "problem"]
    text: str
    next_step: str = ""
