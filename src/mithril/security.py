"""Secrets, token values and passwords: how they are made, and the digests under which they are kept.

A machine-made value has at least 128 bits, so one SHA-256 is enough to keep it and lets the database find it by
an index. A password has not, so it is hashed by argon2id (argon2-cffi's defaults: RFC 9106, low memory).
"""

import base64
import hashlib
import secrets

import argon2

TAIL_LENGTH = 4
SECRET_BYTES = 24
_PASSWORDS = argon2.PasswordHasher()


def new_secret() -> str:
    """A fresh value of 192 bits in 32 URL-safe characters, the length that clients of the original know."""
    return secrets.token_urlsafe(SECRET_BYTES)


def digest(value: str) -> bytes:
    """32 bytes under which a secret or token value is stored and found."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()


def tail(secret: str) -> str:
    """The last four characters: enough to tell which secret is deployed."""
    return secret[-TAIL_LENGTH:]


def hash_password(password: str) -> str:
    """An argon2id hash in PHC form. Takes tens of milliseconds: keep it off the event loop."""
    return _PASSWORDS.hash(password)


def nobodys_hash() -> str:
    """A hash that no password has, made without computing one, and as costly to compare with as any new one."""
    costs = _PASSWORDS
    salt, compared = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (costs.salt_len, costs.hash_len)
    )
    parameters = f"m={costs.memory_cost},t={costs.time_cost},p={costs.parallelism}"
    return f"$argon2id$v={argon2.low_level.ARGON2_VERSION}${parameters}${salt}${compared}"


def is_password(password: str, password_hash: str) -> bool:
    """Whether `password` is the hashed one. Takes tens of milliseconds: keep it off the event loop."""
    try:
        return _PASSWORDS.verify(password_hash, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def new_request_id() -> str:
    """24 characters that nobody else has; not a secret."""
    return secrets.token_hex(12)
