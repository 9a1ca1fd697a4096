"""Whether a token is good: one rule for the API and for gateways, which are told different things.

The API answers every fault with the same neutral 401 (`access`). A gateway is trusted, and learns which fault it was
(rules VER-1 to VER-10).
"""

import enum
from collections.abc import Mapping
from uuid import UUID

from mithril import errors, refusals, security
from mithril.database.database import Database
from mithril.sightings import service as sightings
from mithril.tokens import verification_store as store
from mithril.tokens.kinds import Details, TokenKind
from mithril.tokens.verification_store import KeyHolder, Owner, Presented


class Fault(enum.Enum):
    """What is wrong, in the order of the checks; the value is a sentence for developers."""

    UNKNOWN = "The access token is unknown."
    OTHER_KIND = "The token is not an access token."
    EXPIRED = "The access token is expired."
    CLIENT_BLOCKED = "The client of the access token is blocked."
    USER_BLOCKED = "The user of the access token is blocked."
    CONSUMER_BLOCKED = "The consumer of the connection through which the token was issued is blocked."
    REVOKED = "The access token is revoked, or nothing of its scope is left."
    NO_ACCESS_TYPE = "The client of the access token has no access type."
    KEY_MISSING = "The client works through a broker: send the broker's API-key."
    KEY_UNKNOWN = "The API-key is unknown."
    NO_BROKER = "The API-key is not that of a broker."
    BROKER_BLOCKED = "The broker of the API-key is blocked."
    OTHER_BROKER = "The access token was issued through another broker than the API-key's."


# What a gateway is told. A token of another kind counts as unknown: a refresh token is no bearer token.
REFUSALS: Mapping[Fault, type[errors.MithrilError]] = {
    Fault.UNKNOWN: errors.NotFound,
    Fault.OTHER_KIND: errors.NotFound,
    Fault.EXPIRED: refusals.AccessTokenExpired,
    Fault.CLIENT_BLOCKED: refusals.TokenClientBlocked,
    Fault.USER_BLOCKED: refusals.TokenUserBlocked,
    Fault.CONSUMER_BLOCKED: refusals.ConsumerBlocked,
    Fault.REVOKED: refusals.AccessTokenExpired,
    Fault.NO_ACCESS_TYPE: refusals.AccessTypeMissing,
    Fault.KEY_MISSING: refusals.ApiKeyRequired,
    Fault.KEY_UNKNOWN: refusals.ApiKeyInvalid,
    Fault.NO_BROKER: refusals.BrokerSettingsInvalid,
    Fault.BROKER_BLOCKED: refusals.BrokerBlocked,
    Fault.OTHER_BROKER: refusals.ApiKeyInvalid,
}


async def find(database: Database, *, token: str, api_key: str | None) -> Presented | None:
    """Return all that is known about the two, in one statement; None for an unknown token."""
    key_digest = security.digest(api_key) if api_key else None
    found = await store.find_presented(database, digest=security.digest(token), api_key_digest=key_digest)
    if key_digest is not None and found is not None and found.broker_id is not None:
        sightings.use_secret(database, key_digest)
    return found


def fault_of(found: Presented | None, *, api_key_was_sent: bool) -> Fault | None:
    """Return the first fault of what was presented, or None (rules VER-1 to VER-11)."""
    if found is None:
        return Fault.UNKNOWN
    return _fault_of_token(found) or (
        _fault_of_key(found, was_sent=api_key_was_sent) if found.access_type == "BROKER" else None
    )


async def verify(database: Database, *, token: str, api_key: str | None, api_key_was_sent: bool) -> Presented:
    """Return the good access token of that value. Raises NotFound, Unauthorized, Unprocessable: see `REFUSALS`."""
    found = await find(database, token=token, api_key=api_key)
    fault = fault_of(found, api_key_was_sent=api_key_was_sent)
    if found is None:
        raise _refusal(Fault.UNKNOWN)
    if fault is not None:
        raise _refusal(fault).about(user_id=found.user_id, client_id=found.client_id)
    return found


