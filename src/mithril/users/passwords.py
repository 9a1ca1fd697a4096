"""The rules of passwords, and how one is changed (rules USR-8 to USR-10). The caller decides who may change it.

Passwords are hashed and compared in threads, with no database connection held: each takes tens of milliseconds.
"""

import asyncio
import re
from uuid import UUID

from mithril import refusals, security
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.errors import Rule, ValidationFailed
from mithril.tokens import store as token_store
from mithril.users import store
from mithril.users.store import UserRecord

MIN_LENGTH = 12
# The number of stored passwords: the present one and the two before it.
KEPT = 3
COMPLEX = re.compile(r"(?=.*[a-zа-яёїієґ])(?=.*[A-ZА-ЯЁЇІЄҐ])(?=.*[0-9]).*", re.DOTALL)  # noqa: RUF001 -- Cyrillic

TOO_SHORT = Rule("length", f"should be at least {MIN_LENGTH} character(s)", {"min": MIN_LENGTH})
TOO_SIMPLE = Rule(
    "format",
    "Password does not meet complexity requirements",
    # Exactly as in the original, which has a Latin I among the Cyrillic capitals.
    [r"~r/^(?=.*[a-zа-яёїієґ])(?=.*[A-ZА-ЯЁЇIЄҐ])(?=.*\d)/"],  # noqa: RUF001 -- Cyrillic
)
USED = Rule("password_used", "This password has been used recently. Try another one", [])


def problems(password: str) -> list[Rule]:
    """List the rules that a password breaks by itself: length in characters, a small letter, a capital, a digit."""
    is_short, is_simple = len(password) < MIN_LENGTH, not COMPLEX.fullmatch(password)
    return [rule for rule, is_broken in ((TOO_SHORT, is_short), (TOO_SIMPLE, is_simple)) if is_broken]


async def judge(database: Database, user_id: UUID, password: str) -> list[Rule]:
    """List the rules that the password breaks; one that breaks none by itself is compared with the user's old ones."""
    broken = problems(password)
    if broken:
        return broken
    known = await store.list_password_hashes(database, user_id, limit=KEPT)
    return [USED] if await asyncio.to_thread(_is_any, password, known) else []


def problem_name(refusal: ValidationFailed) -> str:
    """Return the name of the text in which a page explains why a password is refused."""
    return "password_used" if any(USED in each.rules for each in refusal.invalid) else "password_rules"


async def hashed(password: str) -> str:
    """Return the argon2id hash of a password, computed in a thread."""
    return await asyncio.to_thread(security.hash_password, password)


async def change(transaction: PooledConnection, user_id: UUID, *, password_hash: str, actor: Actor) -> UserRecord:
    """Set the password, store it among the last three, and revoke every token of the user.

    The audit row records the change and nothing about either password. Raises Unauthorized.
    """
    changed = await store.change_password(transaction, user_id, password_hash=password_hash, actor=actor)
    if changed is None:
        raise refusals.UserUnknown
    await store.forget_passwords(transaction, user_id, kept=KEPT)
    await token_store.revoke_all(transaction, user_id)
    return changed


def _is_any(password: str, known: list[str]) -> bool:
    return any(security.is_password(password, password_hash) for password_hash in known)
