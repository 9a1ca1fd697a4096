"""How a token looks in the answer that issues it (rule TOK-3): the one place where its value is shown."""

import msgspec

from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Issued

# What a token says about itself, in the order of the contract; its other details are not shown.
SHOWN = ("app_id", "grant_type", "client_id", "scope", "refresh_token", "redirect_uri", "scope_request")
SHOWN_OF_A_CODE = ("app_id", "client_id", "grant_type", "redirect_uri", "scope_request")


def view(issued: Issued, *, refresh_token: str | None = None) -> dict[str, object]:
    """Return the token with its details, and the value of the refresh token beside it. `expires_at` is Unix time."""
    return brief_view(issued) | {"details": _details(issued, refresh_token)}


def brief_view(issued: Issued) -> dict[str, object]:
    """Return the token without its details."""
    return {
        "id": issued.id,
        "name": issued.name,
        "value": issued.value,
        "expires_at": int(issued.expires_at.timestamp()),
        "user_id": issued.user_id,
    }


def _details(issued: Issued, refresh_token: str | None) -> dict[str, object]:
    said = msgspec.structs.asdict(issued.details) | {
        "client_id": issued.client_id,
        "scope": issued.scope,
        "refresh_token": refresh_token,
    }
    order = SHOWN_OF_A_CODE if issued.name == TokenKind.CODE else SHOWN
    return {name: said[name] for name in order if said[name] is not None}
