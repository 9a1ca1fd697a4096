"""What is shown of second factors and one-time passwords: a phone only masked, a code never."""

import msgspec

from mithril.otp.factors import FactorOfUser
from mithril.otp.store import CodeRecord, FactorRecord
from mithril.users import phones
from mithril.users import view as users


def view(found: FactorOfUser) -> dict[str, object]:
    """Return the published fields."""
    return brief_view(found.factor) | {"user": users.view(found.user)}


def brief_view(factor: FactorRecord) -> dict[str, object]:
    """Return the same without the fields of the user."""
    return {
        "id": factor.id,
        "factor": phones.masked(factor.factor),
        "is_active": factor.is_active,
        "type": factor.type,
        "user_id": factor.user_id,
        "inserted_at": factor.inserted_at,
        "updated_at": factor.updated_at,
        "user": {},
    }


def code_view(code: CodeRecord) -> dict[str, object]:
    """Return the published fields without the code."""
    return msgspec.structs.asdict(code)
