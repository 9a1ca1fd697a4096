"""Nonces: a client gets one, inside a JWT, for a user to sign; it is good for that client, once, for some minutes.

Source: rules SGN-38 to SGN-41. What is signed, and by whom, is not known here.
"""

import hashlib
import time
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from mithril import errors, refusals
from mithril.database.database import Database
from mithril.identifiers import parse_uuid
from mithril.oauth import store
from mithril.settings import Settings

ALGORITHM = "HS512"
ISSUER, AUDIENCE, TYPE = "EHealth", "mithril-login", "access"
SECONDS_PER_MINUTE = 60


async def issue(database: Database, settings: Settings, *, client_id: UUID) -> str:
    """Return a JWT with a fresh nonce for that client.

    Raises NotFound, Unauthorized, and ServiceUnavailable where there is no key to sign with.
    """
    client = await store.find_client(database, client_id)
    if client is None:
        raise errors.NotFound
    if client.is_blocked:
        raise refusals.NonceClientBlocked
    key = _key(settings)
    lives_seconds = settings.jwt_login_ttl * SECONDS_PER_MINUTE
    nonce = str(await store.add_nonce(database, client_id=client_id, lives_seconds=lives_seconds))
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "typ": TYPE,
        "iat": now,
        "nbf": now - 1,
        "exp": now + lives_seconds,
        "jti": str(uuid4()),
        "nonce": nonce,
        "sub": nonce,
    }
    return jwt.encode({"alg": ALGORITHM}, claims, key, algorithms=[ALGORITHM])


async def consume(database: Database, settings: Settings, *, token: str, client_id: UUID) -> bool:
    """Use up the nonce in the JWT; return whether it was of that client and unused."""
    try:
        claims = jwt.decode(token, _key(settings), algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError):
        return False
    nonce = parse_uuid(str(claims.get("nonce")))
    if claims.get("aud") != AUDIENCE or nonce is None:
        return False
    return await store.consume_nonce(database, nonce, client_id=client_id)


def _key(settings: Settings) -> OctKey:
    """Return the key of the settings; in a demo, where nothing is secret, one that all workers share."""
    if settings.jwt_secret:
        return OctKey.import_key(settings.jwt_secret)
    if not settings.demo:
        raise refusals.NoncesUnavailable(detail="MITHRIL_JWT_SECRET is not set")
    return OctKey.import_key(hashlib.sha512(b"nonces of a demo " + settings.database_url.encode()).digest())
