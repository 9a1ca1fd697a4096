"""What the routes below `/admin` share: identifiers in paths, the actor of the audit trail, answers to writes.

They answer on the internal listener, whose guard checks the internal key (`app.check_internal_key`). A trusted
front end names the user for whom it acts in `X-Consumer-Id`, and the audit trail records that user.
"""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.audit.events import Actor
from mithril.identifiers import parse_uuid
from mithril.web import envelope, requests


def identifier(request: Request, name: str = "id") -> UUID:
    """Return the UUID in the path. Raises RequestMalformed when it is not a UUID (rule CNV-32)."""
    found = parse_uuid(request.path_params[name])
    if found is None:
        raise errors.RequestMalformed(f"{name} in the path is no UUID")
    return found


def actor(request: Request) -> Actor:
    """Return the actor for the audit trail: the user whom the caller names in `X-Consumer-Id`, if any."""
    user_id = parse_uuid(requests.header(request, "x-consumer-id") or "")
    requests.note_caller(request.scope, user_id=user_id)
    return Actor(
        user_id=user_id,
        request_id=request.scope["request_id"],
        network_address=requests.network_address(request),
    )


def answer_created(request: Request, data: object, *, location: str) -> Response:
    """Answer 201 with the created resource. `location`: its path, without host (rule CNV-34)."""
    return envelope.answer(request, data, status=201, headers={"location": location})


def answer_nothing() -> Response:
    """Answer 204: the resource was deleted, or did not exist."""
    return Response(status_code=204)
