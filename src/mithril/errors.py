"""What every refusal is made of: one class for each status and shape, and what the log keeps.

    MithrilError                      500  internal_error
    ├── RequestMalformed              400  request_malformed; what exactly is malformed is in `refusals`
    ├── AccessDenied                  401  access_denied, with a Bearer challenge
    ├── Unauthorized                  401  its own type, such as invalid_grant; counted against the caller
    │   └── OtpRefused                401  of a one-time password
    ├── Forbidden                     403  forbidden
    │   └── ScopeMissing              403  forbidden, with the scope in the challenge
    ├── NotFound                      404  not_found
    ├── MethodNotAllowed              405  method_not_allowed
    ├── RequestTimeout                408  request_timeout
    ├── Conflict                      409  request_conflict
    ├── PreconditionFailed            412  precondition_failed
    ├── RequestTooLarge               413  request_too_large
    ├── UriTooLong                    414  uri_too_long
    ├── ContentTypeInvalid            415  content_type_invalid
    ├── MisdirectedRequest            421  misdirected_request
    ├── ValidationFailed              422  validation_failed
    ├── Unprocessable                 422  request_malformed
    ├── TooManyMessages               429  otp_timeout
    ├── TooManyFailures               429  too_many_requests
    ├── HeadersTooLarge               431  headers_too_large
    ├── ServiceUnavailable            503  service_unavailable
    │   ├── AtCapacity                503  service_unavailable
    │   └── MessageNotSent            503  internal_error
    │       └── MessageRefused        503  internal_error
    ├── OutcomeUnknown                503  outcome_unknown
    ├── ProtocolError                 400  an error of RFC 6749, on the standard routes only
    ├── AuthorizationError            303  an error of RFC 6749, sent to the client's redirect URI
    └── PageError                     400  a page: there is no redirect URI that could be trusted

Whatever a rule refuses for a reason of its own has a name in `refusals`, where its words are. Services raise these;
the edge alone turns them into an answer. `detail` is for the log and never sent.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar
from uuid import UUID

import msgspec

from mithril import metrics

# What may stand between the quotation marks of a parameter (RFC 6750 section 3).
CHALLENGE_VALUE = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]+")


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One violated rule of one entry, as the 422 answer lists it."""

    rule: str | None
    description: str
    params: dict[str, Any] | list[Any] = {}
    suggestion: str | None = None


class Invalid(msgspec.Struct, frozen=True):
    """All violated rules of one entry, such as `$.redirect_uri`."""

    entry: str
    rules: list[Rule]
    entry_type: str = "json_data_property"


class MithrilError(Exception):
    """A refusal with its place in the envelope; by itself, an error of our own."""

    name: ClassVar[str] = metrics.OWN_ERROR
    """The name of the class as the log has it, such as `client_blocked`."""
    status: int = 500
    type: str = "internal_error"
    message: str | None = None
    """What the caller reads; None where the contract has no message."""
    oauth_error: ClassVar[str] = ""
    """The error code of RFC 6749 on the standard routes; empty where the status decides."""
    page: ClassVar[str] = ""
    """The key of the text on the sign-in pages; empty where the status decides."""
    headers: Mapping[str, str] = MappingProxyType({})
    """Response headers that belong to this refusal."""
    invalid: Sequence[Any] = ()
    """What exactly is wrong with the request; empty where the envelope has no such list."""
    explain: "Callable[[], Awaitable[Mapping[str, object]]] | None" = None
    """Finds out more for the caller of a demo, where production must not tell; called nowhere else (rule CNV-53)."""
    concerned: Mapping[str, UUID] = MappingProxyType({})
    """The user and the client whom it is about, for the log."""

    def __init_subclass__(cls) -> None:
        """Name the class, once."""
        cls.name = metrics.NAMES[cls] = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str | None = None, *, detail: str = "") -> None:
        """`message` replaces the one of the class; `detail` goes to the log only."""
        super().__init__(message or self.message or self.type)
        self.message = message or self.message
        self.oauth_description = self.message or ""
        self.detail = detail

    def explained(self, explain: "Callable[[], Awaitable[Mapping[str, object]]]") -> Self:
        """Return this refusal, which can explain itself to the caller of a demo."""
        self.explain = explain
        return self

    def about(self, *, user_id: UUID | None = None, client_id: UUID | None = None) -> Self:
        """Return this refusal, with what is known of the user and the client, who have not proved who they are."""
        known = {"user_id": user_id, "client_id": client_id}
        self.concerned = {name: value for name, value in known.items() if value is not None}
        return self


