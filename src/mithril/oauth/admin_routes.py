"""Administration: a session for a user (rule ADM-19)."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import refusals
from mithril.identifiers import parse_uuid
from mithril.oauth import token_view, trusted_session
from mithril.validation.bodies import Document
from mithril.web import admin, requests, routing, wrapped_bodies


async def issue_access(request: Request) -> Response:
    """Issue an access token for the user in the path, as if they had logged in through the client."""
    user_id = admin.identifier(request, "user_id")
    fields = await wrapped_bodies.read_wrapped(request, "token")
    settings, database, _ = requests.resources(request)
    await trusted_session.check_user(database, user_id)
    client_id, scope = _text(fields, "client_id"), _text(fields, "scope")
    issued = await trusted_session.begin(
        database,
        settings,
        user_id=user_id,
        client_id=parse_uuid(client_id),
        scope=scope,
        actor=admin.actor(request),
    )
    return admin.answer_created(request, token_view.view(issued), location=f"/admin/tokens/{issued.id}")


def _text(fields: Document, name: str) -> str:
    """Return the text of a field. Raises ParametersInvalid for one that is missing, blank or no text."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise refusals.ParametersInvalid
    return value


ROUTES = [routing.route("/admin/users/{user_id}/tokens/access", issue_access, "POST")]
