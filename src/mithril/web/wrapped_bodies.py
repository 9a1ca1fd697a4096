"""How a request carries the fields of `validation.fields`: in a body, mostly inside a wrapper, or as filters."""

from starlette.requests import Request

from mithril import errors
from mithril.errors import Invalid, Rule
from mithril.validation.bodies import Document
from mithril.validation.fields import CASTS, MESSAGE
from mithril.web import bodies, query_parameters


class Filters(query_parameters.Query):
    """The query parameters of a list of administration; their violations are worded as those of fields."""

    message = MESSAGE

    def invalid(self, name: str, rule: Rule) -> Invalid:
        """Return the violation as one of a field in a body."""
        if rule.rule == "cast" and isinstance(rule.params, dict):
            expected = rule.params["expected"]
            rule = Rule("cast", rule.description, [CASTS.get(expected, expected)])
        return Invalid(f"$.{name}", [rule])


async def read_wrapped(request: Request, wrapper: str) -> Document:
    """Return the object that the body wraps, as in `{"token": {…}}`.

    Raises what `bodies.read_json` raises, and RequestMalformed when there is no such object.
    """
    document = await bodies.read_json(request)
    fields = document.get(wrapper) if isinstance(document, dict) else None
    if not isinstance(fields, dict):
        raise errors.RequestMalformed(f"the body has no object `{wrapper}`")
    return fields


async def read_bare(request: Request) -> Document:
    """Return the fields of a body without a wrapper, or none where it is not an object.

    Raises what `bodies.read_json` raises.
    """
    document = await bodies.read_json(request)
    return document if isinstance(document, dict) else {}