class Standing(NamedTuple):
    """What is left to a caller of one quota of refusals."""

    name: str
    limit: int
    window_seconds: int
    remaining: int
    seconds_left: int


def rate_limit_headers(standings: Sequence[Standing]) -> Mapping[str, str]:
    """Return RateLimit headers (draft-ietf-httpapi-ratelimit-headers-11): of `q` in window `w` `r` remain for `t` s."""
    policies = ", ".join(f'"{each.name}";q={each.limit};w={each.window_seconds}' for each in standings)
    limits = ", ".join(f'"{each.name}";r={each.remaining};t={each.seconds_left}' for each in standings)
    return {"ratelimit-policy": policies, "ratelimit": limits}


def bearer_challenge(**parameters: str | None) -> str:
    """Return the value of WWW-Authenticate for the Bearer scheme (RFC 6750 section 3).

    A parameter with a character that no such parameter has is left out: it would be read as something else.
    """
    pairs = ", ".join(
        f'{name}="{value}"' for name, value in parameters.items() if value and CHALLENGE_VALUE.fullmatch(value)
    )
    return f"Bearer {pairs}".rstrip()


class RequestMalformed(MithrilError):
    """The body is not the JSON that it claims to be; `reason` says why."""

    status = 400
    type = "request_malformed"
    message = "Malformed request. Probably, you have sent corrupted JSON."
    rule: ClassVar[str] = "json"
    """What the request breaks, in the list of the envelope."""

    def __init__(self, reason: str) -> None:
        """`reason`: what is wrong, without repeating the body."""
        super().__init__(detail=reason)
        self.invalid = [{"entry_type": "request", "rules": [{"rule": self.rule, "description": reason}]}]


class AccessDenied(MithrilError):
    """The caller is unknown (RFC 6750 section 3.1).

    `error` is left out where no token was sent: the caller then learns only the scheme.
    """

    status = 401
    type = "access_denied"
    message = "Access denied"

    def __init__(self, message: str | None = None, *, error: str | None = None, description: str = "") -> None:
        """`error`: an RFC 6750 code; `description`: a sentence for the developer who reads the header."""
        super().__init__(message, detail=description)
        challenge = bearer_challenge(error=error, error_description=description if error else None)
        self.headers = {"www-authenticate": challenge}


class Unauthorized(MithrilError):
    """A login, a grant or a token is refused. Its subclasses say which; each counts against the caller."""

    status = 401
    oauth_error = "invalid_grant"
    standings: "Sequence[Standing]" = ()
    """What is left to the caller after this one, where refusals are limited."""


class OtpRefused(Unauthorized):
    """A one-time password opens nothing. `is_failure`: it may have been a guess, and counts against the user."""

    def __init__(self, *, is_failure: bool = True, detail: str = "") -> None:
        """Source of the count: rules SGN-21, SGN-22."""
        super().__init__(detail=detail)
        self.is_failure = is_failure


class Forbidden(MithrilError):
    """The caller is known, and may not do this."""

    status = 403
    type = "forbidden"
    message = "Forbidden"


