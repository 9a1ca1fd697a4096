"""The authorization request: what a client asks by sending a browser here. It is checked in two parts.

The client and its redirect URI come first: they decide whether there is anywhere to send the browser back to. What
else is wrong goes back there as an error (RFC 6749 section 4.1.2.1). Users are not known here.
"""

import re
from typing import NamedTuple

from starlette.requests import Request

from mithril import errors, refusals, security
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.identity import signatures
from mithril.identity.signatures import Verifier
from mithril.oauth import authorization, scopes
from mithril.oauth.authorization import RegisteredRedirect
from mithril.pages import forms
from mithril.settings import Settings
from mithril.tokens.kinds import GrantType
from mithril.web import requests
from mithril.web.forms import Parameters

MAX_EMAIL = 254
EMAIL = re.compile(r"[^\s@\"<>(),;:\\]+@[^\s@\"<>(),;:\\]+")  # what may be the e-mail address of an account
S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # a SHA-256 in base64url, RFC 7636 section 4.2
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class Entrance(NamedTuple):
    """One of the two paths, and what is different there."""

    path: str
    is_standard: bool  # speaks plain RFC 6749: `response_type` is required, and the answer names its issuer


class AuthorizationRequest(NamedTuple):
    """What a client asks for; its client and redirect URI are right."""

    entrance: Entrance
    fields: Parameters
    redirect: RegisteredRedirect

    @property
    def state(self) -> str | None:
        """The client's own text, which it gets back unchanged."""
        return self.fields.get("state")

    @property
    def scope(self) -> str | None:
        """The scope that is asked for, or None; spaces alone name none."""
        return (self.fields.get("scope") or "").strip(" ") or None

    @property
    def email(self) -> str:
        """The e-mail address with which the form begins, or nothing."""
        hint = self.fields.get("login_hint") or ""
        is_plausible = len(hint) <= MAX_EMAIL and EMAIL.fullmatch(hint) is not None
        return self.fields.get("email") or (hint if is_plausible else "")

    @property
    def code_challenge(self) -> str | None:
        """The challenge of PKCE, method S256, or None."""
        return self.fields.get("code_challenge")

    @property
    def user_data(self) -> str | None:
        """What the user has signed to sign in without a password, in base64, or None; the standard knows none."""
        return None if self.entrance.is_standard else self.fields.get("user_data")

    @property
    def user_data_digest(self) -> str | None:
        """What stands for it in a login session."""
        return None if self.user_data is None else security.digest(self.user_data).hex()


async def read(request: Request, entrance: Entrance) -> AuthorizationRequest:
    """Read the authorization request in the query. Raises PageError for a wrong client or redirect URI."""
    request.scope[requests.ASKING] = None
    fields = forms.read_query(request)
    client_id, redirect_uri = _required(fields, "client_id"), _required(fields, "redirect_uri")
    database = requests.resources(request).database
    identifier = parse_uuid(client_id)
    if identifier is None:
        raise refusals.PageClientUnknown(client_id=client_id)
    try:
        known = await authorization.identify_client(database, identifier)
    except refusals.ClientUnknown:
        raise refusals.PageClientUnknown(client_id=client_id) from None
    except refusals.ClientBlocked:
        request.scope[requests.ASKING] = identifier
        raise refusals.PageClientBlocked(client_id=client_id) from None
    request.scope[requests.ASKING] = identifier
    try:
        redirect = await authorization.match_redirect_uri(database, known, redirect_uri)
    except refusals.RedirectUriNotRegistered:
        raise refusals.PageRedirectUriUnknown(client=known.client.name, redirect_uri=redirect_uri) from None
    except refusals.ConsumerBlocked:
        raise refusals.PageClientBlocked(client_id=client_id) from None
    return AuthorizationRequest(entrance, fields, redirect)


async def check(database: Database, settings: Settings, asked: AuthorizationRequest) -> None:
    """Check everything else, before a user enters a password in vain. Raises AuthorizationError, ScopeRefused."""
    if asked.fields.repeated:
        raise errors.AuthorizationError("A parameter is sent more than once.")
    _check_response_type(asked)
    _check_challenge(asked)
    if asked.user_data is not None:
        verifier_for(settings, asked)
        if not BASE64.fullmatch(asked.user_data):
            raise errors.AuthorizationError("user_data is not base64. In a URL, + is written as %2B.")
    if asked.scope is None:
        if not authorization.may_omit_scope(settings, asked.redirect.client):
            raise refusals.ScopeEmpty
        return
    wanted = scopes.checked(asked.scope)
    if not wanted:
        raise refusals.ScopeMalformed
    client, broker_scopes = asked.redirect.client, [asked.redirect.connection.broker_scope]
    await scopes.check(database, wanted, scopes.bounds(client, broker_scopes=broker_scopes))


def verifier_for(settings: Settings, asked: AuthorizationRequest) -> Verifier:
    """Return what judges the signature of `user_data`. Raises SignatureNotOffered."""
    verifier = signatures.verifier(settings)
    if verifier is None or GrantType.DIGITAL_SIGNATURE not in asked.redirect.client.allowed_grant_types:
        raise refusals.SignatureNotOffered
    return verifier


def _required(fields: Parameters, name: str) -> str:
    if name in fields.repeated:
        raise refusals.PageParameterDoubled(parameter=name)
    value = fields.get(name)
    if value is None:
        raise refusals.PageParameterMissing(parameter=name)
    return value


def _check_response_type(asked: AuthorizationRequest) -> None:
    """Check `response_type` (RFC 6749 section 3.1.1), which only the standard entrance requires."""
    response_type = asked.fields.get("response_type")
    if response_type is None and asked.entrance.is_standard:
        raise errors.AuthorizationError("response_type is missing: send response_type=code.")
    if response_type not in (None, "code"):
        raise refusals.ResponseTypeUnsupported


def _check_challenge(asked: AuthorizationRequest) -> None:
    """Check PKCE (RFC 7636 section 4.4.1). No method means `plain`, which is refused (RFC 9700 section 2.1.1)."""
    challenge, method = asked.code_challenge, asked.fields.get("code_challenge_method")
    if challenge is None and (asked.redirect.client.is_public or method is not None):
        raise errors.AuthorizationError("code_challenge is missing: this request needs PKCE (S256).")
    if challenge is None:
        return
    if method != "S256":
        raise errors.AuthorizationError("The only supported code_challenge_method is S256.")
    if not S256_CHALLENGE.fullmatch(challenge):
        raise errors.AuthorizationError("code_challenge is not a SHA-256 digest in base64url.")
