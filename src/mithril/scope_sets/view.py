"""What is shown of a client type or role."""

from mithril.scope_sets.store import NamedScope


def view(named: NamedScope) -> dict[str, object]:
    """Return the published fields."""
    return {"id": named.id, "name": named.name, "scope": named.scope}
