"""What is shown of a user: never anything about the password."""

import msgspec

from mithril.users.store import UserRecord


def view(user: UserRecord) -> dict[str, object]:
    """Return the published fields (rule USR-1)."""
    fields: dict[str, object] = msgspec.structs.asdict(user)
    return fields | {"settings": msgspec.Raw(user.settings.encode())}
