"""What is shown of a user's role."""

import msgspec

from mithril.user_roles.store import GlobalRole, UserRole


def view(role: UserRole) -> dict[str, object]:
    """Return the fields of a list."""
    return {
        "id": role.id,
        "user_id": role.user_id,
        "role_id": role.role_id,
        "role_name": role.role_name,
        "client_id": role.client_id,
        "client_name": role.client_name,
        "scope": role.scope,
        "created_at": role.inserted_at,
        "updated_at": role.updated_at,
    }


def brief_view(role: UserRole) -> dict[str, object]:
    """Return one role without names and times."""
    return {"id": role.id, "user_id": role.user_id, "role_id": role.role_id, "client_id": role.client_id}


def global_view(role: GlobalRole) -> dict[str, object]:
    """Return the fields of a role in every client."""
    return msgspec.structs.asdict(role)
