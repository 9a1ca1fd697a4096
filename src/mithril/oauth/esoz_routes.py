"""The ESOZ routes: login, logout, approval and code, tokens, nonce (rules SGN-1, SGN-37, SGN-38, AUT-1, TOK-9).

Their bodies, answers and order of checks are those of ESOZ; the rules are in the other modules of this folder, which
the standard routes and the pages call too. The routes of the second factor are in `factor_routes`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from mithril import access, metrics, refusals
from mithril.access import Caller, protected
from mithril.audit.events import Actor
from mithril.identifiers import parse_uuid
from mithril.identity import signatures
from mithril.oauth import (
    authorization,
    callback,
    client_authentication,
    factor_routes,
    login,
    logout,
    nonce,
    signature_login,
    token_endpoint,
    token_view,
)
from mithril.oauth.client_authentication import Credentials
from mithril.oauth.grants import TokenRequest
from mithril.throttling import limits as throttling
from mithril.tokens.kinds import GrantType
from mithril.users import store as users
from mithril.validation.bodies import Document
from mithril.validation.fields import Fields, is_blank
from mithril.web import envelope, requests, routing, wrapped_bodies

LOGIN = Fields("mithril.oauth", "login_password.json")
SIGNATURE = Fields("mithril.oauth", "login_signature.json")
CODE = Fields("mithril.oauth", "code_grant.json")
REFRESH = Fields("mithril.oauth", "refresh_grant.json")
APP = Fields("mithril.oauth", "app_authorize.json")
APP_OF_USER = Fields("mithril.oauth", "app_authorize_internal.json")
NONCE = Fields("mithril.oauth", "nonce.json")

# Gets what the body wraps in `token`, not yet checked against any schema.
GrantHandler = Callable[[Request, Document], Awaitable[Response]]


def by_grant_type(grants: Mapping[str, GrantHandler]) -> routing.Handler:
    """Return a handler that reads `{"token": {"grant_type": …}}` and leaves the rest to the grant (rule TOK-9)."""

    async def dispatch(request: Request) -> Response:
        request.scope[requests.ASKING] = None
        fields = await wrapped_bodies.read_wrapped(request, "token")
        grant_type = fields.get("grant_type")
        if is_blank(grant_type):
            raise refusals.GrantTypeMissing
        grant = grants.get(grant_type) if isinstance(grant_type, str) else None
        if grant is None:
            raise refusals.GrantTypeNotAllowed
        return await grant(request, fields)

    return dispatch


async def log_in(request: Request, fields: Document) -> Response:
    """Log in: API-009-001-001-0323, the grants password and change_password."""
    given = LOGIN.cast(fields)
    settings, database, messenger = requests.resources(request)
    grant_type, scope = GrantType(given["grant_type"]), given["scope"]
    requests.note_caller(request.scope, client_id=parse_uuid(given["client_id"]))
    with metrics.SIGN_INS:
        client = await login.check_client(database, parse_uuid(given["client_id"]))
        request.scope[requests.ASKING] = client.id
        user = await login.identify(
            database,
            settings,
            client=client,
            email=given["email"],
            password=given["password"],
            network_address=requests.network_address(request),
            grant_type=grant_type,
        )
        await login.check_scope(database, client, scope, grant_type=grant_type)
        begun = await login.begin(
            database, settings, user=user, client=client, scope=scope, grant_type=grant_type, messenger=messenger
        )
    return envelope.answer(request, token_view.view(begun.token), status=201, urgent={"next_step": begun.next_step})


async def log_in_by_signature(request: Request, fields: Document) -> Response:
    """Log in with a signed nonce: the grant digital_signature."""
    settings, database, _ = requests.resources(request)
    verifier = signatures.verifier(settings)
    if verifier is None:
        raise refusals.GrantTypeNotAllowed(detail="MITHRIL_DIGITAL_SIGNATURE_ENDPOINT is not set")
    given = SIGNATURE.cast(fields)
    scope = given["scope"]
    requests.note_caller(request.scope, client_id=given["client_id"])
    with metrics.SIGN_INS:
        signed = await signature_login.identify(
            database,
            settings,
            verifier=verifier,
            signed_content=given["signed_content"],
            client_id=UUID(given["client_id"]),
            scope=scope,
        )
        begun = await signature_login.begin(database, settings, signed, scope=scope)
    return envelope.answer(request, token_view.view(begun.token), status=201, urgent={"next_step": begun.next_step})


async def log_out(request: Request) -> Response:
    """Log out: API-009-001-001-0326. There is no body."""
    await logout.log_out(requests.resources(request).database, access.bearer_token(request))
    return envelope.answer_without_data(request)


async def exchange_code(request: Request, fields: Document) -> Response:
    """Exchange a code for an access token and a refresh token."""
    given = CODE.cast(fields)
    wanted = TokenRequest(
        grant_type=GrantType.CODE,
        presented=given["code"],
        redirect_uri=given["redirect_uri"],
        code_verifier=given.get("code_verifier"),
    )
    return await _exchange(request, given, wanted)


async def refresh(request: Request, fields: Document) -> Response:
    """Exchange a refresh token for an access token: API-009-001-001-0325."""
    given = REFRESH.cast(fields)
    wanted = TokenRequest(grant_type=GrantType.REFRESH, presented=given["refresh_token"])
    return await _exchange(request, given, wanted)


async def authorize_app(request: Request, caller: Caller, _: Document) -> Response:
    """Approve a client for the user of the bearer token, which is of a sign-in, and issue a code."""
    caller.require_sign_in(AUTHORIZE)
    given = APP.cast(await wrapped_bodies.read_wrapped(request, "app"))
    return await _authorize(request, given, user_id=caller.user_id, actor=access.actor(request, caller))


async def authorize_app_of_user(request: Request) -> Response:
    """Do the same on the internal listener, for a front end that names the user by X-Consumer-Id."""
    consumer_id = requests.header(request, "x-consumer-id")
    if not consumer_id:
        raise refusals.ConsumerIdMissing
    fields = await wrapped_bodies.read_wrapped(request, "app")
    given = APP_OF_USER.cast({**fields, "user_id": consumer_id})
    user_id = UUID(given["user_id"])
    requests.note_caller(request.scope, user_id=user_id, client_id=given["client_id"])
    network_address = requests.network_address(request)
    actor = Actor(user_id=user_id, request_id=request.scope["request_id"], network_address=network_address)
    return await _authorize(request, given, user_id=user_id, actor=actor)


async def issue_nonce(request: Request) -> Response:
    """Issue a nonce. Anyone may have one stored, so that each request counts (rule SGN-41)."""
    given = NONCE.cast(await wrapped_bodies.read_bare(request))
    settings, database, _ = requests.resources(request)
    client_id, secret = given["client_id"], given.get("client_secret")
    requests.note_caller(request.scope, client_id=client_id)
    # A wrong secret counts against the client, too.
    async with nullcontext() if secret is None else throttling.limited(request, client_id=client_id):
        token = await nonce.issue(database, settings, client_id=UUID(client_id), secret=secret)
    return envelope.answer(request, {"token": token})


async def _exchange(request: Request, given: Document, wanted: TokenRequest) -> Response:
    settings, database, _ = requests.resources(request)
    credentials = Credentials(given["client_id"], given["client_secret"])
    requests.note_caller(request.scope, client_id=parse_uuid(credentials.client_id))
    with token_endpoint.OUTCOMES[wanted.grant_type]:
        async with throttling.limited(request, client_id=credentials.client_id):
            caller = await client_authentication.identify(database, credentials)
        request.scope[requests.ASKING] = caller.client.id
        granted = await token_endpoint.exchange(database, settings, caller=caller, request=wanted)
    # Where no new refresh token was issued, the one that was presented stays (rule TOK-21).
    kept = granted.refresh.value if granted.refresh else wanted.presented
    return envelope.answer(request, token_view.view(granted.access, refresh_token=kept), status=201)


async def _authorize(request: Request, given: Document, *, user_id: UUID, actor: Actor) -> Response:
    """Take the steps in the order of rules AUT-5 to AUT-12."""
    settings, database, _ = requests.resources(request)
    request.scope[requests.ASKING] = None
    known = await authorization.identify_client(database, UUID(given["client_id"]))
    request.scope[requests.ASKING] = known.client.id
    user = authorization.identify_user(await users.find_user(database, user_id))
    redirect = await authorization.match_redirect_uri(database, known, given["redirect_uri"])
    granted = await authorization.bound_scope(
        database, settings, redirect=redirect, user=user, scope=given.get("scope")
    )
    code = await authorization.approve(database, settings, granted, actor=actor)
    location = callback.with_code(redirect.connection.redirect_uri, code.value)
    return envelope.answer(
        request,
        token_view.view(code),
        status=201,
        headers={"location": location},
        urgent={"redirect_uri": location},
    )


LOGIN_GRANTS: dict[str, GrantHandler] = {
    GrantType.PASSWORD: log_in,
    GrantType.CHANGE_PASSWORD: log_in,
    GrantType.DIGITAL_SIGNATURE: log_in_by_signature,
    **factor_routes.LOGIN_GRANTS,
}
TOKEN_GRANTS: dict[str, GrantHandler] = {GrantType.CODE: exchange_code, GrantType.REFRESH: refresh}
APPROVAL, AUTHORIZE = "/oauth/apps/authorize", "app:authorize"

ROUTES = [
    routing.route("/auth/login", throttling.limiting(by_grant_type(LOGIN_GRANTS)), "POST"),
    routing.route("/auth/logout", log_out, "POST"),
    protected(APPROVAL, authorize_app, method="POST", scope=AUTHORIZE),
    routing.route("/oauth/tokens", by_grant_type(TOKEN_GRANTS), "POST"),
    routing.route("/oauth/nonce", throttling.counting(issue_nonce), "POST"),
]
INTERNAL_ROUTES = [routing.route(APPROVAL, authorize_app_of_user, "POST")]
