"""Secrets, token values and passwords: how they are generated and stored.

A generated value has at least 128 bits, so one SHA-256 digest protects it, and an index finds it. A password has
less, so it is hashed with argon2id (the defaults of argon2-cffi: RFC 9106, low memory).
"""

import base64
import hashlib
import hmac
import secrets

import argon2

TAIL_LENGTH = 4
SECRET_BYTES = 24
_PASSWORDS = argon2.PasswordHasher()


def new_secret() -> str:
    """Return a new value of 191.9 bits in 32 URL-safe characters, the length that existing clients expect.

    It begins with a letter or a digit: a command line takes a leading `-` for an option. Values that do not are drawn
    again, so that the others stay equally likely.
    """
    while not (value := secrets.token_urlsafe(SECRET_BYTES))[0].isalnum():
        pass
    return value


def digest(value: str) -> bytes:
    """Return the 32 bytes by which a secret or token value is stored and found."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def derived(secret: str, text: str) -> str:
    """Return what only a holder of `secret` can make of `text`, in 32 URL-safe characters."""
    made = hmac.digest(secret.encode(), text.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(made[:SECRET_BYTES]).decode()


def tail(secret: str) -> str:
    """Return the last four characters of a secret, which show which secret is deployed."""
    return secret[-TAIL_LENGTH:]


def hash_password(password: str) -> str:
    """Return an argon2id hash in PHC form. It takes tens of milliseconds and must not run on the event loop."""
    return _PASSWORDS.hash(password)


def random_hash() -> str:
    """Return a hash of no known password. A comparison with it takes as long as with a new hash, but making it is fast.

    It stands in for the hash of an unknown user, so that the time of an answer does not show who is a user.
    """
    costs = _PASSWORDS
    salt, compared = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (costs.salt_len, costs.hash_len)
    )
    parameters = f"m={costs.memory_cost},t={costs.time_cost},p={costs.parallelism}"
    return f"$argon2id$v={argon2.low_level.ARGON2_VERSION}${parameters}${salt}${compared}"


def is_password(password: str, password_hash: str | None) -> bool:
    """Return whether the password has this hash. It takes tens of milliseconds and must not run on the event loop."""
    try:
        return password_hash is not None and _PASSWORDS.verify(password_hash, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def new_request_id() -> str:
    """Return a unique id of 24 characters. It is not a secret."""
    return secrets.token_hex(12)
