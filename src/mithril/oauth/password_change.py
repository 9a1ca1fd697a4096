"""A new password for a user who has proved who they are, by the old one and the second factor (rules SGN-35, SGN-36).

The rules of passwords themselves are in `users.passwords`.
"""

from uuid import UUID

from mithril import errors, refusals
from mithril.audit.events import Actor
from mithril.database.database import Database, PooledConnection
from mithril.errors import Invalid
from mithril.tokens import service as tokens
from mithril.tokens.kinds import TokenKind
from mithril.tokens.store import Token
from mithril.users import passwords
from mithril.users import store as user_store
from mithril.users.store import UserRecord


def check_kind(token: Token) -> None:
    """Refuse a token that is not for changing a password. Raises TokenKindWrong."""
    if token.name != TokenKind.CHANGE_PASSWORD:
        raise refusals.TokenKindWrong


async def update_password(database: Database, *, token: Token, password: str, actor: Actor) -> UserRecord:
    """Set the password of the token's user, use the token up, and revoke every other token of the user.

    `token` must have passed `bearers` and `check_kind`; a refused password leaves it as it was. Raises
    ValidationFailed, Unauthorized.
    """
    password_hash = await hashed(database, token.user_id, password)
    async with database.transaction(token.user_id) as transaction:
        return await change(transaction, token, password_hash=password_hash, actor=actor)


async def hashed(database: Database, user_id: UUID, password: str) -> str:
    """Return the hash of a new password of the user. Raises ValidationFailed, with the rules that it breaks."""
    broken = await passwords.judge(database, user_id, password)
    if broken:
        raise errors.ValidationFailed([Invalid("$.password", broken)])
    return await passwords.hashed(password)


async def change(
    transaction: PooledConnection, token: Token, *, password_hash: str, actor: Actor, answer: str | None = None
) -> UserRecord:
    """Use the token up, set the password, and revoke every other token of the user. Raises TokenExpired.

    `answer`: of a token that a browser holds, the form that uses it up.
    """
    # The user before their tokens, in the order of a block: else the two would wait for each other.
    await user_store.lock_user(transaction, token.user_id)
    # Used up first: of many requests at once exactly one gets past this line.
    if not await tokens.take(transaction, token.id, answer):
        raise refusals.TokenExpired(detail="used at the same moment")
    return await passwords.change(transaction, token.user_id, password_hash=password_hash, actor=actor)
