"""What is shown of a token to administrators: never its value or digest."""

from typing import Any

import msgspec

from mithril.tokens.record_store import Record

# A phone is masked wherever it is shown. The others are notes of grants and pages about their own work.
NEVER_SHOWN = (
    "refresh_token",
    "request_authentication_factor",
    "request_authentication_factor_state",
    "answer",
    "replaces",
    "redirect_uri_since",
    "successor",
    "chosen",
)


def view(record: Record) -> dict[str, object]:
    """Return the published fields without the value. `expires_at` is Unix time in seconds."""
    noted: dict[str, Any] = msgspec.json.decode(record.details)
    details = {name: value for name, value in noted.items() if name not in NEVER_SHOWN}
    details["client_id"] = record.client_id
    if record.scope is not None:
        details["scope"] = record.scope
    if record.is_used:
        details["used"] = True
    return {
        "id": record.id,
        "name": record.name,
        "expires_at": int(record.expires_at.timestamp()),
        "user_id": record.user_id,
        "details": details,
    }
