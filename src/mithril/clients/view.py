"""What is shown of a client: `priv_settings` only to administrators."""

import msgspec

from mithril.clients.store import Client, FullClient


def view(client: Client) -> dict[str, object]:
    """Return the published fields of a list; `priv_settings` is not among them."""
    return {
        "id": client.id,
        "name": client.name,
        "settings": msgspec.Raw(client.settings.encode()),
        "user_id": client.user_id,
        "client_type_id": client.client_type_id,
        "is_blocked": client.is_blocked,
        "block_reason": client.block_reason,
        "inserted_at": client.inserted_at,
        "updated_at": client.updated_at,
    }


def detailed_view(client: Client) -> dict[str, object]:
    """Return the published fields with the name of the client type."""
    return view(client) | {"client_type_name": client.client_type_name}


def full_view(client: FullClient) -> dict[str, object]:
    """Return the fields of an administrator's list, and of what a write answers."""
    return view(client) | {"priv_settings": msgspec.Raw(client.priv_settings.encode())}


def detailed_full_view(client: FullClient) -> dict[str, object]:
    """Return all that an administrator may see."""
    return full_view(client) | {"client_type_name": client.client_type_name}
