"""What the routes below `/admin` have in common: identifiers in paths, who acts, answers to writes.

They answer on the internal listener, whose guard knows who may call (`app.check_internal_key`). A trusted front end
names the person for whom it acts by `X-Consumer-Id`; the audit trail will say so.
"""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.audit.events import Actor
from mithril.identifiers import parse_uuid
from mithril.web import envelope, requests


def identifier(request: Request, name: str = "id") -> UUID:
    """The UUID in the path. Raises RequestMalformed for anything else (contract.md 3.0)."""
    found = parse_uuid(request.path_params[name])
    if found is None:
        raise errors.RequestMalformed(f"{name} in the path is no UUID")
    return found


def actor(request: Request) -> Actor:
    """Who the audit trail will say it was: the person whom the caller names, if it names one."""
    return Actor(
        user_id=parse_uuid(requests.header(request, "x-consumer-id") or ""),
        request_id=request.scope["request_id"],
        network_address=requests.network_address(request),
    )


def answer_created(request: Request, data: object, *, location: str) -> Response:
    """201 with the new thing and where it is: a path without host (contract.md 3.0)."""
    return envelope.answer(request, data, status=201, headers={"location": location})


def answer_nothing() -> Response:
    """204: it is gone, or was not there."""
    return Response(status_code=204)
