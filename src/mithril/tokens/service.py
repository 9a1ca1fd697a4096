"""How tokens are issued, and older sessions revoked. Which scope a token may have is decided in `oauth`."""

from uuid import UUID

from mithril import refusals, security
from mithril.database.database import PooledConnection
from mithril.settings import Settings
from mithril.tokens import kinds, store
from mithril.tokens.kinds import NO_DETAILS, Details, TokenKind
from mithril.tokens.store import Issued, Token


async def issue(
    transaction: PooledConnection,
    settings: Settings,
    kind: TokenKind,
    *,
    user_id: UUID,
    client_id: UUID,
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
    issued = await store.add_token(
        transaction,
        kind,
        value or security.new_secret(),
        user_id=user_id,
        client_id=client_id,
        connection_id=connection_id,
        family_id=family_id,
        scope=scope,
        details=details,
        lives_seconds=_lifetime_seconds(kind, settings),
    )
    if issued is None:
        raise refusals.IssueDenied(detail="client or user blocked meanwhile")
    return issued


async def issue_after(
    transaction: PooledConnection,
    settings: Settings,
    kind: TokenKind,
    before: Token,
    *,
    scope: str | None,
    details: Details,
    connection_id: UUID | None = None,
    value: str | None = None,
) -> Issued:
    """Issue a token that follows from another one, for the same user and client, in its family. Raises IssueDenied.

    `connection_id`: by default the connection of `before`.
    """
    return await issue(
        transaction,
        settings,
        kind,
        user_id=before.user_id,
        client_id=before.client_id,
        scope=scope,
        details=details,
        connection_id=connection_id or before.connection_id,
        family_id=before.family,
        value=value,
    )


async def revoke_older_sessions(transaction: PooledConnection, issued: Issued) -> None:
    """Revoke the other active tokens of this user with this client, of the kinds that `issued` replaces."""
    replaced = kinds.REPLACED_BY.get(issued.name)
    if replaced:
        await store.revoke_others(transaction, issued, kinds=replaced)


def _lifetime_seconds(kind: TokenKind, settings: Settings) -> int:
    if kind in kinds.HELD_BY_BROWSERS:
        return kinds.LOGIN_SECONDS
    if kind is TokenKind.CODE:
        return settings.auth_code_grant_lifetime
    return settings.auth_refresh_token_lifetime if kind is TokenKind.REFRESH else settings.auth_access_token_lifetime
