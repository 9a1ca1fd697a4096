"""Every refusal by its name, with its words: type and message of ESOZ, the error of RFC 6749, the text of the page.

A rule raises one of these, such as `refusals.ClientBlocked`. What is decided about a refusal is decided by its class,
never by its words: several share their words, because a caller may not learn which one it was; the log has the name.
What a class adds to the answer is in `errors`. Messages and types are those of ESOZ (docs/contract).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

from mithril.errors import (
    AccessDenied,
    AuthorizationError,
    Conflict,
    Forbidden,
    Invalid,
    MithrilError,
    NotFound,
    OtpRefused,
    PageError,
    ProtocolError,
    RequestMalformed,
    Rule,
    ServiceUnavailable,
    Standing,
    TooManyMessages,
    Unauthorized,
    Unprocessable,
)

Kind = TypeVar("Kind", bound=MithrilError)
LONGEST_SAID = 255  # characters of what another service says


def _named(kind: type[Kind], name: str, message: str | None = None, **words: str | int) -> type[Kind]:
    """The class `name`: a refusal of that kind with words of its own."""
    return type(name, (kind,), {"__module__": __name__, "message": message or kind.message, **words})


def _unauthorized(
    name: str, type_: str, message: str, *, oauth: str = "invalid_grant", page: str = ""
) -> type[Unauthorized]:
    """The class `name`, of status 401; `oauth`: what the standard routes call it once the client is authenticated."""
    return _named(Unauthorized, name, message, type=type_, oauth_error=oauth, page=page)


# Lists
PageTooFar = _named(
    Unprocessable, "PageTooFar", "Pages by number end at entry 10000. Go on with after, the paging.next of a page."
)
CursorUnknown = _named(
    Unprocessable, "CursorUnknown", "This after is not of this list with these filters. Begin again without it."
)
SearchTooWide = _named(
    Unprocessable,
    "SearchTooWide",
    "The list is too long to be searched for this quickly. Name more of the text, or another filter. Where the database"
    " has no pg_trgm, only 10000 entries are searched.",
)

# What is no HTTP, and a request that names no host, more than one, or what is no host (RFC 9112 section 3.2)
NotHttp = _named(RequestMalformed, "NotHttp", "Malformed request. It is not valid HTTP.", rule="http")
HostInvalid = _named(RequestMalformed, "HostInvalid", "Malformed request. It must name one valid host.", rule="host")

# The API-key, and the access token that is to be logged out
ApiKeyMissing = _named(AccessDenied, "ApiKeyMissing", "api-key header not set")
ApiKeyUnknown = _named(AccessDenied, "ApiKeyUnknown", "invalid api-key header")
SessionUnknown = _named(AccessDenied, "SessionUnknown", "Invalid access token")

# Clients
ClientUnknown = _unauthorized("ClientUnknown", "access_denied", "Invalid client id.")
ClientBlocked = _unauthorized("ClientBlocked", "access_denied", "Client is blocked.")
LoginClientUnknown = _unauthorized("LoginClientUnknown", "invalid_client", "Invalid client id.")
LoginNotAllowed = _unauthorized("LoginNotAllowed", "access_denied", "Client is not allowed to issue login token.")
NonceClientBlocked = _unauthorized("NonceClientBlocked", "access_denied", "Client is blocked")
ClientSecretWrong = _unauthorized(
    "ClientSecretWrong", "invalid_client", "Invalid client id or secret.", oauth="invalid_client"
)
AuthenticatedClientBlocked = _unauthorized(
    "AuthenticatedClientBlocked", "unauthorized_client", "Client is blocked.", oauth="unauthorized_client"
)
_MISMATCH = "The redirection URI provided does not match a pre-registered value."
RedirectUriNotRegistered = _unauthorized("RedirectUriNotRegistered", "access_denied", _MISMATCH)
RedirectUriMismatch = _unauthorized("RedirectUriMismatch", "invalid_client", _MISMATCH)  # at the exchange of a code

# Users
UserUnknown = _unauthorized("UserUnknown", "access_denied", "User not found.")
UserBlocked = _unauthorized("UserBlocked", "user_blocked", "User blocked.", page="blocked")
UserNotRegistered = _named(Forbidden, "UserNotRegistered", "User is not registered")
UserAlreadyBlocked = _named(Conflict, "UserAlreadyBlocked", "user already blocked")
UserAlreadyUnblocked = _named(Conflict, "UserAlreadyUnblocked", "user already unblocked")
ConsumerIdMissing = _unauthorized("ConsumerIdMissing", "access_denied", "Missing header x-consumer-id")
PasswordWrong = _unauthorized(
    "PasswordWrong", "access_denied", "Identity, password combination is wrong.", page="wrong"
)
LoginAttemptsExceeded = _unauthorized(
    "LoginAttemptsExceeded", "access_denied", "You reached login attempts limit. Try again later", page="too_many"
)
PasswordScopeWrong = _unauthorized(
    "PasswordScopeWrong", "access_denied", "Allowed scopes for the token are user:change_password."
)


class PasswordExpired(Unauthorized):
    """The password is older than it may be."""

    type = "password_expired"

    def __init__(self, user_id: UUID) -> None:
        """The message names the user, as the contract has it."""
        super().__init__(f"The password expired for user: {user_id}")


# A signature in place of a password
JwtMissing = _unauthorized("JwtMissing", "jwt_invalid", "Signed content does not contain field jwt.", page="signature")
JwtInvalid = _unauthorized("JwtInvalid", "jwt_invalid", "JWT is invalid.", page="signature_over")
SignerUnknown = _unauthorized(
    "SignerUnknown", "access_denied", "Person with tax id from digital signature not found.", page="signer"
)
PersonNotFound = _unauthorized("PersonNotFound", "access_denied", "Person not found.", page="signer")
TaxIdMismatch = _named(
    Forbidden, "TaxIdMismatch", "Tax id not matched with MPI person.", type="tax_id_invalid", page="signer"
)
SignerWithoutDrfo = _named(
    Unprocessable, "SignerWithoutDrfo", "Digital signature signer does not contain drfo.", page="signature"
)


class SignatureRefused(Unprocessable):
    """The signed content is refused: by the service that judges signatures, or because it is not signed by one."""

    page = "signature"
    standings: Sequence[Standing] = ()

    def __init__(self, message: str, *, status: int = Unprocessable.status) -> None:
        """`message`: also what the service says; what is not printable is left out. `status`: 4xx."""
        super().__init__("".join(filter(str.isprintable, message[:LONGEST_SAID])))
        kinds = (AccessDenied, Forbidden, NotFound, Conflict)
        self.status, self.type = status, next((kind.type for kind in kinds if kind.status == status), self.type)


# Tokens that are presented to sign in further
BearerMissing = _unauthorized("BearerMissing", "access_denied", "Authorization header required.")
TokenInvalid = _unauthorized("TokenInvalid", "token_invalid", "Invalid token.")
TokenKindWrong = _unauthorized("TokenKindWrong", "token_invalid_type", "Invalid token type.")
TokenNotTwoFactor = _unauthorized("TokenNotTwoFactor", "access_denied", "Invalid token type")
FactorNotInitiated = _unauthorized("FactorNotInitiated", "access_denied", "Invalid token type. Init factor at first")

# The second factor
OtpInvalid = _named(OtpRefused, "OtpInvalid", "Invalid OTP code.", type="otp_invalid")
OtpExpired = _named(OtpRefused, "OtpExpired", "OTP expired.", type="otp_expired")
OtpAttemptsExceeded = _named(
    OtpRefused, "OtpAttemptsExceeded", "Reached max OTP verify attempts", type="otp_reached_max_attempts"
)
TooManyLinks = _named(TooManyMessages, "TooManyLinks", page="link_pause")
FactorNotSet = _named(Conflict, "FactorNotSet", "Factor not set")
FactorAlreadyEnabled = _named(Conflict, "FactorAlreadyEnabled", "user authentication factor already enabled")
FactorAlreadyDisabled = _named(Conflict, "FactorAlreadyDisabled", "user authentication factor already disabled")

# Grants: the exchange of a code, a refresh, a revocation
GrantTypeMissing = _named(Unprocessable, "GrantTypeMissing", "Request must include grant_type.")
GrantTypeNotAllowed = _unauthorized("GrantTypeNotAllowed", "invalid_grant", "Grant type not allowed.")
GrantTypeUnsupported = _named(ProtocolError, "GrantTypeUnsupported", oauth_error="unsupported_grant_type")
ClientCredentialsInvalid = _named(ProtocolError, "ClientCredentialsInvalid", status=401, oauth_error="invalid_client")
GrantInvalid = _unauthorized("GrantInvalid", "invalid_grant", "Token not found or expired.")
TokenNotFound = _unauthorized("TokenNotFound", "token_not_found", "Token not found.")
TokenExpired = _unauthorized("TokenExpired", "token_expired", "Token expired.")
TokenUsed = _unauthorized("TokenUsed", "access_denied", "Token has already been used.")
TokenOfAnotherClient = _unauthorized("TokenOfAnotherClient", "invalid_grant", "The token was issued to another client.")
ApprovalRevoked = _unauthorized("ApprovalRevoked", "access_denied", "Resource owner revoked access for the client.")
ApprovalNotFound = _named(NotFound, "ApprovalNotFound", "Approval not found")
IssueDenied = _unauthorized("IssueDenied", "access_denied", "Access denied")

# Scopes
ScopeWidened = _unauthorized(
    "ScopeWidened", "invalid_scope", "The scope is wider than what was granted.", oauth="invalid_scope"
)
# Why a name is refused; where there are several reasons, the first (rule AUT-20).
SCOPE_REASONS = {
    "unknown": "no client type and no role has the scope",
    "client_type": "the type of the client does not have the scope",
    "role": "no role of the user has the scope",
    "broker": "the broker scope of the consumer does not have the scope",
}
MOST_NAMED, LONGEST_NAMED = 5, 100  # scopes in a redirect and in the log, and characters of each


class ScopeRefused(Unprocessable):
    """A scope is not granted."""

    oauth_error = "invalid_scope"

    def __init__(self, refused: Mapping[str, str] = MappingProxyType({})) -> None:
        """`refused`: each name that is refused, with one of SCOPE_REASONS; none where it is refused as a whole."""
        named = [f"{name[:LONGEST_NAMED]} ({reason})" for name, reason in list(refused.items())[:MOST_NAMED]]
        more = f" and {len(refused) - MOST_NAMED} more" if len(refused) > MOST_NAMED else ""
        super().__init__(detail=", ".join(named) + more)
        self.refused = refused
        if refused:
            self.oauth_description = f"{self.message} Refused: {self.detail}."
            params = [{"scope": name, "reason": reason} for name, reason in refused.items()]
            rules = [Rule("scope", SCOPE_REASONS[each["reason"]], each) for each in params]
            self.invalid = [Invalid("$.scope", rules)]


ScopeEmpty = _named(
    ScopeRefused, "ScopeEmpty", "Requested scope is empty. Scope not passed or user has no roles or global roles."
)
ScopeMalformed = _named(ScopeRefused, "ScopeMalformed", "The scope has characters that no scope has.")
ScopeNotOfClientType = _named(ScopeRefused, "ScopeNotOfClientType", "Scope is not allowed by client type.")
ScopeNotOfRoles = _named(
    ScopeRefused, "ScopeNotOfRoles", "User requested scope that is not allowed by role based access policies."
)
ScopeNotOfBroker = _named(ScopeRefused, "ScopeNotOfBroker", "Scope is not allowed by broker.")

# The authorization request of a browser: sent to the client, or shown as a page
ResponseTypeUnsupported = _named(
    AuthorizationError,
    "ResponseTypeUnsupported",
    "The only supported response_type is code.",
    oauth_error="unsupported_response_type",
)
AuthorizationDenied = _named(
    AuthorizationError, "AuthorizationDenied", "The person did not allow it.", oauth_error="access_denied"
)
SignatureNotOffered = _named(
    AuthorizationError,
    "SignatureNotOffered",
    "user_data is not accepted: sign-in by signature is not offered to this client.",
    oauth_error="unauthorized_client",
)
PageUnreadable = _named(PageError, "PageUnreadable", page="unreadable")
LinkOver = _named(PageError, "LinkOver", page="link_over", status=410)
PageFormForeign = _named(PageError, "PageFormForeign", page="foreign_form", status=403)
ConsoleFormForeign = _named(PageError, "ConsoleFormForeign", page="form", status=403)
PageParameterDoubled = _named(PageError, "PageParameterDoubled", page="doubled")
PageParameterMissing = _named(PageError, "PageParameterMissing", page="missing")
PageClientUnknown = _named(PageError, "PageClientUnknown", page="unknown_client")
PageClientBlocked = _named(PageError, "PageClientBlocked", page="blocked_client")
PageRedirectUriUnknown = _named(PageError, "PageRedirectUriUnknown", page="wrong_redirect_uri")

# What a gateway is told of a token or an API-key
AccessTokenExpired = _unauthorized(
    "AccessTokenExpired", "invalid_grant", "Token expired or client approval was revoked."
)
TokenClientBlocked = _unauthorized("TokenClientBlocked", "invalid_client", "Authentication failed.")
TokenUserBlocked = _unauthorized("TokenUserBlocked", "invalid_user", "Authentication failed.")
BrokerBlocked = _unauthorized("BrokerBlocked", "invalid_client", "Authentication failed.")
ConsumerBlocked = _unauthorized("ConsumerBlocked", "invalid_client", "Authentication failed.", oauth="invalid_client")
AccessTypeMissing = _unauthorized("AccessTypeMissing", "access_denied", "Client settings must contain access_type.")
ApiKeyRequired = _named(Unprocessable, "ApiKeyRequired", "API-KEY header required.")
ApiKeyInvalid = _named(Unprocessable, "ApiKeyInvalid", "API-KEY header is invalid.")
BrokerSettingsInvalid = _named(Unprocessable, "BrokerSettingsInvalid", "Incorrect broker settings.")

# Administration and operation
ParametersInvalid = _named(Unprocessable, "ParametersInvalid", "invalid params")
ClientExists = _named(
    Conflict, "ClientExists", "there is a client with that id already; `mithril client change` changes it"
)
ConnectionExists = _named(
    Conflict, "ConnectionExists", "the two are connected already; `mithril connection change` changes the redirect URI"
)
EventWithoutMove = _named(Conflict, "EventWithoutMove", "The event did not change the redirect URI.")
ScopeSetInUse = _named(Conflict, "ScopeSetInUse", "It is in use.")
WebhooksOff = _named(ServiceUnavailable, "WebhooksOff", "Webhooks are off: set MITHRIL_WEBHOOK_KEY.")
WebhooksNotInstalled = _named(
    ServiceUnavailable, "WebhooksNotInstalled", "Webhooks need the extra `webhooks`, which is not installed."
)
SchemaOutdated = _named(
    ServiceUnavailable, "SchemaOutdated", "The database has an older schema: run `mithril migrate`."
)
OpenIdNotOffered = _named(
    NotFound,
    "OpenIdNotOffered",
    "OpenID Connect is not offered; the metadata of OAuth 2.0 are at /.well-known/oauth-authorization-server.",
)
NoncesUnavailable = _named(ServiceUnavailable, "NoncesUnavailable", "Nonces are not available here.")