async def find_owner(database: Database, token: str) -> Owner:
    """Return the user of an access token, with their roles. Raises NotFound, Unauthorized."""
    found = await store.find_owner(database, security.digest(token))
    if found is None or found.token_name != TokenKind.ACCESS:
        raise _refusal(Fault.UNKNOWN)
    if found.is_expired:
        raise _refusal(Fault.EXPIRED)
    if found.client_is_blocked:
        raise _refusal(Fault.CLIENT_BLOCKED)
    if found.is_blocked:
        raise _refusal(Fault.USER_BLOCKED)
    if found.consumer_is_blocked:
        raise _refusal(Fault.CONSUMER_BLOCKED)
    if found.is_revoked:
        raise _refusal(Fault.REVOKED)
    return found


async def verify_key(database: Database, api_key: str) -> KeyHolder:
    """Return the broker of an API-key, for calls without any user. Raises NotFound, Unprocessable, Unauthorized."""
    found = await _find_key_holder(database, api_key)
    if found is None:
        raise errors.NotFound
    if not (found.broker_scope or "").strip():
        raise _refusal(Fault.NO_BROKER)
    if found.is_blocked:
        raise _refusal(Fault.BROKER_BLOCKED)
    return found


async def find_key_client(database: Database, api_key: str) -> UUID | None:
    """Return the client of an API-key, broker or not; None when the key is unknown or the client blocked."""
    found = await _find_key_holder(database, api_key)
    return None if found is None or found.is_blocked else found.client_id


def details_of(found: Presented) -> dict[str, object]:
    """Return what a good token says about itself (rule VER-12), without the value of any other token."""
    noted = Details.decoded(found.details)
    said: dict[str, object] = {} if noted.grant_type is None else {"grant_type": noted.grant_type}
    said["client_id"], said["scope"] = found.client_id, found.scope or ""
    if noted.redirect_uri is not None:
        said["redirect_uri"] = noted.redirect_uri
    if noted.app_id is not None:
        said["app_id"] = noted.app_id
    if found.access_type == "BROKER" and found.broker_scope is not None:
        said["broker_scope"] = found.broker_scope
    return said


async def _find_key_holder(database: Database, api_key: str) -> KeyHolder | None:
    digest = security.digest(api_key)
    found = await store.find_key_holder(database, digest)
    if found is not None:
        sightings.use_secret(database, digest)
    return found


def _fault_of_token(found: Presented) -> Fault | None:
    if found.name != TokenKind.ACCESS:
        return Fault.OTHER_KIND
    if found.is_expired:
        return Fault.EXPIRED
    if found.client_is_blocked or found.user_is_blocked or found.consumer_is_blocked:
        return _fault_of_parties(found)
    if found.is_revoked:
        return Fault.REVOKED
    return Fault.NO_ACCESS_TYPE if found.access_type is None else None


def _fault_of_parties(found: Presented) -> Fault:
    if found.client_is_blocked:
        return Fault.CLIENT_BLOCKED
    return Fault.USER_BLOCKED if found.user_is_blocked else Fault.CONSUMER_BLOCKED


def _fault_of_key(found: Presented, *, was_sent: bool) -> Fault | None:
    """Check the API-key: it must be that of a MIS, and of the one through which the token was issued."""
    if not was_sent:
        return Fault.KEY_MISSING
    if found.broker_id is None:
        return Fault.KEY_UNKNOWN
    if not (found.broker_scope or "").strip():
        return Fault.NO_BROKER
    if found.broker_is_blocked:
        return Fault.BROKER_BLOCKED
    return Fault.OTHER_BROKER if found.issued_to_consumer_id not in (None, found.broker_id) else None


def _refusal(fault: Fault) -> errors.MithrilError:
    return REFUSALS[fault](detail=fault.value)