class ScopeMissing(Forbidden):
    """The token, or the broker through whom it is used, lacks a scope (RFC 6750 section 3.1)."""

    message = "Invalid scopes"

    def __init__(self, scope: str, *, lacking: str) -> None:
        """`lacking`: who lacks it, in words."""
        super().__init__(detail=f"{lacking} lacks the scope {scope}")
        challenge = bearer_challenge(error="insufficient_scope", error_description=self.detail, scope=scope)
        self.headers = {"www-authenticate": challenge}


class NotFound(MithrilError):
    """What is named does not exist, or not for this client."""

    status = 404
    type = "not_found"
    message: str | None = "Not Found"


class MethodNotAllowed(MithrilError):
    """The path exists, the method does not."""

    status = 405
    type = "method_not_allowed"
    message = "Method not allowed"

    def __init__(self, *, allowed: str) -> None:
        """`allowed`: the methods of the path, by comma (RFC 9110 section 10.2.1)."""
        super().__init__()
        self.headers = {"allow": allowed}


class RequestTimeout(MithrilError):
    """The body did not arrive in time."""

    status = 408
    type = "request_timeout"
    message = "The request body did not arrive in time."


class Conflict(MithrilError):
    """The state of the resource does not allow the change (rule CNV-12)."""

    status = 409
    type = "request_conflict"
    message = "The request could not be completed due to a conflict with the current state of the resource."


class PreconditionFailed(MithrilError):
    """`If-Match` names another version (RFC 9110 section 13.1.1)."""

    status = 412
    type = "precondition_failed"
    message = "The resource has changed since the version named in If-Match. Read it again."


class RequestTooLarge(MithrilError):
    """The body exceeds the limit."""

    status = 413
    type = "request_too_large"
    message = "Request body is too large."
    invalid = ({"entry_type": "request", "rules": [{"rule": "size"}]},)


class UriTooLong(MithrilError):
    """The request target exceeds the limit."""

    status = 414
    type = "uri_too_long"
    message = "The URL of the request is too long."


class ContentTypeInvalid(MithrilError):
    """The Content-Type of the request is not that of JSON."""

    status = 415
    type = "content_type_invalid"
    message = (
        "Invalid Content-Type header. Try to set 'Content-Type: application/json' header: "
        "http://docs.apimanifest.apiary.io/#introduction/interacting-with-api/content-type."
    )
    invalid = ({"entry_type": "header", "entry": "Content-Type"},)


class MisdirectedRequest(MithrilError):
    """The request is for a host that this listener does not answer for (RFC 9110 section 15.5.20)."""

    status = 421
    type = "misdirected_request"
    message = "This listener answers only to its own address."


class ValidationFailed(MithrilError):
    """The body is JSON and breaks rules; all of them are listed."""

    status = 422
    type = "validation_failed"
    message = "Validation failed"
    invalid: list[Any]

    def __init__(self, invalid: list[Invalid], *, message: str | None = None) -> None:
        """`invalid`: one element per entry."""
        super().__init__(message, detail=", ".join(_logged(each, rule) for each in invalid for rule in each.rules))
        self.invalid = invalid


def _logged(invalid: Invalid, rule: Rule) -> str:
    """What of a violation is logged. A name that no schema knows is not: it may be a secret, sent by mistake."""
    is_unknown = isinstance(rule.params, dict) and "properties" in rule.params
    return f"{'an unknown name' if is_unknown else invalid.entry}: {rule.rule}"


class Unprocessable(MithrilError):
    """A rule of the business is broken; the message, always given, says which (rule CNV-24)."""

    status = 422
    type = "request_malformed"
    invalid: Sequence[Any] = ({"entry_type": "request", "rules": [{"rule": "json"}]},)


class TooManyMessages(MithrilError):
    """Too many one-time passwords were sent to this user."""

    status = 429
    type = "otp_timeout"
    page = "code_pause"
    message = "Sending OTP timeout. Try later."

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 60) -> None:
        """`retry_after_seconds`: when it may be tried again."""
        super().__init__(message)
        self.headers = {"retry-after": str(retry_after_seconds)}


