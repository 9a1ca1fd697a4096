"""How tokens are issued, and older sessions revoked. Which scope a token may have is decided in `oauth`."""

from uuid import UUID

from mithril import refusals, security
from mithril.database.database import PooledConnection
from mithril.tokens import kinds, store
from mithril.tokens.kinds import NO_DETAILS, Details, TokenKind
from mithril.tokens.store import Issued


async def issue(
    transaction: PooledConnection,
    kind: TokenKind,
    *,
    user_id: UUID,
    client_id: UUID,
    lives_seconds: float,
    scope: str | None = None,
    details: Details = NO_DETAILS,
    connection_id: UUID | None = None,
    family_id: UUID | None = None,
    value: str | None = None,
) -> Issued:
    """Issue a token, and return it with its value, which is nowhere else.

    `value`: of `security.new_secret`, where something was bound to the token before it is issued. Raises IssueDenied
    where client or user were blocked meanwhile: a block revokes what is there, and nothing may be issued after it.
    """
    value = value or security.new_secret()
    issued = await store.add_token(
        transaction,
        kind,
        value,
        user_id=user_id,
        client_id=client_id,
        connection_id=connection_id,
        family_id=family_id,
        scope=scope,
        details=details,
        lives_seconds=lives_seconds,
    )
    if issued is None:
        raise refusals.IssueDenied(detail="client or person blocked meanwhile")
    return issued


async def revoke_older_sessions(transaction: PooledConnection, issued: Issued) -> None:
    """Revoke the other active tokens of this user with this client, of the kinds that `issued` replaces."""
    replaced = kinds.REPLACED_BY.get(issued.name)  # rule SGN-16
    if replaced:
        await store.revoke_others(transaction, issued, kinds=replaced)
