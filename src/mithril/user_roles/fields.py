"""The fields of a user's role, in one client or in every client (rules USR-12 to USR-17)."""

from uuid import UUID

from mithril.audit.rows import Columns
from mithril.errors import Rule
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields, refuse

USER_ROLE = Fields("mithril.user_roles", "user_role.json")
GLOBAL_USER_ROLE = Fields("mithril.user_roles", "global_user_role.json")
CONSTRAINTS = {
    "user_roles_user_id_role_id_client_id_index": "$.user_roles",
    "user_roles_user_id_fkey": "$.user_id",
    "user_roles_role_id_fkey": "$.role_id",
    "user_roles_client_id_fkey": "$.client_id",
    "global_user_roles_user_id_fkey": "$.user_id",
    "global_user_roles_role_id_fkey": "$.role_id",
}


def columns(fields: Fields, given: Document, *, user_id: UUID) -> Columns:
    """Return the columns of a new row of that user.

    Raises ValidationFailed, also where the fields name another user.
    """
    found = fields.new(given)
    if UUID(found.get("user_id", str(user_id))) != user_id:
        refuse([("$.user_id", Rule("inclusion", "is invalid", [str(user_id)]))])
    return found | {"user_id": user_id}
