"""Nonces: a client gets one, inside a JWT, for a user to sign; it is good for that client, once, for some minutes.

Source: rules SGN-38 to SGN-42. By whom it is signed is not known here.
"""

import hashlib
import time
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from mithril import errors, refusals
from mithril.database.database import Database, PooledConnection
from mithril.identifiers import parse_uuid
from mithril.oauth import store
from mithril.oauth.store import RegisteredClient
from mithril.settings import Settings
from mithril.validation.fields import REQUIRED, refuse

ALGORITHM = "HS512"
ISSUER, AUDIENCE, TYPE = "EHealth", "mithril-login", "access"
# A patient system that signs for itself: its nonces have an audience of their own.
TRUSTED_TYPE, TRUSTED_AUDIENCE = "TRUSTED_PIS", "trusted-client"
SECONDS_PER_MINUTE = 60


async def issue(database: Database, settings: Settings, *, client_id: UUID, secret: str | None) -> str:
    """Return a JWT with a fresh nonce for that client. A trusted patient system must show a secret of its own.

    Raises NotFound, Unauthorized, ValidationFailed, and ServiceUnavailable where there is no key to sign with.
    """
    client = await store.find_client(database, client_id)
    if client is None:
        raise errors.NotFound
    if client.is_blocked:
        raise refusals.NonceClientBlocked
    if client.type_name == TRUSTED_TYPE:
        await _check_secret(database, client, secret)
    key = _key(settings)
    lives_seconds = settings.jwt_login_ttl * SECONDS_PER_MINUTE
    nonce = str(await store.add_nonce(database, client_id=client_id, lives_seconds=lives_seconds))
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": _audience(client),
        "typ": TYPE,
        "iat": now,
        "nbf": now - 1,
        "exp": now + lives_seconds,
        "jti": str(uuid4()),
        "nonce": nonce,
        "sub": nonce,
    }
    return jwt.encode({"alg": ALGORITHM}, claims, key, algorithms=[ALGORITHM])


async def find(database: Database, settings: Settings, *, token: object, client_id: UUID) -> UUID:
    """Return the nonce in the JWT, if it is of that client, unused and not expired. Raises JwtInvalid.

    An unknown client has none. The clock that counts is that of the database.
    """
    client = await store.find_client(database, client_id)
    nonce = _nonce_in(settings, token, client) if client and isinstance(token, str) else None
    if nonce is None or not await store.has_nonce(database, nonce, client_id=client_id):
        raise refusals.JwtInvalid
    return nonce


async def consume(transaction: PooledConnection, nonce: UUID, *, client_id: UUID) -> None:
    """Use up the nonce, before what it opens is issued. Raises JwtInvalid where it was used or expired meanwhile."""
    if not await store.consume_nonce(transaction, nonce, client_id=client_id):
        raise refusals.JwtInvalid(detail="used at the same moment")


async def _check_secret(database: Database, client: RegisteredClient, secret: str | None) -> None:
    if secret is None:
        refuse([("$.client_secret", REQUIRED)])
    known = await store.find_by_secret(database, client.id, secret or "")
    if known is None:
        raise refusals.ClientSecretWrong
    _client, connection, _token = known
    if connection.consumer_is_blocked:
        raise refusals.ConsumerBlocked


def _nonce_in(settings: Settings, token: str, client: RegisteredClient) -> UUID | None:
    try:
        claims = jwt.decode(token, _key(settings), algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError):
        return None
    return parse_uuid(str(claims.get("nonce"))) if claims.get("aud") == _audience(client) else None


def _audience(client: RegisteredClient) -> str:
    return TRUSTED_AUDIENCE if client.type_name == TRUSTED_TYPE else AUDIENCE


def _key(settings: Settings) -> OctKey:
    """Return the key of the settings; in a demo, where nothing is secret, one that all workers share."""
    if settings.jwt_secret:
        return OctKey.import_key(settings.jwt_secret)
    if not settings.demo:
        raise refusals.NoncesUnavailable(detail="MITHRIL_JWT_SECRET is not set")
    return OctKey.import_key(hashlib.sha512(b"nonces of a demo " + settings.database_url.encode()).digest())
