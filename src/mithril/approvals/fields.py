"""The fields of an approval, for API and import (rules ADM-9 to ADM-14)."""

from mithril.validation.fields import Fields

APPROVAL = Fields("mithril.approvals", "approval.json")
CONSTRAINTS = {
    "apps_user_id_client_id_index": "$.user_id",
    "apps_user_id_fkey": "$.user_id",
    "apps_client_id_fkey": "$.client_id",
}
