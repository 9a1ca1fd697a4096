"""The fields of a token as administrators write it, and its columns (rule ADM-15)."""

from datetime import UTC, datetime

from mithril import security
from mithril.audit import rows
from mithril.audit.rows import Columns
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields

TOKEN = Fields("mithril.tokens", "token.json")
CONSTRAINTS = {
    "tokens_digest_index": "$.value",
    "tokens_user_id_fkey": "$.user_id",
    "tokens_client_id_fkey": "$.details.client_id",
}
COLUMNS = ("id", "name", "user_id", "connection_id")  # `id` and `connection_id` only in a data file
# Of the details these are columns. The original kept a refresh token there; here no value is stored.
DETAIL_COLUMNS, NEVER_STORED = ("client_id", "scope"), ("refresh_token",)


def columns(checked: Document) -> Columns:
    """Return the columns for these fields, which `TOKEN` has checked: of the value only the digest."""
    found: Columns = {name: checked[name] for name in COLUMNS if name in checked}
    if "value" in checked:
        found["digest"] = rows.bytea(security.digest(checked["value"]))
    if "expires_at" in checked:
        found["expires_at"] = datetime.fromtimestamp(int(checked["expires_at"]), UTC)
    if "details" in checked:
        details: dict[str, object] = checked["details"]
        found |= {name: details.get(name) for name in DETAIL_COLUMNS}
        apart = {*DETAIL_COLUMNS, *NEVER_STORED}
        found["details"] = {name: value for name, value in details.items() if name not in apart}
    return found
