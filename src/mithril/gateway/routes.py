"""The methods that a gateway calls for every request: is a token valid, whose is it, and for which scope.

    verify         the token in the URL, as the gateway of ESOZ sends it, or in a body, which no log records
    user           the user of a token, with their roles
    api_key        the MIS of an API-key, for calls without a user
    forward-auth   for nginx, Traefik and Envoy: request and answer in headers

No answer repeats the token or API-key that was sent. Source: rules VER-1 to VER-18.
"""

import itertools
import json
from collections.abc import Mapping
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mithril import access, errors, metrics
from mithril.errors import Invalid, Rule
from mithril.tokens import verification
from mithril.tokens.verification_store import Presented
from mithril.validation import scopes
from mithril.validation.fields import Fields
from mithril.web import envelope, query_parameters, requests, routing, wrapped_bodies

TOKEN = Fields("mithril.gateway", "token_verify.json")
FORWARD_AUTH = "/admin/forward-auth"
# The parameter with which a proxy's own query ends: behind it come path and query of its caller.
ORIGINAL = "original"
NO_SCOPE = Rule("format", "has characters that no scope has")


async def verify(request: Request) -> Response:
    """Verify a token in the URL, as the gateway of ESOZ sends it. Raises as `verification.verify`."""
    with metrics.VERIFICATIONS:
        found = await verification.verify(
            requests.resources(request).database,
            token=_token(request),
            api_key=requests.header(request, "api-key"),
            api_key_was_sent="api-key" in request.headers,
        )
    return _answer(request, found)


async def verify_in_body(request: Request) -> Response:
    """Verify a token, an API-key and the needed scopes in a body, which no log records. Also raises ScopeMissing."""
    given = TOKEN.cast(await wrapped_bodies.read_bare(request))
    settings, database, _ = requests.resources(request)
    api_key = given.get("api_key")
    with metrics.VERIFICATIONS:
        found = await verification.verify(
            database, token=given["token"], api_key=api_key, api_key_was_sent=api_key is not None
        )
        caller = access.caller_of(found, settings)
        for scope in given.get("scope", "").split():
            caller.require_scope(scope)
    return _answer(request, found)


async def forward_auth(request: Request) -> Response:
    """Tell a proxy whether it may pass a request on: 200 with the caller in headers, 401, or 403.

    The proxy may append the path and the query of the request (Envoy does), and name the needed scopes in `?scope=`.
    Where it appends no path, any other parameter of its own is a mistake, such as a misspelt name, and is refused.
    """
    given = request.query_params.multi_items()
    own = list(itertools.takewhile(lambda parameter: parameter[0] != ORIGINAL, given))
    if request.scope["path"] == FORWARD_AUTH:
        query_parameters.refuse_others((name for name, _ in own), known="scope")
    with metrics.VERIFICATIONS:
        found = await access.identify(request)
        caller = access.caller_of(found, requests.resources(request).settings)
        for scope in _needed_scopes(own):
            caller.require_scope(scope)
    return Response(status_code=200, headers=_consumer_headers(found))


async def show_user(request: Request) -> Response:
    """Show the user of an access token, with the roles that count for its client."""
    owner = await verification.find_owner(requests.resources(request).database, _token(request))
    data = {
        "id": owner.id,
        "email": owner.email,
        "tax_id": owner.tax_id,
        "person_id": owner.person_id,
        "settings": msgspec.Raw(owner.settings.encode()),
        "is_blocked": owner.is_blocked,
        "block_reason": owner.block_reason,
        "inserted_at": owner.inserted_at,
        "updated_at": owner.updated_at,
        "urgent": {
            "roles": msgspec.Raw(owner.roles.encode()),
            "global_roles": msgspec.Raw(owner.global_roles.encode()),
            "token": {"expires_at": _unix(owner.expires_at)},
        },
    }
    return envelope.answer(request, data, urgent=True)


async def verify_key(request: Request) -> Response:
    """Verify an API-key: show its MIS, and the scopes that need no user."""
    holder = await verification.verify_key(requests.resources(request).database, request.path_params["api_key"])
    details = {"client_id": holder.client_id, "broker_scope": holder.broker_scope, "scope": holder.scope}
    return envelope.answer(request, {"details": details}, urgent={"mis_client_id": holder.client_id})


def _answer(request: Request, found: Presented) -> Response:
    data = {
        "id": found.id,
        "name": found.name,
        "expires_at": _unix(found.expires_at),
        "user_id": found.user_id,
        "details": verification.details_of(found),
    }
    mis_client_id = found.broker_id if found.access_type == "BROKER" else None
    return envelope.answer(request, data, urgent={"mis_client_id": mis_client_id})


def _consumer_headers(found: Presented) -> Mapping[str, str]:
    """Return the headers that the services of ESOZ expect from their gateway, in ASCII (rule VER-18).

    All of them, also empty: what is absent, a proxy would take from its caller. The edge adds `X-Request-Id`, as to
    every answer.
    """
    details = verification.details_of(found)
    return {
        "x-consumer-id": str(found.user_id),
        "x-consumer-scope": " ".join(filter(_fits_a_header, str(details["scope"]).split())),
        "x-consumer-metadata": json.dumps(details, default=str),
        "x-person-id": found.person_id if _fits_a_header(found.person_id) else "",
    }


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _token(request: Request) -> str:
    """Return the token in the path. Raises NotFound for what no bearer token can be, without a look-up.

    A gateway that inserts unescaped text of its caller into the path asks about something else than a token.
    """
    token: str = request.path_params["token"]
    if not access.TOKEN.fullmatch(token):
        raise errors.NotFound(detail="a character that no token has")
    return token


def _needed_scopes(parameters: list[tuple[str, str]]) -> list[str]:
    """Return the scopes of the first `scope`: a proxy may append the query of its caller after its own.

    Raises ValidationFailed, which does not repeat the text, for a character that no scope has.
    """
    given = next((value for name, value in parameters if name == "scope"), "")
    scope = scopes.folded(given)
    if scope is None:
        raise errors.ValidationFailed([Invalid("scope", [NO_SCOPE], entry_type="query_parameter")])
    return scope.split()


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())


ROUTES = [
    routing.route("/admin/tokens/{token}/verify", verify),
    routing.route("/admin/tokens/verify", verify_in_body, "POST"),
    routing.route("/admin/tokens/{token}/user", show_user),
    routing.route("/admin/api_key/{api_key}/verify", verify_key),
    # A proxy may ask with the method of its caller, and RFC 9110 lets there be any.
    Route(FORWARD_AUTH, endpoint=routing.Endpoint(forward_auth, takes_query=True)),
    Route(FORWARD_AUTH + "/{path:remainder}", endpoint=routing.Endpoint(forward_auth, takes_query=True)),
]
