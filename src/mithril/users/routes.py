"""The public method of users."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.access import Caller, protected
from mithril.tokens.verification import Fault
from mithril.users import store
from mithril.users.view import own_view
from mithril.validation.bodies import Document
from mithril.web import envelope, requests


async def show_own(request: Request, caller: Caller, _: Document) -> Response:
    """Show the user of the access token, and no other (rule CLI-15)."""
    user = await store.find_user_record(requests.resources(request).database, caller.user_id)
    if user is None:  # deleted after the token was judged
        raise errors.AccessDenied(error="invalid_token", description=Fault.UNKNOWN.value)
    return envelope.answer(request, own_view(user, with_patient=caller.lacking("user:read") is None))


ROUTES = [protected("/oauth/user", show_own)]
