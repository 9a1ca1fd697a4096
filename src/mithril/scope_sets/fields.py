"""The fields of a client type or role, for API, command line and import (rules ADM-5 to ADM-8)."""

from mithril.validation.fields import Fields

NAMED_SCOPE = Fields("mithril.scope_sets", "named_scope.json")
CONSTRAINTS = {"client_types_name_index": "$.name", "roles_name_index": "$.name"}
