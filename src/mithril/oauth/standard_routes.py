"""The routes that OAuth libraries know: token, revocation, introspection, and the metadata that leads to them.

Their shapes are those of RFC 6749, 7009, 7662 and 8414; their rules are those of the ESOZ routes. The page to which
a browser is sent, `/oauth2/authorize`, is in `pages`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from mithril import errors, refusals
from mithril.identifiers import parse_uuid
from mithril.oauth import (
    client_authentication,
    forms,
    introspection,
    protocol_errors,
    revocation,
    token_endpoint,
)
from mithril.oauth.client_authentication import AuthenticatedClient
from mithril.oauth.grants import TokenRequest
from mithril.throttling import limits as throttling
from mithril.tokens.kinds import GrantType, TokenKind
from mithril.tokens.verification_store import ActiveToken
from mithril.web import cross_origin, requests, routing
from mithril.web.forms import Parameters

TOKEN, REVOKE, INTROSPECT = "/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"
METADATA = "/.well-known/oauth-authorization-server"
OPENID_METADATA = "/.well-known/openid-configuration"
AUTHORIZE = "/oauth2/authorize"
# What a public client in a browser needs from a page of its own origin. Introspection needs a secret, which none has.
CROSS_ORIGIN = frozenset({TOKEN, REVOKE, METADATA})
REFUSAL_VIEWS = {
    **dict.fromkeys(("/oauth2", METADATA), protocol_errors.show),
    OPENID_METADATA: protocol_errors.show_openid,
}
BEARER = "Bearer"
WITH_SECRET = ["client_secret_basic", "client_secret_post"]

ClientHandler = Callable[[Request, AuthenticatedClient, Parameters], Awaitable[Response]]


async def issue_token(request: Request, caller: AuthenticatedClient, form: Parameters) -> Response:
    """Issue tokens: the token endpoint (RFC 6749 section 3.2)."""
    request.scope[requests.ASKING] = caller.client.id
    settings, database, _ = requests.resources(request)
    granted = await token_endpoint.exchange(database, settings, caller=caller, request=token_request(form))
    content = {
        "access_token": granted.access.value,
        "token_type": BEARER,
        "expires_in": granted.access.lives_seconds,
        "scope": granted.access.scope,
        "refresh_token": granted.refresh.value if granted.refresh else None,
    }
    return protocol_errors.answer(content)


def token_request(form: Parameters) -> TokenRequest:
    """Read the form of a token request (RFC 6749 sections 4.1.3 and 6, RFC 7636 section 4.5). Raises ProtocolError."""
    grant_type = forms.required(form, "grant_type")
    if grant_type == GrantType.CODE:
        return TokenRequest(
            grant_type=GrantType.CODE,
            presented=forms.required(form, "code"),
            redirect_uri=forms.required(form, "redirect_uri"),
            code_verifier=form.get("code_verifier"),
        )
    if grant_type == GrantType.REFRESH:
        presented = forms.required(form, "refresh_token")
        return TokenRequest(grant_type=GrantType.REFRESH, presented=presented, scope=form.get("scope"))
    raise refusals.GrantTypeUnsupported(f"The grant type must be one of {', '.join(token_endpoint.GRANTS)}.")


async def revoke(request: Request, caller: AuthenticatedClient, form: Parameters) -> Response:
    """Revoke a token (RFC 7009). `token_type_hint` is ignored: every token is found by its value.

    The RFC says nothing of the body, and there are libraries that want JSON.
    """
    await revocation.revoke(requests.resources(request).database, caller=caller, token=forms.required(form, "token"))
    return protocol_errors.answer({})


async def introspect(request: Request, caller: AuthenticatedClient, form: Parameters) -> Response:
    """Show a token (RFC 7662) to a client that has proved who it is. It was looked up with the client."""
    if caller.connection is None:
        raise refusals.ClientCredentialsInvalid("Introspection needs the secret of a connection.")
    forms.required(form, "token")
    token = introspection.introspect(caller)
    content = {"active": False} if token is None else introspection_view(token, issuer=requests.origin(request.scope))
    return protocol_errors.answer(content)


def introspection_view(token: ActiveToken, *, issuer: str) -> Mapping[str, object]:
    """Return an active token as in RFC 7662 section 2.2; only an access token has a `token_type`."""
    return {
        "active": True,
        "scope": token.scope,
        "client_id": token.client_id,
        "token_type": BEARER if token.name == TokenKind.ACCESS else None,
        "exp": _seconds(token.expires_at),
        "iat": _seconds(token.inserted_at),
        "sub": token.user_id,
        "iss": issuer,
    }


async def show_metadata(request: Request) -> Response:
    """Show where everything is and what it can do (RFC 8414 section 3.2)."""
    return protocol_errors.answer(metadata(requests.origin(request.scope)))


def metadata(issuer: str) -> Mapping[str, object]:
    """Return the server as the caller reaches it. Scopes are not listed: they depend on client and user."""
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZE,
        "token_endpoint": issuer + TOKEN,
        "revocation_endpoint": issuer + REVOKE,
        "introspection_endpoint": issuer + INTROSPECT,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(token_endpoint.GRANTS),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*WITH_SECRET, "none"],
        "revocation_endpoint_auth_methods_supported": [*WITH_SECRET, "none"],
        "introspection_endpoint_auth_methods_supported": WITH_SECRET,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["uk", "en"],
        "service_documentation": issuer + "/docs",
    }


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _endpoint(path: str, handler: ClientHandler, *, presents: str = "") -> list[BaseRoute]:
    """Return a POST route for authenticated clients, and what its path answers to any other method.

    `presents`: the parameter with a token that is looked up with the client.
    """

    async def handle(request: Request) -> Response:
        if path == TOKEN:
            request.scope[requests.ASKING] = None
        form = await forms.read(request)
        grant_type = form.get("grant_type") if path == TOKEN else None
        with token_endpoint.OUTCOMES.get(grant_type or "") or nullcontext():
            caller = await _authenticate(request, form, form.get(presents))
            if caller.is_proven:
                return await handler(request, caller, form)
            async with throttling.limited(request, client_id=str(caller.client.id)):
                return await handler(request, caller, form)

    return [routing.route(path, handle, "POST"), _other_methods(path, allowed="POST")]


async def _authenticate(request: Request, form: Parameters, presented: str | None) -> AuthenticatedClient:
    given = forms.credentials(request, form)
    requests.note_caller(request.scope, client_id=parse_uuid(given.client_id))
    request.scope[protocol_errors.IN_BODY] = "authorization" not in request.headers
    database = requests.resources(request).database
    async with throttling.limited(request, client_id=given.client_id):
        return await client_authentication.authenticate(database, given, presented=presented)


def _other_methods(path: str, *, allowed: str) -> BaseRoute:
    """Return a route for every method but those that an earlier route takes: a preflight of a browser, or 405."""

    async def handle(request: Request) -> Response:
        if path in CROSS_ORIGIN and cross_origin.is_preflight(request):
            return cross_origin.answer_preflight(allowed)
        raise errors.MethodNotAllowed(allowed=allowed)

    return Route(path, endpoint=routing.Endpoint(handle))


ROUTES: list[BaseRoute] = [
    *_endpoint(TOKEN, issue_token),
    *_endpoint(REVOKE, revoke),
    *_endpoint(INTROSPECT, introspect, presents="token"),
    routing.route(METADATA, show_metadata),
    _other_methods(METADATA, allowed="GET, HEAD"),
]
