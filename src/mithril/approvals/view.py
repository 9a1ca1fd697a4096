"""What is shown of an approval."""

from mithril.approvals.store import Approval


def view(approval: Approval) -> dict[str, object]:
    """Return the published fields."""
    return {
        "id": approval.id,
        "scope": approval.scope,
        "user_id": approval.user_id,
        "client_id": approval.client_id,
        "client_name": approval.client_name,
        "created_at": approval.inserted_at,
        "updated_at": approval.updated_at,
    }


def own_view(approval: Approval) -> dict[str, object]:
    """Return the fields that are published to the user, who is always the one who applied for it."""
    return view(approval) | {"applicant_user_id": approval.user_id}
