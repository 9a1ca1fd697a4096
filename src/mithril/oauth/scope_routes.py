"""The check of scopes: what an authorization would grant, without one (rule AUT-21). It is no method of ESOZ."""

from starlette.requests import Request
from starlette.responses import Response

from mithril import errors
from mithril.access import Caller, protected
from mithril.identifiers import parse_uuid
from mithril.oauth import authorization
from mithril.oauth.login import SESSION_SCOPE
from mithril.users import store as users
from mithril.validation.bodies import Body, Document
from mithril.web import envelope, requests

SCOPE_CHECK = Body("mithril.oauth", "scope_check.json")


async def check_scopes(request: Request, caller: Caller, document: Document) -> Response:
    """Say of each scope whether the caller's user could let the client have it, and why not."""
    client_id = parse_uuid(document["client_id"])
    is_session = caller.is_of_sign_in and caller.lacking(SESSION_SCOPE) is None
    if not is_session and client_id != caller.client_id:
        raise errors.Forbidden(detail="only the session of a sign-in may ask about another client")
    database = requests.resources(request).database
    known = await authorization.identify_client(database, client_id)
    user = authorization.identify_user(await users.find_user(database, caller.user_id))
    judged = await authorization.judge_scope(
        database, known, user=user, scope=document["scope"], consumer_id=caller.api_key_client_id
    )
    scopes = [{"scope": name, "granted": not reason, "reason": reason} for name, reason in judged.items()]
    return envelope.answer(request, {"scopes": scopes})


ROUTES = [protected("/api/scopes/check", check_scopes, method="POST", body=SCOPE_CHECK)]
