"""What is shown of a webhook."""

import msgspec

from mithril.notifications.store import Webhook

HIDDEN = ("secret_version", "secret_digest")


def view(webhook: Webhook) -> dict[str, object]:
    """Return what may be shown at any time: never its secret."""
    return {name: value for name, value in msgspec.structs.asdict(webhook).items() if name not in HIDDEN}