class TooManyFailures(MithrilError):
    """Too many refusals of one caller; nothing more is tried until the window ends."""

    status = 429
    type = "too_many_requests"
    page = "too_many"
    message = "Too many failed attempts. Try again later."

    def __init__(self, standings: Sequence[Standing]) -> None:
        """`standings`: of the quotas that apply, at least one of which is used up."""
        super().__init__(detail="too many refusals: " + ", ".join(s.name for s in standings if not s.remaining))
        waits = [each.seconds_left for each in standings if not each.remaining]
        self.headers = {"retry-after": str(max(1, *waits)), **rate_limit_headers(standings)}


class HeadersTooLarge(MithrilError):
    """The header fields exceed the limit."""

    status = 431
    type = "headers_too_large"
    message = "The headers of the request are too large."


class PreconditionRequired(MithrilError):
    """The request must say by `If-Match` which version it is about (RFC 6585 section 3)."""

    status = 428
    type = "precondition_required"
    message = "Send If-Match with the ETag of the version that you have seen."


class ServiceUnavailable(MithrilError):
    """A service that the request needs is unavailable for now; the caller should try again."""

    status = 503
    type = "service_unavailable"
    message = "Service is temporarily unavailable. Try again later."
    page = "unavailable"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})  # RFC 9110 section 10.2.3


class AtCapacity(ServiceUnavailable):
    """More requests at once than this worker takes: a quick refusal is better than a queue."""

    message = "The service is busy. Try again later."

    def __init__(self) -> None:
        """Set the detail for the log."""
        super().__init__(detail="at capacity")


class MessageNotSent(ServiceUnavailable):
    """The message with the one-time password did not go out; nothing of the request is kept."""

    type = "internal_error"
    message = "SMS not sent. Try later"


class MessageRefused(MessageNotSent):
    """The message will never be taken, such as one to an e-mail address that does not exist."""


class OutcomeUnknown(MithrilError):
    """A change was sent to the database, and whether it is done and safe could not be found out (rule CNV-52).

    Not a kind of ServiceUnavailable: a caller that repeats the request may do it twice.
    """

    status = 503
    type = "outcome_unknown"
    message = (
        "The database did not confirm this request. It may have been carried out: look for its operation "
        "before you send it again."
    )
    oauth_error = "server_error"
    page = "outcome_unknown"

    def __init__(self, operation_id: UUID, *, detail: str) -> None:
        """`operation_id`: under it the audit trail has the change, if it is done."""
        super().__init__(detail=f"operation {operation_id}: {detail}")
        self.operation_id = operation_id
        self.values = {"operation": str(operation_id)}


class ProtocolError(MithrilError):
    """A refusal in the words of RFC 6749 section 5.2; the message is its `error_description`.

    Descriptions are ASCII without quotes and backslashes, as the RFC wants them.
    """

    status = 400
    type = "request_malformed"
    oauth_error = "invalid_request"


class AuthorizationError(MithrilError):
    """An error that the client gets at its redirect URI (RFC 6749 section 4.1.2.1).

    Raised only when client and redirect URI are known to be right; the message is its `error_description`.
    """

    status = 303
    type = "request_malformed"
    oauth_error = "invalid_request"


class PageError(MithrilError):
    """An authorization request that is explained on a page, for want of a redirect URI that can be trusted."""

    status = 400
    type = "request_malformed"
    message = "The request for authorization cannot be answered."
    page = "unreadable"

    def __init__(self, **values: str) -> None:
        """`values`: what the page names; they are shown and never logged."""
        super().__init__(detail=self.page)
        self.values = values


_Found = TypeVar("_Found")


def found(value: _Found | None, missing: type[NotFound] = NotFound) -> _Found:
    """Return what a store has found. Raises NotFound, or the kind of it that is named, for None."""
    if value is None:
        raise missing
    return value
