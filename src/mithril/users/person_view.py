"""How a person looks in an answer: never with anything about their password."""

import msgspec

from mithril.users.store import Person


def view(person: Person) -> dict[str, object]:
    """The published fields (contract.md 3.8)."""
    fields: dict[str, object] = msgspec.structs.asdict(person)
    return fields | {"settings": msgspec.Raw(person.settings.encode())}
