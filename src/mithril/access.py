"""Access to the routes below `/api`: who is calling, and what the caller may do.

`protected` makes such a route. It runs the checks in the order of the contract, before the handler: bearer token and
API-key (401), scope (403), the client in the path (403), body (415 to 422).
"""

import re
from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import errors, tracing
from mithril.audit.events import Actor
from mithril.identifiers import parse_uuid
from mithril.settings import Settings
from mithril.tokens import verification
from mithril.tokens.kinds import GRANTS_TO_PROGRAMS, Details
from mithril.tokens.verification import Fault
from mithril.tokens.verification_store import Presented
from mithril.validation.bodies import Body, Document
from mithril.web import bodies, requests, routing

# RFC 6750 section 2.1
TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
BEARER = re.compile(rf"bearer +({TOKEN.pattern})", re.IGNORECASE)

NO_UUID = "an id in the path is no UUID"

ProtectedHandler = Callable[[Request, "Caller", Document], Awaitable[Response]]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A user who acts through a client and, for a BROKER client, through a broker."""

    user_id: UUID
    client_id: UUID
    client_type: str
    scopes: frozenset[str]
    api_key_client_id: UUID | None = None
    broker_scopes: frozenset[str] | None = None
    is_administrative: bool = False
    token_details: str = "{}"

    def lacking(self, scope: str) -> str | None:
        """Return who lacks the scope: the token or, for a BROKER client, the broker; None where none does."""
        if scope not in self.scopes:
            return "the access token"
        is_of_broker = self.broker_scopes is None or scope in self.broker_scopes
        return None if is_of_broker else "the broker of the API-key"

    def require_scope(self, scope: str) -> None:
        """Raise ScopeMissing unless the token has the scope and, for a BROKER client, the broker has it too."""
        if lacking := self.lacking(scope):
            raise errors.ScopeMissing(scope, lacking=lacking)

    @property
    def is_of_sign_in(self) -> bool:
        """Whether the token may come from a sign-in: one that was issued for a code or a refresh is a program's."""
        return Details.decoded(self.token_details).grant_type not in GRANTS_TO_PROGRAMS

    def require_sign_in(self, scope: str) -> None:
        """Raise ScopeMissing for the token of a program, whatever its scope says: it must not approve itself."""
        if not self.is_of_sign_in:
            raise errors.ScopeMissing(scope, lacking="a token of a program")

    def require_client(self, client_id: str) -> None:
        """Raise Forbidden unless `client_id` is the caller's client, or the caller's client type is administrative."""
        if not self.is_administrative and (found := parse_uuid(client_id)) != self.client_id:
            reason = "the path names another client than the token's" if found else NO_UUID
            raise errors.Forbidden(detail=reason)


def protected(
    path: str, handler: ProtectedHandler, *, method: str = "GET", scope: str | None = None, body: Body | None = None
) -> Route:
    """Return a route that requires `scope`, or any valid token when `scope` is None.

    If the path has a parameter `client_id`, it must name a client that the caller may act for.
    """

    async def checked(request: Request) -> Response:
        caller = await authenticate(request)
        if scope is not None:
            caller.require_scope(scope)
        if "client_id" in request.path_params:
            caller.require_client(request.path_params["client_id"])
        document = await bodies.read(request, body) if body is not None else {}
        return await handler(request, caller, document)

    return routing.route(path, checked, method)


def actor(request: Request, caller: Caller) -> Actor:
    """Return the actor for the audit trail."""
    return Actor(
        user_id=caller.user_id,
        client_id=caller.client_id,
        api_key_client_id=caller.api_key_client_id,
        request_id=request.scope["request_id"],
        network_address=requests.network_address(request),
    )


async def authenticate(request: Request) -> Caller:
    """Return the caller of a bearer token and, for a BROKER client, an API-key, with one statement.

    Raises AccessDenied. Source: rules ACC-1 to ACC-9.
    """
    return caller_of(await identify(request), requests.resources(request).settings)


async def identify(request: Request) -> Presented:
    """Return the valid token and API-key of a request, with one statement. Raises AccessDenied."""
    with tracing.span("access check"):
        found = await verification.find(
            requests.resources(request).database,
            token=bearer_token(request),
            api_key=requests.header(request, "api-key"),
        )
    fault = verification.fault_of(found, api_key_was_sent="api-key" in request.headers)
    if found is None:
        raise _invalid_token(Fault.UNKNOWN.value)
    if fault is not None:
        raise _invalid_token(fault.value).about(user_id=found.user_id, client_id=found.client_id)
    requests.note_caller(request.scope, user_id=found.user_id, client_id=found.client_id)
    return found


def caller_of(found: Presented, settings: Settings) -> Caller:
    """Return the caller of a token. `found` must have no fault."""
    is_brokered = found.access_type == "BROKER"
    return Caller(
        user_id=found.user_id,
        client_id=found.client_id,
        client_type=found.client_type,
        scopes=frozenset((found.scope or "").split()),
        api_key_client_id=None if found.broker_is_blocked else found.broker_id,
        broker_scopes=frozenset((found.broker_scope or "").split()) if is_brokered else None,
        is_administrative=settings.is_administrative(found.client_type),
        token_details=found.details,
    )


def bearer_token(request: Request) -> str:
    """Return the token of the Authorization header (RFC 6750 section 2.1). Raises AccessDenied."""
    values = request.headers.getlist("authorization")
    if not values:
        raise errors.AccessDenied(description="no Authorization header")
    if len(values) > 1:
        raise errors.AccessDenied(error="invalid_request", description="More than one Authorization header.")
    credentials = BEARER.fullmatch(values[0])
    if credentials is None:
        scheme, _, token = values[0].partition(" ")
        if TOKEN.fullmatch(values[0]) and scheme.lower() != "bearer":
            raise errors.AccessDenied(description="no word Bearer before the token in the Authorization header")
        if scheme.lower() != "bearer" or not token.strip():
            raise errors.AccessDenied(description="no Bearer token in the Authorization header")
        raise _invalid_token("The access token has characters that no token has.")
    return credentials[1]


def _invalid_token(description: str) -> errors.AccessDenied:
    return errors.AccessDenied(error="invalid_token", description=description)
