"""The fields of a client, for API, command line and import (rules CLI-9 to CLI-14)."""

from collections.abc import Iterator

from mithril.errors import Rule
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields

ACCESS_TYPES = ("DIRECT", "BROKER")
# Named by the association, not by the column (rule CNV-23).
CONSTRAINTS = {"clients_user_id_fkey": "$.user", "clients_client_type_id_fkey": "$.client_type"}


def _check_access_type(given: Document) -> Iterator[tuple[str, Rule]]:
    """Yield the rules that `access_type` breaks; a violation names the object that contains it."""
    priv_settings = given.get("priv_settings")
    if not isinstance(priv_settings, dict):
        return
    access_type = priv_settings.get("access_type")
    if access_type is None:
        yield "$.priv_settings", Rule(None, "access_type required.", [])
    elif access_type not in ACCESS_TYPES:
        yield "$.priv_settings", Rule(None, "access_type is invalid.", [])


CLIENT = Fields("mithril.clients", "client.json", rules=_check_access_type)
