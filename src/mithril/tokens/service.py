"""How tokens come into being, are consumed and end. Which scope a token may carry is decided in `oauth`."""

from typing import Any
from uuid import UUID

from mithril import refusals, security
from mithril.database.database import PooledConnection
from mithril.tokens import store
from mithril.tokens.store import Issued

# Tokens of these kinds stand for a person's session with one client: a new one ends the others (contract.md 5.3).
SESSION_KINDS = ("access_token", "2fa_access_token")


async def issue(
    transaction: PooledConnection,
    name: str,
    *,
    user_id: UUID,
    client_id: UUID,
    lives_seconds: float,
    scope: str | None = None,
    details: dict[str, Any] | None = None,
    connection_id: UUID | None = None,
    family_id: UUID | None = None,
    value: str | None = None,
) -> Issued:
    """A new token with its value, which is nowhere else. `details` is what it says beyond client and scope.

    `value`: of `security.new_secret`, where something else was made for the token before it.
    Raises Unauthorized where client or person were blocked since the caller looked: blocking ends what is there,
    and nothing may come after it.
    """
    value = value or security.new_secret()
    issued = await store.add_token(
        transaction,
        value,
        name=name,
        user_id=user_id,
        client_id=client_id,
        connection_id=connection_id,
        family_id=family_id,
        scope=scope,
        details=details or {},
        lives_seconds=lives_seconds,
    )
    if issued is None:
        raise refusals.IssueDenied(detail="client or person blocked meanwhile")
    return issued


async def end_older_sessions(transaction: PooledConnection, issued: Issued) -> None:
    """Ends the other living tokens of this person with this client, of the kinds that `issued` replaces."""
    names = list(SESSION_KINDS) if issued.name in SESSION_KINDS else [issued.name]
    await store.expire_others(transaction, issued, names=names)
