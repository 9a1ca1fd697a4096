"""The fields of a second factor, for API and import (rules USR-18 to USR-21)."""

from mithril.users import fields
from mithril.validation.fields import Fields

FACTOR = Fields("mithril.otp", "factor.json", rules=fields.problems)
CONSTRAINTS = {"authentication_factors_user_id_type_index": "$.user_id"}
