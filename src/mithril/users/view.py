"""What is shown of a user: never anything about the password."""

from typing import Final

import msgspec

from mithril.users.store import UserRecord

# What leads to a patient.
OF_A_PATIENT: Final = ("person_id", "tax_id")


def view(user: UserRecord) -> dict[str, object]:
    """Return the published fields (rule USR-1)."""
    fields: dict[str, object] = msgspec.structs.asdict(user)
    return fields | {"settings": msgspec.Raw(user.settings.encode())}


def own_view(user: UserRecord, *, with_patient: bool) -> dict[str, object]:
    """Return what users may read of themselves; `with_patient`: also what leads to the patient (rule CLI-15)."""
    return {name: value for name, value in view(user).items() if with_patient or name not in OF_A_PATIENT}
